"""What `check` shows: the verdict in Keras's own words, and a table of layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remap.assignment.loading import Loading, LoadStep
from remap.checking import Check, misfits
from remap.console.advice import output_name
from remap.console.invocation import Invocation
from remap.console.text import Line, cell_width, count, elided, labelled, shape, wrapped
from remap.hdf5.identify import show
from remap.layers.weights import Shape

__all__ = ["check_lines"]

_LEAST_ROOM = 16


def check_lines(check: Check, *, width: int | None, ascii_only: bool) -> Iterator[Line]:
    """Lay out a check: the verdict, the layers in the order of loading, loading by name, warnings."""
    if check.verdict == "crossed":
        crossed = "load_weights takes the file, but layers get the weights of other layers"
        yield from labelled("Crossed: ", crossed, width, label_style="bold red")
        accepting = Invocation(
            command="check", source=check.source, options=(("like", check.like), ("by_order", True))
        )
        yield Line("If the order is right nevertheless:")
        yield Line("  ", (accepting.line, "cyan"))
    elif check.verdict == "cannot tell":
        classes = ", ".join(show(name) for name in check.by_order.undecided)
        depends = f"it depends on custom classes ({classes})"
        yield from labelled("Cannot tell: ", depends, width, label_style="bold yellow")
    elif check.loads:
        sure = "" if not check.unknown else f", as far as {show(check.like)} tells"
        loads = f"load_weights takes all {_met(check.by_order)}{sure}"
        yield from labelled("Loads: ", loads, width, label_style="bold green")
    else:
        yield Line(("Does not load.", "bold red"))
        yield from _complaint(check.by_order_words, width)
    yield Line()
    yield from _table(check.by_order.steps, width, "..." if ascii_only else "…")
    yield Line()
    yield from _by_name(check, width)
    for warning in check.warnings:
        yield from wrapped(f"Warning: {show(warning)}", "yellow", width, rest="  ")
    if check.unknown:
        yield from wrapped(
            f"{count(check.unknown, 'shape')} compared in part only: {show(check.like)} does not give the sizes that "
            "follow from earlier layers. An .h5 file of the model as --like does.",
            "yellow",
            width,
            rest="  ",
        )
    if check.multi_gpu:
        extraction = Invocation(
            command="extract",
            source=check.source,
            options=(("target", output_name(check.source)), ("like", check.like)),
        )
        yield Line("This is a multi-GPU checkpoint; to extract the single model:")
        yield Line("  ", (extraction.line, "cyan"))


def _complaint(words: Sequence[str], width: int | None) -> Iterator[Line]:
    """Give the words of old and of new; where there are only some, all say about the same."""
    for who, said in zip(("Keras up to 2.6", "Keras since 2.7", "Keras 3"), words, strict=False):
        yield from wrapped(f"{who}: {show(said)}", "red", width, first="  ", rest="    ")


def _met(loading: Loading) -> str:
    return count(sum(1 for step in loading.steps if step.saved and step.expected), "layer")


def _by_name(check: Check, width: int | None) -> Iterator[Line]:
    loading = check.by_name
    wanted = sum(1 for step in loading.steps if step.expected)
    met = sum(1 for step in loading.steps if step.saved and step.expected)
    if not loading.loads:
        yield Line(
            "With by_name=True it does not load either."
            if not check.loads
            else "With by_name=True it does not load."
        )
        yield from _complaint(check.by_name_words, width)
    elif not met:
        yield from wrapped("With by_name=True it loads nothing, and Keras does not say so.", "yellow", width)
    elif met < wanted:
        yield from wrapped(
            f"With by_name=True it loads {met:,} of {count(wanted, 'layer')} and leaves the rest as it was.",
            "yellow",
            width,
        )
    else:
        yield Line(f"With by_name=True it loads too: all {count(met, 'layer')}.")


def _table(steps: Sequence[LoadStep], width: int | None, dots: str) -> Iterator[Line]:
    widest = None if width is None else max((width - 30) // 2, 8)
    rows = [
        (status, elided(model, widest, dots), elided(file, widest, dots), weights)
        for status, model, file, weights in [("", "model", "file", "weights"), *map(_cells, steps)]
    ]
    columns = [max(cell_width(row[index]) for row in rows) for index in range(3)]
    used = sum(columns) + 6
    for number, row in enumerate(rows):
        line = Line((row[0], "green" if row[0] == "ok" else "bold red"))
        for index in (1, 2):
            line.pad(sum(columns[:index]) + 2 * index)
            line.add(row[index], "" if number else "bold")
        line.pad(used)
        room = None if width is None else max(width - used, _LEAST_ROOM)
        line.add(_cut(row[3], room, dots), "dim" if number else "bold")
        yield line


def _cells(step: LoadStep) -> tuple[str, str, str, str]:
    want, have = step.expected, step.saved
    names = (show(want.name) if want else "-", show(have.name) if have else "-")
    if have is None:
        return ("missing", *names, _shapes((want.shapes if want else None) or ()))
    if want is None:
        return ("extra", *names, _shapes(have.shapes))
    if not step.complaint:
        return ("crossed" if step.crossed else "ok", *names, _shapes(have.shapes))
    wanted = len(want.shapes or ())
    if wanted != len(have.shapes):
        return ("count", *names, f"model wants {wanted:,}, file has {len(have.shapes):,}")
    sides, found = next(misfits(want, have))
    return ("shape", *names, f"model wants {shape(sides)}, file has {shape(found)}")


def _shapes(shapes: Sequence[Shape | None]) -> str:
    return " ".join("?" if sides is None else shape(sides) for sides in shapes)


def _cut(text: str, room: int | None, dots: str) -> str:
    return text if room is None or len(text) <= room else text[: room - len(dots)].rstrip() + dots
