"""How a model was being trained, in the form of Keras 3: compile_config and the optimizer's variables.

Carried over where Keras 3's optimizer keeps the same sums in the same way (Adam, SGD, RMSprop:
keras/src/optimizers); left out, with a note, where anything is not known to mean the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from remap.keras.checkpoint import Weight
from remap.keras.inputs import plain
from remap.keras.plan import PlannedLayer
from remap.keras.values import read_json
from remap.keras3.naming import snake_case
from remap.keras3.objects import keras_object
from remap.keras3.recipe import Group, Recipe, constant, keep
from remap.keras3.translation import Translation

__all__ = ["add_training"]

_COMMON = frozenset({"clipnorm", "clipvalue"})
# Class -> its own arguments, equal in old and new.
_OPTIMIZERS: Mapping[str, frozenset[str]] = {
    "Adadelta": frozenset({"rho", "epsilon"}),
    "Adagrad": frozenset({"epsilon", "initial_accumulator_value"}),
    "Adam": frozenset({"beta_1", "beta_2", "epsilon", "amsgrad"}),
    "Adamax": frozenset({"beta_1", "beta_2", "epsilon"}),
    "Nadam": frozenset({"beta_1", "beta_2", "epsilon"}),
    "RMSprop": frozenset({"rho", "momentum", "epsilon", "centered"}),
    "SGD": frozenset({"momentum", "nesterov"}),
}
_LOSSES = {
    "binary_crossentropy": "binary_crossentropy",
    "categorical_crossentropy": "categorical_crossentropy",
    "categorical_hinge": "categorical_hinge",
    "cosine_similarity": "cosine_similarity",
    "hinge": "hinge",
    "kullback_leibler_divergence": "kl_divergence",
    "logcosh": "log_cosh",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mean_absolute_error": "mean_absolute_error",
    "mean_absolute_percentage_error": "mean_absolute_percentage_error",
    "mean_squared_error": "mean_squared_error",
    "mean_squared_logarithmic_error": "mean_squared_logarithmic_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
    "poisson": "poisson",
    "sparse_categorical_crossentropy": "sparse_categorical_crossentropy",
    "squared_hinge": "squared_hinge",
}
_METRICS = {
    **_LOSSES,
    "acc": "accuracy",
    "accuracy": "accuracy",
    "binary_accuracy": "binary_accuracy",
    "categorical_accuracy": "categorical_accuracy",
    "sparse_categorical_accuracy": "sparse_categorical_accuracy",
}


class _Unknown(Exception):
    """Something of the training configuration that is not known to mean the same in Keras 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Optimizer:
    """An optimizer of Keras 3: its class, its entry, and whether its learning rate is a variable of it."""

    class_name: str
    entry: dict[str, Any]
    rate: float
    scheduled: bool


def add_training(
    translation: Translation,
    planned: Sequence[PlannedLayer],
    *,
    training_config: str | None,
    optimizer: Sequence[Weight] | None,
    outputs: Sequence[str],
) -> Translation:
    """Add to a translation how the model was compiled, and the optimizer's state as far as it carries over.

    `outputs` are the old names of the model's outputs. Raises InputRefused for text that is not JSON.
    """
    if training_config is None:
        return translation
    config = read_json(training_config, where="training_config").json()
    try:
        compiled = _optimizer(config)
        compile_config = _compile_config(config, compiled, translation, outputs)
    except _Unknown as unknown:
        note = f"the model is not compiled and its training state is left out: {unknown}"
        return replace(translation, notes=(*translation.notes, note))
    notes = translation.notes
    if compile_config["metrics"] is None and config.get("metrics"):
        notes = (*notes, "metrics are left out: not all of them are known to be the same in Keras 3")
    changed = replace(
        translation, config={**translation.config, "compile_config": compile_config}, notes=notes
    )
    try:
        group = _state(compiled, translation.groups, planned, optimizer)
    except _Unknown as unknown:
        return replace(changed, notes=(*notes, f"the optimizer starts anew: {unknown}"))
    return replace(changed, groups=(*translation.groups, group), notes=notes)


