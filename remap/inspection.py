"""Describe what a checkpoint holds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from remap.architecture import Layer, owned_weights
from remap.assignment.assign import assign
from remap.assignment.expected import load_order
from remap.assignment.reference import Request
from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.conversion_plan import PlannedLayer, SettledBy
from remap.errors import InputRefused, RemapError, Remedy, Undecided
from remap.isolation import run
from remap.recognize import (
    Recognition,
    Template,
    own_architecture,
    recognize,
    require_certain,
    several_models,
)
from remap.results import Flag, InspectedLayer, InspectedWeight, Inspection, Role
from remap.typed_json import read_json
from remap.urls import masked
from remap.weight_names import LONGEST_LIST, layer_scope, list_size

if TYPE_CHECKING:
    from remap.keras3.opening import LoadModel
    from remap.stats import Stats

__all__ = ["flags_of", "inspect", "inspection_of"]


def inspect(
    source: str | os.PathLike[str],
    *,
    stats: bool = False,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
) -> Inspection:
    """Describe what a Keras file holds: a multi-GPU checkpoint, a single model, several, or no weights.

    The file is a .h5 of any Keras, or a `.keras` archive or `.weights.h5` file of Keras 3.

    Args:
        source: The file.
        stats: Whether to read every tensor, in small pieces; otherwise only headers are read, and the time does not depend
            on the size of the tensors.
        progress: Called with the bytes read so far and the bytes in all.
        isolated: Whether to read the file in a child process with limits on time and memory (see SECURITY.md).

    Returns:
        The description.

    Raises:
        InputRefused: If the file is none of these, damaged or unsafe.
    """
    if isolated:
        inspected: Inspection = run(
            "remap.inspect", source, where=masked(source), stats=stats, progress=progress
        )
        return inspected
    from remap.hdf5.reader import read_source
    from remap.hdf5.source import Source

    with closing(Source.open(source)) as opened_source:
        try:
            opened = read_source(opened_source)
        except InputRefused:
            from remap.inspection_keras3 import inspect_keras3

            modern = inspect_keras3(opened_source, stats=stats, progress=progress)
            if modern is None:
                raise
            return modern
        found = inspection_of(opened.checkpoint, source=opened_source.name, size=opened_source.size)
        if not stats:
            return found
        from remap.stats import weigh

        weights = {weight.path: weight for layer in opened.checkpoint.layers for weight in layer.weights}
        numbers = weigh(opened, list(weights.values()), progress=progress)
    return replace(found, layers=tuple(_with_stats(layer, numbers) for layer in found.layers))


def inspection_of(checkpoint: Checkpoint, *, source: str, size: int) -> Inspection:
    """Describe what a checkpoint holds.

    Args:
        checkpoint: What was read of it.
        source: The file.
        size: Its size in bytes.

    Raises:
        InputRefused: If its architecture is damaged.
    """
    recognition = recognize(checkpoint, own_architecture(checkpoint, where=source))
    checkpoint, model, template = recognition.checkpoint, recognition.model, recognition.template
    settled = _Settled()
    layers = _with_shared(tuple(_layers(recognition, settled)))
    replaced = frozenset(one.template for one in recognition.inner if not one.doubt)
    layers = tuple(_with_wrappers(layer, replaced, ()) for layer in layers)
    weights = {weight.path: weight for group in checkpoint.layers for weight in group.weights}
    settled_by, notes, refusal = _answer(recognition, settled)
    suggestions, recognized = _network(recognition)
    prediction = _load_model(recognition, settled)
    return Inspection(
        source=source,
        size=size,
        kind=recognition.kind,
        content="weights" if checkpoint.model_config is None else "full model",
        class_name=model.class_name if model is not None else None,
        name=model.name if model is not None else "",
        keras_version=checkpoint.keras_version or checkpoint.file_keras_version,
        backend=checkpoint.backend or checkpoint.file_backend,
        template=template.name if template is not None else None,
        replicas=template.replicas if template is not None else None,
        settled_by=settled_by,
        question=refusal.what if refusal is not None else "",
        hint=refusal.hint if refusal is not None else "",
        remedies=(
            *suggestions,
            *(refusal.remedies if refusal is not None else ()),
            *(prediction.remedies if prediction is not None else ()),
        ),
        keras3_obstacle=prediction.obstacle if prediction is not None else "",
        custom_objects=prediction.custom_objects if prediction is not None else (),
        notes=(*notes, *recognized),
        optimizer=_optimizer(checkpoint),
        optimizer_tensors=len(checkpoint.optimizer or ()),
        parameters=sum(weight.parameters for weight in weights.values()),
        tensors=len(weights),
        layers=layers,
        submodels=tuple("/".join(path) for path in recognition.submodels),
        wrappers=recognition.inner,
    )


def _network(recognition: Recognition) -> tuple[tuple[Remedy, ...], tuple[str, ...]]:
    """Recognize the network of `keras.applications` in a weights file: give what settles its layers, and a note."""
    if recognition.model is not None or recognition.kind not in ("multi-gpu", "single"):
        return (), ()
    # Imported here because full models do not need it.
    from remap.stock.network import as_python, suggested
    from remap.stock.recognition import recognized

    network = recognized(recognition.checkpoint, recognition.template)
    if network is None:
        return (), ()
    remedies = (suggested(network),) if recognition.template is not None else ()
    return remedies, (f"its layers are those of {as_python(network)}",)


class _Settled:
    """What settles each model in the file, without a reference model."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[SettledBy, tuple[str, ...]]] = {}
        self.refusals: dict[str, Undecided] = {}
        self.planned: dict[str, tuple[PlannedLayer, ...]] = {}

    def layers(self, template: Template) -> tuple[PlannedLayer, ...]:
        """Give the layers of a model in load order, or nothing if that is not settled."""
        name = template.group.name
        try:
            found = assign(template, Request(order="saved"))
        except Undecided as undecided:
            self.refusals[name] = undecided
            return ()
        self.answers[name] = (found.settled_by, found.notes)
        self.planned[name] = found.layers
        return found.layers


