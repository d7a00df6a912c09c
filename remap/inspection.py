"""From a checkpoint to what there is to tell of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from remap.architecture import Layer, owned_weights, parse_model
from remap.assignment.assign import assign
from remap.assignment.expected import load_order
from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.conversion_plan import PlannedLayer
from remap.errors import InputRefused, NothingToExtract, RemapError, Undecided
from remap.isolation import run
from remap.recognize import Template, find_models, find_template
from remap.results import Flag, InspectedLayer, InspectedWeight, Inspection, Kind, Role
from remap.typed_json import read_json
from remap.weight_names import layer_scope

if TYPE_CHECKING:
    from remap.stats import Stats

__all__ = ["flags_of", "inspect", "inspection_of"]


def inspect(
    source: str | os.PathLike[str],
    *,
    stats: bool = False,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
) -> Inspection:
    """Tell what is in a Keras file: a multi-GPU checkpoint, a single model, several, or no weights.

    The file is an .h5 of any Keras, a `.keras` archive or a `.weights.h5` of Keras 3.

    Only headers are read, so the time does not depend on the size of the tensors; with `stats` every tensor
    is read once, in small pieces, and `progress` is called with bytes done and bytes in all. With
    `isolated` the file is read in a child process with limits on time and memory (see SECURITY.md).

    Raises InputRefused for a file that is none of these, damaged or unsafe.
    """
    if isolated:
        inspected: Inspection = run(
            "remap.inspect", source, where=os.fsdecode(source), stats=stats, progress=progress
        )
        return inspected
    from remap.hdf5.reader import open_checkpoint

    try:
        opened = open_checkpoint(source)
    except InputRefused:
        from remap.keras3_inspection import inspect_keras3

        modern = inspect_keras3(source, stats=stats, progress=progress)
        if modern is None:
            raise
        return modern
    with opened:
        found = inspection_of(opened.checkpoint, source=os.fspath(source), size=opened.source.size)
        if not stats:
            return found
        from remap.stats import weigh

        weights = {weight.path: weight for layer in opened.checkpoint.layers for weight in layer.weights}
        numbers = weigh(opened, list(weights.values()), progress=progress)
    return replace(found, layers=tuple(_with_stats(layer, numbers) for layer in found.layers))


def inspection_of(checkpoint: Checkpoint, *, source: str, size: int) -> Inspection:
    """Tell what a checkpoint holds, from what was read of it.

    Raises InputRefused for an architecture that is no architecture.
    """
    model = None
    if checkpoint.model_config is not None:
        model = parse_model(checkpoint.model_config, where=f"{source}, model_config")
    kind, wrapper, refusal = _recognised(checkpoint, model)
    settled = _Settled()
    layers = _with_shared(tuple(_layers(checkpoint, model, wrapper, settled)))
    weights = {weight.path: weight for group in checkpoint.layers for weight in group.weights}
    settled_by, notes = (
        settled.answers.get(wrapper.group.name, (None, ())) if wrapper is not None else (None, ())
    )
    if wrapper is not None:
        refusal = settled.refusals.get(wrapper.group.name)
    return Inspection(
        source=source,
        size=size,
        kind=kind,
        content="weights" if checkpoint.model_config is None else "full model",
        class_name=model.class_name if model is not None else None,
        name=model.name if model is not None else "",
        keras_version=checkpoint.keras_version or checkpoint.file_keras_version,
        backend=checkpoint.backend or checkpoint.file_backend,
        template=wrapper.group.name if wrapper is not None else None,
        replicas=wrapper.replicas if wrapper is not None else None,
        settled_by=settled_by,
        question=refusal.what if refusal is not None else "",
        hint=refusal.hint if refusal is not None else "",
        notes=notes,
        optimizer=_optimizer(checkpoint),
        optimizer_tensors=len(checkpoint.optimizer or ()),
        parameters=sum(weight.parameters for weight in weights.values()),
        tensors=len(weights),
        layers=layers,
    )


def _recognised(
    checkpoint: Checkpoint, model: Layer | None
) -> tuple[Kind, Template | None, RemapError | None]:
    if not checkpoint.weighted:
        return "empty", None, None
    try:
        return "multi-gpu", find_template(checkpoint, model, submodel=None), None
    except NothingToExtract:
        return "single", None, None
    except Undecided as undecided:
        return "several", None, undecided


class _Settled:
    """What the ladder says of each model in the file, without a like-file."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.refusals: dict[str, Undecided] = {}

    def layers(self, wrapper: Template) -> tuple[PlannedLayer, ...]:
        """Give the layers of a model in load order, or nothing where that is open."""
        name = wrapper.group.name
        try:
            found = assign(wrapper, like=None, plain=False, order="saved")
        except Undecided as undecided:
            self.refusals[name] = undecided
            return ()
        self.answers[name] = (found.settled_by, found.notes)
        return found.layers


