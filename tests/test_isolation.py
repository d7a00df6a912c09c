"""Work in a child process: what it returns comes back, and whatever happens to it does not happen to us."""

from __future__ import annotations

import copyreg
import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import remap
from remap import isolation
from remap.errors import InputRefused, OutputRefused, RemapError
from remap.isolation import Isolation, IsolationFailed

ROOT = Path(__file__).resolve().parents[1]

# pytest-xdist has threads of its own; the command line has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
posix = pytest.mark.skipif(os.name != "posix", reason="this system has no such signals or limits")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this limit or signal")


@pytest.fixture(params=["fork", "new"])
def isolated(request: pytest.FixtureRequest) -> Iterator[Isolation]:
    """Give a child that is a copy of this process, then one that is a new interpreter."""
    if request.param == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system cannot fork: every child is a new interpreter")
    with Isolation(fork=request.param == "fork") as child:
        yield child


def run(function: str, *args: Any, where: str = "in.h5", **named: Any) -> Any:
    """Call a function of tests.isolated in a forked child where there is one: it starts faster."""
    with Isolation(fork=True) as child:
        return child.run(
            function if "." in function else f"tests.isolated.{function}", *args, where=where, **named
        )


def test_what_it_returns_comes_back(isolated: Isolation) -> None:
    assert isolated.run("builtins.dict", where="", a=[1, 2.5, None, "é", b"x", (True,)]) == {
        "a": [1, 2.5, None, "é", b"x", (True,)]
    }


def test_it_is_another_process_at_every_call(isolated: Isolation) -> None:
    processes = {isolated.run("os.getpid", where="") for _ in range(2)}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_errors_of_the_package_come_back_whole(isolated: Isolation) -> None:
    with pytest.raises(OutputRefused) as caught:
        isolated.run("tests.isolated.refuse", where="in.h5")
    assert (caught.value.what, caught.value.where, caught.value.hint) == (
        "the disk is full",
        "out.h5",
        "free some room",
    )


