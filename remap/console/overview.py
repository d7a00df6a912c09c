"""What `inspect` shows: the verdict, the layers as a tree, what to do next."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rich.cells import cell_len
from rich.text import Text

from remap.console.tree import Guide, Run, folded, guides
from remap.console.words import bytes_in_words, command, count, output_name, parameters, shape
from remap.errors import UsageRefused
from remap.hdf5.identify import show
from remap.inspection import InspectedLayer, InspectedWeight, Inspection
from remap.keras.naming import clean, scope

__all__ = ["Overview", "overview_lines"]

_NUMBERS = re.compile(r"\d+[a-z]?(?![a-z])|\d+")
_NOTES = {
    "nested": "a model inside the model",
    "shared": "shared",
    "frozen": "frozen",
    "custom": "custom layer",
    "cudnn": "CuDNN",
    "code": "holds Python code",
    "split names": "split list of names",
}
_ROLES = {"slice": "slices of the batch", "merge": "joins the replicas", "input": ""}
_WIDEST_NAME = 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What of an inspection to show.

    `depth` is the number of levels of layers, None for all; `pattern` a shell pattern that a layer's name or
    path has to match; `every` leaves nothing folded. `width` is in columns, None where lines may be as long
    as they are; `plain` asks for ASCII.
    """

    depth: int | None = None
    pattern: str | None = None
    every: bool = False
    width: int | None = None
    plain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A line of the tree: a layer, or what stands for several."""

    name: str
    style: str
    class_name: str = ""
    size: str = ""
    remark: str = ""
    remark_style: str = "yellow"
    weights: tuple[InspectedWeight, ...] = ()
    owner: str = ""
    rows: tuple[_Row, ...] = ()


def overview_lines(inspection: Inspection, overview: Overview) -> Iterator[Text]:
    """Lay out an inspection.

    Raises UsageRefused when no layer matches the pattern.
    """
    layers = inspection.layers
    if overview.pattern is not None:
        layers = tuple(_matching(layers, overview.pattern, ()))
        if not layers:
            raise UsageRefused(
                "no layer has a name like that",
                where=overview.pattern,
                hint="see all names with: " + command("inspect", inspection.source, "--all"),
            )
    yield from _wrapped(_verdict(inspection), overview.width)
    yield from _wrapped(_about(inspection), overview.width)
    yield Text("")
    rows = tuple(_rows(layers, overview, 1, outer=True))
    yield Text(show(inspection.source), style="bold")
    yield from _tree(rows, overview)
    yield Text("")
    yield from _next(inspection)


def _verdict(inspection: Inspection) -> Text:
    models = inspection.models
    if inspection.kind == "multi-gpu":
        (model,) = models
        times = (
            "replicas of" if inspection.replicas is None else f"{count(inspection.replicas, 'replica')} of"
        )
        return Text.assemble(
            ("Multi-GPU checkpoint: ", "bold"),
            (f"{times} {show(model.name)}, {_described(model)}", "bold"),
        )
    if inspection.kind == "several":
        names = ", ".join(show(model.name) for model in models)
        return Text(f"Several models in one file: {names}", style="bold")
    if inspection.kind == "empty":
        return Text("A Keras file without weights", style="bold")
    weighted = sum(1 for layer in inspection.layers if layer.tensors)
    if inspection.class_name is not None:
        name = f"{show(inspection.name)}, " if inspection.name else ""
        what = f"{name}{_article(inspection.class_name)} of {count(len(inspection.layers), 'layer')}"
    else:
        what = f"{count(weighted, 'layer')} with weights"
    return Text(f"Single model: {what}, {parameters(inspection.parameters)} parameters", style="bold")


def _described(model: InspectedLayer) -> str:
    size = f"{parameters(model.parameters)} parameters"
    if model.class_name is not None:
        return f"{_article(model.class_name)} of {count(len(model.layers), 'layer')}, {size}"
    weighted = sum(1 for layer in model.layers if layer.tensors)
    return f"a model of {count(weighted, 'layer')} with weights, {size}"


def _article(class_name: str) -> str:
    return f"{'an' if class_name[:1] in 'AEIOU' else 'a'} {show(class_name)}"


def _about(inspection: Inspection) -> Text:
    content = "full model" if inspection.content == "full model" else "weights only, no architecture"
    if inspection.optimizer_tensors:
        content += f" with the state of {show(inspection.optimizer or 'its optimizer')}"
    version = f"Keras {show(inspection.keras_version)}" if inspection.keras_version else "Keras 1"
    maker = f"{version} / {show(inspection.backend)}" if inspection.backend else version
    size = f"{count(inspection.tensors, 'tensor')}, {bytes_in_words(inspection.size)}"
    return Text(f"{content}; {maker}; {size}", style="dim")


def _matching(
    layers: Iterable[InspectedLayer], pattern: str, above: tuple[str, ...]
) -> Iterator[InspectedLayer]:
    """Keep the layers that match by name or path, with all inside them, and what leads to them."""
    from dataclasses import replace

    for layer in layers:
        path = (*above, layer.name)
        if fnmatchcase(layer.name, pattern) or fnmatchcase("/".join(path), pattern):
            yield layer
            continue
        inner = tuple(_matching(layer.layers, pattern, path))
        if inner:
            yield replace(layer, layers=inner)


def _rows(layers: Sequence[InspectedLayer], overview: Overview, level: int, *, outer: bool) -> Iterator[_Row]:
    if overview.every or overview.pattern is not None:
        for layer in layers:
            yield _row(layer, overview, level)
        return
    place = 0
    while outer and place < len(layers):
        alike = _slices(layers, place)
        if alike > 1:
            yield _folded_slices(layers[place : place + alike])
        else:
            yield _row(layers[place], overview, level)
        place += alike
    if outer:
        return
    for item in folded(layers, _likeness):
        if isinstance(item, Run):
            yield _folded_run(layers[item.start : item.start + item.count], item)
        else:
            yield _row(item, overview, level)


def _slices(layers: Sequence[InspectedLayer], start: int) -> int:
    """Count the like-named layers without weights from here on."""
    first = layers[start]
    if first.tensors or first.role == "input":
        return 1
    end = start + 1
    while end < len(layers) and _likeness(layers[end]) == _likeness(first):
        end += 1
    return end - start


def _likeness(layer: InspectedLayer) -> Hashable:
    return (
        _NUMBERS.sub("#", layer.name),
        layer.class_name,
        layer.role,
        layer.flags,
        tuple((weight.shape, weight.dtype) for weight in layer.weights),
        tuple(_likeness(inner) for inner in layer.layers),
    )


def _folded_slices(layers: Sequence[InspectedLayer]) -> _Row:
    first = layers[0]
    return _Row(
        name=f"{show(first.name)} … {show(layers[-1].name)}  × {len(layers)}",
        style="dim",
        class_name=show(first.class_name or ""),
        remark=_ROLES.get(first.role, ""),
        remark_style="dim",
    )


def _folded_run(layers: Sequence[InspectedLayer], run: Run) -> _Row:
    size = sum(layer.parameters for layer in layers)
    like = "like this" if run.cycle == 1 else f"in {run.count // run.cycle:,} more rounds like this"
    return _Row(
        name=f"… {len(layers):,} more {like}, to {show(layers[-1].name)}",
        style="italic",
        size=parameters(size) if size else "",
    )


def _row(layer: InspectedLayer, overview: Overview, level: int) -> _Row:
    deeper = overview.depth is None or level < overview.depth
    flags = [
        flag for flag in layer.flags if layer.role != "slice" and (layer.role, flag) != ("model", "nested")
    ]
    remark = ", ".join(_NOTES[flag] for flag in flags)
    style, remark_style = ("", "yellow") if layer.tensors else ("dim", "yellow")
    if layer.role == "model":
        style, remark_style = "bold green", "bold green"
        marks = ["◀ the real model" if not overview.plain else "<- the real model"]
        remark = ", ".join(filter(None, (*marks, remark)))
    elif layer.role != "layer":
        remark, remark_style = _ROLES[layer.role], "dim"
    if layer.layers and not deeper:
        remark = ", ".join(filter(None, (remark, f"{count(len(layer.layers), 'layer')} inside")))
    return _Row(
        name=show(layer.name) or "(no name)",
        style=style,
        class_name=show(layer.class_name or ""),
        size=parameters(layer.parameters) if layer.tensors else "",
        remark=remark,
        remark_style=remark_style,
        weights=layer.weights,
        owner=layer.name,
        rows=tuple(_rows(layer.layers, overview, level + 1, outer=False)) if deeper else (),
    )


def _tree(rows: Sequence[_Row], overview: Overview) -> Iterator[Text]:
    named = list(_measured(rows, 1))
    name = min(max((width for width, _ in named), default=0), _WIDEST_NAME)
    kind = max((cell_len(row.class_name) for _, row in named), default=0)
    size = max((cell_len(row.size) for _, row in named), default=0)
    yield from _branch(rows, Guide("", ""), overview, (name, kind, size))


def _measured(rows: Iterable[_Row], level: int) -> Iterator[tuple[int, _Row]]:
    """Give each row with the columns that its name takes, guides included."""
    for row in rows:
        yield (4 * level + cell_len(row.name) if row.class_name or not row.size else 0), row
        yield from _measured(row.rows, level + 1)


def _branch(
    rows: Sequence[_Row], above: Guide, overview: Overview, columns: tuple[int, int, int]
) -> Iterator[Text]:
    for number, row in enumerate(rows):
        guide = guides(above, last=number == len(rows) - 1, inner=bool(row.rows), ascii_only=overview.plain)
        yield _line(row, guide, columns)
        yield from _weight_lines(row, guide, overview)
        yield from _branch(
            row.rows,
            Guide("", guide.rest.removesuffix("│   ").removesuffix("|   ") if row.rows else guide.rest),
            overview,
            columns,
        )


def _line(row: _Row, guide: Guide, columns: tuple[int, int, int]) -> Text:
    name, kind, size = columns
    line = Text.assemble((guide.first, "dim"), (row.name, row.style))
    if row.class_name or row.size or row.remark:
        line.append(" " * max(name - cell_len(guide.first) - cell_len(row.name), 0))
    if kind and (row.class_name or row.size or row.remark):
        line.append(
            "  " + row.class_name + " " * (kind - cell_len(row.class_name)), style=row.style and "dim"
        )
    if row.size or row.remark:
        line.append("  " + row.size.rjust(size))
    if row.remark:
        line.append("  " + row.remark, style=row.remark_style)
    line.rstrip()
    return line


def _weight_lines(row: _Row, guide: Guide, overview: Overview) -> Iterator[Text]:
    if not row.weights:
        return
    indent = guide.rest + "  "
    if any(weight.stats is not None for weight in row.weights):
        yield from (_stats_line(row, weight, indent) for weight in row.weights)
        return
    types = {weight.dtype for weight in row.weights}
    items = [
        f"{_weight_name(row, weight)} {shape(weight.shape)}"
        + (f" {_dtype(weight)}" if len(types) > 1 else "")
        for weight in row.weights
    ]
    if len(types) == 1:
        items[-1] += f"  {_dtype(row.weights[0])}"
    room = None if overview.width is None else max(overview.width - cell_len(indent), 20)
    for packed in _packed(items, room):
        yield Text.assemble((indent, "dim"), (packed, "dim"))


def _stats_line(row: _Row, weight: InspectedWeight, indent: str) -> Text:
    line = Text(f"{indent}{_weight_name(row, weight)} {shape(weight.shape)} {_dtype(weight)}", style="dim")
    stats = weight.stats
    if stats is not None and stats.mean is not None:
        line.append(f"  min {stats.minimum:.4g}  max {stats.maximum:.4g}  mean {stats.mean:.4g}")
    if stats is not None and stats.nans:
        line.append(f"  {stats.nans:,} NaN", style="bold red")
    if stats is not None and stats.infinities:
        line.append(f"  {stats.infinities:,} Inf", style="bold red")
    return line


def _weight_name(row: _Row, weight: InspectedWeight) -> str:
    """Give the leaf where the scope is the layer's own name, else the whole name: it may be evidence."""
    name = weight.name
    if scope(clean(name)) == row.owner:
        name = clean(name).rpartition("/")[2]
    return show(name.removesuffix(":0"))


