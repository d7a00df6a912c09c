"""Which tensors of two files belong together: layers matched by paths, architecture, names or order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remap.comparison.models import HeldLayer, HeldModel, take_apart
from remap.comparison.results import MatchedBy
from remap.keras3.variables import made_by_rows, recipes_of

if TYPE_CHECKING:
    from remap.checkpoint import Weight
    from remap.output_tensors import OutputTensor

__all__ = ["Pair", "Way", "by_key", "side_by_side", "ways_to_match"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two weights that belong together, or one alone; `recipe` makes of the old one what Keras 3 has.

    `reversed` says that the old one is that of the second file, `by_rows` that it can be made row by row, `unsure` that a
    conversion to Keras 3 may have changed the numbers, and nothing tells how.
    """

    layer: tuple[str, ...]
    ours: Weight | None
    theirs: Weight | None
    recipe: OutputTensor | None = None
    reversed: bool = False
    by_rows: bool = False
    unsure: bool = False

    @property
    def is_computed(self) -> bool:
        """Tell whether Keras 3 has other numbers than the old weight."""
        return self.recipe is not None and self.recipe.transform is not None

    @property
    def has_one_type(self) -> bool:
        """Tell whether both weights have the same type of numbers, in whatever byte order."""
        if self.ours is None or self.theirs is None:
            return False
        if self.recipe is not None and self.is_computed:
            return self.recipe.dtype[1:] == (self.ours if self.reversed else self.theirs).dtype[1:]
        return self.ours.dtype[1:] == self.theirs.dtype[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way in which the tensors of two files may belong together.

    `flags_assumed` says that it goes by trainable flags that may not be those of the file.
    """

    matched_by: MatchedBy
    pairs: list[Pair]
    flags_assumed: bool = False


def ways_to_match(one: HeldModel, other: HeldModel) -> Iterator[Way]:
    """Give each way in which the tensors of two files may belong together, the surest first."""
    if one.is_keras3 and other.is_keras3:
        # Keras 3 loads a weights file by the paths in it (`_load_state`).
        yield Way(matched_by="paths", pairs=by_key(_by_path(one), _by_path(other)))
        return
    seen: list[list[Pair]] = []
    for basis, ours in take_apart(one, one.architecture or other.architecture):
        for other_basis, theirs in take_apart(other, other.architecture or one.architecture):
            matched = _matched_layers(ours, theirs, ordered=_is_ordered(one, other))
            if matched is None:
                continue
            how, layers = matched
            modern = one.saved_by_keras3 and other.saved_by_keras3
            pairs = [pair for left, right in layers for pair in _tensor_pairs(left, right, unchanged=modern)]
            if pairs in seen:
                continue
            seen.append(pairs)
            by: MatchedBy = "names" if "names" in (basis, other_basis) else "architecture"
            yield Way(
                matched_by="order" if how == "order" else by,
                pairs=pairs,
                flags_assumed="flags" in (basis, other_basis),
            )


def _is_ordered(one: HeldModel, other: HeldModel) -> bool:
    """Tell whether both files tell the order of their layers."""
    return all(not held.is_keras3 or held.architecture is not None for held in (one, other))


def _by_path(held: HeldModel) -> dict[str, Weight]:
    return {f"{group.name}/{weight.name}": weight for group in held.groups for weight in group.weights}


def by_key(ours: dict[str, Weight], theirs: dict[str, Weight]) -> list[Pair]:
    """Pair weights with equal keys, which are paths."""
    return [
        Pair(layer=tuple(key.split("/")[:-1]), ours=ours.get(key), theirs=theirs.get(key))
        for key in dict.fromkeys((*ours, *theirs))
    ]


def side_by_side(
    ours: Sequence[Weight], theirs: Sequence[Weight]
) -> Iterator[tuple[Weight | None, Weight | None]]:
    """Pair weights by their places in two lists; the longer one has weights without a partner."""
    for number in range(max(len(ours), len(theirs))):
        yield (
            ours[number] if number < len(ours) else None,
            theirs[number] if number < len(theirs) else None,
        )


_Layers = list[tuple[HeldLayer | None, HeldLayer | None]]


def _matched_layers(
    ours: Sequence[HeldLayer], theirs: Sequence[HeldLayer], *, ordered: bool
) -> tuple[str, _Layers] | None:
    """Match layers by their whole names, by their own names, or by order; None where nothing tells."""
    for start in (0, -1):
        named = _matched_by_names(ours, theirs, start)
        if named is not None:
            return "names", named
    if ordered and len(ours) == len(theirs) and all(map(_alike, ours, theirs)):
        return "order", list(zip(ours, theirs, strict=True))
    left = {layer.names[-1]: layer for layer in ours}
    right = {layer.names[-1]: layer for layer in theirs}
    common = left.keys() & right.keys()
    if len(left) < len(ours) or len(right) < len(theirs) or 2 * len(common) <= max(len(left), len(right)):
        return None
    matched: _Layers = [(layer, right.get(name)) for name, layer in left.items()]
    return "names", [*matched, *((None, layer) for name, layer in right.items() if name not in common)]


def _matched_by_names(ours: Sequence[HeldLayer], theirs: Sequence[HeldLayer], start: int) -> _Layers | None:
    """Match layers by their names, from one in their paths on; None where not all have a partner.

    A layer that one file stores once and the other in each place where it stands is matched with all of them
    (`_dedup_weights` of tf.keras 2 leaves repeated weights out).
    """
    left: dict[tuple[str, ...], list[HeldLayer]] = defaultdict(list)
    right: dict[tuple[str, ...], list[HeldLayer]] = defaultdict(list)
    for layers, found in ((ours, left), (theirs, right)):
        for layer in layers:
            found[layer.names[start:]].append(layer)
    if left.keys() != right.keys():
        return None
    matched: _Layers = []
    for name, some in left.items():
        others = right[name]
        if len(some) == 1:
            some = some * len(others)
        elif len(others) == 1:
            others = others * len(some)
        if len(some) != len(others):
            return None
        matched += zip(some, others, strict=True)
    return matched


def _alike(one: HeldLayer, other: HeldLayer) -> bool:
    """Tell whether two layers may be one: equal numbers of weights with equal numbers of elements, or one converted."""
    if len(one.weights) != len(other.weights):
        return False
    if _needs_conversion(one, other) and (one.described or other.described):
        return True
    return Counter(weight.shape for weight in one.weights) == Counter(
        weight.shape for weight in other.weights
    )


def _needs_conversion(one: HeldLayer, other: HeldLayer) -> bool:
    return bool(one.places) != bool(other.places)


def _tensor_pairs(one: HeldLayer | None, other: HeldLayer | None, *, unchanged: bool) -> list[Pair]:
    if one is None or other is None:
        alone = one or other
        assert alone is not None  # noqa: S101 - a pair has a layer
        return [
            Pair(
                layer=alone.names,
                ours=None if one is None else weight,
                theirs=None if other is None else weight,
            )
            for weight in alone.weights
        ]
    if _needs_conversion(one, other):
        old, new = (other, one) if one.places else (one, other)
        described = old.described or new.described
        recipes = recipes_of(described, old.weights, unchanged=unchanged)
        stored = dict(zip(new.places, new.weights, strict=True))
        if recipes is not None and recipes.keys() == stored.keys():
            return [
                Pair(
                    layer=one.names,
                    ours=stored[place] if one.places else recipe.source,
                    theirs=recipe.source if one.places else stored[place],
                    recipe=recipe,
                    reversed=bool(one.places),
                    by_rows=described is not None and made_by_rows(described),
                )
                for place, recipe in recipes.items()
            ]
    described = one.described or other.described
    owners = {owner for owner, _ in (*one.places, *other.places)}
    unsure = _needs_conversion(one, other) and (
        described is None or described.declared is not None or len(owners) > 1
    )
    return [
        Pair(layer=one.names, ours=ours, theirs=theirs, unsure=unsure)
        for ours, theirs in side_by_side(one.weights, other.weights)
    ]
