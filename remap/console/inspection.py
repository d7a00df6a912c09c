"""What `inspect` shows: the verdict, the layers as a tree, what to do next."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from remap.console.invocation import command_line
from remap.console.text import TIE, Line, bytes_in_words, count, dtype, parameters, shape, wrapped
from remap.console.tree import Row, Run, folded, tree_lines
from remap.errors import UsageRefused
from remap.hdf5.identify import show
from remap.results import Flag, InspectedLayer, InspectedWeight, Inspection, Role
from remap.weight_names import clean

__all__ = ["Selection", "overview_lines"]

# Numbers, and the letter that ResNets put behind theirs: res4b_branch2a.
_NUMBERS = re.compile(r"\d+(?:[a-z](?![a-z]))?")
_REMARKS: dict[Flag, str] = {
    "nested": "nested model",
    "multi-gpu": "in a multi-GPU wrapper",
    "shared": "shared",
    "frozen": "frozen",
    "custom": "custom layer",
    "cudnn": "CuDNN",
    "code": "Python code",
    "split names": "split list of names",
}
_ROLES: dict[Role, str] = {"slice": "cuts a slice of the batch", "merge": "joins the replicas"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of an inspection to show.

    `depth` is the number of levels of layers, None for all; `pattern` a shell pattern that a layer's name or
    path has to match; `every` leaves nothing folded.
    """

    depth: int | None = None
    pattern: str | None = None
    every: bool = False


def overview_lines(
    inspection: Inspection, selection: Selection, *, width: int | None, ascii_only: bool
) -> Iterator[Line]:
    """Lay out the verdict and the tree.

    Raises UsageRefused when no layer matches the pattern.
    """
    layers = inspection.layers
    if selection.pattern is not None:
        layers = tuple(_matching(layers, selection.pattern, ()))
        if not layers:
            raise UsageRefused(
                "no layer has a matching name",
                where=f"--layer {selection.pattern}",
                hint=command_line("inspect", inspection.source, "--all") + " shows all names",
            )
    rows = _Rows(inspection, selection, ascii_only=ascii_only)
    yield from wrapped(_verdict(inspection), "bold", width, rest="  ")
    yield from wrapped(_about(inspection), "dim", width, rest="  ")
    yield Line()
    yield Line((show(inspection.source), "bold"))
    yield from tree_lines(tuple(rows.outer(layers)), width=width, ascii_only=ascii_only)


def _verdict(inspection: Inspection) -> str:
    models = inspection.models
    if inspection.kind == "multi-gpu":
        times = "replicas" if inspection.replicas is None else count(inspection.replicas, "replica")
        return f"Multi-GPU checkpoint: {times} of {show(models[0].name)}, {_described(models[0])}"
    if inspection.kind == "several":
        names = ", ".join(show(model.name) for model in models)
        return f"{len(models)} models in one file: {names}"
    if inspection.kind == "empty":
        return "A Keras file without weights"
    size = f"{parameters(inspection.parameters)} parameters".replace(" ", TIE)
    if inspection.class_name is not None:
        inside = [one for one in inspection.wrappers if not one.doubt]
        what = "Single model"
        if inspection.kind == "multi-gpu-inside":
            what = f"Model with {count(len(inside), 'multi-GPU wrapper')} inside"
        name = f"{show(inspection.name)}, " if inspection.name else ""
        return (
            f"{what}: {name}{_class(inspection.class_name)} of "
            f"{count(len(inspection.layers), 'layer')}, {size}"
        )
    return f"Single model: {_weighted(inspection.layers)}, {size}"


def _described(model: InspectedLayer) -> str:
    what = (
        f"a model of {_weighted(model.layers)}"
        if model.class_name is None
        else f"{_class(model.class_name)} of {count(len(model.layers), 'layer')}"
    )
    return f"{what}, " + f"{parameters(model.parameters)} parameters".replace(" ", TIE)


def _weighted(layers: Iterable[InspectedLayer]) -> str:
    return f"{count(sum(1 for layer in layers if layer.tensors), 'layer')} with weights"


