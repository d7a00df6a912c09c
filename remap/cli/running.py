"""How every command runs: the call of the library in a child process, the views, and the exit codes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from remap.errors import RemapError
from remap.urls import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from remap.batch.look import Look
    from remap.console.invocation import Command, Invocation
    from remap.console.terminal import ProgressBar, Terminal
    from remap.console.text import Line
    from remap.errors import Option
    from remap.isolation import Isolation

__all__ = [
    "call",
    "endings",
    "open_terminal",
    "progress_bar",
    "require_outputs",
    "save_views",
    "show_many",
    "write_json",
]


def show_many(command: Command, looks: Generator[Look[Any], None, None], *, json: bool) -> None:
    """Show what was found in many files; raises Exit with the code of the worst."""
    from remap.console.looks import show_looks

    with contextlib.closing(looks):
        code = show_looks(command, looks, as_json=json)
    if code:
        raise typer.Exit(code)


def require_outputs(svg: Path | None, html: Path | None) -> None:
    """Refuse names for pictures and web pages before a long reading, and before one of two is written."""
    if svg is not None or html is not None:
        from remap.console.rendering import require_extensions, require_new

        require_extensions(svg, html)
        for target in (svg, html):
            if target is not None:
                require_new(target)


def save_views(lines: list[Line], svg: Path | None, html: Path | None, *, title: str) -> None:
    """Write a view to the files that were asked for."""
    if svg is not None or html is not None:
        from remap.console.rendering import save_html, save_svg

        if svg is not None:
            save_svg(lines, svg, title=title)
        if html is not None:
            save_html(lines, html, title=title)


def call(ctx: typer.Context, name: str, file: str, *args: Any, **named: Any) -> Any:
    """Call the library in a child process, which a damaged file may crash.

    The callers import what shows the result before: the child process loads h5py meanwhile.
    """
    isolation: Isolation = ctx.obj
    return isolation.run(f"remap.{name}", file, *args, where=masked(file), **named)


@contextlib.contextmanager
def endings(
    command: Command,
    file: str,
    options: Mapping[Option, Any] | None = None,
    *,
    others: tuple[str, ...] = (),
    dry_run: bool = False,
    json: bool,
) -> Iterator[Callable[[], Invocation]]:
    """Map every way a command can end to its exit code and message; a bug keeps its traceback.

    Gives a function for the invocation, which is needed only where commands are suggested.
    """

    def invocation() -> Invocation:
        from remap.console.invocation import Invocation

        given = (
            (name, value if value is True else masked(value))
            for name, value in (options or {}).items()
            if value
        )
        return Invocation(
            command=command, source=masked(file), others=others, options=tuple(given), dry_run=dry_run
        )

    try:
        yield invocation
    except RemapError as error:
        from remap.console.advice import failure_json, failure_lines

        if json:
            write_json(failure_json(error, invocation()))
        terminal = open_terminal(stderr=True)
        terminal.print(failure_lines(error, invocation(), width=terminal.width))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted: an output file is complete or absent, never partial.", err=True)
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader of the output has ended; typer would call this an error
        raise typer.Exit(141) from None


def open_terminal(*, stderr: bool = False) -> Terminal:
    """Give the terminal, or what stands in its place."""
    from remap.console.terminal import Terminal

    return Terminal(stderr=stderr)


def progress_bar(label: str) -> ProgressBar:
    """Give a progress bar on stderr."""
    from remap.console.terminal import ProgressBar

    return ProgressBar(open_terminal(stderr=True), label)


def write_json(document: Mapping[str, Any]) -> None:
    """Write one JSON document to stdout."""
    import json

    typer.echo(json.dumps(document, indent=2, allow_nan=False))