def test_what_a_program_registers_for_exceptions_does_not_count(
    isolated: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing distributed registers functions of tblib for every class of exceptions, and a fork inherits them."""
    monkeypatch.setitem(copyreg.dispatch_table, OutputRefused, lambda error: (str, (error.what,)))
    with pytest.raises(OutputRefused, match="the disk is full"):
        isolated.run("tests.isolated.refuse", where="in.h5")


def test_a_bug_comes_back_with_its_traceback(isolated: Isolation) -> None:
    with pytest.raises(IsolationFailed, match=r"(?s)in fail.*ZeroDivisionError"):
        isolated.run("tests.isolated.fail", where="in.h5")


@posix
def test_a_crash_is_told_with_the_name_of_the_file(isolated: Isolation) -> None:
    with pytest.raises(InputRefused, match="the HDF5 library crashed") as caught:
        isolated.run("tests.isolated.die", signal.SIGSEGV, where="in.h5")
    assert caught.value.where == "in.h5"


@posix
@pytest.mark.parametrize("name", ["SIGABRT", "SIGBUS", "SIGFPE"])
def test_every_kind_of_crash_is_one(name: str) -> None:
    with pytest.raises(InputRefused, match="the HDF5 library crashed"):
        run("die", getattr(signal, name))


@pytest.mark.parametrize("status", [0, 1, 127])
def test_an_end_without_a_result_blames_no_file(status: int) -> None:
    """Such as OpenBLAS without memory (1), or an interpreter without open files for its libraries (127)."""
    with pytest.raises(InputRefused, match="ended before it had a result"):
        run("os._exit", status)


@posix
def test_a_kill_is_told_as_one(isolated: Isolation) -> None:
    with pytest.raises(InputRefused, match="was killed"):
        isolated.run("tests.isolated.die", signal.SIGKILL, where="in.h5")


def test_what_loops_for_ever_is_ended_without_blaming_the_file(isolated: Isolation) -> None:
    with pytest.raises(InputRefused, match="stopped at the time limit: 0 s of work") as caught:
        isolated.run("tests.isolated.loop", where="in.h5", deadline=0)
    assert "an extremely large model too" in caught.value.hint


def test_without_limits_of_the_system_a_watchdog_ends_what_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (isolation.parent, isolation.child):
        monkeypatch.setattr(side, "LIMITED", False)  # as on Windows
    with pytest.raises(InputRefused, match="stopped at the time limit: 1 s of work"):
        run("loop", deadline=1)
    assert run("take", 10) == 10


@posix
def test_progress_begins_the_deadline_anew_and_arrives() -> None:
    reports: list[tuple[int, int]] = []
    assert run("work_in_steps", deadline=1, progress=lambda *report: reports.append(report)) == "done"
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_progress_is_told_not_too_often() -> None:
    reports: list[int] = []
    run("report_often", progress=lambda done, _: reports.append(done))
    assert reports[-1] == 10_000
    assert len(reports) < 1000


@linux
def test_memory_has_a_limit(isolated: Isolation) -> None:
    with pytest.raises(InputRefused, match=r"more memory than 0.0625 GiB"):
        isolated.run("tests.isolated.take", 1 << 28, where="in.h5", memory=1 << 26)


@linux
def test_a_lower_limit_of_the_system_is_kept() -> None:
    script = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 33, 1 << 33))\n"
        "from remap.isolation import run\n"
        "print(run('tests.isolated.limits', where='', memory=1 << 40))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"({1 << 33}, {1 << 33})\n"


@linux
@pytest.mark.parametrize("name", ["RLIMIT_DATA", "RLIMIT_AS"])
def test_a_lower_limit_of_the_session_is_told_as_such(name: str) -> None:
    """In a process of its own, for a hard limit stays."""
    script = (
        "import resource\n"
        "from remap.isolation import Isolation\n"
        f"resource.setrlimit(resource.{name}, (400_000_000, 400_000_000))\n"
        "with Isolation(fork=True) as child:\n"
        "    try: child.run('tests.isolated.take', 600_000_000, where='in.h5')\n"
        "    except Exception as error: print(error.what)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "a limit of the system was reached: Cannot allocate memory\n"


def test_a_library_that_there_is_no_memory_for_is_told_as_such() -> None:
    with pytest.raises(InputRefused, match="a limit of the system was reached"):
        run("load_nothing", "libx.so: failed to map segment from shared object")
    with pytest.raises(IsolationFailed, match="No module named"):
        run("load_nothing", "No module named 'x'")


@pytest.mark.parametrize("name", ["function", "object", "path", "call", "own function"])
def test_nothing_but_values_of_the_package_is_taken_from_the_child(name: str) -> None:
    with pytest.raises(IsolationFailed, match="is no value of this package"):
        run("give", name)


def test_what_cannot_be_sent_is_a_bug() -> None:
    with pytest.raises(IsolationFailed, match="pickle"):
        run("give", "closure")


@pytest.mark.parametrize("message", [b"", b"r", b"r\x10" + bytes(7) + b"x", b"r" + b"\xff" * 8])
def test_a_child_that_stops_in_the_middle_of_a_message_gave_no_result(message: bytes) -> None:
    with pytest.raises(InputRefused, match="ended before it had a result"):
        run("send", message)


def test_what_the_child_prints_is_dropped(isolated: Isolation, capfd: pytest.CaptureFixture[str]) -> None:
    isolated.run("tests.isolated.speak", where="")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM])
def test_a_system_without_room_is_told_as_such(number: int) -> None:
    with pytest.raises(InputRefused, match=os.strerror(number)) as caught:
        run("fail_with", number)
    assert "ulimit -n" in caught.value.hint


def test_a_thread_that_cannot_start_is_told_as_such() -> None:
    with pytest.raises(InputRefused, match="can't start new thread"):
        run("start_no_thread")


def test_other_failures_of_the_system_are_bugs() -> None:
    with pytest.raises(IsolationFailed, match="No such file"):
        run("fail_with", errno.ENOENT)


@pytest.mark.parametrize("fork", [True, False])
def test_a_child_that_cannot_be_started_is_told_as_such(monkeypatch: pytest.MonkeyPatch, fork: bool) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", full, raising=False)
    monkeypatch.setattr(subprocess, "Popen", full)
    before = set(_descriptors())
    with Isolation(fork=fork) as child:
        child.start("remap.inspect")
        with pytest.raises(InputRefused, match="a limit of the system was reached") as caught:
            child.run("os.getpid", where="in.h5")
    assert caught.value.where == "in.h5"
    assert set(_descriptors()) == before


def _descriptors() -> list[str]:
    folder = Path("/proc/self/fd")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize(("name", "value"), [("executable", ""), ("frozen", True)])
def test_a_program_without_an_interpreter_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(sys, name, value, raising=False)
    with pytest.raises(InputRefused, match=r"no child process can be started: .* no Python interpreter"):
        isolation.run("os.getpid", where="in.h5")


def test_an_interpreter_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InputRefused, match="no child process can be started: No such file"):
        isolation.run("os.getpid", where="in.h5")


def test_paths_that_are_no_text_reach_a_new_interpreter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    sys.path[0] = tmp_path  # type: ignore[call-overload]
    assert isolation.run("builtins.sorted", [2, 1], where="") == [1, 2]


@linux
def test_a_child_whose_parent_is_gone_does_nothing(
    isolated: Isolation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolated.start()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(InputRefused, match="ended before it had a result"):
        isolated.run("os.mkdir", tmp_path / "made", where="in.h5")
    assert not (tmp_path / "made").exists()


@posix
def test_an_error_while_listening_ends_the_child(isolated: Isolation) -> None:
    children: list[int] = []

    def listen(process: int, _: int) -> None:
        children.append(process)
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        isolated.run("tests.isolated.report_and_wait", where="", progress=listen)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


@posix
def test_a_child_that_does_not_listen_is_ended_too(
    isolated: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation.parent, "_GRACE", 0.1)

    def listen(*_: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        isolated.run("tests.isolated.ignore_and_wait", where="", progress=listen)


_HOLD = """
import signal, sys
from remap.isolation import Isolation
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
def told(*_):
    print("working", flush=True)
with Isolation(fork=sys.argv[2] == "fork") as child:
    child.run("tests.isolated.hold", sys.argv[1], where="", progress=told)
"""


def _holding(path: Path, kind: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, path, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    return process


@posix
@pytest.mark.parametrize("kind", ["fork", "new"])
@pytest.mark.parametrize(("name", "code"), [("SIGINT", -2), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_end_both_and_let_the_child_clean_up(tmp_path: Path, name: str, code: int, kind: str) -> None:
    process = _holding(tmp_path / "draft", kind)
    process.send_signal(getattr(signal, name))
    assert process.wait(30) == code
    assert process.stdout is not None
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []


@linux
@pytest.mark.parametrize("kind", ["fork", "new"])
def test_a_child_ends_with_its_killed_parent(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "life")
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD.replace("hold", "hold_open"), tmp_path / "life", kind],
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
    )
    with (tmp_path / "life").open("rb") as life:
        assert life.read(1) == b"x"  # from the child
        process.kill()
        assert select.select([life], [], [], 30)[0], "the child lives on and holds the other end"
        assert life.read() == b""
    assert process.wait(30) == -signal.SIGKILL


@posix
def test_an_ignored_interrupt_stays_ignored(isolated: Isolation) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert isolated.run("tests.isolated.handling", "SIGINT", where="")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not isolated.run("tests.isolated.handling", "SIGTERM", where="")


@posix
def test_a_caller_that_ignores_the_end_of_children_gets_the_result(isolated: Isolation) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert isolated.run("builtins.sorted", [2, 1], where="") == [1, 2]
        with pytest.raises(InputRefused, match="ended before it had a result"):
            isolated.run("os._exit", 0, where="in.h5")
    finally:
        signal.signal(signal.SIGCHLD, before)


@posix
def test_an_interruption_of_the_child_alone_is_one_of_both(isolated: Isolation) -> None:
    with pytest.raises(KeyboardInterrupt):
        isolated.run("tests.isolated.die", signal.SIGINT, where="")


def test_it_works_outside_the_main_thread() -> None:
    results: list[object] = []
    thread = threading.Thread(
        target=lambda: results.append(isolation.run("builtins.sorted", [2, 1], where=""))
    )
    thread.start()
    thread.join()
    assert results == [[1, 2]]


def test_no_plug_ins_and_no_idle_threads(isolated: Isolation) -> None:
    assert isolated.run("os.getenv", "HDF5_PLUGIN_PRELOAD", where="") == "::"
    assert os.environ.get("HDF5_PLUGIN_PRELOAD") != "::"


def test_a_child_started_ahead_does_what_it_is_told_then(isolated: Isolation) -> None:
    isolated.start("remap.no_such_thing")
    child = isolated._child
    reports: list[tuple[int, int]] = []
    isolated.run("tests.isolated.report_once", where="", progress=lambda *report: reports.append(report))
    assert reports == [(1, 2)]
    assert isolated._child is not child


def test_a_child_started_ahead_has_loaded_what_the_work_may_need() -> None:
    script = (
        "import sys\n"
        "from remap.isolation import Isolation\n"
        "for fork in (True, False):\n"
        "    child = Isolation(fork=fork)\n"
        "    child.start('remap.hdf5.reader.open_checkpoint')\n"
        "    assert child.run('tests.isolated.loaded', 'h5py', where='')\n"
        "    assert 'h5py' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@posix
def test_a_child_that_is_told_nothing_is_ended(isolated: Isolation) -> None:
    isolated.start("remap.extract")
    child = isolated._child
    isolated.__exit__()
    assert child is not None
    assert child._process.poll() is not None


def test_a_child_that_was_told_nothing_ends_with_its_parent() -> None:
    script = (
        "import os\nfrom remap.isolation import Isolation\n"
        "child = Isolation(fork=True)\nchild.start('remap.extract')\nos._exit(0)\n"
    )
    reading, writing = os.pipe()
    subprocess.run([sys.executable, "-c", script], pass_fds=[writing], cwd=ROOT, check=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as held:
        assert held.read() == b""  # a child that lives on holds the other end, and this test


@posix
def test_a_child_that_is_gone_before_its_order_is_told_as_killed(isolated: Isolation) -> None:
    isolated.start()
    assert isolated._child is not None
    isolated._child._process.kill()
    isolated._child._process.wait()
    with pytest.raises(InputRefused, match="was killed"):
        isolated.run("os.getpid", where="in.h5")


def test_the_parent_never_loads_h5py(case: Any) -> None:
    script = (
        "import sys\n"
        "from remap.isolation import run\n"
        "assert run('remap.plan', sys.argv[1], where='').layers\n"
        "assert not {'h5py', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, case("keras-2.2.4", "conv_bn") / "multi.h5"], cwd=ROOT, check=True
    )


class TestPublicFunctions:
    """`isolated=True` gives what the function gives without it, from another process."""

    def test_values_are_the_same(self, case: Any, tmp_path: Path) -> None:
        multi, single = (case("keras-2.2.4", "conv_bn") / name for name in ("multi.h5", "single.h5"))
        assert remap.inspect(multi, isolated=True) == remap.inspect(multi)
        assert remap.plan(multi, isolated=True) == remap.plan(multi)
        assert remap.check(single, single, isolated=True) == remap.check(single, single)
        report = remap.extract(multi, tmp_path / "a.h5", isolated=True)
        remap.extract(multi, tmp_path / "b.h5")
        assert report.target == str(tmp_path / "a.h5")
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()

    def test_errors_are_the_same(self, tmp_path: Path) -> None:
        page = tmp_path / "page.h5"
        page.write_text("<!DOCTYPE html>")
        for function in (
            lambda isolated: remap.inspect(page, isolated=isolated),
            lambda isolated: remap.plan(page, isolated=isolated),
            lambda isolated: remap.check(page, page, isolated=isolated),
            lambda isolated: remap.extract(page, tmp_path / "out.h5", isolated=isolated),
        ):
            said = []
            for isolated in (False, True):
                with pytest.raises(RemapError) as caught:
                    function(isolated)
                said.append((type(caught.value), str(caught.value)))
            assert said[0] == said[1]

    def test_progress_arrives(self, case: Any, tmp_path: Path) -> None:
        multi = case("keras-2.2.4", "conv_bn") / "multi.h5"
        seen: list[tuple[int, int]] = []
        remap.inspect(multi, stats=True, progress=lambda *report: seen.append(report), isolated=True)
        assert seen[-1][0] == seen[-1][1]
        seen.clear()
        remap.extract(multi, tmp_path / "out.h5", progress=lambda *report: seen.append(report), isolated=True)
        assert seen[-1][0] == seen[-1][1]

    def test_this_process_reads_nothing(self, case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        multi = case("keras-2.2.4", "conv_bn") / "multi.h5"

        def forbidden(*_: object) -> None:
            raise AssertionError

        monkeypatch.setattr("remap.hdf5.reader.open_checkpoint", forbidden)
        monkeypatch.setattr("remap.conversion.open_checkpoint", forbidden)
        assert remap.inspect(multi, isolated=True).kind == "multi-gpu"
        assert remap.plan(multi, isolated=True).layers


class TestSeveralCallsOfOneChild:
    """Each has its limits, and what it is blamed for happens in a child of its own, too."""

    @pytest.fixture
    def isolation(self) -> Iterator[Isolation]:
        with Isolation(calls=3) as made:
            yield made

    def test_as_many_as_are_allowed_are_made_in_one_child(self, isolation: Isolation) -> None:
        children = [isolation.run("os.getpid", where="") for _ in range(6)]
        assert children[:3] == [children[0]] * 3
        assert children[3:] == [children[3]] * 3
        assert children[0] != children[3]

    @pytest.mark.parametrize(
        ("function", "args", "error"),
        [
            ("tests.isolated.refuse", (), OutputRefused),
            ("tests.isolated.fail", (), IsolationFailed),
            ("tests.isolated.die", (11,), InputRefused),
        ],
    )
    def test_after_one_that_did_not_return_comes_another_child(
        self, isolation: Isolation, function: str, args: tuple[int, ...], error: type[Exception]
    ) -> None:
        before = isolation.run("os.getpid", where="")
        with pytest.raises(error):
            isolation.run(function, *args, where="")
        assert isolation.run("os.getpid", where="") != before

    def test_what_fails_only_after_others_returns(self, isolation: Isolation) -> None:
        assert isolation.run("tests.isolated.succeed_first", where="") == 1
        assert isolation.run("tests.isolated.succeed_first", where="") == 1

    def test_a_child_that_was_killed_between_calls_is_replaced(self, isolation: Isolation) -> None:
        before = isolation.run("os.getpid", where="")
        os.kill(before, signal.SIGTERM)
        assert isolation.run("os.getpid", where="") != before

    @pytest.mark.skipif(sys.platform != "linux", reason="only here the system limits the memory")
    def test_each_call_has_the_whole_memory(self, isolation: Isolation) -> None:
        for _ in range(3):
            assert isolation.run("tests.isolated.take", 200 << 20, where="", memory=300 << 20) == 200 << 20
        with pytest.raises(InputRefused, match="more memory"):
            isolation.run("tests.isolated.take", 400 << 20, where="", memory=300 << 20)

    @pytest.mark.skipif(not hasattr(signal, "SIGXCPU"), reason="only here the limit is of processor time")
    def test_each_call_has_the_whole_time(self, isolation: Isolation) -> None:
        for _ in range(3):
            isolation.run("tests.isolated.work", 0.9, where="", deadline=1)
        with pytest.raises(InputRefused, match="time limit: 1 s"):
            isolation.run("tests.isolated.work", 30, where="", deadline=1)
