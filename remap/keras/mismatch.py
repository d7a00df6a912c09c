"""Where a list of weights and an outline first differ, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from remap.keras.checkpoint import Weight
from remap.keras.naming import clean, leaf
from remap.keras.outline import Outline, units_of

__all__ = ["first_difference"]


def first_difference(weights: Sequence[Weight], outline: Outline) -> str:
    """Put the first difference side by side: counts, then what only one of the two has, then the place."""
    units = list(units_of(outline))
    expected = sum(len(unit.slots) for unit in units)
    custom = any(unit.open for unit in units)
    if len(weights) != expected and not (custom and len(weights) > expected):
        return f"the checkpoint has {len(weights):,} weights, the architecture {expected:,}"
    have = Counter(leaf(clean(weight.name)) for weight in weights)
    want = Counter(slot.leaf for unit in units for slot in unit.slots)
    for name in want:
        if have[name] < want[name]:
            owner = next(unit for unit in units if any(slot.leaf == name for slot in unit.slots))
            return (
                f"the architecture has {want[name]:,} weights named {name!r} (as in {owner.path[-1]!r}), "
                f"the checkpoint {have[name]:,}"
            )
    left = list(weights)
    for unit in units:
        for slot in unit.slots:
            taken = next((w for w in left if slot.takes(leaf(clean(w.name)), w.shape)), None)
            if taken is None:
                near = next((w for w in left if leaf(clean(w.name)) == slot.leaf), None)
                shape = "" if near is None else f"; the checkpoint has {near.name!r} {near.shape}"
                return f"layer {unit.path[-1]!r} wants {slot.leaf!r} {_shown(slot.shape)}{shape}"
            left.remove(taken)
    return (
        "the same weights, but in another order: the trainable flags of layers inside a model differ, "
        "or the layers do"
    )


def _shown(shape: tuple[int | None, ...] | None) -> str:
    return (
        "of any shape"
        if shape is None
        else f"({', '.join('?' if side is None else str(side) for side in shape)})"
    )
