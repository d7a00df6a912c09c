"""The commands: parse, call the library, choose the exit code. No logic.

Results go to stdout, messages to stderr. Nothing heavy is imported before a command needs it, so that help
and completion answer at once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remap import __version__
from remap.errors import RemapError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remap.checking import Check
    from remap.comparison import Comparison
    from remap.console.terminal import Meter, Terminal
    from remap.conversion_plan import Plan
    from remap.isolation import Isolation
    from remap.results import Inspection, Report

__all__ = ["app"]

_COMPLETION_DEADLINE = 5
_UNQUOTED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}")

app = typer.Typer(
    name="h5remap",
    help="Turn a Keras multi-GPU checkpoint into the single-model file it should have been.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"h5remap {__version__}")
        raise typer.Exit


def _submodels(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the names of the models in the file that stands on the command line.

    Shells evaluate or split what they are given to complete, each by rules of its own. So only names that no
    shell has to quote are offered, which most names in Keras are.
    """
    # Without a value the option ends the parser's work, and the file is still among what was not parsed.
    source = next((word for word in (ctx.params.get("file"), *ctx.args) if word), None)
    if source is None:
        return []
    from remap.isolation import Isolation, IsolationFailed

    try:
        with Isolation(fork=True) as isolation:
            path = Path(source).expanduser()
            found: Inspection = isolation.run("remap.inspect", path, where="", deadline=_COMPLETION_DEADLINE)
    except (RemapError, IsolationFailed, RuntimeError):  # expanduser raises the last
        return []
    names = (layer.name for layer in found.models)
    return [name for name in names if name.startswith(incomplete) and _UNQUOTED.fullmatch(name)]


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


# Nothing here is to be `readable`: an output need not be, and of an input the library says it in its own words.
_File = Annotated[
    Path, typer.Argument(metavar="FILE", show_default=False, readable=False, help="A Keras .h5 file.")
]
_Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout instead.")]


@app.command("inspect")
def _inspect(
    ctx: typer.Context,
    file: _File,
    json: _Json = False,
    depth: Annotated[
        int | None, typer.Option("--depth", min=1, metavar="N", help="Show N levels of layers.")
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="PATTERN", help="Show the layers of a name like this: 'block1_*'."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Fold nothing.")] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Read every tensor: least, greatest, mean, NaN and Inf.")
    ] = False,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="OUT", readable=False, help="Draw the view as a picture, too."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="OUT", readable=False, help="Write the view as a web page, too."),
    ] = None,
) -> None:
    """Show what is in a Keras .h5 file, and what to do with it."""
    with _endings(["inspect", str(file)], json=json):
        from remap.console.advice import advice_lines
        from remap.console.inspection import Selection, overview_lines
        from remap.console.text import Line

        pictures = [target for target in (svg, html) if target is not None]
        if pictures:
            from remap.console.rendering import require_new, save_html, save_svg

            for target in pictures:  # before a long reading, and before one of two is written
                require_new(target)
        with _meter("reading") as meter:
            found: Inspection = _call(ctx, "inspect", file, stats=stats, progress=meter)
        terminal = _terminal()
        selection = Selection() if json else Selection(depth=depth, pattern=layer, every=every)
        lines = [
            *overview_lines(found, selection, width=terminal.width, ascii_only=terminal.ascii_only),
            Line(),
            *advice_lines(found, width=terminal.width),
        ]
        if svg is not None:
            save_svg(lines, svg, title=f"h5remap inspect {file}")
        if html is not None:
            save_html(lines, html)
        if json:
            _write_json(found.to_json())
        else:
            terminal.print(lines)


@app.command("extract")
def _extract(
    ctx: typer.Context,
    file: _File,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="OUT", show_default=False, readable=False, help="The file to write."
        ),
    ],
    like: Annotated[
        Path | None,
        typer.Option(
            "--like",
            metavar="FILE",
            readable=False,
            help="The model to load into: JSON of model.to_json(), or a Keras file of it.",
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Nothing was frozen, and no model is inside the model.")
    ] = False,
    keep_flags: Annotated[
        bool,
        typer.Option(
            "--keep-flags",
            help="Keep the order of the checkpoint's trainable flags where the reference model has others.",
        ),
    ] = False,
    submodel: Annotated[
        str | None,
        typer.Option(
            "--submodel", metavar="NAME", autocompletion=_submodels, help="Which of several models."
        ),
    ] = None,
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="Leave architecture and training state behind.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show where every weight would go, and write nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output if it is there already.")
    ] = False,
    json: _Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing when all went well.")] = False,
) -> None:
    """Write the single model in a checkpoint to a file of its own."""
    invocation = ["extract", str(file), "-o", str(output)]
    options: dict[str, Any] = {
        "like": like,
        "plain": plain,
        "keep_flags": keep_flags,
        "submodel": submodel,
        "weights_only": weights_only,
    }
    for name, value in options.items():
        if value:
            invocation.append("--" + name.replace("_", "-"))
            invocation += [] if value is True else [str(value)]
    with _endings(invocation, json=json):
        if dry_run:
            _dry_run(ctx, file, options, json=json)
            return
        from remap.console.extraction import report_lines

        with _meter("writing") as meter:
            report: Report = _call(
                ctx, "extract", file, output, **options, overwrite=overwrite, progress=meter
            )
        if json:
            _write_json(report.to_json())
        elif not quiet:
            terminal = _terminal()
            terminal.print(report_lines(report, width=terminal.width))


