"""The commands: parse the command line, call the library, choose the exit code.

Results go to stdout, messages to stderr. Nothing heavy is imported before a command needs it, so that help
and completion answer at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remap import __version__
from remap.cli.options import (
    CHECK_EXAMPLES,
    COMPARE_EXAMPLES,
    EXAMPLES,
    EXTRACT_EXAMPLES,
    INSPECT_EXAMPLES,
    UNQUOTED,
    File,
    Html,
    Json,
    KerasFiles,
    exclude_option,
    file_argument,
    files_argument,
    include_option,
    jobs_option,
    like_option,
    recursive_option,
    svg_option,
)
from remap.cli.running import (
    call,
    endings,
    open_terminal,
    progress_bar,
    require_outputs,
    save_views,
    show_many,
    write_json,
)
from remap.errors import RemapError, UsageRefused
from remap.urls import masked, remote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from remap.checking import Check
    from remap.comparison.results import Comparison
    from remap.console.invocation import Invocation
    from remap.conversion_plan import Plan
    from remap.errors import Option
    from remap.results import Inspection, Report

__all__ = ["app"]

_COMPLETION_DEADLINE = 5

app = typer.Typer(
    name="h5remap",
    help="Turn a Keras multi-GPU checkpoint into the single-model file it should have been.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"h5remap {__version__}")
        raise typer.Exit


def _submodels(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the paths of the models in the file that stands on the command line.

    Only names that no shell has to quote are offered, which most names in Keras are.
    """
    # Without a value the option ends the parser's work, and the file is still among what was not parsed.
    source = next((word for word in (*(ctx.params.get("files") or ()), *ctx.args) if word), None)
    if source is None or remote(source) is not None:  # no server is asked when TAB is pressed
        return []
    from remap.isolation import Isolation, IsolationFailed

    try:
        with Isolation(fork=True) as isolation:
            path = Path(source).expanduser()
            found: Inspection = isolation.run("remap.inspect", path, where="", deadline=_COMPLETION_DEADLINE)
    except (RemapError, IsolationFailed, RuntimeError):  # expanduser raises the last
        return []
    return [path for path in found.submodels if path.startswith(incomplete) and UNQUOTED.fullmatch(path)]


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


_Recursive = Annotated[bool, recursive_option("Look at")]
_Include = Annotated[list[str] | None, include_option("take")]
_Exclude = Annotated[list[str] | None, exclude_option()]
_Jobs = Annotated[int | None, jobs_option("Look at")]


@app.command("inspect", epilog=INSPECT_EXAMPLES)
def _inspect(
    ctx: typer.Context,
    files: KerasFiles,
    json: Json = False,
    depth: Annotated[
        int | None, typer.Option("--depth", min=1, metavar="N", help="Show N levels of layers.")
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer", metavar="PATTERN", help="Show layers whose name matches, such as 'block1_*'."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show repeated layers, too.")] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Read every tensor: minimum, maximum, mean, NaN, Inf.")
    ] = False,
    svg: Annotated[Path | None, svg_option()] = None,
    html: Html = None,
    recursive: _Recursive = False,
    include: _Include = None,
    exclude: _Exclude = None,
    jobs: _Jobs = None,
) -> None:
    """Show what is in a Keras file, and what to do with it; of many files a row each, and how they differ."""
    file = files[0]
    if len(files) > 1 or recursive or include or exclude or jobs:
        with endings("inspect", file, json=json):
            if depth or layer or every or stats or svg or html:
                raise UsageRefused(
                    "the layers of one file are shown", hint="give one file, or leave out these options"
                )
            from remap.batch.look import inspect_many

            looks = inspect_many(
                files, recursive=recursive, include=include or (), exclude=exclude or (), jobs=jobs
            )
            show_many("inspect", looks, json=json)
        return
    with endings("inspect", file, json=json):
        from remap.console.advice import advice_lines
        from remap.console.inspection import Selection, overview_lines
        from remap.console.text import Line

        require_outputs(svg, html)
        with progress_bar("reading") as progress:
            found: Inspection = call(ctx, "inspect", file, stats=stats, progress=progress)
        terminal = open_terminal()
        selection = Selection() if json else Selection(depth=depth, pattern=layer, every=every)
        lines = [
            *overview_lines(found, selection, width=terminal.width, ascii_only=terminal.ascii_only),
            Line(),
            *advice_lines(found, width=terminal.width),
        ]
        save_views(lines, svg, html, title=f"h5remap inspect {masked(file)}")
        if json:
            write_json(found.to_json())
        else:
            terminal.print(lines)


