"""Names, initializers, regularizers, constraints, activations and dtypes in the form of Keras 3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from remap.typed_json import Json, Value

__all__ = [
    "BUILT_IN_ACTIVATIONS",
    "BUILT_IN_NAMES",
    "activation",
    "by_argument",
    "custom_function",
    "dtype_policy",
    "function_name",
    "keras_object",
    "number_names",
    "snake_case",
    "unknown_arguments",
    "valid_names",
]


# The arguments of each class in Keras 3. Others in old files (`dtype`, `partition_info`) do not change the values.
_INITIALIZERS: Mapping[str, frozenset[str]] = {
    "Constant": frozenset({"value"}),
    "GlorotNormal": frozenset({"seed"}),
    "GlorotUniform": frozenset({"seed"}),
    "HeNormal": frozenset({"seed"}),
    "HeUniform": frozenset({"seed"}),
    "Identity": frozenset({"gain"}),
    "LecunNormal": frozenset({"seed"}),
    "LecunUniform": frozenset({"seed"}),
    "Ones": frozenset(),
    "Orthogonal": frozenset({"gain", "seed"}),
    "RandomNormal": frozenset({"mean", "stddev", "seed"}),
    "RandomUniform": frozenset({"minval", "maxval", "seed"}),
    "TruncatedNormal": frozenset({"mean", "stddev", "seed"}),
    "VarianceScaling": frozenset({"scale", "mode", "distribution", "seed"}),
    "Zeros": frozenset(),
}
_REGULARIZERS: Mapping[str, frozenset[str]] = {
    "L1": frozenset({"l1"}),
    "L1L2": frozenset({"l1", "l2"}),
    "L2": frozenset({"l2"}),
}
_CONSTRAINTS: Mapping[str, frozenset[str]] = {
    "MaxNorm": frozenset({"max_value", "axis"}),
    "MinMaxNorm": frozenset({"min_value", "max_value", "rate", "axis"}),
    "NonNeg": frozenset(),
    "UnitNorm": frozenset({"axis"}),
}
_FAMILIES = {
    "initializer": ("keras.initializers", _INITIALIZERS),
    "regularizer": ("keras.regularizers", _REGULARIZERS),
    "constraint": ("keras.constraints", _CONSTRAINTS),
}

BUILT_IN_ACTIVATIONS = frozenset(
    "elu exponential gelu hard_sigmoid linear relu relu6 selu sigmoid softmax softplus softsign swish tanh".split()
)
"""Names that mean the same function in Keras 3, `hard_sigmoid` excepted: its slope was 0.2 and is 1/6."""


def snake_case(class_name: str) -> str:
    """Write a class name as Keras 3's saving library does (`to_snake_case` in keras/src/utils/naming.py)."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


BUILT_IN_NAMES = BUILT_IN_ACTIVATIONS | {
    snake_case(name) for family in (_INITIALIZERS, _REGULARIZERS, _CONSTRAINTS) for name in family
}
"""Names by which Keras 3's own layers may ask for a function without config.json saying so."""


def by_argument(name: str, value: Value) -> Json:
    """Convert the value of a layer's argument.

    Args:
        name: The name of the argument.
        value: Its value.

    Raises:
        InputRefused: No release of Keras writes such a value there.
    """
    family = name.rpartition("_")[2]
    if name in {"activation", "recurrent_activation"}:
        return activation(value)
    if family in _FAMILIES:
        return _object(family, value)
    return value.plain()


def unknown_arguments(name: str, value: Value) -> Iterator[str]:
    """Name what an initializer, regularizer or constraint of Keras holds that the class in Keras 3 does not take."""
    family = name.rpartition("_")[2]
    if family not in _FAMILIES or value.kind != "object":
        return
    known = _FAMILIES[family][1].get(value.object().name("class_name"))
    arguments = value.object().object("config", default=None)
    if known is not None and arguments is not None:
        yield from (key for key, _ in arguments.items() if key not in known)


