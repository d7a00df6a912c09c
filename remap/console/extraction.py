"""What `extract` shows: the summary at the end, and the mapping of a dry run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remap.console.advice import load_lines, remedy_lines
from remap.console.invocation import Invocation
from remap.console.text import Line, bytes_in_words, cell_width, count, labelled, parameters, shape
from remap.hdf5.identify import show
from remap.results import Move, Report

__all__ = ["mapping_lines", "report_lines"]

_SETTLED_BY = {
    "architecture": "the file's own architecture",
    "reference": "the reference model",
    "names": "the names and shapes of the weights alone",
}
_INDENT = " " * 14


def report_lines(report: Report, invocation: Invocation, *, width: int | None) -> Iterator[Line]:
    """Say what was written, how it was settled, what was left behind, and how Keras loads it.

    Args:
        report: What `extract` gave.
        invocation: The command that it ran by.
        width: Columns to fit into.
    """
    content = report.kind
    if report.optimizer_tensors:
        content += f" with optimizer state ({count(report.optimizer_tensors, 'tensor')})"
    if report.target is None:
        yield Line(("Nothing was written.", "bold"))
        yield from _entry("would write", content, width)
    else:
        yield Line((show(report.target), "bold green"))
        yield from _entry("written", f"{content}, {bytes_in_words(report.size)}, verified", width)
    replicas = "" if report.replicas is None else f", from {count(report.replicas, 'replica')}"
    yield from _entry(
        "model",
        f"{show(report.template)}: {count(report.weighted_layers, 'layer')} with weights, "
        f"{count(report.tensors, 'tensor')}, {parameters(report.parameters)} parameters{replicas}",
        width,
    )
    yield from _entry("settled by", _SETTLED_BY[report.settled_by], width)
    for left in report.left_behind:
        yield from _entry("left behind", show(left), width)
    for note in report.notes:
        yield from _entry("note", show(note), width, style="yellow")
    if report.target is not None:
        label = "load it"
        lines = load_lines(
            report.target,
            report.kind,
            custom_objects=report.custom_objects,
            obstacle=report.keras3_obstacle,
        )
        for text, style in lines:
            yield from _entry(label, text, width if style != "cyan" else None, style=style)
            label = ""
        yield from remedy_lines(report.remedies, invocation, width, indent=_INDENT)


def mapping_lines(moves: Sequence[Move], *, ascii_only: bool) -> Iterator[Line]:
    """Show where each weight comes from, layer by layer in load order."""
    arrow = "<-" if ascii_only else "←"
    name = max((cell_width(show(move.name)) for move in moves), default=0)
    sides = max((len(shape(move.shape)) for move in moves), default=0)
    layer: tuple[str, ...] = ()
    for move in moves:
        if move.layer != layer:
            layer = move.layer
            yield Line((show(" / ".join(layer)), "bold"))
        line = Line("  ", show(move.name))
        line.pad(name + 4)
        line.add(shape(move.shape))
        line.pad(name + sides + 6)
        line.add(f"{arrow} {show(move.source)}", "dim")
        yield line


def _entry(label: str, text: str, width: int | None, *, style: str = "") -> Iterator[Line]:
    return labelled(f"  {label}".ljust(len(_INDENT)), text, width, style=style)