def _optimizer(config: Any) -> _Optimizer:
    entry = config.get("optimizer_config") if isinstance(config, dict) else None
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
        raise _Unknown("the file does not describe an optimizer")
    name, old = entry.get("class_name"), plain(entry["config"])
    own = _OPTIMIZERS.get(name) if isinstance(name, str) else None
    if own is None or not isinstance(name, str):
        raise _Unknown(f"optimizer {name!r}")
    rate = old.get("lr", old.get("learning_rate"))
    if not isinstance(rate, int | float):
        raise _Unknown("a learning rate that is not a number")
    arguments = {key: old[key] for key in own | _COMMON if old.get(key) is not None}
    if "momentum" in arguments:
        arguments["momentum"] = float(arguments["momentum"])
    if name == "RMSprop" and "epsilon" in arguments:
        # It was added to the root and is now added under it.
        arguments["epsilon"] **= 2
    decay = old.get("decay") or 0
    learning_rate: Any = rate
    if decay:
        schedule = {"initial_learning_rate": rate, "decay_steps": 1, "decay_rate": decay, "staircase": False}
        learning_rate = keras_object("keras.optimizers.schedules", "InverseTimeDecay", schedule)
    arguments = {"name": snake_case(name), "learning_rate": learning_rate, **dict(sorted(arguments.items()))}
    return _Optimizer(
        class_name=name,
        entry=keras_object("keras.optimizers", name, arguments),
        rate=float(rate),
        scheduled=bool(decay),
    )


def _compile_config(
    config: Mapping[str, Any], compiled: _Optimizer, translation: Translation, outputs: Sequence[str]
) -> dict[str, Any]:
    names = dict(zip(outputs, _output_names(translation.config, len(outputs)), strict=True))
    loss = _by_output(config.get("loss"), names, _loss)
    if len(outputs) > 1 and isinstance(loss, str):
        loss = [loss] * len(outputs)
    try:
        metrics = _by_output(config.get("metrics") or None, names, _metrics)
        if len(outputs) > 1 and isinstance(metrics, list) and all(isinstance(one, str) for one in metrics):
            metrics = [metrics] * len(outputs)
    except _Unknown:
        metrics = None
    return {
        "optimizer": compiled.entry,
        "loss": loss,
        "loss_weights": _by_output(config.get("loss_weights"), names, plain),
        "metrics": metrics,
        "weighted_metrics": None,
        "run_eagerly": False,
        "steps_per_execution": 1,
        "jit_compile": "auto",
    }


def _output_names(config: Mapping[str, Any], count: int) -> list[str]:
    inner = config["config"]
    if "output_layers" not in inner:
        return [inner["layers"][-1]["config"]["name"]] * count
    ends = inner["output_layers"]
    return [name for name, _, _ in (ends if isinstance(ends[0], list) else [ends])]


def _by_output(value: Any, names: Mapping[str, str], translate: Any) -> Any:
    """Translate a value, or each of those that are given output by output."""
    if isinstance(value, dict) and "class_name" not in value:
        if not value.keys() <= names.keys():
            raise _Unknown("names of outputs that the model does not have")
        return {names[key]: translate(item) for key, item in value.items()}
    return translate(value)


def _loss(value: Any) -> Any:
    if isinstance(value, list):
        return [_loss(item) for item in value]
    if value is None:
        return None
    if isinstance(value, str) and value in _LOSSES:
        return _LOSSES[value]
    if isinstance(value, dict):
        name, config = value.get("class_name"), value.get("config")
        if isinstance(name, str) and snake_case(name) in _LOSSES and isinstance(config, dict):
            kept = {key: item for key, item in config.items() if key in {"from_logits", "label_smoothing"}}
            if config.get("reduction", "auto") in {"auto", "sum_over_batch_size"}:
                return keras_object("keras.losses", name, kept)
    raise _Unknown(f"loss {value!r}")