def _dry_run(ctx: typer.Context, file: Path, options: Mapping[str, Any], *, json: bool) -> None:
    from remap.console.extraction import mapping_lines, report_lines
    from remap.results import mapping_of, plan_json, report_of

    planned: Plan = _call(ctx, "plan", file, **options)
    if json:
        _write_json(plan_json(planned, source=str(file)))
        return
    terminal = _terminal()
    terminal.print(mapping_lines(mapping_of(planned), ascii_only=terminal.ascii_only))
    report = report_of(planned, source=str(file), target=None, size=0)
    terminal.print(report_lines(report, width=terminal.width))


@app.command("check")
def _check(
    ctx: typer.Context,
    file: _File,
    like: Annotated[
        Path,
        typer.Option(
            "--like",
            metavar="FILE",
            readable=False,
            show_default=False,
            help="The model to load into: JSON of model.to_json(), or a Keras file of it.",
        ),
    ],
    json: _Json = False,
) -> None:
    """Tell whether load_weights would take a file, and why not."""
    with _endings(["check", str(file), "--like", str(like)], json=json):
        from remap.console.check import check_lines

        result: Check = _call(ctx, "check", file, like)
        if json:
            _write_json(result.to_json())
        else:
            terminal = _terminal()
            terminal.print(check_lines(result, width=terminal.width, ascii_only=terminal.ascii_only))
        if not result.loads:
            raise typer.Exit(3)


@app.command("compare")
def _compare(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="A", show_default=False, readable=False, help="A .h5, .keras or .weights.h5."),
    ],
    other: Annotated[
        Path, typer.Argument(metavar="B", show_default=False, readable=False, help="Another of these.")
    ],
    every: Annotated[bool, typer.Option("--all", help="Show equal tensors, too.")] = False,
    json: _Json = False,
) -> None:
    """Tell whether two files hold the same weights: exit code 0 equal, 3 different, 4 undecided."""
    with _endings(["compare", str(file), str(other)], json=json):
        from remap.console.comparison import comparison_lines

        with _meter("comparing") as meter:
            found: Comparison = _call(ctx, "compare", file, other, progress=meter)
        if json:
            _write_json(found.to_json())
        else:
            terminal = _terminal()
            terminal.print(
                comparison_lines(found, width=terminal.width, ascii_only=terminal.ascii_only, every=every)
            )
        if found.exit_code:
            raise typer.Exit(found.exit_code)


def _call(ctx: typer.Context, name: str, file: Path, *args: Any, **named: Any) -> Any:
    """Call the library, the one place where that happens: in a child, which a damaged file may crash.

    What only has to be shown is imported before: the child is loading h5py meanwhile.
    """
    isolation: Isolation = ctx.obj
    return isolation.run(f"remap.{name}", file, *args, where=str(file), **named)


@contextlib.contextmanager
def _endings(invocation: list[str], *, json: bool) -> Iterator[None]:
    """Map every way a command can end to its exit code and message; a bug keeps its traceback."""
    try:
        yield
    except RemapError as error:
        from remap.console.advice import failure_json, failure_lines

        if json:
            _write_json(failure_json(error, invocation))
        _terminal(stderr=True).print(failure_lines(error, invocation))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted: an output file is complete or absent, never partial.", err=True)
        raise typer.Exit(130) from None
    except BrokenPipeError:  # whoever read our output has seen enough; typer would call this an error
        raise typer.Exit(141) from None


def _terminal(*, stderr: bool = False) -> Terminal:
    from remap.console.terminal import Terminal

    return Terminal(stderr=stderr)


def _meter(label: str) -> Meter:
    from remap.console.terminal import Meter

    return Meter(_terminal(stderr=True), label)


def _write_json(document: Mapping[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=2, allow_nan=False))
