"""The command line, run inside the test's own process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from typer.utils import get_params_from_function

from remap.__main__ import main

__all__ = ["Outcome", "Run", "runner"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]

# Typer reads the annotations of all options anew for each command, which takes longer than most commands.
_options = cache(get_params_from_function)


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Give a function that runs the command line with its arguments."""
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("typer.main.get_params_from_function", _options)

    def run(*args: str | os.PathLike[str], **environment: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["h5remap", *(os.fspath(word) for word in args)])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        for name in environment:
            monkeypatch.delenv(name)
        code: Any = ended.value.code
        return Outcome(code or 0, *capsys.readouterr())

    return run