def _load_model(recognition: Recognition, settled: _Settled) -> LoadModel | None:
    """Predict what `load_model` makes of the single model as an .h5 file; None where that has no architecture."""
    checkpoint, model = recognition.checkpoint, recognition.model
    if model is None or recognition.kind == "empty":
        return None
    # Imported here because weights files do not need it.
    from remap.keras3.opening import load_model_of, load_model_of_file

    template = recognition.template
    if template is None:
        return load_model_of_file(checkpoint, model)
    planned = settled.planned.get(template.group.name)
    if template.architecture is None or planned is None:
        return None
    return load_model_of(template.architecture, lambda: planned, keras_version=checkpoint.keras_version)


def _answer(
    recognition: Recognition, settled: _Settled
) -> tuple[SettledBy | None, tuple[str, ...], RemapError | None]:
    """Say what settles the replicated model, with notes, or why there is none or it is not settled."""
    if recognition.template is not None:
        name = recognition.template.group.name
        settled_by, notes = settled.answers.get(name, (None, ()))
        return settled_by, notes, settled.refusals.get(name)
    if recognition.kind == "multi-gpu-inside":
        try:
            require_certain(recognition)
        except Undecided as undecided:
            return None, (), undecided
        return "architecture", (), None
    return None, (), several_models(recognition) if recognition.kind == "several" else None


