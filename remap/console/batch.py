"""How `extract` converts many files on the command line: progress, the table at the end, the exit code."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from remap.batch.run import extract_many
from remap.batch.summary import RefusalGroup, Summary
from remap.console.invocation import command_line
from remap.console.terminal import ProgressBar, Terminal
from remap.console.text import Line, bytes_in_words, count, wrapped
from remap.errors import Remedy, UsageRefused
from remap.hdf5.identify import show
from remap.urls import masked, remote

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from remap.batch.results import Progress, Result, Status

__all__ = ["BatchRequest", "run_batch", "summary_lines"]

INTERRUPTED = 130
_MOST_LISTED = 10
_EXCLUDED = {"plain": ("like", "keep_flags"), "like": ("plain",)}
_ANSWER = 10  # seconds to wait for a scheduler
_STATUSES: tuple[Status, ...] = ("written", "already done", "already single", "refused", "failed")
_STYLES = {"written": "green", "refused": "red", "failed": "bold red"}
_FILE_NAMES = (".h5", ".hdf5", ".hdf", ".keras")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """What the command line asks for.

    `options` are the keyword arguments of `remap.extract_many`, and `cluster`, the address of a Dask scheduler; those
    with the values that they have anyway may be left out.
    """

    sources: Sequence[str]
    output: str
    options: Mapping[str, Any]

    def command(self, *, sources: Sequence[str] | None = None, remedy: Remedy | None = None) -> str:
        """Write the command again, ready to paste: with other files, and with what would get them further."""
        options = dict(self.options)
        if sources is None:
            options["resume"] = True
        words = ["extract", *(sources or map(masked, self.sources)), "-o", masked(self.output)]
        if remedy is not None:
            name = {"target": "format"}.get(remedy.option, remedy.option)
            options[name] = remedy.value
            for other in _EXCLUDED.get(name, ()):
                options.pop(other, None)
            if name == "format":
                options[name] = str(remedy.value).lstrip(".")
        if "like" in options and isinstance(options["like"], str):
            options["like"] = masked(options["like"])
        for name, value in options.items():
            words += _words("--" + name.replace("_", "-"), value)
        return command_line(*words)


def _words(option: str, value: object) -> Iterator[str]:
    if value is True:
        yield option
    elif isinstance(value, list | tuple):
        for item in value:
            yield from (option, str(item))
    elif value not in (None, False):
        yield from (option, str(value))


def run_batch(request: BatchRequest, *, as_json: bool, quiet: bool) -> int:
    """Convert, and say what came out.

    Args:
        request: What to convert.
        as_json: Write each result as a line of JSON to stdout when it ends, and no table.
        quiet: Say nothing of files that went well.

    Returns:
        The exit code: that of the worst file, 130 after Ctrl-C.

    Raises:
        RemapError: What `remap.extract_many` raises.
    """
    there = remote(request.output) is None and Path(request.output).is_dir()
    if not there and request.output.lower().endswith(_FILE_NAMES):
        raise UsageRefused(
            "the output has the name of a file",
            where=masked(request.output),
            hint="give the name of a directory",
        )
    summary = Summary()
    messages = Terminal(stderr=True)
    started = time.monotonic()
    shown = _Shown(messages, quiet=quiet, as_json=as_json)
    options = {name: value for name, value in request.options.items() if value not in (None, False)}
    cluster = options.pop("cluster", None)
    interrupted = False
    with ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        if cluster is not None:
            options["executor"] = stack.enter_context(_executor_of(cluster))
        results = stack.enter_context(
            closing(extract_many(request.sources, request.output, **options, progress=shown.progress))
        )
        stack.enter_context(shown)
        try:
            for result in results:
                summary.add(result)
                shown.result(result)
                if as_json:
                    sys.stdout.write(json.dumps(result.to_json(), allow_nan=False) + "\n")
                    sys.stdout.flush()
        except KeyboardInterrupt:
            interrupted = True
    lines = summary_lines(
        summary,
        request,
        total=shown.total,
        seconds=time.monotonic() - started,
        interrupted=interrupted,
        width=messages.width,
    )
    if as_json or (quiet and not summary.exit_code and not interrupted):
        if interrupted:
            messages.print(lines)
    else:
        (messages if quiet else Terminal()).print(lines)
    return INTERRUPTED if interrupted else summary.exit_code


def summary_lines(
    summary: Summary,
    request: BatchRequest,
    *,
    total: int,
    seconds: float,
    interrupted: bool,
    width: int | None,
) -> Iterator[Line]:
    """Give the table of a batch, and for each reason of refusals the command that would get these files further."""
    done = sum(summary.counts.values())
    ending = f"{count(done, 'file')} in {seconds:.1f} s"
    if done < total:
        ending = f"{done:,} of {count(total, 'file')} in {seconds:.1f} s"
    yield Line(("Interrupted: " if interrupted else "", "bold yellow"), ending)
    for status in _STATUSES:
        number = summary.counts[status]
        if number:
            size = f"  {bytes_in_words(summary.written)}" if status == "written" else ""
            yield Line(f"  {status:<15}", (f"{number:>9,}", _STYLES.get(status, "")), size)
    for group in summary.groups:
        yield from _group_lines(group, request, width)
    if summary.ungrouped:
        yield Line()
        yield Line(f"{count(summary.ungrouped, 'more file')} for other reasons: --json tells all of them")
    if done < total:
        yield Line()
        yield from wrapped("No output is incomplete. To convert the other files:", "", width)
        yield Line("  ", (request.command(), "cyan"))


def _group_lines(group: RefusalGroup, request: BatchRequest, width: int | None) -> Iterator[Line]:
    error = group.error
    yield Line()
    yield Line((f"{count(group.count, 'file')}: ", "bold red"), (show(error.what), "red"))
    listed = ", ".join(map(show, group.sources[:_MOST_LISTED]))
    more = f" and {group.count - _MOST_LISTED:,} more" if group.count > _MOST_LISTED else ""
    yield from wrapped(listed + more, "", width, first="   in: ", rest="       ")
    if error.hint:
        yield from wrapped(show(error.hint), "", width, first="  try: ", rest="       ")
    # Files found in directories keep their places only if the directories are named again.
    alone = group.count <= _MOST_LISTED and not request.options.get("recursive")
    for remedy in error.remedies:
        if remedy.option == "by_order":  # not an option of `extract`
            continue
        line = request.command(sources=group.sources if alone else None, remedy=remedy)
        yield Line("       ", (line, "cyan"))
        if remedy.when:
            yield Line("         if ", show(remedy.when))
        if remedy.code:
            yield Line("         with ", show(str(remedy.value)), " written by:")
            yield Line("         ", (show(remedy.code), "cyan"))


class _Shown:
    """Shows files as they end: on a terminal by a progress bar, elsewhere by a line for each, or not at all."""

    def __init__(self, terminal: Terminal, *, quiet: bool, as_json: bool) -> None:
        self.total = 0
        self._terminal = terminal
        self._bar = ProgressBar(terminal, "converting", at_once=True) if terminal.live and not quiet else None
        self._silent = quiet or as_json

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)

    def progress(self, progress: Progress) -> None:
        self.total = progress.files
        if self._bar is not None:
            files = f"{progress.files_done:,} of {count(progress.files, 'file')}"
            self._bar(progress.bytes_done, progress.bytes, files)

    def result(self, result: Result) -> None:
        if self._bar is not None:
            if result.status in ("refused", "failed"):
                self._bar.print(f"{result.status}: {show(result.source)}")
        elif not self._silent:
            name = result.target if result.status == "written" else result.source
            self._terminal.print([Line(f"{result.status}: {show(name)}")])


@contextmanager
def _executor_of(address: str) -> Iterator[Executor]:
    """Connect to a Dask scheduler."""
    try:
        from distributed import Client
    except ImportError:
        raise UsageRefused(
            "a cluster needs Dask, which is not installed", hint="pip install 'h5remap[cluster]'"
        ) from None
    try:
        client = Client(address, timeout=_ANSWER)
    except (OSError, ValueError) as error:  # of which TimeoutError is one
        raise UsageRefused(f"no scheduler answers: {error}", where=address) from None
    with client:
        yield client.get_executor()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the batch by an exception, so that files at work are cleaned up first."""
    before: dict[signal.Signals, Any] = {}
    for name in ("SIGTERM", "SIGHUP"):
        with suppress(ValueError, AttributeError):
            number = getattr(signal, name)
            if signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)
