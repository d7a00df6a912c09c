"""What the system has none of (room, files, processes) is told in one message, without a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remap.__main__ import _open_streams, main
from tests.truth import differences

Case = Callable[[str, str], Path]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="this system has no such limits or devices")
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
root = pytest.mark.skipif(
    os.name == "posix" and os.geteuid() != 0, reason="only root can become a user with a limit of his own"
)

COMMANDS = [
    ["--help"],
    ["--version"],
    ["inspect", "multi.h5"],
    ["inspect", "multi.h5", "--json"],
    ["extract", "multi.h5", "-o", "out.h5"],
    ["check", "single.h5", "--like", "single.h5"],
]


@pytest.fixture
def here(case: Case, tmp_path: Path) -> Path:
    """Give a folder with a checkpoint and its single model."""
    for name in ("multi.h5", "single.h5"):
        shutil.copy(case("keras-2.2.4", "conv_bn") / name, tmp_path / name)
    return tmp_path


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of sh in which h5remap is the command."""
    text = f'h5remap() {{ "{sys.executable}" -m remap "$@"; }}\n{line}'
    return subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, cwd=folder, check=False, stdin=subprocess.DEVNULL
    )


@full
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_result_that_cannot_be_written_is_one_message(here: Path, command: list[str]) -> None:
    done = shell(f"h5remap {' '.join(command)} > /dev/full", here)
    assert (done.returncode, done.stderr) == (
        6,
        "Error: the result cannot be written to standard output: No space left on device\n",
    )
    if command[0] == "extract":
        assert differences(here / "out.h5", here / "single.h5") == []


@pytest.mark.parametrize("setting", ["PYTHONUNBUFFERED=", "PYTHONUNBUFFERED=1"])
def test_half_a_result_is_an_error(here: Path, setting: str) -> None:
    """The first write takes what fits, and only the next one fails."""
    done = shell(
        f"ulimit -f 1; export PYTHONDONTWRITEBYTECODE=1 {setting}; h5remap inspect multi.h5 --json > out.json",
        here,
    )
    assert 0 < (here / "out.json").stat().st_size < 2048
    assert (done.returncode, done.stderr) == (
        6,
        "Error: the result cannot be written to standard output: File too large\n",
    )


def test_a_stream_that_does_not_block_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a reader that is slow would get as much as its pipe holds."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        _open_streams()
        assert os.get_blocking(writing)
    os.close(reading)


def test_a_process_without_memory_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_out() -> None:
        raise MemoryError

    monkeypatch.setattr("remap.__main__._command_line", run_out)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert capsys.readouterr().err.startswith(
        "Error: a limit of the system was reached: Cannot allocate memory"
    )


@full
def test_a_message_that_cannot_be_written_changes_no_exit_code(here: Path) -> None:
    assert shell("h5remap extract multi.h5 -o single.h5 2> /dev/full", here).returncode == 6
    assert shell("h5remap inspect missing.h5 > /dev/full 2> /dev/full", here).returncode == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk that has room for a few bytes only."""
    directory = tmp_path / "disk"
    directory.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a disk that is small enough to be full")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", directory], check=False)
    if made.returncode != 0:
        pytest.skip("this system lets not even root mount a disk")
    (directory / "filler").write_bytes(bytes(4096))
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.mark.parametrize("option", ["--svg", "--html"])
def test_a_picture_on_a_full_disk_leaves_nothing(here: Path, small_disk: Path, option: str) -> None:
    name = f"view.{option[2:]}"
    done = shell(f"h5remap inspect multi.h5 {option} {small_disk}/{name}", here)
    assert done.returncode == 6
    assert done.stderr.startswith("Error: the disk is full")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7, 8, 9, 11, 16])
@pytest.mark.parametrize("command", ["inspect multi.h5", "extract multi.h5 -o out.h5"])
def test_few_open_files_are_enough_or_told(here: Path, count: int, command: str) -> None:
    done = shell(f"ulimit -n {count}; h5remap {command}", here)
    if done.returncode == 0:
        return
    # With fewer than it needs to start, Python itself ends before a line of ours runs.
    assert "Traceback" not in done.stderr or "Fatal Python error: init" in done.stderr, done.stderr
    assert not (here / "out.h5").exists()


@root
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_few_processes_are_enough_or_told(case: Case, count: int) -> None:
    script = (
        "import importlib, os, pkgutil, resource, sys, zipfile, lzma, pickle, traceback\n"
        "import remap\n"
        "for module in pkgutil.walk_packages(remap.__path__, 'remap.'):\n"
        "    importlib.import_module(module.name)\n"  # another user may have no right to read them
        f"resource.setrlimit(resource.RLIMIT_NPROC, ({count}, {count}))\n"
        "os.setgid(54321); os.setuid(54321)\n"
        "sys.argv = ['h5remap', 'extract', 'multi.h5', '-o', 'out.h5']\n"
        "remap.__main__.main()\n"
    )
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        shutil.copy(case("keras-2.2.4", "conv_bn") / "multi.h5", here)
        here.chmod(0o777)
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=here, check=False
        )
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 3), done.stderr
        assert (here / "out.h5").exists() == (done.returncode == 0)
        assert done.returncode == 0 or "a limit of the system was reached" in done.stderr