def _layers(recognition: Recognition, settled: _Settled) -> Iterator[InspectedLayer]:
    checkpoint, model = recognition.checkpoint, recognition.model
    described = {layer.name: layer for layer in model.children or ()} if model is not None else {}
    template = recognition.template
    slices = _between(model, template) if model is not None and template is not None else None
    models = {found.group.name: found for found in recognition.models}
    before = True
    for group in checkpoint.layers:
        layer = described.get(group.name)
        found = models.get(group.name) if group.weights else None
        if found is not None:
            before = False
            yield _model_layer(found, layer, settled)
            continue
        role: Role = "layer"
        if template is not None and not group.weights:
            role = _role(group, layer, slices, before=before)
        yield _plain_layer(group.name, group.weights, layer, role=role)


def _between(model: Layer, template: Template) -> frozenset[str]:
    """List the layers between the inputs and the template."""
    layers = {layer.name: layer for layer in model.children or ()}
    pending = [template.group.name]
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


def _model_layer(template: Template, entry: Layer | None, settled: _Settled) -> InspectedLayer:
    """Describe a model with its layers: settled ones, or else as the names of its weights group them.

    If a wrapper's template is a wrapper itself, the innermost model stands inside it.
    """
    group = template.group
    planned = settled.layers(template)
    inside: tuple[InspectedLayer, ...]
    grouped = False
    if planned and template.architecture is not None:
        inside = tuple(_inside(template.architecture, planned))
    elif planned:
        inside = tuple(
            _plain_layer(layer.name, [weight.source for weight in layer.weights], None) for layer in planned
        )
    else:
        inside, grouped = tuple(_by_scope(group.weights)), True
    found = InspectedLayer(
        name=template.name,
        class_name=template.architecture.class_name if template.architecture else None,
        role="model",
        flags=flags_of(entry, group.weights, replicated=template.replicas is not None),
        layers=inside,
        grouped=grouped,
        parameters=_count(group.weights),
        tensors=len(group.weights),
    )
    if template.name == group.name or entry is None:
        return found
    return InspectedLayer(
        name=group.name,
        class_name=entry.class_name,
        layers=(found,),
        parameters=found.parameters,
        tensors=found.tensors,
    )


def _inside(model: Layer, planned: Sequence[PlannedLayer]) -> Iterator[InspectedLayer]:
    """Describe the layers of the architecture with the planned weights, layers without weights included."""
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
    """Flag the layers that stand in two places of the tree but in one place of the file (`_dedup_weights`)."""
    places = Counter(weight.path for top in layers for part in top.walk() for weight in part.weights)
    if all(count == 1 for count in places.values()):
        return layers

    def flagged(layer: InspectedLayer) -> InspectedLayer:
        inner = tuple(flagged(part) for part in layer.layers)
        twice = any(places[weight.path] > 1 for weight in layer.weights)
        flags = layer.flags if not twice or "shared" in layer.flags else ("shared", *layer.flags)
        return replace(layer, layers=inner, flags=flags)

    return tuple(flagged(layer) for layer in layers)


def _with_wrappers(
    layer: InspectedLayer, replaced: frozenset[tuple[str, ...]], above: tuple[str, ...]
) -> InspectedLayer:
    """Flag the models that stand in the place of multi-GPU wrappers."""
    path = (*above, layer.name)
    flags: tuple[Flag, ...] = ("multi-gpu", *layer.flags) if path in replaced else layer.flags
    return replace(
        layer, flags=flags, layers=tuple(_with_wrappers(one, replaced, path) for one in layer.layers)
    )


def _with_stats(layer: InspectedLayer, numbers: dict[str, Stats]) -> InspectedLayer:
    return replace(
        layer,
        weights=tuple(replace(weight, stats=numbers[weight.path]) for weight in layer.weights),
        layers=tuple(_with_stats(inner, numbers) for inner in layer.layers),
    )


def flags_of(layer: Layer | None, weights: Sequence[Weight], *, replicated: bool = False) -> tuple[Flag, ...]:
    """List what is unusual about a layer; that a wrapper calls its template several times is not."""
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
    if list_size([weight.name for weight in weights]) > LONGEST_LIST:
        flags.append("split names")
    return tuple(flags)
