"""Find which layer each weight of a model's flat list belongs to, and in which order, or say why that is not settled.

The file's own architecture settles it, else a reference model, else the names of the weights alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from remap.architecture import Layer
from remap.assignment.decide import decide, decide_by_reference, decide_or_once
from remap.assignment.expected import (
    ExpectedLayer,
    ExpectedModel,
    ExpectedSubmodel,
    expected_model,
    first_difference,
    iter_layers,
    load_order,
)
from remap.assignment.loading import FileLayer, ModelLayer, file_layers, load_by_order, model_layers, narrowed
from remap.assignment.named_lists import ByName, contradicted_inside, listed_by_name
from remap.assignment.notes import (
    assumption_notes,
    flag_notes,
    flagged,
    frozen_parts,
    name_notes,
    reordered_notes,
    whole_model_notes,
)
from remap.assignment.reading import Lists, Reading, lists
from remap.assignment.reference import Order, Reference, Request, named_by
from remap.assignment.reference_order import reference_lists
from remap.assignment.same_model import require_same_model
from remap.checkpoint import LayerGroup, Weight
from remap.conversion_plan import PlannedLayer, PlannedWeight, SettledBy
from remap.errors import GIVE_JSON, GIVE_WEIGHTS, Remedy, Undecided, UsageRefused
from remap.recognize import Template
from remap.weight_names import clean, layer_scope, uniquify

__all__ = ["NOT_NEEDED", "Assignment", "assign", "not_plain", "require_loadable"]

_SAME_CODE = "describe the model as it was saved, with the code that built the trained model"
NOT_NEEDED = "was not needed: the file's own architecture settles the layers"
"""The end of a note on something that was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The layers of the output.

    Attributes:
        layers: The layers in order.
        settled_by: What settled them: ``architecture``, ``reference`` or ``names``.
        architecture: The description of the model; None if there is none.
        notes: What was assumed, changed, or not needed.
        frozen: The layers and nested models that were frozen when the checkpoint was saved, as paths, as far as the order
            of its weights shows it.
        reordered: Whether the order inside nested models is not the saved one, but that of a reference model with other
            trainable flags.
    """

    layers: tuple[PlannedLayer, ...]
    settled_by: SettledBy
    architecture: Layer | None = None
    notes: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    reordered: bool = False


def assign(template: Template, request: Request) -> Assignment:
    """Settle the flat list of a model by the file's own architecture, a reference model, or names alone.

    Args:
        template: The model.
        request: What the caller wants.

    Returns:
        The layers in order, and what settled them.

    Raises:
        Undecided: If not exactly one answer is left; says what to give.
        UsageRefused: If the architecture contradicts what the caller asked to assume.
    """
    weights = template.group.weights
    where = template.group.name
    if template.architecture is not None:
        return _by_own_architecture(weights, template.architecture, request, where)
    if request.like is not None:
        return _by_reference(weights, request.like, request.order)
    return _by_names(template, plain=request.plain)


def _by_own_architecture(weights: Sequence[Weight], model: Layer, request: Request, where: str) -> Assignment:
    like, order = request.like, request.order
    model = named_by(model, like.layer_names) if like else model
    expected = expected_model(model)
    inside = order == "any" or (order == "reference" and like is not None)
    expected, choice = decide_or_once(expected, lambda layers: decide(weights, layers, inside=inside))
    if not choice.fits:
        raise Undecided(
            f"the file's own architecture does not fit its weights: {first_difference(weights, expected)}",
            where=where,
            hint="convert the file as Keras saved it, before anything edited it",
        )
    if choice.reading is None and like is not None:
        return _by_reference(weights, like, order)
    if choice.reading is None:
        raise Undecided(
            "the architecture fits the weights in several ways: it does not say whether a nested model was "
            "frozen, nor which weights are a custom layer's, and neither shapes nor names tell",
            where=where,
            remedies=(GIVE_WEIGHTS,),
        )
    _require_names(model, where)
    settled = Assignment(
        layers=tuple(_planned(model, expected, choice.reading, weights)),
        settled_by="architecture",
        architecture=model,
        notes=(*assumption_notes(choice, expected), *name_notes(weights, expected, choice.reading)),
        frozen=tuple(frozen_parts(expected, choice.reading)),
    )
    if request.plain:
        _require_plain(expected, settled, where)
        settled = replace(settled, notes=(*settled.notes, f"the assumption of a plain model {NOT_NEEDED}"))
    if like is None:
        return _with_flag_notes(settled, expected, choice.reading, order)
    if order != "reference":
        require_same_model(weights, expected, choice.reading, like)
        unused = replace(settled, notes=(*settled.notes, f"the reference model {NOT_NEEDED}"))
        return _with_flag_notes(unused, expected, choice.reading, order)
    listed = reference_lists(weights, expected, choice.reading, like, own=True)
    ordered = _ordered(settled, weights, expected, choice.reading, listed, like)
    if ordered.reordered:
        return ordered
    return replace(
        ordered, notes=(*ordered.notes, f"the reference model {NOT_NEEDED}, and has the same order")
    )


def _require_plain(expected: ExpectedModel, settled: Assignment, where: str) -> None:
    """Refuse an architecture that contradicts the assumption that nothing was frozen and no model is nested."""
    nested = next((part.path[-1] for part in expected if isinstance(part, ExpectedSubmodel)), None)
    if nested is not None or settled.frozen:
        raise not_plain(
            f"{nested!r} is a nested model" if nested else f"{settled.frozen[0]!r} was frozen", where
        )


def not_plain(found: str, where: str) -> UsageRefused:
    """Describe that an architecture contradicts the assumption that nothing was frozen and no model is nested."""
    return UsageRefused(
        "the assumption that nothing was frozen and no model is nested contradicts the file's own "
        f"architecture: {found}",
        where=where,
        hint="leave the assumption out: the architecture settles the layers",
    )


def _by_reference(weights: Sequence[Weight], like: Reference, order: Order) -> Assignment:
    if like.architecture is not None:
        _require_names(like.architecture, like.where)
    named = listed_by_name(weights, like.groups) if like.groups is not None else None
    if named is not None and named.exact and like.architecture is None:
        return _by_listed_names(weights, named, like, order)
    flags = like.architecture is not None
    # Without an architecture a group is one expected layer: `_order_unknown` compares the layers inside it.
    inside = order != "saved"
    expected, choice = decide_or_once(
        like.expected,
        lambda layers: decide_by_reference(weights, layers, flags=flags, ordered=like.ordered, inside=inside),
    )
    if choice.reading is None and named is not None:
        return _by_listed_names(weights, named, like, order)
    if not choice.fits:
        raise Undecided(
            f"the reference model does not fit the checkpoint: {first_difference(weights, expected)}",
            where=like.where,
            hint=_SAME_CODE,
            remedies=() if flags else (GIVE_JSON,),
        )
    if choice.reading is None or (
        like.architecture is None and _order_unknown(weights, expected, choice.reading, like)
    ):
        raise _several_fit(like, order)
    if like.architecture is not None:
        layers = tuple(_planned(like.architecture, expected, choice.reading, weights))
    else:
        layers = tuple(_planned_groups(like.layer_names, expected, choice.reading, weights))
    settled = Assignment(
        layers=layers,
        settled_by="reference",
        architecture=like.architecture,
        notes=tuple(assumption_notes(choice, expected)),
        frozen=tuple(frozen_parts(expected, choice.reading)),
    )
    if like.architecture is None or order != "reference":
        return _with_flag_notes(settled, expected, choice.reading, order)
    listed = reference_lists(weights, expected, choice.reading, like, own=False)
    return _ordered(settled, weights, expected, choice.reading, listed, like)


def _several_fit(like: Reference, order: Order) -> Undecided:
    remedies: tuple[Remedy, ...] = ()
    hint = _SAME_CODE
    if like.architecture is None:
        remedies = (GIVE_JSON,)
    elif order != "any":
        hint = f"{_SAME_CODE} and the same trainable flags"
    if like.groups is None:
        remedies = (GIVE_WEIGHTS,)
    return Undecided(
        "the reference model fits the checkpoint in several ways: layers of equal shapes may have been frozen "
        "or renamed, and the names do not tell which",
        where=like.where,
        hint=hint,
        remedies=remedies,
    )


def _by_listed_names(weights: Sequence[Weight], named: ByName, like: Reference, order: Order) -> Assignment:
    """Follow a reference file by the names of its weights, which alone tell the order inside its nested models."""
    inside = _inside_groups(weights, named, like) if order == "any" else {}
    layers = tuple(
        PlannedLayer(
            name=group.name,
            weights=_named([weights[index] for index in listed]),
            children=inside.get(group.name, ()),
        )
        for group, listed in zip(like.groups or (), named.lists, strict=True)
    )
    settled = Assignment(layers=layers, settled_by="reference", architecture=like.architecture)
    moved = [
        layer.name
        for layer, listed, saved in zip(layers, named.lists, named.saved, strict=True)
        if listed != saved
    ]
    if order == "saved" and named.hidden:
        raise Undecided(
            f"the order in which {layers[min(named.hidden)].name!r} was saved is not known: a layer in it stands in "
            "another place too",
            where=like.where,
            hint="the order that the reference model loads is known: do not ask for the saved order",
        )
    if not moved:
        return settled
    if order == "reference":
        return replace(
            settled, notes=tuple(reordered_notes(moved)), frozen=_moved(weights, named), reordered=True
        )
    if order == "any":
        return replace(settled, frozen=_moved(weights, named))
    layers = tuple(
        PlannedLayer(name=layer.name, weights=_named([weights[index] for index in saved]))
        for layer, saved in zip(layers, named.saved, strict=True)
    )
    return replace(settled, layers=layers, notes=tuple(flag_notes(moved)), frozen=_moved(weights, named))


def _inside_groups(
    weights: Sequence[Weight], named: ByName, like: Reference
) -> dict[str, tuple[PlannedLayer, ...]]:
    """Settle the layers inside each nested model of a reference file that has an architecture."""
    if like.architecture is None:
        return {}
    listed = {group.name: owned for group, owned in zip(like.groups or (), named.lists, strict=True)}
    found = {}
    for layer in load_order(like.architecture):
        inner = replace(layer.innermost, name=layer.name)
        if inner.children is not None and listed.get(layer.name):
            owned = tuple(weights[index] for index in listed[layer.name])
            nested = Template(
                group=LayerGroup(name=layer.name, weights=owned), architecture=None, replicas=None
            )
            own = replace(like, architecture=inner, groups=None)
            found[layer.name] = assign(nested, Request(like=own, order="any")).layers
    return found


def _moved(weights: Sequence[Weight], named: ByName) -> tuple[str, ...]:
    """List the layers inside nested models that stand further back in the checkpoint than in the reference model."""
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


def _order_unknown(
    weights: Sequence[Weight], expected: ExpectedModel, reading: Reading, like: Reference
) -> bool:
    owned = dict(zip((part.path[-1] for part in expected), lists(expected, reading), strict=True))
    return contradicted_inside(weights, like.groups or (), owned) is not None


def _with_flag_notes(
    settled: Assignment, expected: ExpectedModel, reading: Reading, order: Order
) -> Assignment:
    """Note the nested models whose saved order depends on flags, unless the output's format does not depend on them."""
    if order == "any":
        return settled
    return replace(settled, notes=(*settled.notes, *flag_notes(list(flagged(expected, reading)))))


