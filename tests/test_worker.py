"""Work in a child: what it returns comes back, and whatever happens to it does not happen to us."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from remap import child, worker
from remap.errors import InputRefused, OutputRefused
from remap.keras.checkpoint import Checkpoint
from remap.worker import Ahead, WorkFailed, run
from tests.handmade import save_full

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork: the work is done in place"),
    # pytest-xdist has threads of its own; the command line has none.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


def _read(path: Path) -> Checkpoint:
    from remap.hdf5.reader import open_checkpoint

    with open_checkpoint(path) as opened:
        return opened.checkpoint


def test_what_it_returns_comes_back(tmp_path: Path) -> None:
    path = save_full(tmp_path / "in.h5")
    assert run(_read, path, where="in.h5") == _read(path)
    assert run(dict, where="in.h5", a=[1, 2.5, None, "é", b"x", (True,)]) == {
        "a": [1, 2.5, None, "é", b"x", (True,)]
    }


def test_it_is_another_process() -> None:
    assert run(os.getpid, where="") != os.getpid()


def test_errors_of_the_package_come_back_whole() -> None:
    def refuse() -> None:
        raise OutputRefused("the disk is full", where="out.h5", hint="free some room")

    with pytest.raises(OutputRefused) as caught:
        run(refuse, where="in.h5")
    assert (caught.value.what, caught.value.where, caught.value.hint) == (
        "the disk is full",
        "out.h5",
        "free some room",
    )


def test_a_bug_comes_back_with_its_traceback() -> None:
    def bug() -> float:
        return 1 / 0

    with pytest.raises(WorkFailed, match=r"(?s)in bug.*ZeroDivisionError"):
        run(bug, where="in.h5")


def _die(number: int) -> Callable[[], None]:
    def die() -> None:
        faulthandler.disable()
        os.kill(os.getpid(), number)

    return die


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE])
def test_a_crash_is_the_files_fault(number: int) -> None:
    with pytest.raises(InputRefused, match="the HDF5 library crashed") as caught:
        run(_die(number), where="in.h5")
    assert caught.value.where == "in.h5"


def test_an_end_without_a_word_is_a_crash() -> None:
    with pytest.raises(InputRefused, match="the HDF5 library crashed"):
        run(os._exit, 0, where="in.h5")


def test_a_kill_is_told_as_one() -> None:
    with pytest.raises(InputRefused, match="was killed"):
        run(_die(signal.SIGKILL), where="in.h5")


def test_what_loops_for_ever_is_ended() -> None:
    def loop() -> None:
        while True:
            pass

    with pytest.raises(InputRefused, match="does not come to an end"):
        run(loop, where="in.h5", deadline=0)


def test_progress_begins_the_deadline_anew_and_arrives() -> None:
    def work(progress: Callable[[int, int], None]) -> str:
        for step in range(4):
            start = time.process_time()
            while time.process_time() < start + 0.6:
                pass
            progress(step + 1, 4)
        return "done"

    reports: list[tuple[int, int]] = []
    assert run(work, where="", deadline=1, progress=lambda *report: reports.append(report)) == "done"
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_progress_is_told_not_too_often() -> None:
    def work(progress: Callable[[int, int], None]) -> None:
        for step in range(10_000):
            progress(step, 10_000)
        progress(10_000, 10_000)

    reports: list[int] = []
    run(work, where="", progress=lambda done, _: reports.append(done))
    assert reports[-1] == 10_000
    assert len(reports) < 1000


def test_memory_has_an_end() -> None:
    with pytest.raises(InputRefused, match="more memory than any real one"):
        run(bytearray, 1 << 28, where="in.h5", memory=1 << 26)


def test_a_lower_limit_of_the_system_is_kept() -> None:
    import resource

    def limits() -> tuple[int, int]:
        return resource.getrlimit(resource.RLIMIT_DATA)

    def lowered() -> Any:
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 33, 1 << 33))
        return run(limits, where="", memory=1 << 40)

    assert run(lowered, where="") == (1 << 33, 1 << 33)


class _Foreign:
    """No value of the package."""


@pytest.mark.parametrize("value", [os.system, _Foreign(), Path(), subprocess.run, worker.run])
def test_nothing_but_values_of_the_package_is_taken_from_the_child(value: object) -> None:
    with pytest.raises(WorkFailed, match="is no value of this package"):
        run(lambda: value, where="in.h5")


def test_what_cannot_be_sent_is_a_bug() -> None:
    with pytest.raises(WorkFailed, match="pickle"):
        run(lambda: lambda: None, where="in.h5")


@pytest.mark.parametrize("message", [b"", b"r", b"r\x10" + bytes(7) + b"x", b"r" + b"\xff" * 8])
def test_a_child_that_stops_in_the_middle_of_a_word_crashed(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mutter(self: Any, *_: object) -> None:
        os.write(self._writing, message)
        os._exit(0)

    monkeypatch.setattr(child.Child, "send", mutter)
    with pytest.raises(InputRefused, match="the HDF5 library crashed"):
        run(int, where="in.h5")


def test_what_the_child_prints_is_for_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    def speak() -> None:
        os.write(1, b"out")
        os.write(2, b"err")

    run(speak, where="")
    assert capfd.readouterr() == ("", "")


def test_an_error_while_listening_ends_the_child() -> None:
    children: list[int] = []

    def work(progress: Callable[[int, int], None]) -> None:
        progress(os.getpid(), os.getpid())
        time.sleep(60)

    def listen(process: int, _: int) -> None:
        children.append(process)
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run(work, where="", progress=listen)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_a_child_that_does_not_listen_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_GRACE", 0.1)

    def work(progress: Callable[[int, int], None]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        progress(1, 1)
        time.sleep(60)

    def listen(*_: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run(work, where="", progress=listen)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_signals_end_both_and_let_the_child_clean_up(tmp_path: Path, number: int, code: int) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from remap.worker import run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "def told(*_):\n"
        "    print('working', flush=True)\n"
        "def loud(path, progress):\n"
        "    try:\n"
        "        open(path, 'w').close()\n"
        "        progress(1, 1)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        os.unlink(path)\n"
        "run(loud, sys.argv[1], where='', progress=told)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "draft"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    process.send_signal(number)
    assert process.wait(30) == code
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_of_the_child_alone_is_one_of_both() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(_die(signal.SIGINT), where="")


def test_no_plug_ins_and_no_idle_threads() -> None:
    assert run(os.environ.get, "HDF5_PLUGIN_PRELOAD", where="") == "::"
    assert os.environ.get("HDF5_PLUGIN_PRELOAD") != "::"


def _worked(progress: Callable[[int, int], None] | None = None) -> int:
    if progress is not None:
        progress(1, 2)
    return os.getpid()


def _process(worker: Ahead) -> int:
    assert worker._running is not None
    return worker._running._process


def test_a_child_ahead_does_what_it_is_told_then() -> None:
    reports: list[tuple[int, int]] = []
    with Ahead() as worker:
        process = _process(worker)
        name = f"{__name__}._worked"
        assert worker.run(name, where="", progress=lambda *report: reports.append(report)) == process
    assert reports == [(1, 2)]
    with Ahead() as worker:
        assert worker.run("builtins.sorted", [2, 1], where="", reverse=True) == [2, 1]


def test_what_is_asked_of_it_again_is_done_in_another_child() -> None:
    with Ahead() as worker:
        processes = {worker.run("os.getpid", where="") for _ in range(2)}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_a_child_ahead_has_loaded_what_the_work_may_need() -> None:
    script = (
        "import sys\n"
        "from remap.worker import Ahead\n"
        "def loaded(): return 'h5py' in sys.modules\n"
        "worker = Ahead('remap.hdf5.reader.open_checkpoint', 'remap.extract')\n"
        "assert worker.run('__main__.loaded', where='')\n"
        "assert 'h5py' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_a_child_ahead_that_is_told_nothing_ends_with_its_parents_interest() -> None:
    with Ahead("remap.extract") as worker:
        process = _process(worker)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_child_ahead_does_not_outlive_its_parent() -> None:
    script = "import os\nfrom remap.worker import Ahead\nworker = Ahead('remap.extract')\nos._exit(0)\n"
    reading, writing = os.pipe()
    subprocess.run([sys.executable, "-c", script], pass_fds=[writing], cwd=ROOT, check=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as held:
        assert (
            held.read() == b""
        )  # at its end once nobody holds the other side: a child that stays hangs this


def test_a_child_ahead_that_is_gone_before_its_order_is_told_as_killed() -> None:
    worker = Ahead()
    os.kill(_process(worker), signal.SIGKILL)
    os.waitid(os.P_PID, _process(worker), os.WEXITED | os.WNOWAIT)
    with pytest.raises(InputRefused, match="was killed"):
        worker.run("os.getpid", where="in.h5")


def test_a_crash_of_a_child_ahead_is_the_files_fault() -> None:
    with pytest.raises(InputRefused, match="the HDF5 library crashed"):
        Ahead().run("os._exit", 0, where="in.h5")


def test_without_fork_the_work_is_done_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    reports: list[tuple[int, int]] = []

    def work(progress: Callable[[int, int], None]) -> int:
        progress(1, 2)
        return os.getpid()

    assert run(work, where="", progress=lambda *report: reports.append(report)) == os.getpid()
    assert run(os.getpid, where="") == os.getpid()
    with Ahead("remap.extract") as worker:
        name = f"{__name__}._worked"
        assert worker.run(name, where="", progress=lambda *report: reports.append(report)) == os.getpid()
    assert reports == [(1, 2)] * 2


def test_the_parent_never_loads_h5py(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from remap.worker import run\n"
        "def read(path):\n"
        "    from remap.hdf5.reader import open_checkpoint\n"
        "    with open_checkpoint(path) as opened: return opened.checkpoint\n"
        "assert run(read, sys.argv[1], where='').layers\n"
        "assert not {'h5py', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, save_full(tmp_path / "in.h5")], cwd=ROOT, check=True)
