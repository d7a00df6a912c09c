"""What a file of Keras 3 holds: a `.keras` archive by its config.json, a `.weights.h5` by the paths in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from remap.architecture import Layer, owned_weights, parse_model
from remap.comparison.models import Place, in_layer_order, layer_end, shares_by_layer
from remap.errors import InputRefused
from remap.inspection import flags_of
from remap.keras3.objects import number_names, snake_case
from remap.results import InspectedLayer, InspectedWeight, Inspection
from remap.typed_json import read_json

if TYPE_CHECKING:
    from remap.checkpoint import Weight
    from remap.hdf5.keras3_reader import OpenedKeras3
    from remap.hdf5.source import Source
    from remap.stats import Stats

__all__ = ["inspect_keras3", "inspection_of_keras3"]

_Path = tuple[str, ...]
_Shares = dict[_Path, list[tuple[Place, "Weight"]]]


def inspect_keras3(
    source: Source,
    *,
    stats: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection | None:
    """Tell what is in an open file of Keras 3; None for any other. Raises InputRefused for one that is not sound."""
    from remap.hdf5.keras3_reader import is_keras3, read_keras3

    if not is_keras3(source):
        return None
    with read_keras3(source) as opened:
        found = inspection_of_keras3(opened, source=source.name)
        if not stats:
            return found
        from remap.stats import weigh

        weights = [weight for one in opened.weighted for weight in one.variables]
        numbers = weigh(opened, weights, progress=progress)
    return replace(found, layers=tuple(_with_stats(layer, numbers) for layer in found.layers))


def inspection_of_keras3(opened: OpenedKeras3, *, source: str) -> Inspection:
    """Tell what an open file holds. Raises InputRefused for JSON that no Keras writes."""
    model = None
    notes: tuple[str, ...] = ()
    if opened.config is not None:
        try:
            model = parse_model(opened.config, where=f"{source}, config.json")
        except InputRefused as refusal:
            notes = (f"the layers are told by the paths of their weights alone: {refusal.what}",)
    shares = shares_by_layer((one.path, one.variables) for one in opened.weighted)
    names = {one.path: one.name for one in opened.objects if one.name is not None and not one.is_optimizer}
    for one in opened.objects:
        if not one.is_optimizer:
            names.setdefault(one.path, one.path[-1] if one.path else "")
    layers = tuple(_described(model, (), shares) if model is not None else _by_paths(names, shares))
    strangers = [] if model is None else [path for path, share in shares.items() if share]
    for path in strangers:
        layers = (*layers, _leaf("/".join(path) or "(the model itself)", None, shares.pop(path)))
    random = sum(1 for one in opened.objects if one.is_random_state)
    if random:
        notes = (*notes, f"states of {random} random generators, which are no weights, are not shown")
    weights = [weight for one in opened.weighted for weight in one.variables]
    return Inspection(
        source=source,
        size=opened.size,
        kind="single" if weights else "empty",
        content="weights" if opened.config is None else "full model",
        class_name=None if model is None else model.class_name,
        name=names.get((), "") if model is None else model.name,
        keras_version=_version(opened, source),
        backend=None,
        template=None,
        replicas=None,
        settled_by=None,
        question="",
        hint="",
        remedies=(),
        keras3_obstacle="",
        custom_objects=(),
        notes=notes,
        optimizer=next((one.name for one in opened.optimizer if len(one.path) == 1), None),
        optimizer_tensors=sum(len(one.variables) for one in opened.optimizer),
        parameters=sum(weight.parameters for weight in weights),
        tensors=len(weights),
        layers=layers,
    )


def _version(opened: OpenedKeras3, source: str) -> str:
    """Give the version that metadata.json tells; a `.weights.h5` tells only that it is of some Keras 3."""
    if opened.metadata is None:
        return "3"
    metadata = read_json(opened.metadata, where=f"{source}, metadata.json").object()
    return metadata.text("keras_version", default=None) or "3"


def _described(model: Layer, above: _Path, shares: _Shares) -> Iterator[InspectedLayer]:
    """Lay the weights out along the architecture; takes them out of `shares`."""
    children = model.children or ()
    kinds = number_names(snake_case(child.class_name) for child in children)
    for child, kind in zip(children, kinds, strict=True):
        path = (*above, "layers", kind)
        inner = child
        while inner.children is None and inner.innermost.children is not None and inner.wrapped is not None:
            inner = inner.wrapped
            path = (*path, "layer")
        if inner.children is None:
            yield _leaf(child.name, child, shares.pop(path, []))
            continue
        inside = tuple(_described(inner, path, shares))
        own = shares.pop(path, [])
        yield _nest(child.name, child, inside, own)


def _by_paths(names: dict[_Path, str], shares: _Shares) -> Iterator[InspectedLayer]:
    """Lay the weights out along their paths."""
    below: dict[_Path, list[_Path]] = {}
    for path in sorted({path[: layer_end(path)] for path in names}, key=len):
        end = layer_end(path[:-1]) if path else 0
        if path:
            below.setdefault(path[:end], []).append(path)

    def at(path: _Path) -> Iterator[InspectedLayer]:
        for child in below.get(path, []):
            share, inside = shares.get(child, []), tuple(at(child))
            name = names.get(child, child[-1])
            yield _nest(name, None, inside, share) if inside else _leaf(name, None, share)

    own: dict[str, list[tuple[Place, Weight]]] = {}
    for (owner, key), weight in shares.get((), []):
        own.setdefault(owner[0] if owner else "", []).append(((owner[1:], key), weight))
    yield from at(())
    for attribute, share in own.items():
        yield _leaf(names.get((attribute,), attribute) or "(the model itself)", None, share)


def _leaf(name: str, layer: Layer | None, share: Sequence[tuple[Place, Weight]]) -> InspectedLayer:
    share = in_layer_order(layer, share)
    weights = [weight for _, weight in share]
    return InspectedLayer(
        name=name,
        class_name=None if layer is None else _class(layer),
        flags=flags_of(layer, weights),
        weights=tuple(
            InspectedWeight(
                name=called,
                path=weight.path,
                shape=weight.shape,
                dtype=weight.dtype,
                parameters=weight.parameters,
            )
            for called, weight in zip(_names(layer, share), weights, strict=True)
        ),
        parameters=sum(weight.parameters for weight in weights),
        tensors=len(weights),
    )


def _nest(
    name: str, layer: Layer | None, inside: Sequence[InspectedLayer], own: Sequence[tuple[Place, Weight]]
) -> InspectedLayer:
    """Describe a nested model; its own weights follow those of its layers."""
    parts = (*inside, *([_leaf("(the model itself)", None, own)] if own else []))
    return InspectedLayer(
        name=name,
        class_name=None if layer is None else _class(layer),
        flags=flags_of(layer, [weight for _, weight in own]) if layer is not None else ("nested",),
        layers=parts,
        parameters=sum(part.parameters for part in parts),
        tensors=sum(part.tensors for part in parts),
    )


def _names(layer: Layer | None, share: Sequence[tuple[Place, Weight]]) -> list[str]:
    """Name the weights as the class does, where it is known to own just these; else as the file does."""
    owned = None if layer is None else owned_weights(layer)
    prefixes = ["/".join(owner) for (owner, _), _ in share]
    if owned is not None and len(owned.slots) == len(share):
        keys = [slot.leaf for slot in owned.slots]
        fits = zip(owned.slots, share, strict=True)
        if not all(slot.fits(weight.shape) for slot, (_, weight) in fits):
            keys = [key for (_, key), _ in share]
    else:
        keys = [key for (_, key), _ in share]
    return [f"{prefix}/{key}".lstrip("/") for prefix, key in zip(prefixes, keys, strict=True)]


def _class(layer: Layer) -> str:
    """Name the class, and in a wrapper the class of what it wraps."""
    return f"{layer.class_name}({_class(layer.wrapped)})" if layer.wrapped is not None else layer.class_name


def _with_stats(layer: InspectedLayer, numbers: dict[str, Stats]) -> InspectedLayer:
    return replace(
        layer,
        weights=tuple(replace(weight, stats=numbers[weight.path]) for weight in layer.weights),
        layers=tuple(_with_stats(inner, numbers) for inner in layer.layers),
    )
