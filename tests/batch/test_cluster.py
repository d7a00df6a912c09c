"""Batches on a Dask cluster: real workers on this machine, one of which is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import remap
from remap.console import batch
from tests.batch.test_extract_many import outputs
from tests.commandline import runner

distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="this system kills processes in another way"),
    # What is open when Dask's own processes and loops end is its affair.
    pytest.mark.filterwarnings("ignore"),
]
FILES = 300


@pytest.fixture
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_worker_that_is_killed_costs_a_retry_and_nothing_else(
    client: Any, multi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = [tmp_path / f"epoch{number:03}.h5" for number in range(FILES)]
    for source in sources:
        shutil.copy(multi, source)
    found = Counter[tuple[str, str]]()
    results = remap.extract_many(sources, tmp_path / "out", executor=client.get_executor())
    for number, result in enumerate(results):
        found[result.source, result.status] += 1
        if number == FILES // 2:
            os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
    assert found == {(str(source), "written"): 1 for source in sources}
    assert len(outputs("out")) == FILES
    remap.extract(multi, "alone.h5")
    whole = Path("alone.h5").read_bytes()
    assert all(path.read_bytes() == whole for path in Path("out").glob("*.h5"))
    assert not list(Path("out").glob(".h5remap-*"))


def test_a_refusal_travels_from_a_worker_with_all_it_says(client: Any, tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("text")
    (result,) = remap.extract_many([tmp_path / "text.h5"], tmp_path / "out", executor=client.get_executor())
    with pytest.raises(remap.InputRefused) as alone:
        remap.extract(tmp_path / "text.h5", tmp_path / "alone.h5")
    assert str(result.error) == str(alone.value)


def test_the_command_line_uses_the_cluster_of_a_scheduler(
    client: Any, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)
    address = client.scheduler.address
    ended = run("extract", "-r", runs, "-o", "out", "--cluster", address)
    assert ended.code == 0
    assert len(outputs("out")) == 3
    tasks = client.run(lambda dask_worker: len(dask_worker.state.log) > 0)
    assert any(tasks.values())


def test_a_scheduler_that_does_not_answer_is_refused(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)
    monkeypatch.setattr(batch, "_ANSWER", 0.1)
    for address in ("tcp://127.0.0.1:9", "nonsense://"):
        ended = run("extract", "-r", runs, "-o", "out", "--cluster", address)
        assert ended.code == 2
        assert "no scheduler answers" in ended.err
