"""On a terminal there are colours, a width and a progress bar; in a pipe, with NO_COLOR or a dumb one not."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remap.console.terminal import ProgressBar, Terminal
from remap.console.text import Line

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
termios = pytest.importorskip("termios")
fcntl = pytest.importorskip("fcntl")

Case = Callable[[str, str], Path]


def on_a_terminal(
    *command: str | os.PathLike[str], columns: int = 80, env: dict[str, str] | None = None
) -> str:
    """Run Python on a pseudo-terminal of its own and give everything that it showed."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    around = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env=around | {"TERM": "xterm"} | (env or {}),
    )
    os.close(inside)
    seen = b""
    while select.select([outside], [], [], 60)[0]:
        try:
            piece = os.read(outside, 65536)
        except OSError:  # what Linux says when nobody holds the other end any more
            break
        if not piece:
            break
        seen += piece
    process.wait()
    os.close(outside)
    return seen.decode().replace("\r\n", "\n")


@pytest.fixture
def multi(case: Case) -> Path:
    return case("keras-2.2.4", "nested") / "multi.h5"


def test_a_terminal_gets_colours(multi: Path) -> None:
    assert "\x1b[1;32mmodel_1\x1b[0m" in on_a_terminal("-m", "remap", "inspect", multi)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_escape_code_where_none_is_wanted(multi: Path, environment: dict[str, str]) -> None:
    shown = on_a_terminal("-m", "remap", "inspect", multi, env=environment)
    assert "◀ the real model" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_lines_fit_the_terminal(multi: Path, columns: int) -> None:
    shown = on_a_terminal(
        "-m", "remap", "inspect", multi, columns=columns, env={"NO_COLOR": "1"}
    ).splitlines()
    long = [line for line in shown if len(line) > columns]
    assert all("h5remap extract" in line or str(multi) in line for line in long)


def test_a_refusal_is_red_on_a_terminal(multi: Path) -> None:
    assert "\x1b[1;31mError: " in on_a_terminal("-m", "remap", "extract", multi, "-o", multi)


BAR = """
import sys
from remap.console import terminal
from remap.console.terminal import Terminal
terminal._DELAY = {delay}
with terminal.ProgressBar(Terminal(stderr=True), "writing") as shown:
    for done in range(0, 100_000_001, 10_000_000):
        shown(done, 100_000_000)
print("end")
"""


def test_long_work_shows_bytes_and_rate() -> None:
    shown = on_a_terminal("-c", BAR.format(delay=-1))
    assert "writing" in shown
    assert "100.0 MB" in shown
    assert shown.endswith("end\n")


@pytest.mark.parametrize(("delay", "environment"), [(60, {}), (-1, {"TERM": "dumb"})])
def test_short_work_and_dumb_terminals_show_no_bar(delay: int, environment: dict[str, str]) -> None:
    assert on_a_terminal("-c", BAR.format(delay=delay), env=environment) == "end\n"


def test_a_pipe_gets_no_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remap.console.terminal._DELAY", -1)
    with ProgressBar(Terminal(stderr=True), "writing") as shown:
        shown(5, 10)
    assert capsys.readouterr() == ("", "")


def test_a_bar_comes_late_and_then_keeps_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("rich.progress.Progress.update", lambda *_, completed, **__: seen.append(completed))
    terminal = Terminal(stderr=True)
    terminal.live = True
    with ProgressBar(terminal, "writing") as shown:
        monkeypatch.setattr("remap.console.terminal._DELAY", 3600)
        shown(1, 10)
        monkeypatch.setattr("remap.console.terminal._DELAY", -1)
        shown(5, 10)
        shown(10, 10)
    assert seen == [5, 10]


@pytest.mark.parametrize(("columns", "width"), [(None, None), ("80", 80), ("10", 40), ("many", None)])
def test_a_pipe_has_the_width_it_is_told(
    monkeypatch: pytest.MonkeyPatch, columns: str | None, width: int | None
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert Terminal().width == width


def test_styles_reach_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.print([Line(("red", "red"), " and plain  ")])
    terminal.styled = True
    terminal.print([Line(("red", "red"), " and plain")])
    plain, styled = capsys.readouterr().out.splitlines()
    assert plain == "red and plain"
    assert "\x1b[31mred\x1b[0m and plain" in styled