def _class(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {show(name)}"


def _about(inspection: Inspection) -> str:
    content = "Full model" if inspection.content == "full model" else "Weights only, no architecture"
    if inspection.optimizer_tensors:
        content += f" with the state of {show(inspection.optimizer or 'its optimizer')}"
    version = f"Keras {show(inspection.keras_version)}" if inspection.keras_version else "Keras before 2"
    maker = f"{version} / {show(inspection.backend)}" if inspection.backend else version
    size = f"{count(inspection.tensors, 'tensor')}, {bytes_in_words(inspection.size)}".replace(" ", TIE)
    return f"{content}; {maker}; {size}"


def _matching(
    layers: Iterable[InspectedLayer], pattern: str, above: tuple[str, ...]
) -> Iterator[InspectedLayer]:
    """Keep the layers that match by name or path, with all layers inside them, and the models that hold them."""
    for layer in layers:
        path = (*above, layer.name)
        if fnmatchcase(layer.name, pattern) or fnmatchcase("/".join(path), pattern):
            yield layer
        elif inner := tuple(_matching(layer.layers, pattern, path)):
            yield replace(layer, layers=inner)


class _Rows:
    """The layers as rows of a tree, as far as the selection shows them."""

    def __init__(self, inspection: Inspection, selection: Selection, *, ascii_only: bool) -> None:
        mark = "<- " if ascii_only else "◀ "
        self._choice = {"multi-gpu": f"{mark}the real model", "several": f"{mark}a model of its own"}.get(
            inspection.kind, ""
        )
        self._selection = selection
        self._fold = not selection.every and selection.pattern is None
        self._dots = "..." if ascii_only else "…"
        self._times = "x" if ascii_only else "×"

    def outer(self, layers: Sequence[InspectedLayer]) -> Iterator[Row]:
        """Give the rows of the file's own layers; like-named ones without weights are one row."""
        place = 0
        while place < len(layers):
            end = place + 1
            while self._fold and end < len(layers) and _like_slice(layers[end], layers[place]):
                end += 1
            yield self._slices(layers[place:end]) if end > place + 1 else self._row(layers[place], 1)
            place = end

    def _inner(self, layers: Sequence[InspectedLayer], level: int) -> Iterator[Row]:
        if not self._fold:
            yield from (self._row(layer, level) for layer in layers)
            return
        for item in folded(layers, _likeness):
            if isinstance(item, Run):
                yield self._run(layers[item.start : item.start + item.count], item)
            else:
                yield self._row(item, level)

    def _slices(self, layers: Sequence[InspectedLayer]) -> Row:
        first, last = layers[0], layers[-1]
        return Row(
            name=f"{show(first.name)} {self._dots} {show(last.name)}  {self._times} {len(layers)}",
            style="dim",
            kind=show(first.class_name or "") or " ",
            remark="cut the batch into slices" if first.role == "slice" else _ROLES.get(first.role, ""),
            remark_style="dim",
        )

    def _run(self, layers: Sequence[InspectedLayer], run: Run) -> Row:
        size = sum(layer.parameters for layer in layers)
        rounds = "" if run.cycle == 1 else f" in {count(run.count // run.cycle, 'round')} like these"
        like = " like it" if run.cycle == 1 else rounds
        total = f", {parameters(size)} parameters" if size else ""
        return Row(
            name=f"{self._dots} {len(layers):,} more{like}, to {show(layers[-1].name)}{total}", style="dim"
        )

    def _row(self, layer: InspectedLayer, level: int) -> Row:
        deeper = self._selection.depth is None or level < self._selection.depth
        remarks = [_REMARKS[flag] for flag in layer.flags]
        style, remark_style = "" if layer.tensors else "dim", "yellow"
        if layer.role == "model" and self._choice:
            style = remark_style = "bold green"
            remarks = [self._choice, *(note for note in remarks if note != _REMARKS["nested"])]
        elif layer.role in _ROLES:
            remarks, remark_style = [_ROLES[layer.role]], "dim"
        if layer.layers and not deeper:
            remarks.append(f"with {count(len(layer.layers), 'layer')}")
        return Row(
            name=show(layer.name) or "(no name)",
            style=style,
            kind=show(layer.class_name or "") or " ",
            size=parameters(layer.parameters) if layer.tensors else "",
            remark=", ".join(remarks),
            remark_style=remark_style,
            details=tuple(_details(layer)),
            rows=tuple(self._inner(layer.layers, level + 1)) if deeper else (),
        )


def _like_slice(layer: InspectedLayer, first: InspectedLayer) -> bool:
    return not layer.tensors and layer.role != "input" and _likeness(layer) == _likeness(first)


def _likeness(layer: InspectedLayer) -> Hashable:
    return (
        _NUMBERS.sub("#", layer.name),
        layer.class_name,
        layer.role,
        layer.flags,
        tuple((weight.shape, weight.dtype) for weight in layer.weights),
        tuple(_likeness(inner) for inner in layer.layers),
    )


def _details(layer: InspectedLayer) -> Iterator[tuple[str, ...]]:
    """List the weights: with numbers a line each, else all in one."""
    weights = layer.weights
    if not weights:
        return
    if any(weight.stats is not None for weight in weights):
        yield from (_numbers(layer, weight) for weight in weights)
        return
    types = {weight.dtype for weight in weights}
    mixed = len(types) > 1
    items = [
        f"{_name(layer, weight)} {shape(weight.shape)}" + (f" {dtype(weight.dtype)}" if mixed else "")
        for weight in weights
    ]
    yield tuple(items if mixed else (*items, dtype(weights[0].dtype)))


def _numbers(layer: InspectedLayer, weight: InspectedWeight) -> tuple[str, ...]:
    items = [f"{_name(layer, weight)} {shape(weight.shape)} {dtype(weight.dtype)}"]
    stats = weight.stats
    if stats is not None and stats.mean is not None:
        items += [f"min {stats.minimum:.4g}", f"max {stats.maximum:.4g}", f"mean {stats.mean:.4g}"]
    if stats is not None and stats.nans:
        items.append(f"{stats.nans:,} NaN")
    if stats is not None and stats.infinities:
        items.append(f"{stats.infinities:,} Inf")
    return tuple(items)


def _name(layer: InspectedLayer, weight: InspectedWeight) -> str:
    """Leave out the layer's name at the beginning of a weight's name; any other name is shown."""
    return show(clean(weight.name).removeprefix(f"{layer.name}/").removesuffix(":0"))
