"""Find the layers of a flat list by the names and shapes of its weights alone.

The scopes tell which weights belong together. They do not tell the order of layers: a frozen layer stands behind all
trainable ones, wherever it is in the model. So the likeliest order (`arrangement`) is given only if Keras would refuse to
load it into a model that has another one (`alternatives`), or if the caller says that it is right. And it is not given where
something speaks for a nested model: Keras would refuse the file, which helps nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from remap.assignment.alternatives import NOTHING, Known, TooManyOrders, other_order
from remap.assignment.arrangement import Arrangement, arrange
from remap.assignment.evidence import Ends, ends_of, known_of
from remap.assignment.listed import Listed, listed_layers
from remap.errors import GIVE_JSON, SAY_PLAIN, Undecided
from remap.layers import CATALOGUE, is_automatic_name
from remap.recognize import Template
from remap.weight_names import family, numbered, split_number

__all__ = ["NamedLayers", "layers_by_name"]

# The names of the networks of keras.applications, which have no nested model.
_APPLICATION = re.compile(
    r"^(vgg1[69]|xception|inception_v3|inception_resnet_v2|res(net|next)\d+(v2)?|densenet\d+|NASNet"
    r"|mobilenet(v2)?_[\d.]+_\d+|efficientnetb\d)$"
)
_MODELS = frozenset({"model", "sequential", "functional"})
_AUTOMATIC = frozenset(chain.from_iterable(declared.automatic_names for declared in CATALOGUE.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLayers:
    """The layers of a list.

    Attributes:
        layers: The layers in order: the name of each and the indices of its weights in the order of its group.
        frozen: The layers that are taken to have been frozen, because they do not fit where the list has them.
        doubt: Why the order may be another one, which Keras would not notice; "" if Keras would notice every other order.
    """

    layers: tuple[tuple[str, tuple[int, ...]], ...]
    frozen: tuple[str, ...] = ()
    doubt: str = ""


def layers_by_name(template: Template, *, plain: bool) -> NamedLayers:
    """Find the layers of a model's list by names and shapes.

    Args:
        template: The model.
        plain: Whether the caller says that nothing was frozen and that the model has no nested model.

    Returns:
        The layers, and what was assumed.

    Raises:
        Undecided: If Keras would not notice that the order is wrong, or if it is likely to be.
    """
    where = template.group.name
    layers = listed_layers(template.group.weights)
    if isinstance(layers, str):
        raise _undecided(f"the weight {layers!r} does not say which layer it belongs to", where)
    ends = ends_of(template.name, template.inputs, template.outputs, [layer.name for layer in layers])
    found = arrange(layers, ends, plain=plain)
    if isinstance(found, str):
        raise _undecided(found, where)
    doubt = _silent(found, NOTHING)
    falling = _falling_number(found, ends)
    if falling:
        raise _undecided(falling, where)
    known = known_of(found.order, ends)
    reason = _silent(found, known) if doubt and known else doubt
    reason = reason or next(_nested(found.order, template), "")
    settled_by_word = found.plain and not found.guessed
    if reason and not (plain and settled_by_word):
        raise _undecided(reason, where, plain=settled_by_word)
    return NamedLayers(
        layers=tuple((layer.name, layer.weights) for layer in found.order),
        frozen=() if found.plain else _moved(found.order),
        doubt=doubt,
    )


def _silent(found: Arrangement, known: Known) -> str:
    """Describe an order in which a model may have the list and would load the file; "" if there is none."""
    try:
        other = other_order(found.order, known)
    except TooManyOrders:
        return "too many layers have equal shapes to compare all orders"
    if other is None:
        return ""
    ours, theirs = other
    return f"Keras would not notice if layers were frozen and {theirs!r} belonged before {ours!r}, since the shapes fit"


def _nested(order: Sequence[Listed], template: Template) -> Iterator[str]:
    """Find reasons why layers may belong to a nested model.

    Keras numbers layers and models as they are built, and a nested model is built before the model around it. The networks
    of keras.applications have no nested model.
    """
    model, names = template.name, [layer.name for layer in order]
    if _APPLICATION.match(model):
        return
    heads = {name.partition("/")[0] for name in names if "/" in name}
    inside = [name for name in names if "/" in name]
    if len(heads) == 1 and 1 < len(inside) < len(names):
        head = heads.pop()
        if not _numbered_alike(head, names):
            yield f"{inside[0]!r} and {inside[1]!r} may be layers of a nested model {head!r}"
    for name in names:
        bare, number = split_number(name, "_")
        if number and bare in names and bare not in _AUTOMATIC:
            yield f"{bare!r} and {name!r} may be layers of one name in two models"
    inner = next((name for name in template.outputs if family(name)[0] in _MODELS), "")
    if inner:
        yield f"the output is that of a nested model {inner!r}"
    again = _built_twice(names, template.outputs) and _inputs_for_each(template.inputs)
    if not again and _built_before(model, names, template.inputs):
        yield f"a model was built before {model!r}, and may be nested in it"


def _numbered_alike(head: str, names: Sequence[str]) -> bool:
    """Tell whether names go on with the number of a part, as ``conv2_block1_conv`` beside ``conv1/conv``: it is no model."""
    stem = head.rstrip("0123456789")
    return stem != head and any(
        re.match(rf"{re.escape(stem)}\d", name) for name in names if not name.startswith(f"{head}/")
    )


def _built_twice(names: Sequence[str], outputs: Sequence[str]) -> bool:
    """Tell whether TensorFlow 1 counted every scope: what was built before is the same model."""
    bare = {name: split_number(name, "_") for name in names}
    return all(number for _, number in bare.values()) and any(
        output not in bare and output in {name for name, _ in bare.values()} for output in outputs
    )


def _inputs_for_each(inputs: Sequence[str]) -> bool:
    """Tell whether automatic numbers of inputs are those of a model that was built again, with as many inputs each time.

    A model that was copied (`cpu_relocation`) keeps the names that it had when it was built first.
    """
    own = [family(name)[1] for name in inputs if family(name)[0] == "input"]
    before = min(own, default=1) - 1
    return len(own) < len(inputs) or (before > 0 and before % len(inputs) == 0)


def _built_before(model: str, names: Sequence[str], inputs: Sequence[str]) -> bool:
    """Tell whether numbers show that a model was built before this one."""
    numbers = [family(name)[1] for name in names if is_automatic_name(name)]
    kind, number = family(model)
    before = number - (0 if 0 in numbers and kind != "functional" else 1)
    if kind in _MODELS and {0, 1} & set(numbers) and before > 0:
        return True
    own = [family(name)[1] for name in inputs if family(name)[0] == "input"]
    return min(own, default=1) > 1


def _falling_number(found: Arrangement, ends: Ends) -> str:
    """Say where automatic numbers fall: a layer was frozen, or belongs to a nested model; "" if they do nowhere.

    Branches are listed by depth, so their numbers may fall. If moving averages determine the order, numbers count only if
    the names are automatic and TensorFlow counted no scope: all of them in a Sequential, which has no branches, and where
    layers are taken to have been frozen, since they may have been put where they do not belong; of other models only a
    class of layers that does not begin with its lowest number.
    """
    last: dict[str, tuple[tuple[int, ...], str]] = {}
    names = [layer.name for layer in found.order]
    every = not found.anchored or ends.sequential or not found.plain
    if found.anchored:
        names = list(filter(is_automatic_name, names))
        if any(len(numbered(name)[1]) > 1 for name in names):
            return ""
    for name in names:
        kind, numbers = numbered(name)
        known, other = last.get(kind, (numbers, name)) if every else last.setdefault(kind, (numbers, name))
        if known > numbers:
            return f"{name!r} stands behind {other!r}: it may have been frozen, or belong to a nested model"
        if every:
            last[kind] = numbers, name
    return ""


def _moved(order: Sequence[Listed]) -> tuple[str, ...]:
    """List the layers that stand behind later ones in the list."""
    moved = []
    first = order[-1].weights[0]
    for layer in reversed(order):
        if layer.weights[0] > first:
            moved.append(layer.name)
        first = min(first, layer.weights[0])
    return tuple(reversed(moved))


def _undecided(what: str, where: str, *, plain: bool = False) -> Undecided:
    """Refuse a list; `plain` tells whether the assumption that nothing was frozen or nested would settle it."""
    return Undecided(
        f"the names alone do not settle the order of layers: {what}",
        where=where,
        remedies=(GIVE_JSON, SAY_PLAIN) if plain else (GIVE_JSON,),
    )