@app.command("extract", epilog=EXTRACT_EXAMPLES)
def _extract(
    ctx: typer.Context,
    files: Annotated[list[File], files_argument("Keras .h5 files or their URLs, or with -r directories.")],
    output: Annotated[
        str,  # a path would lose the slash at the end that means a directory
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            show_default=False,
            help="The file to write; for many files the directory to write to.",
        ),
    ],
    like: Annotated[
        File | None,
        like_option(
            "The model to load into: JSON of model.to_json(), a Keras file of it, or a network such as resnet50."
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Nothing was frozen in training, and there is no nested model.")
    ] = False,
    keep_flags: Annotated[
        bool,
        typer.Option(
            "--keep-flags",
            help="Order the weights by the checkpoint's trainable flags, not the reference model's.",
        ),
    ] = False,
    submodel: Annotated[
        str | None,
        typer.Option(
            "--submodel",
            metavar="NAME",
            autocompletion=_submodels,
            help="A model inside alone: its name, or its path (core/backbone).",
        ),
    ] = None,
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="Write neither architecture nor training state.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show where every weight would go, and write nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    recursive: Annotated[bool, recursive_option("Convert")] = False,
    include: Annotated[list[str] | None, include_option("convert")] = None,
    exclude: _Exclude = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="Of many files: h5 (default), keras or weights.h5."),
    ] = None,
    jobs: Annotated[int | None, jobs_option("Convert")] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", metavar="ADDRESS", help="Convert many files on the cluster of a Dask scheduler."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Of many files, skip those that were converted before.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Of many files, begin none after one was refused.")
    ] = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing on success.")] = False,
) -> None:
    """Write the single model in a checkpoint to a file of its own, or those in many to a directory."""
    file = files[0]
    options: dict[Option, Any] = {
        "like": like,
        "plain": plain,
        "keep_flags": keep_flags,
        "submodel": submodel,
        "weights_only": weights_only,
    }
    given: dict[Option, Any] = {"target": output, **options, "overwrite": overwrite}
    choice = {"recursive": recursive, "include": include, "exclude": exclude, "format": form, "jobs": jobs}
    choice |= {"cluster": cluster, "resume": resume, "fail_fast": fail_fast}
    directory = not dry_run and (
        output.endswith(("/", os.sep)) or (remote(output) is None and Path(output).is_dir())
    )
    if len(files) > 1 or directory or Path(file).is_dir() or any(choice.values()):
        with endings("extract", file, given, dry_run=dry_run, json=json):
            _extract_many(
                files,
                output,
                {**_arguments(options), "overwrite": overwrite, **choice},
                json=json,
                quiet=quiet,
                dry_run=dry_run,
            )
        return
    with endings("extract", file, given, dry_run=dry_run, json=json) as invocation:
        if dry_run:
            _dry_run(ctx, file, output, options, invocation, json=json)
            return
        from remap.console.extraction import report_lines

        with progress_bar("writing") as progress:
            report: Report = call(
                ctx, "extract", file, output, **_arguments(options), overwrite=overwrite, progress=progress
            )
        if json:
            write_json(report.to_json())
        elif not quiet:
            terminal = open_terminal()
            terminal.print(report_lines(report, invocation(), width=terminal.width))


def _extract_many(
    files: Sequence[str], output: str, options: Mapping[str, Any], *, json: bool, quiet: bool, dry_run: bool
) -> None:
    from remap.console.batch import BatchRequest, run_batch

    if dry_run:
        raise UsageRefused("a dry run shows one file", hint="give one file, and the name of a file as output")
    code = run_batch(BatchRequest(sources=files, output=output, options=options), as_json=json, quiet=quiet)
    if code:
        raise typer.Exit(code)


