"""Which layer each weight of a nested model belongs to, and in which order: settled, or why not.

The ladder: the file's own architecture, a like-file, the names alone. The first that answers counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from remap.architecture import Layer
from remap.assignment.decide import Verdict, decide, decide_by_reference
from remap.assignment.expected import (
    ExpectedLayer,
    ExpectedModel,
    ExpectedSubmodel,
    expected_model,
    first_difference,
    iter_layers,
    load_order,
    stored_once,
)
from remap.assignment.loading import FileLayer, ModelLayer, file_layers, load_by_order, model_layers
from remap.assignment.reading import Lists, Reading, lists
from remap.assignment.reference import Reference, named_by
from remap.assignment.reference_order import ByName, contradicted_inside, listed_by_name, reference_lists
from remap.checkpoint import Weight
from remap.conversion_plan import PlannedLayer, PlannedWeight, SettledBy
from remap.errors import Undecided
from remap.recognize import Template
from remap.weight_names import clean, layer_scope, uniquify

__all__ = ["Assignment", "Order", "assign"]

Order = Literal["reference", "saved", "any"]
"""Whose trainable flags the order inside nested models follows: those of the reference model, as far as one is given;
those of the checkpoint; or nobody's, for a format that does not depend on flags."""

_RETRAIN = (
    "describe the model as it was saved: build it, set the same trainable flags, then write model.to_json() "
    "or model.save_weights('like.h5') and give that with --like"
)
_BY_JSON = (
    "give the architecture with --like: open('model.json', 'w').write(model.to_json()), from the code that built the "
    "trained model"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The layers of the output in order, what settled them, and what was taken on trust.

    `frozen` lists the layers and nested models that were frozen when the checkpoint was saved, as paths, as far as the
    order of its weights shows it. `reordered` says that the order inside nested models is not the saved one, but that
    of a reference model with other trainable flags.
    """

    layers: tuple[PlannedLayer, ...]
    settled_by: SettledBy
    architecture: Layer | None = None
    notes: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    reordered: bool = False


def assign(wrapper: Template, *, like: Reference | None, plain: bool, order: Order) -> Assignment:
    """Settle the template's flat list by the file's own architecture, a reference model, or names alone.

    Args:
        wrapper: The replicated model.
        like: The reference model that the weights are to be loaded into.
        plain: The user's word that nothing was frozen and no model is nested.
        order: Whose trainable flags the order inside nested models follows.

    Returns:
        The layers in order, and what settled them.

    Raises:
        Undecided: Where not exactly one answer is left; says what to give.
    """
    weights = wrapper.group.weights
    where = wrapper.group.name
    if wrapper.architecture is not None:
        model = wrapper.architecture
        model = named_by(model, like.layer_names) if like else model
        return _by_own_architecture(weights, model, like, order, where)
    if like is not None:
        return _by_reference(weights, like, order)
    return _by_names(weights, plain=plain, model=where)


def _by_own_architecture(
    weights: Sequence[Weight], model: Layer, like: Reference | None, order: Order, where: str
) -> Assignment:
    outline = expected_model(model)
    apart = order == "any" or (order == "reference" and like is not None)
    verdict = decide(weights, outline, apart=apart)
    if not verdict.fits and (once := stored_once(outline)) is not None:
        outline, verdict = once, decide(weights, once, apart=apart)
    if not verdict.fits:
        raise Undecided(
            f"the file's own architecture does not fit its weights: {first_difference(weights, outline)}",
            where=where,
            hint=_RETRAIN,
        )
    if verdict.reading is None:
        raise Undecided(
            "the architecture fits the weights in several ways: it does not say whether a nested model was "
            "frozen, nor which weights are a custom layer's, and neither shapes nor names tell",
            where=where,
            hint="extract the weights only, with --like and a file of the single model",
        )
    _require_names(model, where)
    settled = Assignment(
        layers=tuple(_planned(model, outline, verdict.reading, weights)),
        settled_by="architecture",
        architecture=model,
        notes=(*_trust(verdict, outline), *_name_notes(weights, outline, verdict.reading)),
        frozen=tuple(_frozen(outline, verdict.reading)),
    )
    if like is None or order != "reference":
        return _with_flag_notes(settled, outline, verdict.reading, order)
    lists = reference_lists(weights, outline, verdict.reading, like, own=True)
    return _ordered(settled, weights, outline, verdict.reading, lists, like)


def _by_reference(weights: Sequence[Weight], like: Reference, order: Order) -> Assignment:
    if like.architecture is not None:
        _require_names(like.architecture, like.where)
    named = listed_by_name(weights, like.groups) if like.groups is not None else None
    if named is not None and named.exact and like.architecture is None:
        return _by_listed_names(weights, named, like, order)
    outline = like.outline
    flags = like.architecture is not None
    # A group of a reference file is one layer here: what is inside it `_unsure` looks at.
    apart = order != "saved"
    verdict = decide_by_reference(weights, outline, flags=flags, ordered=like.ordered, apart=apart)
    if not verdict.fits and (once := stored_once(outline)) is not None:
        outline = once
        verdict = decide_by_reference(weights, once, flags=flags, ordered=like.ordered, apart=apart)
    if verdict.reading is None and named is not None:
        return _by_listed_names(weights, named, like, order)
    if not verdict.fits:
        raise Undecided(
            f"the reference model does not fit the checkpoint: {first_difference(weights, outline)}",
            where=like.where,
            hint=_RETRAIN if flags else _BY_JSON,
        )
    if verdict.reading is None or (
        like.architecture is None and _unsure(weights, outline, verdict.reading, like)
    ):
        raise Undecided(
            "the reference model fits the checkpoint in several ways: layers of equal shapes may have been frozen "
            "or renamed, and the names do not tell which",
            where=like.where,
            hint=_RETRAIN if flags else _BY_JSON,
        )
    if like.architecture is not None:
        layers = tuple(_planned(like.architecture, outline, verdict.reading, weights))
    else:
        layers = tuple(_planned_groups(like.layer_names, outline, verdict.reading, weights))
    settled = Assignment(
        layers=layers,
        settled_by="reference",
        architecture=like.architecture,
        notes=tuple(_trust(verdict, outline)),
        frozen=tuple(_frozen(outline, verdict.reading)),
    )
    if like.architecture is None or order != "reference":
        return _with_flag_notes(settled, outline, verdict.reading, order)
    lists = reference_lists(weights, outline, verdict.reading, like, own=False)
    return _ordered(settled, weights, outline, verdict.reading, lists, like)


def _by_listed_names(weights: Sequence[Weight], named: ByName, like: Reference, order: Order) -> Assignment:
    """Follow a reference file by the names of its weights; of what is inside nested models only they tell."""
    layers = tuple(
        PlannedLayer(name=group.name, weights=_named([weights[index] for index in listed]))
        for group, listed in zip(like.groups or (), named.lists, strict=True)
    )
    settled = Assignment(layers=layers, settled_by="reference", architecture=like.architecture)
    moved = [
        layer.name
        for layer, listed, saved in zip(layers, named.lists, named.saved, strict=True)
        if listed != saved
    ]
    if not moved:
        return settled
    if order == "reference":
        return replace(
            settled, notes=tuple(_reordered_notes(moved)), frozen=_moved(weights, named), reordered=True
        )
    if order == "any":
        return replace(settled, frozen=_moved(weights, named))
    if any(layer.weights and not saved for layer, saved in zip(layers, named.saved, strict=True)):
        raise Undecided(
            f"the order in which {moved[0]!r} was saved is not known: a layer in it stands in another place too",
            where=like.where,
            hint="leave --keep-flags out for the order that the reference model loads",
        )
    layers = tuple(
        PlannedLayer(name=layer.name, weights=_named([weights[index] for index in saved]))
        for layer, saved in zip(layers, named.saved, strict=True)
    )
    return replace(settled, layers=layers, notes=tuple(_flag_notes(moved)), frozen=_moved(weights, named))


def _moved(weights: Sequence[Weight], named: ByName) -> tuple[str, ...]:
    """Name the layers inside nested models that stand further back in the checkpoint than in the reference model."""
    behind: list[str] = []
    for listed, saved in zip(named.lists, named.saved, strict=True):
        if listed == saved:
            continue
        latest = len(weights)
        for index in reversed(listed):
            if index > latest:
                behind.append(layer_scope(weights[index].name))
            latest = min(latest, index)
    return tuple(dict.fromkeys(reversed(behind)))


def _unsure(weights: Sequence[Weight], outline: ExpectedModel, reading: Reading, like: Reference) -> bool:
    owned = dict(zip((part.path[-1] for part in outline), lists(outline, reading), strict=True))
    return contradicted_inside(weights, like.groups or (), owned) is not None


def _with_flag_notes(
    settled: Assignment, outline: ExpectedModel, reading: Reading, order: Order
) -> Assignment:
    """Say of which nested models the saved order depends on flags, unless the output's format does not."""
    if order == "any":
        return settled
    return replace(settled, notes=(*settled.notes, *_flag_notes(list(_flagged(outline, reading)))))


def _ordered(
    settled: Assignment,
    weights: Sequence[Weight],
    outline: ExpectedModel,
    reading: Reading,
    expected: Lists,
    like: Reference,
) -> Assignment:
    """Put the weights of nested models in the order that the reference model expects, and replay its loading."""
    saved = lists(outline, reading)
    by_name = {part.path[-1]: listed for part, listed in zip(outline, expected, strict=True)}
    moved = [
        part.path[-1] for part, ours, theirs in zip(outline, saved, expected, strict=True) if ours != theirs
    ]
    layers = tuple(
        replace(layer, weights=_named([weights[index] for index in by_name[layer.name]]))
        if layer.name in moved
        else layer
        for layer in settled.layers
    )
    names = [layer.name for layer in layers]
    if set(names) == set(like.layer_names) and len(names) == len(like.layer_names):
        place = {name: number for number, name in enumerate(like.layer_names)}
        layers = tuple(sorted(layers, key=lambda layer: place[layer.name]))
    _require_loadable(layers, like)
    changed = bool(moved) or [layer.name for layer in layers] != names
    notes = (*settled.notes, *_reordered_notes(moved), *_whole_notes(outline, reading, saved, expected))
    return replace(settled, layers=layers, notes=notes, reordered=changed)


def _require_loadable(layers: Sequence[PlannedLayer], like: Reference) -> None:
    """Refuse a reference model whose `load_weights` would not take the layers: it is another model."""
    planned = [
        FileLayer(name=layer.name, shapes=tuple(weight.source.shape for weight in layer.weights))
        for layer in layers
    ]
    if like.groups is not None:
        # What stands in the file of a live model counts: its config lacks the flags of models.
        expected = [ModelLayer(name=layer.name, shapes=layer.shapes) for layer in file_layers(like.groups)]
    else:
        weighted = {layer.name for layer in planned if layer.shapes}
        # What a custom layer owns the checkpoint has shown.
        expected = [
            replace(layer, shapes=()) if layer.shapes is None and layer.name not in weighted else layer
            for layer in model_layers(like)
        ]
    loading = load_by_order(planned, expected)
    if not loading.loads:
        raise Undecided(
            f"the reference model would not load the checkpoint's weights: {loading.first_complaint}",
            where=like.where,
            hint="make the reference model with the code that built the trained model",
        )


def _require_names(model: Layer, where: str) -> None:
    """Refuse a stack with a stack inside as Keras wrote it up to 2.2.2: a list, without the inner name."""
    if any(not layer.name for layer in load_order(model)):
        raise Undecided(
            "the architecture does not say what a model inside it is called",
            where=where,
            hint="give a like-file that does: model.save_weights('like.h5') of the single model",
        )


def _by_names(weights: Sequence[Weight], *, plain: bool, model: str) -> Assignment:
    # Not before: making its patterns ready takes longer than the other rungs take for most files.
    from remap.assignment.by_names import layers_by_name

    layers = tuple(
        PlannedLayer(name=name, weights=_named([weights[index] for index in indices]))
        for name, indices in layers_by_name(weights, plain=plain, model=model)
    )
    said = "as you say" if plain else "nothing in the names and shapes speaks against it"
    notes = (
        f"taken on trust: nothing was frozen and no model is inside the model ({said})",
        "taken on trust: layers bear the names in their weights' names; unless you know it, load by order",
    )
    return Assignment(layers=layers, settled_by="names", notes=notes)


def _planned(
    model: Layer, outline: ExpectedModel, reading: Reading, weights: Sequence[Weight]
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
    part: ExpectedLayer | ExpectedSubmodel,
    indices: Sequence[int],
    reading: Reading,
    numbers: Iterator[int],
    weights: Sequence[Weight],
) -> PlannedLayer:
    children: tuple[PlannedLayer, ...] = ()
    if isinstance(part, ExpectedSubmodel):
        inner = Reading(
            spans=tuple(reading.spans[next(numbers)] for _ in iter_layers(part.children)),
            frozen=reading.frozen,
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
    names: Sequence[str], outline: ExpectedModel, reading: Reading, weights: Sequence[Weight]
) -> Iterator[PlannedLayer]:
    owned = dict(zip((part.path[-1] for part in outline), lists(outline, reading), strict=True))
    for name in names:
        yield PlannedLayer(name=name, weights=_named([weights[index] for index in owned.get(name, ())]))


def _named(owned: Sequence[Weight]) -> tuple[PlannedWeight, ...]:
    names = uniquify([clean(weight.name) for weight in owned])
    return tuple(PlannedWeight(name=name, source=weight) for name, weight in zip(names, owned, strict=True))


def _trust(verdict: Verdict, outline: ExpectedModel) -> Iterator[str]:
    if verdict.basis == "names":
        yield "positions and shapes left a choice; the names of the weights settled it"
    elif verdict.basis == "flags":
        yield "taken on trust: the trainable flags of the like-file are those of the checkpoint"
    elif verdict.basis == "custom":
        custom = ", ".join(unit.path[-1] for unit in iter_layers(outline) if unit.open)
        yield f"taken on trust: custom layers ({custom}) own the weights that hang together by name and place"


def _flagged(outline: ExpectedModel, reading: Reading) -> Iterator[str]:
    """Name the nested models whose order in their groups depends on trainable flags."""
    numbers = iter(range(len(reading.spans)))
    for part in outline:
        units = list(iter_layers((part,)))
        spans = tuple(reading.spans[next(numbers)] for _ in units)
        if not isinstance(part, ExpectedSubmodel):
            continue
        saved = Reading(spans=spans, frozen=reading.frozen)
        if _order(part, units, saved, thawed=False) != _order(part, units, saved, thawed=True):
            yield part.path[-1]


def _flag_notes(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield (
            f"the nested model {name!r} had frozen layers when it was saved; its group is in that order: "
            "load it into a model with the same trainable flags, or give the model to load into with --like"
        )


def _reordered_notes(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield (
            f"the nested model {name!r} has other trainable flags in the reference model than in the checkpoint; "
            "its group is in the order that the reference model loads (--keep-flags: as it was saved)"
        )


def _whole_notes(outline: ExpectedModel, reading: Reading, saved: Lists, expected: Lists) -> Iterator[str]:
    """Say where a nested model's own flag changed the order: JSON of old Keras does not have it."""
    for part, ours, theirs in zip(outline, saved, expected, strict=True):
        inside = ["/".join(path) for path in sorted(reading.frozen) if path[: len(part.path)] == part.path]
        if ours != theirs and inside:
            yield (
                f"{', '.join(inside)} was frozen as a whole when it was saved, which the config of a model does not "
                "tell: where the code to load into freezes it too, use --keep-flags"
            )


def _frozen(outline: ExpectedModel, reading: Reading) -> Iterator[str]:
    """List what the checkpoint shows as frozen: nested models as a whole, and layers outside those."""
    yield from ("/".join(path) for path in sorted(reading.frozen))
    for unit, span in zip(iter_layers(outline), reading.spans, strict=True):
        inside = any(unit.path[: len(path)] == path for path in reading.frozen)
        if unit.natural and span.others and not span.length and not inside and not unit.open:
            yield "/".join(unit.path)


def _order(
    part: ExpectedSubmodel, units: Sequence[ExpectedLayer], reading: Reading, *, thawed: bool
) -> tuple[int, ...]:
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


def _name_notes(weights: Sequence[Weight], outline: ExpectedModel, reading: Reading) -> Iterator[str]:
    """Say how many weights do not bear the name of the layer they were given to."""
    strangers = [
        weights[index].name
        for unit, span in zip(iter_layers(outline), reading.spans, strict=True)
        for index in (*span.trainable, *span.rest)
        if unit.path[-1] not in layer_scope(weights[index].name)
    ]
    if strangers:
        yield f"{len(strangers)} weights rest on position: names like {strangers[0]} do not say their layer"
