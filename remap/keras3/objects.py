"""Initializers, regularizers, constraints, activations and dtypes in the form Keras 3 writes them."""

from __future__ import annotations

from collections.abc import Mapping

from remap.keras.values import Json, Value

__all__ = [
    "BUILT_IN_ACTIVATIONS",
    "activation",
    "by_argument",
    "dtype_policy",
    "function_name",
    "keras_object",
]


# Class -> its arguments in Keras 3. What else old files hold (`dtype`, `partition_info`) is left out: it
# never changed a value.
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


def by_argument(name: str, value: Value) -> Json:
    """Translate what a layer's argument of that name holds.

    Raises InputRefused for what no release of Keras writes there.
    """
    family = name.rpartition("_")[2]
    if name in {"activation", "recurrent_activation"}:
        return activation(value)
    if family in _FAMILIES:
        return _object(family, value)
    return value.plain()


def activation(value: Value) -> Json:
    """Name a function: Keras's own by its name, another so that `custom_objects` finds it."""
    if value.kind == "object":
        entry = value.object()
        if entry.text("class_name") != "function":
            return value.plain()
        value = entry.value("config")
    if value.kind == "null":
        return None
    return function_name(value.text())


def function_name(name: str) -> Json:
    """Name a function: Keras's own activations as they are, another so that `custom_objects` finds it."""
    if name in BUILT_IN_ACTIVATIONS:
        return name
    return keras_object("builtins", "function", name, registered_name="function")


def keras_object(
    module: str | None, class_name: str, config: Json, *, registered_name: str | None = None
) -> dict[str, Json]:
    """Write an object as `serialize_keras_object` in keras/src/saving/serialization_lib.py does."""
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered_name}


def dtype_policy(name: str) -> dict[str, Json]:
    """Write a dtype as Keras 3 does."""
    return keras_object("keras", "DTypePolicy", {"name": name})


def _object(family: str, value: Value) -> Json:
    """Translate an initializer, regularizer or constraint; those of the user's own stay as they are."""
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
