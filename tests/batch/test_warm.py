"""Interpreters that stay loaded: what they promise of isolation, and what happens when they end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from remap.batch.warm import _CALLS, Interpreters
from remap.errors import InputRefused, OutputRefused, RemapError
from remap.isolation import IsolationFailed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture
def interpreters() -> Iterator[Interpreters]:
    made = Interpreters("tests.isolated")
    yield made
    made.close()


def parent_of_call(interpreters: Interpreters) -> int:
    found: int = interpreters.run("os.getppid", where="")
    return found


def test_calls_one_after_another_are_made_in_children_of_one_interpreter(interpreters: Interpreters) -> None:
    children = [interpreters.run("os.getpid", where="") for _ in range(_CALLS + 1)]
    assert [len(set(part)) for part in (children[:_CALLS], children)] == [1, 2]
    assert parent_of_call(interpreters) not in (os.getpid(), *children)


def test_what_is_preloaded_is_loaded_in_every_child(interpreters: Interpreters) -> None:
    assert interpreters.run("tests.isolated.loaded", "tests.isolated", where="")
    assert not interpreters.run("tests.isolated.loaded", "h5py", where="")


def test_a_crash_refuses_one_file_and_leaves_the_interpreter(interpreters: Interpreters) -> None:
    before = parent_of_call(interpreters)
    with pytest.raises(InputRefused, match="crashed on this file"):
        interpreters.run("tests.isolated.die", signal.SIGSEGV, where="bad.h5")
    assert parent_of_call(interpreters) == before


def test_an_endless_loop_is_stopped_at_its_limit_and_leaves_the_interpreter(
    interpreters: Interpreters,
) -> None:
    before = parent_of_call(interpreters)
    with pytest.raises(InputRefused, match="time limit: 1 s"):
        interpreters.run("tests.isolated.loop", where="bad.h5", deadline=1)
    assert parent_of_call(interpreters) == before


def test_memory_is_limited_for_each_call(interpreters: Interpreters) -> None:
    with pytest.raises(InputRefused, match="more memory than 1 GiB"):
        interpreters.run("tests.isolated.take", 2 << 30, where="bad.h5")
    assert interpreters.run("tests.isolated.take", 1 << 20, where="") == 1 << 20


def test_progress_arrives_and_extends_the_time_limit(interpreters: Interpreters) -> None:
    steps: list[tuple[int, int]] = []
    function = "tests.isolated.work_in_steps"
    done = interpreters.run(function, where="", progress=lambda *step: steps.append(step), deadline=1)
    assert done == "done"
    assert steps[-1] == (4, 4)


def test_errors_and_bugs_of_the_call_are_raised(interpreters: Interpreters) -> None:
    with pytest.raises(OutputRefused, match="the disk is full"):
        interpreters.run("tests.isolated.refuse", where="")
    with pytest.raises(IsolationFailed, match="ZeroDivisionError"):
        interpreters.run("tests.isolated.fail", where="")


def test_calls_from_threads_have_an_interpreter_each(interpreters: Interpreters) -> None:
    both = threading.Barrier(2, timeout=60)
    found: list[int] = []

    def meet(*_: int) -> None:
        both.wait()

    def call() -> None:
        interpreters.run("tests.isolated.report_once", where="", progress=meet)
        found.append(1)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1, 1]


def test_an_interpreter_that_was_killed_is_replaced(interpreters: Interpreters) -> None:
    before = parent_of_call(interpreters)
    os.kill(before, signal.SIGKILL)
    assert parent_of_call(interpreters) != before


def test_an_interpreter_that_is_killed_at_every_attempt_is_an_error(interpreters: Interpreters) -> None:
    calls: list[int] = []

    def kill(child: int, _: int) -> None:
        calls.append(child)
        for interpreter in interpreters._busy:
            interpreter._process.kill()

    with pytest.raises(RemapError, match="was ended by the system"):
        interpreters.run("tests.isolated.report_and_wait", where="x.h5", progress=kill)
    assert len(calls) == 3


def test_an_interrupt_ends_calls_without_a_further_attempt(interpreters: Interpreters) -> None:
    calls: list[int] = []

    def interrupt(child: int, _: int) -> None:
        calls.append(child)
        interpreters.interrupt()

    with pytest.raises(RemapError, match="was ended by the system"):
        interpreters.run("tests.isolated.report_and_wait", where="x.h5", progress=interrupt)
    assert len(calls) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(calls[0], 0)


def test_an_exception_of_the_caller_ends_the_call(interpreters: Interpreters) -> None:
    calls: list[int] = []

    def fail(child: int, _: int) -> None:
        calls.append(child)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interpreters.run("tests.isolated.report_and_wait", where="x.h5", progress=fail)
    with pytest.raises(ProcessLookupError):
        os.kill(calls[0], 0)


def test_a_system_without_processes_left_is_an_error(
    interpreters: Interpreters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "")
    with pytest.raises(InputRefused, match="no Python interpreter to start"):
        interpreters.run("os.getpid", where="x.h5")


def test_without_fork_each_call_starts_an_interpreter(
    interpreters: Interpreters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fork")
    assert parent_of_call(interpreters) == os.getpid()
