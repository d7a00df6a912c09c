"""What `check` shows: the verdict in Keras's own words, and a table of layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from remap.assignment.loading import Loading, LoadStep
from remap.assignment.messages import misfits
from remap.checking import Check
from remap.console.advice import output_name, remedy_lines
from remap.console.invocation import Invocation
from remap.console.text import Line, cell_width, count, elided, labelled, shape, wrapped
from remap.hdf5.identify import show
from remap.layers.weights import Shape

__all__ = ["check_lines"]

_LEAST_ROOM = 16
_LEAST_BESIDE = 40
_INDENT = 4
_ROWS = {"ok": "green", "ignored": "yellow", "custom": "yellow"}


def check_lines(check: Check, *, width: int | None, ascii_only: bool) -> Iterator[Line]:
    """Lay out a check: the verdict, each loader's answer, the layers in the order of loading, loading by name, warnings."""
    yield from _verdict(check, width)
    yield Line()
    yield from _loaders(check, width)
    yield Line()
    yield from _table(check.loading.steps, width, "..." if ascii_only else "…")
    if check.by_name is not None:
        yield Line()
        yield from _by_name(check, check.by_name, width)
    for warning in check.warnings:
        yield from wrapped(f"Warning: {show(warning)}", "yellow", width, rest="  ")
    if check.unknown:
        yield from wrapped(
            f"{count(check.unknown, 'shape')} compared in part only: {_model(check)} does not give the sizes that "
            "follow from earlier layers. A file of the model with weights as --like does.",
            "yellow",
            width,
            rest="  ",
        )
    if check.multi_gpu:
        yield Line("This is a multi-GPU checkpoint; to extract the single model:")
        yield Line("  ", (_extraction(check).line, "cyan"))


def _verdict(check: Check, width: int | None) -> Iterator[Line]:
    if check.verdict == "crossed":
        crossed = "load_weights takes the file, but layers get the weights of other layers"
        yield from labelled("Crossed: ", crossed, width, label_style="bold red")
        given = () if check.like is None else (("like", check.like),)
        accepting = Invocation(command="check", source=check.source, options=(*given, ("by_order", True)))
        yield Line("If the order is right nevertheless:")
        yield Line("  ", (accepting.line, "cyan"))
    elif check.verdict == "cannot tell":
        classes = ", ".join(show(name) for name in check.loading.undecided)
        depends = f"it depends on custom classes ({classes})"
        yield from labelled("Cannot tell: ", depends, width, label_style="bold yellow")
    elif check.loads:
        sure = "" if not check.unknown else f", as far as {_model(check)} tells"
        loads = f"load_weights takes all {_met(check.loading)}{sure}"
        yield from labelled("Loads: ", loads, width, label_style="bold green")
    else:
        yield Line(("Does not load.", "bold red"))


def _model(check: Check) -> str:
    return "the architecture in the file" if check.like is None else show(check.like)


def _extraction(check: Check) -> Invocation:
    given = () if check.like is None else (("like", check.like),)
    target = output_name(check.source) if check.multi_gpu else PurePath(check.source).name
    return Invocation(command="extract", source=check.source, options=(("target", target), *given))


_STYLES = {"yes": "green", "no": "red", "crossed": "bold red", "cannot tell": "yellow"}


def _loaders(check: Check, width: int | None) -> Iterator[Line]:
    """Give each loader's answer with the reason and the next step: beside it where there is room, else below."""
    label = max(len(one.loader) for one in check.loaders) + 2
    start = label + max(map(len, _STYLES)) + 2
    beside = width is None or width >= start + _LEAST_BESIDE
    indent = start if beside else _INDENT
    for one in check.loaders:
        first = Line(one.loader)
        first.pad(label)
        first.add(one.answer, _STYLES[one.answer])
        texts = [text for text in (one.reason, one.hint and f"next: {one.hint}") if text]
        lines = [
            line
            for text in texts
            for line in wrapped(show(text), "", None if width is None else width - indent)
        ]
        if beside and lines:
            first.pad(start)
            first = Line(*first.spans, *lines.pop(0).spans)
        yield first
        yield from (Line(" " * indent, *line.spans) for line in lines)
        yield from remedy_lines(one.remedies, _extraction(check), width, indent=" " * _INDENT)


def _complaint(words: Sequence[str], width: int | None) -> Iterator[Line]:
    """Give the words of old and of new; where there are only some, all say about the same."""
    for who, said in zip(("Keras up to 2.6", "Keras since 2.7", "Keras 3"), words, strict=False):
        yield from wrapped(f"{who}: {show(said)}", "red", width, first="  ", rest="    ")


def _met(loading: Loading) -> str:
    return count(sum(1 for step in loading.steps if step.saved and step.expected), "layer")


def _by_name(check: Check, loading: Loading, width: int | None) -> Iterator[Line]:
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
        line = Line((row[0], _ROWS.get(row[0], "bold red")))
        for index in (1, 2):
            line.pad(sum(columns[:index]) + 2 * index)
            line.add(row[index], "" if number else "bold")
        line.pad(used)
        room = None if width is None else max(width - used, _LEAST_ROOM)
        line.add(_cut(row[3], room, dots), "dim" if number else "bold")
        yield line


def _cells(step: LoadStep) -> tuple[str, str, str, str]:
    want, have = step.expected, step.saved
    names = (show(want.name) if want else "-", show(step.path or (have.name if have else "-")))
    if have is None:
        return ("missing", *names, _shapes((want.shapes if want else None) or ()))
    if want is None:
        return ("ignored" if step.path else "extra", *names, _shapes(have.shapes))
    if want.shapes is None and step.path:
        return ("custom", *names, _shapes(have.shapes))
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