def _metrics(value: Any) -> Any:
    if isinstance(value, list):
        return [_metrics(item) for item in value]
    if value is None or (isinstance(value, str) and value in _METRICS):
        return value if value is None else _METRICS[value]
    raise _Unknown(f"metric {value!r}")


def _state(
    compiled: _Optimizer,
    groups: Sequence[Group],
    planned: Sequence[PlannedLayer],
    optimizer: Sequence[Weight] | None,
) -> Group:
    """Sort the old optimizer's sums, which follow the old order of trained weights, by the new order."""
    if not optimizer:
        raise _Unknown("the file holds no state of it")
    if compiled.class_name not in {"Adam", "RMSprop", "SGD"}:
        raise _Unknown(f"the state of {compiled.class_name} is kept in another form")
    trained = [recipe for group in groups for recipe in group.recipes[: group.trainable]]
    if any(recipe.transform is not None or recipe.source is None for recipe in trained):
        raise _Unknown("weights are stored in another form than they were trained in")
    order = [recipe.source.path for recipe in trained if recipe.source is not None]
    place = {path: index for index, path in enumerate(_old_order(planned, set(order)))}
    if not order or not len(order) == len(set(order)) == len(place):
        raise _Unknown("nothing is trained, or a weight stands in two places")
    counter, sums = (optimizer[0], optimizer[1:]) if optimizer[0].shape == () else (None, optimizer)
    slots = [sums[start : start + len(order)] for start in range(0, len(sums), len(order))]
    needed = _needed(compiled)
    if len(sums) % len(order) or len(slots) < len(needed):
        raise _Unknown(f"{len(sums)} sums do not fit {len(order)} trained weights")
    used = [[slot[place[path]] for path in order] for slot in slots[: len(needed)]]
    if any(weight.shape != own.shape for slot in used for weight, own in zip(slot, trained, strict=True)):
        raise _Unknown("its sums do not have the shapes of the trained weights")
    steps = constant(0, "<i8") if counter is None else _as_integer(counter)
    head = [steps] if compiled.scheduled else [steps, constant(compiled.rate, "<f4")]
    recipes = (*head, *(keep(weight) for weight in _listed(compiled, used)))
    return Group(path="optimizer", name=snake_case(compiled.class_name), recipes=recipes)


def _old_order(planned: Sequence[PlannedLayer], trained: set[str]) -> Iterator[str]:
    for layer in planned:
        for weight in layer.weights:
            if weight.source.path in trained:
                yield weight.source.path


def _needed(compiled: _Optimizer) -> tuple[str, ...]:
    """Name the sums that Keras 3's optimizer keeps for each weight, in the old order."""
    config = compiled.entry["config"]
    if compiled.class_name == "Adam":
        return ("momentum", "velocity", "velocity_hat") if config.get("amsgrad") else ("momentum", "velocity")
    if compiled.class_name == "SGD":
        return ("momentum",) if config.get("momentum") else ()
    extra = [
        name for name, wanted in (("momentum", "momentum"), ("average", "centered")) if config.get(wanted)
    ]
    return ("velocity", *extra)


def _listed(compiled: _Optimizer, sums: Sequence[Sequence[Weight]]) -> Iterator[Weight]:
    """Yield the sums as Keras 3 lists them: Adam's first two weight by weight, all others sum by sum."""
    pairs = 2 if compiled.class_name == "Adam" else 0
    for both in zip(*sums[:pairs], strict=True):
        yield from both
    for each in sums[pairs:]:
        yield from each


def _as_integer(weight: Weight) -> Recipe:
    return Recipe(shape=(), dtype="<i8", source=weight, transform=partial(np.asarray, dtype=np.int64))