def activation(value: Value) -> Json:
    """Convert an activation, which old Keras writes as a name or as the config of a function."""
    if value.kind == "object":
        entry = value.object()
        if entry.text("class_name") != "function":
            return value.plain()
        value = entry.value("config")
    if value.kind == "null":
        return None
    return function_name(value.text())


def function_name(name: str) -> Json:
    """Write the name of an activation: one of Keras as it is, another one for `custom_objects`."""
    if name in BUILT_IN_ACTIVATIONS:
        return name
    return custom_function(name)


def custom_function(name: str) -> dict[str, Json]:
    """Write a function that `custom_objects` must give under this name.

    Keras 3 looks for an entry whose module is null in `custom_objects` only, and raises TypeError where it is not
    there (`_retrieve_class_or_fn` in keras/src/saving/serialization_lib.py). With the module "builtins" it would
    first look among its own activations, losses and so on.
    """
    return keras_object(None, "function", name, registered_name="function")


def keras_object(
    module: str | None, class_name: str, config: Json, *, registered_name: str | None = None
) -> dict[str, Json]:
    """Write an object as `serialize_keras_object` in keras/src/saving/serialization_lib.py does."""
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered_name}


def dtype_policy(name: str) -> dict[str, Json]:
    """Write a dtype as Keras 3 does."""
    return keras_object("keras", "DTypePolicy", {"name": name})


def _object(family: str, value: Value) -> Json:
    """Convert an initializer, regularizer or constraint; the config of a custom class is kept."""
    if value.kind == "null":
        return None
    if value.kind == "text":
        return value.text()
    entry = value.object()
    module, known = _FAMILIES[family]
    name = entry.name("class_name")
    if name not in known:
        config = entry.value("config").plain() if entry.given("config") else {}
        return keras_object(None, name, config, registered_name=name)
    arguments = entry.object("config", default=None)
    if arguments is None:
        return keras_object(module, name, {})
    kept = {key: item.plain() for key, item in arguments.items() if key in known[name]}
    if "seed" in kept and arguments.value("seed").kind != "integer":
        kept["seed"] = None
    if kept.get("distribution") == "normal":
        kept["distribution"] = "truncated_normal"
    return keras_object(module, name, kept)


def number_names(names: Iterable[str]) -> list[str]:
    """Make equal names different as `_get_unique_name` in keras/src/saving/saving_lib.py does: dense, dense_1, dense_2."""
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        count = seen.get(name)
        seen[name] = 0 if count is None else count + 1
        numbered.append(name if count is None else f"{name}_{count + 1}")
    return numbered


# Names of the operations with which Keras 3 computes masks; no layer in the same model may have such a name.
_MASK_OPERATION = re.compile(
    r"(any|concatenate|expand_dims|logical_or|not_equal|ones_like|zeros_like)(_\d+)?"
)


def valid_names(names: Iterable[tuple[str, str]], *, masks: bool = False) -> list[str]:
    """Give names that Keras 3 allows: not empty, without a slash, all different.

    Args:
        names: The name and the class name of each layer.
        masks: Whether the model has masks: names of the operations that compute them are then changed, too.
    """
    pairs = list(names)
    sound = {
        name
        for name, _ in pairs
        if name and "/" not in name and not (masks and _MASK_OPERATION.fullmatch(name))
    }
    taken = set(sound)
    valid = []
    numbers: dict[str, int] = {}
    for name, class_name in pairs:
        if name in sound:
            valid.append(name)
            continue
        wanted = name.replace("/", "_") or snake_case(class_name)
        if _MASK_OPERATION.fullmatch(wanted):
            wanted += "_layer"
        # Smaller numbers stay taken: starting at the last one keeps the search linear.
        number = numbers.get(wanted, 0)
        free = f"{wanted}_{number}" if number else wanted
        while free in taken:
            number += 1
            free = f"{wanted}_{number}"
        numbers[wanted] = number
        taken.add(free)
        valid.append(free)
    return valid