def _layers(
    checkpoint: Checkpoint, model: Layer | None, wrapper: Template | None, settled: _Settled
) -> Iterator[InspectedLayer]:
    described = {layer.name: layer for layer in model.children or ()} if model is not None else {}
    slices = _between(model, wrapper) if model is not None and wrapper is not None else None
    models = find_models(checkpoint, model)
    before = True
    for group in checkpoint.layers:
        layer = described.get(group.name)
        found = wrapper if wrapper is not None and wrapper.group is group else None
        if found is None and group.weights:
            found = models.get(group.name)
        if found is not None:
            before = False
            yield _model_layer(found, layer, settled)
            continue
        role: Role = "layer"
        if wrapper is not None and not group.weights:
            role = _role(group, layer, slices, before=before)
        yield _plain_layer(group.name, group.weights, layer, role=role)


def _between(model: Layer, wrapper: Template) -> frozenset[str]:
    """Name the layers that stand between the inputs and the template."""
    layers = {layer.name: layer for layer in model.children or ()}
    pending = [wrapper.group.name]
    seen: set[str] = set()
    while pending:
        for node in layers[pending.pop()].nodes:
            for name, _, _ in node:
                if name in layers and name not in seen:
                    seen.add(name)
                    pending.append(name)
    return frozenset(name for name in seen if not layers[name].is_input)


def _role(group: LayerGroup, layer: Layer | None, slices: frozenset[str] | None, *, before: bool) -> Role:
    if layer is not None and slices is not None:
        if layer.is_input:
            return "input"
        return "slice" if group.name in slices else "merge"
    if not before:
        return "merge"
    return "slice" if group.name.partition("_")[0] == "lambda" else "input"


def _model_layer(wrapper: Template, entry: Layer | None, settled: _Settled) -> InspectedLayer:
    """Describe a model with its layers: settled, or else as the names of its weights show them."""
    group = wrapper.group
    planned = settled.layers(wrapper)
    inside: tuple[InspectedLayer, ...]
    grouped = False
    if planned and wrapper.architecture is not None:
        inside = tuple(_inside(wrapper.architecture, planned))
    elif planned:
        inside = tuple(
            _plain_layer(layer.name, [weight.source for weight in layer.weights], None) for layer in planned
        )
    else:
        inside, grouped = tuple(_by_scope(group.weights)), True
    return InspectedLayer(
        name=group.name,
        class_name=wrapper.architecture.class_name if wrapper.architecture else None,
        role="model",
        flags=flags_of(entry, group.weights, replicated=wrapper.replicas is not None),
        layers=inside,
        grouped=grouped,
        parameters=_count(group.weights),
        tensors=len(group.weights),
    )


def _inside(model: Layer, planned: Sequence[PlannedLayer]) -> Iterator[InspectedLayer]:
    """Lay the planned weights out along the architecture, weightless layers included."""
    owned = {layer.name: layer for layer in planned}
    for layer in load_order(model):
        weights = owned.get(layer.name)
        inner = layer
        while inner.children is None and inner.wrapped is not None:
            inner = inner.wrapped
        sources = [weight.source for weight in weights.weights] if weights is not None else []
        if inner.children is None or weights is None:
            yield _plain_layer(layer.name, sources, layer)
            continue
        yield InspectedLayer(
            name=layer.name,
            class_name=_class(layer),
            flags=flags_of(layer, sources),
            layers=tuple(_inside(inner, weights.children)),
            parameters=_count(sources),
            tensors=len(sources),
        )


