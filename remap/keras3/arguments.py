"""The arguments of a layer, translated for Keras 3."""

from __future__ import annotations

from collections.abc import Sequence

from remap.errors import InputRefused
from remap.keras.checkpoint import Weight
from remap.keras.config import Config, Layer
from remap.keras.inputs import dtype_name
from remap.keras.values import Json
from remap.keras3.built import Setting, refuse
from remap.keras3.objects import by_argument
from remap.keras3.rules import ANYTHING, Rule

__all__ = ["dtype_of", "translate"]

# What every layer may hold beside its own arguments, handled here or of no use to Keras 3.
_COMMON = frozenset({"name", "trainable", "dtype", "batch_input_shape", "activity_regularizer", "autocast"})


def translate(layer: Layer, rule: Rule, config: Config) -> tuple[dict[str, Json], tuple[InputRefused, ...]]:
    """Translate the arguments; what cannot be is given back as refusals."""
    arguments: dict[str, Json] = {}
    refused = []
    for key, value in config.items():
        if key in rule.keeps:
            arguments[key] = by_argument(key, value)
        elif key in rule.renamed:
            arguments[rule.renamed[key]] = by_argument(key, value)
        elif key in rule.dropped:
            allowed = rule.dropped[key]
            if allowed is not ANYTHING and not value.is_one_of(allowed):
                refused.append(
                    refuse(layer, f"{key}={value.json()!r}, which {rule.name} of Keras 3 does not have")
                )
        elif key not in _COMMON:
            refused.append(refuse(layer, f"an argument {key!r} that h5remap does not know of this class"))
    if config.given("activity_regularizer"):
        arguments["activity_regularizer"] = by_argument(
            "activity_regularizer", config.value("activity_regularizer")
        )
    arguments = {**rule.missing, **arguments, **rule.fixed}
    if rule.name == "BatchNormalization" and isinstance(arguments.get("axis"), list):
        if len(arguments["axis"]) == 1:
            arguments["axis"] = arguments["axis"][0]
        else:
            refused.append(refuse(layer, f"axis={arguments['axis']!r}: Keras 3 normalises over one axis"))
    if "seed" in arguments and not isinstance(arguments["seed"], int):
        arguments["seed"] = None
    return arguments, tuple(refused)


def dtype_of(config: Config, weights: Sequence[Weight], setting: Setting) -> str:
    """Find a layer's dtype: Keras 2 rarely says it, so its weights do.

    BatchNormalization of tf.keras keeps float32 weights in a float16 layer, which Keras 3 calls mixed.
    """
    named = dtype_name(config)
    kept = [f"float{8 * int(weight.dtype[2:])}" for weight in weights if weight.dtype[1] == "f"]
    if named == "float16" and kept and set(kept) == {"float32"}:
        return "mixed_float16"
    return named or (kept[0] if kept else setting.floatx)
