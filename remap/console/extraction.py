"""What `extract` shows: the summary at the end, the mapping of a dry run."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from remap.console.words import bytes_in_words, count, parameters, shape
from remap.hdf5.identify import show
from remap.keras.plan import Plan, PlannedLayer
from remap.report import Report

__all__ = ["mapping_lines", "report_lines"]

_RUNGS = {
    "config": "the file's own architecture",
    "like": "the like-file",
    "names": "the names and shapes of the weights alone",
}


def report_lines(report: Report) -> Iterator[Text]:
    """Say what came out, how it was settled, what was left behind, and how Keras loads it."""
    content = "full model" if report.kind == "full model" else "weights"
    if report.optimizer_tensors:
        content += " with optimizer state"
    if report.target is None:
        yield Text.assemble(("Nothing was written. ", "bold"), f"It would be: {content}")
    else:
        yield Text.assemble(
            (show(report.target), "bold green"), f": {content}, {bytes_in_words(report.size)}, verified"
        )
    replicas = "" if report.replicas is None else f", of {report.replicas} replicas"
    yield Text(
        f"  model         {show(report.template)}: {count(report.weighted_layers, 'layer')} with weights, "
        f"{count(report.tensors, 'tensor')}, {parameters(report.parameters)} parameters{replicas}"
    )
    yield Text(f"  settled by    {_RUNGS[report.rung]}")
    for number, left in enumerate(report.left_behind):
        yield Text.assemble("  left behind   " if not number else " " * 16, show(left))
    for number, note in enumerate(report.notes):
        yield Text.assemble("  note          " if not number else " " * 16, (show(note), "yellow"))
    if report.target is not None:
        yield Text.assemble("  load it       ", (show(_loading(report)), "cyan"))


def mapping_lines(plan: Plan, *, plain: bool) -> Iterator[Text]:
    """Show where each weight comes from, layer by layer."""
    arrow = "<-" if plain else "←"
    rows = [
        (_path(path), name, shape(dims), source)
        for path, layer in _leaves(plan.layers, ())
        for name, dims, source in (
            (show(weight.name), weight.source.shape, show(weight.source.path)) for weight in layer.weights
        )
    ]
    wide = max((cell_len(name) for _, name, _, _ in rows), default=0)
    long = max((len(dims) for _, _, dims, _ in rows), default=0)
    last = None
    for path, name, dims, source in rows:
        if path != last:
            yield Text(path, style="bold")
            last = path
        gap = " " * (wide - cell_len(name))
        yield Text.assemble(f"  {name}{gap}  {dims.ljust(long)}  ", (f"{arrow} {source}", "dim"))


def _leaves(
    layers: tuple[PlannedLayer, ...], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], PlannedLayer]]:
    for layer in layers:
        path = (*above, layer.name)
        if layer.children:
            yield from _leaves(layer.children, path)
        else:
            yield path, layer


def _path(path: tuple[str, ...]) -> str:
    return show(" / ".join(path))


def _loading(report: Report) -> str:
    target = report.target or ""
    if report.kind == "full model":
        return f"keras.models.load_model({target!r})"
    return f"model.load_weights({target!r})"