def _dry_run(
    ctx: typer.Context,
    file: str,
    output: str,
    options: Mapping[Option, Any],
    invocation: Callable[[], Invocation],
    *,
    json: bool,
) -> None:
    from remap.console.extraction import mapping_lines, report_lines
    from remap.results import mapping_of, plan_json, report_of

    planned: Plan = call(ctx, "plan", file, output, **_arguments(options))
    if json:
        write_json(plan_json(planned, source=masked(file)))
        return
    terminal = open_terminal()
    terminal.print(mapping_lines(mapping_of(planned), ascii_only=terminal.ascii_only))
    report = report_of(planned, source=masked(file), target=None, size=0)
    terminal.print(report_lines(report, invocation(), width=terminal.width))


@app.command("check", epilog=CHECK_EXAMPLES)
def _check(
    ctx: typer.Context,
    files: KerasFiles,
    like: Annotated[
        File | None,
        like_option(
            "The model to load into: JSON, any file of it, or a network such as resnet50. Default: that in FILE."
        ),
    ] = None,
    by_order: Annotated[
        bool,
        typer.Option("--by-order", help="The order is right, even if the names of weights are crossed."),
    ] = False,
    json: Json = False,
    recursive: _Recursive = False,
    include: _Include = None,
    exclude: _Exclude = None,
    jobs: _Jobs = None,
) -> None:
    """Tell which of Keras's loaders would take a file for a model, or why not."""
    file = files[0]
    if len(files) > 1 or recursive or include or exclude or jobs:
        with endings("check", file, {"like": like, "by_order": by_order}, json=json):
            from remap.batch.look import check_many

            looks = check_many(
                files,
                like,
                by_order=by_order,
                recursive=recursive,
                include=include or (),
                exclude=exclude or (),
                jobs=jobs,
            )
            show_many("check", looks, json=json)
        return
    with endings("check", file, {"like": like, "by_order": by_order}, json=json):
        from remap.console.check import check_lines

        result: Check = call(ctx, "check", file, like, by_order=by_order)
        if json:
            write_json(result.to_json())
        else:
            terminal = open_terminal()
            terminal.print(check_lines(result, width=terminal.width, ascii_only=terminal.ascii_only))
        if not result.loads:
            raise typer.Exit(4 if result.verdict == "cannot tell" else 3)


def _arguments(options: Mapping[Option, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in options.items()}


@app.command("compare", epilog=COMPARE_EXAMPLES)
def _compare(
    ctx: typer.Context,
    file: Annotated[
        File,
        file_argument("A", "A .h5, .keras or .weights.h5, or its URL."),
    ],
    other: Annotated[
        File,
        file_argument("B", "Another of these."),
    ],
    every: Annotated[bool, typer.Option("--all", help="Show equal tensors, too.")] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Show how far each layer moved: norms, relative change, cosine.")
    ] = False,
    svg: Annotated[Path | None, svg_option("; with --stats a plot of how far layers moved")] = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Tell whether two files hold the same weights: exit code 0 equal, 3 different, 4 undecided."""
    with endings("compare", file, others=(masked(other),), json=json):
        from remap.console.comparison import comparison_lines

        require_outputs(svg, html)
        with progress_bar("comparing") as progress:
            found: Comparison = call(ctx, "compare", file, other, stats=stats, progress=progress)
        terminal = open_terminal()
        lines = list(
            comparison_lines(found, width=terminal.width, ascii_only=terminal.ascii_only, every=every)
        )
        if svg is not None and stats:
            from remap.console.movement import movement_plot
            from remap.console.rendering import save_plot

            save_plot(movement_plot(found), svg)
            svg = None
        save_views(lines, svg, html, title=f"h5remap compare {masked(file)} {masked(other)}")
        if json:
            write_json(found.to_json())
        else:
            terminal.print(lines)
        if found.exit_code:
            raise typer.Exit(found.exit_code)
