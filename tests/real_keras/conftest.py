"""A process of Keras 3 for each backend, started once: TensorFlow alone takes seconds to import."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.keras3_convert import Job

__all__ = ["Judge"]

Verdicts = dict[str, dict[str, Any]]
Judge = Callable[[Iterable[Job], Path, str], Verdicts]


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    """Give a function that loads converted files in real Keras 3 on a backend and tells what came of each.

    It skips the test where the backend has no wheel. Jobs of all tests of one worker run in one process.
    """
    processes: dict[str, subprocess.Popen[str]] = {}
    folder = tmp_path_factory.mktemp("judge")

    def judge(jobs: Iterable[Job], working: Path, backend: str) -> Verdicts:
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"{backend} is not there: it has no wheel for this Python or system")
        if backend not in processes:
            processes[backend] = _started(backend, folder / f"{backend}.txt")
        process = processes[backend]
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = working / f"{backend}.json", working / f"{backend}-told.json"
        asked.write_text(json.dumps([job.to_json() for job in jobs]))
        process.stdin.write(json.dumps([str(asked), str(told)]) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n", (folder / f"{backend}.txt").read_text()[-2000:]
        verdicts: Verdicts = json.loads(told.read_text())
        return verdicts

    yield judge
    for process in processes.values():
        process.communicate()  # closes its input, which ends it


def _started(backend: str, messages: Path) -> subprocess.Popen[str]:
    with messages.open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("judge.py"))],
            env={**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