def _dtype(weight: InspectedWeight) -> str:
    kinds = {"f": "float", "i": "int", "u": "uint", "b": "bool"}
    kind, size = weight.dtype[1], int(weight.dtype[2:])
    name = kinds[kind] if kind == "b" else f"{kinds[kind]}{8 * size}"
    return name + (" (big-endian)" if weight.dtype[0] == ">" else "")


def _packed(items: Sequence[str], room: int | None) -> Iterator[str]:
    """Put as many items on a line as there is room for."""
    line = ""
    for item in items:
        longer = f"{line}, {item}" if line else item
        if line and room is not None and cell_len(longer) > room:
            yield line + ","
            longer = item
        line = longer
    yield line


def _wrapped(text: Text, width: int | None) -> Iterator[Text]:
    """Break a sentence between words where it has to fit."""
    if width is None:
        yield text
        return
    line = Text(style=text.style)
    for word in text.plain.split(" "):
        if line.plain and cell_len(f"{line.plain} {word}") > width:
            yield line
            line = Text(style=text.style)
        line.append(f" {word}" if line.plain else word)
    yield line


def _next(inspection: Inspection) -> Iterator[Text]:
    source, target = inspection.source, output_name(inspection.source)
    for note in inspection.notes:
        yield Text(f"Note: {show(note)}", style="yellow")
    if inspection.kind == "empty":
        yield Text("There is nothing to load or to extract.")
        return
    if inspection.kind == "single":
        how = (
            f"keras.models.load_model({source!r})"
            if inspection.content == "full model"
            else f"model.load_weights({source!r})"
        )
        yield Text.assemble("Already a single model; load it as it is: ", (show(how), "cyan"))
        return
    if inspection.kind == "several":
        yield Text("To take one of them out:")
        for model in inspection.models:
            yield Text(
                "  " + command("extract", source, "-o", f"{model.name}.h5", "--submodel", model.name),
                style="cyan",
            )
        return
    extraction = command("extract", source, "-o", target)
    if inspection.rung is not None:
        yield Text.assemble("To get the single model: ", (extraction, "cyan"))
        return
    yield Text(f"Still open: {show(inspection.question)}", style="yellow")
    yield Text("To get the single model:")
    if "--plain" in inspection.hint:
        yield Text.assemble(
            "  ", (f"{extraction} --plain", "cyan"), "  if nothing was frozen and no model is inside it"
        )
    yield Text.assemble("  ", (f"{extraction} --like model.json", "cyan"))
    yield Text("  with model.json from the code of the single model, on any machine:")
    yield Text("  open('model.json', 'w').write(model.to_json())", style="cyan")