def _ordered(
    settled: Assignment,
    weights: Sequence[Weight],
    expected: ExpectedModel,
    reading: Reading,
    listed: Lists,
    like: Reference,
) -> Assignment:
    """Put the weights of nested models in the order that the reference model expects, and replay its loading."""
    saved = lists(expected, reading)
    by_name = {part.path[-1]: indices for part, indices in zip(expected, listed, strict=True)}
    moved = [
        part.path[-1] for part, ours, theirs in zip(expected, saved, listed, strict=True) if ours != theirs
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
    require_loadable(layers, like)
    changed = bool(moved) or [layer.name for layer in layers] != names
    notes = (*settled.notes, *reordered_notes(moved), *whole_model_notes(expected, reading, saved, listed))
    return replace(settled, layers=layers, notes=notes, reordered=changed)


def require_loadable(layers: Sequence[PlannedLayer], like: Reference) -> None:
    """Refuse a reference model whose `load_weights` would not take the layers: it is another model."""
    planned = [
        FileLayer(name=layer.name, shapes=tuple(weight.source.shape for weight in layer.weights))
        for layer in layers
    ]
    if like.groups is not None:
        # The order in the file counts: the config of a model that was not built from JSON lacks the flags of models.
        expected = [ModelLayer(name=layer.name, shapes=layer.shapes) for layer in file_layers(like.groups)]
    else:
        expected = narrowed(model_layers(like), planned)
    loading = load_by_order(planned, expected)
    if not loading.loads:
        raise Undecided(
            f"the reference model would not load the checkpoint's weights: {loading.first_complaint}",
            where=like.where,
            hint=_SAME_CODE,
        )


def _require_names(model: Layer, where: str) -> None:
    """Refuse a Sequential inside a Sequential as Keras wrote it up to 2.2.2: a list, without the inner name."""
    if any(not layer.name for layer in load_order(model)):
        raise Undecided(
            "the architecture does not tell the name of a nested model",
            where=where,
            remedies=(GIVE_WEIGHTS,),
        )


def _by_names(template: Template, *, plain: bool) -> Assignment:
    # Imported here because compiling its patterns takes longer than settling most files in another way.
    from remap.assignment.by_names import layers_by_name

    found = layers_by_name(template, plain=plain)
    weights = template.group.weights
    layers = tuple(
        PlannedLayer(name=name, weights=_named([weights[index] for index in indices]))
        for name, indices in found.layers
    )
    noticed = (
        ""
        if found.doubt
        else "; if not, Keras says so when it loads the file (on TensorFlow 1.15 perhaps when it predicts)"
    )
    assumed = [
        f"no model is nested, and nothing was frozen but {', '.join(found.frozen)}{noticed}"
        if found.frozen
        else f"nothing was frozen and no model is nested{' (as you say)' if plain else ''}{noticed}"
    ]
    if found.doubt:
        assumed.append(f"the order of layers of equal shapes ({found.doubt})")
    assumed.append("layers have the names in their weights' names; unless you know it, load by order")
    notes = tuple(f"assumed, not verified: {what}" for what in assumed)
    return Assignment(layers=layers, settled_by="names", notes=notes, frozen=found.frozen)


def _planned(
    model: Layer, expected: ExpectedModel, reading: Reading, weights: Sequence[Weight]
) -> Iterator[PlannedLayer]:
    """Plan the layers of the architecture by a reading, layers without weights included."""
    owned = lists(expected, reading)
    numbers = iter(range(len(reading.spans)))
    parts = {part.path[-1]: (part, indices) for part, indices in zip(expected, owned, strict=True)}
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
    names: Sequence[str], expected: ExpectedModel, reading: Reading, weights: Sequence[Weight]
) -> Iterator[PlannedLayer]:
    owned = dict(zip((part.path[-1] for part in expected), lists(expected, reading), strict=True))
    for name in names:
        yield PlannedLayer(name=name, weights=_named([weights[index] for index in owned.get(name, ())]))


def _named(owned: Sequence[Weight]) -> tuple[PlannedWeight, ...]:
    names = uniquify([clean(weight.name) for weight in owned])
    return tuple(PlannedWeight(name=name, source=weight) for name, weight in zip(names, owned, strict=True))
