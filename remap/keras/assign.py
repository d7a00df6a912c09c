"""Which layer each weight of a nested model belongs to, and in which order: settled, or why not.

The ladder: the file's own architecture, a like-file, the names alone. The first that answers counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remap.errors import Undecided
from remap.keras.checkpoint import LayerGroup, Weight
from remap.keras.config import Layer
from remap.keras.decide import Verdict, decide, decide_by_like
from remap.keras.like import Like, named_by
from remap.keras.mismatch import first_difference
from remap.keras.naming import clean, layer_scope, uniquify
from remap.keras.outline import Nest, Outline, Unit, load_order, outline_of_model, stored_once, units_of
from remap.keras.plan import PlannedLayer, PlannedWeight
from remap.keras.reading import Reading, lists
from remap.keras.wrapper import Wrapper

__all__ = ["Assignment", "assign"]

_RETRAIN = (
    "describe the model as it was saved: build it, set the same trainable flags, then write model.to_json() "
    "or model.save_weights('like.h5') and give that with --like"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The layers of the output in order, what settled them, and what was taken on trust."""

    layers: tuple[PlannedLayer, ...]
    rung: str
    architecture: Layer | None = None
    notes: tuple[str, ...] = ()


def assign(wrapper: Wrapper, *, like: Like | None, plain: bool) -> Assignment:
    """Settle the template's flat list on the first rung that answers.

    Raises Undecided where no rung leaves exactly one answer, saying which rung to give.
    """
    weights = wrapper.group.weights
    where = wrapper.group.name
    if wrapper.architecture is not None:
        model = wrapper.architecture
        own = _by_own_architecture(weights, named_by(model, like.layer_names) if like else model, where)
        if like is not None:
            _agree(own, like)
        return own
    if like is not None:
        return _by_like(weights, like)
    return _by_names(weights, plain=plain, model=where)


def _by_own_architecture(weights: Sequence[Weight], model: Layer, where: str) -> Assignment:
    outline = outline_of_model(model)
    verdict = decide(weights, outline)
    if not verdict.fits and (once := stored_once(outline)) is not None:
        outline, verdict = once, decide(weights, once)
    if not verdict.fits:
        raise Undecided(
            f"the file's own architecture does not fit its weights: {first_difference(weights, outline)}",
            where=where,
            hint=_RETRAIN,
        )
    if verdict.reading is None:
        raise Undecided(
            "the architecture fits the weights in several ways: it does not say whether a model inside the model was "
            "frozen, nor which weights are a custom layer's, and neither shapes nor names tell",
            where=where,
            hint="extract the weights only, with --like and a file of the single model",
        )
    _require_names(model, where)
    layers = tuple(_planned(model, outline, verdict.reading, weights))
    notes = (
        *_trust(verdict, outline),
        *_flag_notes(outline, verdict.reading),
        *_name_notes(weights, outline, verdict.reading),
    )
    return Assignment(layers=layers, rung="config", architecture=model, notes=notes)


def _by_like(weights: Sequence[Weight], like: Like) -> Assignment:
    if like.architecture is not None:
        _require_names(like.architecture, like.where)
    outline = like.outline
    flags = like.architecture is not None
    verdict = decide_by_like(weights, outline, flags=flags, ordered=like.ordered)
    if not verdict.fits and (once := stored_once(outline)) is not None:
        outline = once
        verdict = decide_by_like(weights, once, flags=flags, ordered=like.ordered)
    if not verdict.fits and like.groups is not None:
        layers = tuple(_listed_again(weights, like.groups))
        if layers:
            return Assignment(layers=layers, rung="like", architecture=like.architecture)
    if not verdict.fits:
        raise Undecided(
            f"the like-file does not fit the checkpoint: {first_difference(weights, outline)}",
            where=like.where,
            hint="make the like-file from the code of the very model that was trained",
        )
    if verdict.reading is None:
        raise Undecided(
            "the like-file fits the checkpoint in several ways: layers of equal shapes may have been frozen "
            "or renamed, and the names do not tell which",
            where=like.where,
            hint=_RETRAIN,
        )
    if like.architecture is not None:
        layers = tuple(_planned(like.architecture, outline, verdict.reading, weights))
    else:
        layers = tuple(_planned_groups(like.layer_names, outline, verdict.reading, weights))
    notes = (*_trust(verdict, outline), *_flag_notes(outline, verdict.reading))
    return Assignment(layers=layers, rung="like", architecture=like.architecture, notes=notes)


def _require_names(model: Layer, where: str) -> None:
    """Refuse a stack with a stack inside as Keras wrote it up to 2.2.2: a list, without the inner name."""
    if any(not layer.name for layer in load_order(model)):
        raise Undecided(
            "the architecture does not say what a model inside it is called",
            where=where,
            hint="give a like-file that does: model.save_weights('like.h5') of the single model",
        )


def _listed_again(weights: Sequence[Weight], groups: Sequence[LayerGroup]) -> Iterator[PlannedLayer]:
    """Follow a flat file that lists some weights twice, where a layer stands in two places, by all its names.

    Yields nothing unless the names of both files are the same and each group's weights rise along the list,
    as they do where the flags are the same.
    """
    places = {clean(weight.name): index for index, weight in enumerate(weights)}
    listed = [[clean(weight.name) for weight in group.weights] for group in groups]
    if len(places) != len(weights) or {name for names in listed for name in names} != places.keys():
        return
    seen: set[str] = set()
    for group, names in zip(groups, listed, strict=True):
        own = [places[name] for name in names if name not in seen]
        seen.update(names)
        shapes = [weights[places[name]].shape for name in names]
        if own != sorted(own) or shapes != [weight.shape for weight in group.weights]:
            return
    for group, names in zip(groups, listed, strict=True):
        yield PlannedLayer(name=group.name, weights=_named([weights[places[name]] for name in names]))