def _by_scope(weights: Sequence[Weight]) -> Iterator[InspectedLayer]:
    groups: dict[str, list[Weight]] = {}
    for weight in weights:
        groups.setdefault(layer_scope(weight.name), []).append(weight)
    for name, owned in groups.items():
        yield _plain_layer(name, owned, None)


def _plain_layer(
    name: str, weights: Sequence[Weight], layer: Layer | None, *, role: Role = "layer"
) -> InspectedLayer:
    return InspectedLayer(
        name=name,
        class_name=_class(layer) if layer is not None else None,
        role=role,
        flags=flags_of(layer, weights),
        weights=_inspected(weights),
        parameters=_count(weights),
        tensors=len(weights),
    )


def _class(layer: Layer) -> str:
    """Name the class, and in a wrapper the class of what it wraps."""
    return f"{layer.class_name}({_class(layer.wrapped)})" if layer.wrapped is not None else layer.class_name


def _inspected(weights: Iterable[Weight]) -> tuple[InspectedWeight, ...]:
    return tuple(
        InspectedWeight(
            name=weight.name,
            path=weight.path,
            shape=weight.shape,
            dtype=weight.dtype,
            parameters=weight.parameters,
        )
        for weight in weights
    )


def _count(weights: Iterable[Weight]) -> int:
    return sum(weight.parameters for weight in weights)


def _optimizer(checkpoint: Checkpoint) -> str | None:
    """Name the optimizer that the training configuration describes."""
    if checkpoint.training_config is None:
        return None
    config = read_json(checkpoint.training_config, where=f"{checkpoint.root}, training_config").object()
    entry = config.object("optimizer_config", default=None)
    return None if entry is None else entry.name("class_name", default=None)


def _with_shared(layers: tuple[InspectedLayer, ...]) -> tuple[InspectedLayer, ...]:
    """Flag the layers that stand in two places of the tree but in one of the file (`_dedup_weights`)."""
    places = Counter(weight.path for top in layers for part in top.walk() for weight in part.weights)
    if all(count == 1 for count in places.values()):
        return layers

    def flagged(layer: InspectedLayer) -> InspectedLayer:
        inner = tuple(flagged(part) for part in layer.layers)
        twice = any(places[weight.path] > 1 for weight in layer.weights)
        flags = layer.flags if not twice or "shared" in layer.flags else ("shared", *layer.flags)
        return replace(layer, layers=inner, flags=flags)

    return tuple(flagged(layer) for layer in layers)


def _with_stats(layer: InspectedLayer, numbers: dict[str, Stats]) -> InspectedLayer:
    return replace(
        layer,
        weights=tuple(replace(weight, stats=numbers[weight.path]) for weight in layer.weights),
        layers=tuple(_with_stats(inner, numbers) for inner in layer.layers),
    )


# Keras splits a list of names whose fixed-length form is longer (HDF5_OBJECT_HEADER_LIMIT in
# keras/engine/saving.py).
_LONGEST_LIST = 64512


def flags_of(layer: Layer | None, weights: Sequence[Weight], *, replicated: bool = False) -> tuple[Flag, ...]:
    """Say what is out of the ordinary about a layer; that a wrapper calls its template often is not."""
    flags: list[Flag] = []
    if layer is not None:
        wrapped = [layer]
        while (inner := wrapped[-1].wrapped) is not None:
            wrapped.append(inner)
        classes = [part.declared for part in wrapped if part.declared is not None]
        nested = wrapped[-1].children is not None
        custom = not nested and owned_weights(layer) is None
        marks: dict[Flag, bool] = {
            "nested": nested and not replicated,
            "shared": len(layer.nodes) > 1 and not replicated,
            "frozen": bool(weights) and not all(part.trainable for part in wrapped),
            "custom": custom,
            "cudnn": any(declared.needs_cudnn for declared in classes),
            "code": any(declared.calls_function for declared in classes),
        }
        flags += [flag for flag, holds in marks.items() if holds]
    longest = max((len(weight.name.encode()) for weight in weights), default=0)
    if longest * len(weights) > _LONGEST_LIST:
        flags.append("split names")
    return tuple(flags)