def _by_names(weights: Sequence[Weight], *, plain: bool, model: str) -> Assignment:
    # Not before: making its patterns ready takes longer than the other rungs take for most files.
    from remap.keras.names import layers_by_name

    layers = tuple(
        PlannedLayer(name=name, weights=_named([weights[index] for index in indices]))
        for name, indices in layers_by_name(weights, plain=plain, model=model)
    )
    said = "as you say" if plain else "nothing in the names and shapes speaks against it"
    notes = (
        f"taken on trust: nothing was frozen and no model is inside the model ({said})",
        "taken on trust: layers bear the names in their weights' names; unless you know it, load by order",
    )
    return Assignment(layers=layers, rung="names", notes=notes)


def _planned(
    model: Layer, outline: Outline, reading: Reading, weights: Sequence[Weight]
) -> Iterator[PlannedLayer]:
    """Lay the reading out along the architecture, weightless layers included."""
    owned = lists(outline, reading)
    numbers = iter(range(len(reading.spans)))
    parts = {part.path[-1]: (part, indices) for part, indices in zip(outline, owned, strict=True)}
    for layer in load_order(model):
        if layer.name not in parts:
            yield PlannedLayer(name=layer.name, weights=())
            continue
        part, indices = parts[layer.name]
        yield _planned_part(part, indices, reading, numbers, weights)


def _planned_part(
    part: Unit | Nest,
    indices: Sequence[int],
    reading: Reading,
    numbers: Iterator[int],
    weights: Sequence[Weight],
) -> PlannedLayer:
    children: tuple[PlannedLayer, ...] = ()
    if isinstance(part, Nest):
        inner = Reading(
            spans=tuple(reading.spans[next(numbers)] for _ in units_of(part.children)), frozen=reading.frozen
        )
        counted = iter(range(len(inner.spans)))
        children = tuple(
            _planned_part(child, listed, inner, counted, weights)
            for child, listed in zip(part.children, lists(part.children, inner), strict=True)
        )
    else:
        next(numbers)
    return PlannedLayer(
        name=part.path[-1], weights=_named([weights[index] for index in indices]), children=children
    )


def _planned_groups(
    names: Sequence[str], outline: Outline, reading: Reading, weights: Sequence[Weight]
) -> Iterator[PlannedLayer]:
    owned = dict(zip((part.path[-1] for part in outline), lists(outline, reading), strict=True))
    for name in names:
        yield PlannedLayer(name=name, weights=_named([weights[index] for index in owned.get(name, ())]))


def _named(owned: Sequence[Weight]) -> tuple[PlannedWeight, ...]:
    names = uniquify([clean(weight.name) for weight in owned])
    return tuple(PlannedWeight(name=name, source=weight) for name, weight in zip(names, owned, strict=True))


def _agree(own: Assignment, like: Like) -> None:
    """Refuse a like-file that contradicts what the checkpoint says of itself."""
    shapes = [tuple(weight.source.shape for weight in layer.weights) for layer in own.layers if layer.weights]
    flat = [weight.source for layer in own.layers for weight in layer.weights]
    if like.groups is not None and shapes != [
        tuple(weight.shape for weight in group.weights) for group in like.groups if group.weights
    ]:
        raise Undecided(
            f"the like-file contradicts the checkpoint: {first_difference(flat, like.outline)}",
            where=like.where,
            hint="this file says itself what it holds: leave --like out",
        )


def _trust(verdict: Verdict, outline: Outline) -> Iterator[str]:
    if verdict.basis == "names":
        yield "positions and shapes left a choice; the names of the weights settled it"
    elif verdict.basis == "flags":
        yield "taken on trust: the trainable flags of the like-file are those of the checkpoint"
    elif verdict.basis == "custom":
        custom = ", ".join(unit.path[-1] for unit in units_of(outline) if unit.open)
        yield f"taken on trust: custom layers ({custom}) own the weights that hang together by name and place"


def _flag_notes(outline: Outline, reading: Reading) -> Iterator[str]:
    """Say where the order inside a group depends on trainable flags."""
    numbers = iter(range(len(reading.spans)))
    for part in outline:
        units = list(units_of((part,)))
        spans = tuple(reading.spans[next(numbers)] for _ in units)
        if not isinstance(part, Nest):
            continue
        saved = Reading(spans=spans, frozen=reading.frozen)
        if _order(part, units, saved, thawed=False) != _order(part, units, saved, thawed=True):
            yield (
                f"the model {part.path[-1]!r} inside the model had frozen layers when it was saved; "
                "its group is in that order: set the same trainable flags before loading"
            )


def _order(part: Nest, units: Sequence[Unit], reading: Reading, *, thawed: bool) -> tuple[int, ...]:
    """Give a nested model's list as saved, or as if nothing inside it were frozen."""
    if not thawed:
        return lists((part,), reading)[0]
    upper: list[int] = []
    lower: list[int] = []
    for unit, span in zip(units, reading.spans, strict=True):
        owned = (*span.trainable, *span.rest)
        natural = span.length if unit.open else unit.natural
        upper += owned[:natural]
        lower += owned[natural:]
    return (*upper, *lower)


def _name_notes(weights: Sequence[Weight], outline: Outline, reading: Reading) -> Iterator[str]:
    """Say how many weights do not bear the name of the layer they were given to."""
    strangers = [
        weights[index].name
        for unit, span in zip(units_of(outline), reading.spans, strict=True)
        for index in (*span.trainable, *span.rest)
        if unit.path[-1] not in layer_scope(weights[index].name)
    ]
    if strangers:
        yield f"{len(strangers)} weights rest on position: names like {strangers[0]} do not say their layer"
