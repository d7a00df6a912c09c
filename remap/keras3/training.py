"""The training configuration and the optimizer's state in the form of Keras 3.

The slot variables of Adam, SGD and RMSprop are the same in old Keras and in keras/src/optimizers. What is not known
to mean the same in Keras 3 is left out, with a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from remap.checkpoint import Weight
from remap.conversion_plan import PlannedLayer
from remap.keras3.objects import keras_object, snake_case
from remap.keras3.tensors import Translation, VariableGroup
from remap.output_tensors import OutputTensor, constant, keep
from remap.typed_json import Config, Json, Value, read_json

__all__ = ["add_training"]

# Keras 3 stores the learning rate as float32.
_LARGEST_RATE = 3e38
# The square of a larger epsilon overflows a float64.
_LARGEST_EPSILON = 1e150
_COMMON = frozenset({"clipnorm", "clipvalue"})
# The arguments of each optimizer class that mean the same in old Keras and in Keras 3.
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
    """A part of the training configuration is not known to mean the same in Keras 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Optimizer:
    """An optimizer of Keras 3.

    Attributes:
        class_name: Its class.
        entry: Its description in compile_config.
        rate: The learning rate.
        scheduled: Whether a schedule gives the learning rate, so that it is not a variable of the optimizer.
    """

    class_name: str
    entry: dict[str, Json]
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
    """Add the training configuration and, where it can be converted, the optimizer's state to a translation.

    Args:
        translation: The model for Keras 3.
        planned: The model's layers with their weights in the order in which old Keras lists them.
        training_config: The JSON of the attribute of that name; None where the file has none.
        optimizer: The optimizer's weights in the order of the file; None where the file has none.
        outputs: The old names of the model's outputs.

    Returns:
        The translation with `compile_config` and the optimizer's variables, or with a note that says what was left
        out and why.

    Raises:
        InputRefused: The training configuration is not JSON, or a value in it has a wrong type.
    """
    if training_config is None:
        return translation
    config = read_json(training_config, where="training_config").object()
    try:
        compiled = _optimizer(config)
        compile_config = _compile_config(config, compiled, translation, outputs)
    except _Unknown as unknown:
        note = f"training configuration and optimizer state dropped: {unknown}"
        return replace(translation, notes=(*translation.notes, note))
    notes = translation.notes
    if compile_config["metrics"] is None and _some_metrics(config) is not None:
        notes = (*notes, "metrics dropped: not all of them are known to be the same in Keras 3")
    changed = replace(
        translation, config={**translation.config, "compile_config": compile_config}, notes=notes
    )
    try:
        group = _state(compiled, translation.groups, planned, optimizer)
    except _Unknown as unknown:
        return replace(changed, notes=(*notes, f"optimizer state dropped: {unknown}"))
    return replace(changed, groups=(*translation.groups, group), notes=notes)


def _optimizer(config: Config) -> _Optimizer:
    entry = config.object("optimizer_config", default=None)
    if entry is None or not entry.given("config"):
        raise _Unknown("the file does not describe an optimizer")
    name, old = entry.name("class_name"), entry.object("config")
    own = _OPTIMIZERS.get(name)
    if own is None:
        raise _Unknown(f"optimizer {name!r}")
    rate = old.value("lr" if old.has("lr") else "learning_rate")
    if rate.kind not in {"integer", "number"}:
        raise _Unknown("a learning rate that is not a number")
    arguments = {key: _setting(old.value(key)) for key in own | _COMMON if old.given(key)}
    if "momentum" in arguments:
        arguments["momentum"] = old.number("momentum")
    if name == "RMSprop" and "epsilon" in arguments:
        # Old Keras adds epsilon to the square root of the mean square, Keras 3 to the mean square itself.
        arguments["epsilon"] = old.number("epsilon", at_most=_LARGEST_EPSILON) ** 2
    decay = old.number("decay", default=None) or 0
    learning_rate: Json = rate.json()
    if decay:
        schedule = {
            "initial_learning_rate": learning_rate,
            "decay_steps": 1,
            "decay_rate": decay,
            "staircase": False,
        }
        learning_rate = keras_object("keras.optimizers.schedules", "InverseTimeDecay", schedule)
    arguments = {"name": snake_case(name), "learning_rate": learning_rate, **dict(sorted(arguments.items()))}
    return _Optimizer(
        class_name=name,
        entry=keras_object("keras.optimizers", name, arguments),
        rate=rate.number(at_least=-_LARGEST_RATE, at_most=_LARGEST_RATE),
        scheduled=bool(decay),
    )


def _setting(value: Value) -> Json:
    """Copy an argument of an optimizer: a finite number or a flag."""
    return value.flag() if value.kind == "flag" else _finite(value)


def _finite(value: Value) -> Json:
    value.number()
    return value.json()


def _compile_config(
    config: Config, compiled: _Optimizer, translation: Translation, outputs: Sequence[str]
) -> dict[str, Json]:
    names = _output_names(translation.config, outputs)
    loss = _by_output(config.value("loss"), names, _loss) if config.given("loss") else None
    if len(outputs) > 1 and isinstance(loss, str):
        loss = [loss] * len(outputs)
    given = _some_metrics(config)
    try:
        metrics = None if given is None else _by_output(given, names, _metrics)
        if len(outputs) > 1 and isinstance(metrics, list) and all(isinstance(one, str) for one in metrics):
            metrics = [metrics] * len(outputs)
    except _Unknown:
        metrics = None
    return {
        "optimizer": compiled.entry,
        "loss": loss,
        "loss_weights": _loss_weights(config, names),
        "metrics": metrics,
        "weighted_metrics": None,
        "run_eagerly": False,
        "steps_per_execution": 1,
        "jit_compile": "auto",
    }


def _loss_weights(config: Config, names: Mapping[str, str]) -> Json:
    if not config.given("loss_weights"):
        return None
    weights = config.value("loss_weights")
    if weights.kind == "list":
        return [_finite(weight) for weight in weights.values()]
    return _by_output(weights, names, _finite)


def _some_metrics(config: Config) -> Value | None:
    """Give the metrics, None where the file has none: null, an empty list or an empty object."""
    if not config.given("metrics"):
        return None
    metrics = config.value("metrics")
    nothing = (metrics.kind == "list" and not metrics.values()) or (
        metrics.kind == "object" and not metrics.object().keys()
    )
    return None if nothing else metrics


def _output_names(config: Mapping[str, Json], outputs: Sequence[str]) -> dict[str, str]:
    """Give the name of each output in Keras 3; none for a custom class without a name in its config."""
    inner = config["config"]
    if "output_layers" not in inner:
        last = inner["layers"][-1]["config"]
        return dict.fromkeys(outputs, last["name"]) if "name" in last else {}
    ends = inner["output_layers"]
    names = [name for name, _, _ in (ends if isinstance(ends[0], list) else [ends])]
    return dict(zip(outputs, names, strict=True))


def _by_output(value: Value, names: Mapping[str, str], translate: Callable[[Value], Json]) -> Json:
    """Translate a value, or each value of an object that has one for each output."""
    if value.kind != "object" or value.object().has("class_name"):
        return translate(value)
    by_name = value.object()
    if not set(by_name.keys()) <= names.keys():
        raise _Unknown("names of outputs that are not those of the model")
    return {names[key]: translate(item) for key, item in by_name.items()}


def _loss(value: Value) -> Json:
    if value.kind == "list":
        return [_loss(item) for item in value.values()]
    if value.kind == "null":
        return None
    if value.kind == "text" and value.text() in _LOSSES:
        return _LOSSES[value.text()]
    if value.kind == "object" and value.object().has("class_name"):
        loss = value.keras_object()
        if snake_case(loss.class_name) in _LOSSES and _usual_reduction(loss.config):
            kept: dict[str, Json] = {}
            if loss.config.has("from_logits"):
                kept["from_logits"] = loss.config.flag("from_logits")
            if loss.config.given("label_smoothing"):
                kept["label_smoothing"] = _finite(loss.config.value("label_smoothing"))
            return keras_object("keras.losses", loss.class_name, kept)
    raise _Unknown(f"loss {value.json()!r}")


def _usual_reduction(config: Config) -> bool:
    return config.text("reduction", default="auto") in {"auto", "sum_over_batch_size"}


def _metrics(value: Value) -> Json:
    if value.kind == "list":
        return [_metrics(item) for item in value.values()]
    if value.kind == "null":
        return None
    if value.kind == "text" and value.text() in _METRICS:
        return _METRICS[value.text()]
    raise _Unknown(f"metric {value.json()!r}")


def _state(
    compiled: _Optimizer,
    groups: Sequence[VariableGroup],
    planned: Sequence[PlannedLayer],
    optimizer: Sequence[Weight] | None,
) -> VariableGroup:
    """Bring the slot variables of the optimizer from the old order of trainable weights into that of Keras 3."""
    if not optimizer:
        raise _Unknown("the file has none")
    if compiled.class_name not in {"Adam", "RMSprop", "SGD"}:
        raise _Unknown(f"the slot variables of {compiled.class_name} are others in Keras 3")
    trained = [variable for group in groups for variable in group.variables[: group.trainable]]
    if any(variable.transform is not None or variable.source is None for variable in trained):
        raise _Unknown("trainable weights were converted to another form")
    order = [variable.source.path for variable in trained if variable.source is not None]
    place = {path: index for index, path in enumerate(_old_order(planned, set(order)))}
    if not order or not len(order) == len(set(order)) == len(place):
        raise _Unknown("no weight is trainable, or a weight belongs to two layers")
    iterations, listed = (optimizer[0], optimizer[1:]) if optimizer[0].shape == () else (None, optimizer)
    slots = [listed[start : start + len(order)] for start in range(0, len(listed), len(order))]
    needed = _slot_names(compiled)
    if len(listed) % len(order) or len(slots) < len(needed):
        raise _Unknown(f"{len(listed)} slot variables, {len(order)} trainable weights")
    used = [[slot[place[path]] for path in order] for slot in slots[: len(needed)]]
    if any(weight.shape != own.shape for slot in used for weight, own in zip(slot, trained, strict=True)):
        raise _Unknown("the slot variables do not have the shapes of the trainable weights")
    steps = constant(0, "<i8") if iterations is None else _as_integer(iterations)
    head = [steps] if compiled.scheduled else [steps, constant(compiled.rate, "<f4")]
    variables = (*head, *(keep(weight) for weight in _in_order_of_keras_3(compiled, used)))
    return VariableGroup(path="optimizer", name=snake_case(compiled.class_name), variables=variables)


def _old_order(planned: Sequence[PlannedLayer], trained: set[str]) -> Iterator[str]:
    for layer in planned:
        for weight in layer.weights:
            if weight.source.path in trained:
                yield weight.source.path


def _slot_names(compiled: _Optimizer) -> tuple[str, ...]:
    """Name the slot variables that Keras 3's optimizer has for each trainable weight, in the old order."""
    config = compiled.entry["config"]
    if compiled.class_name == "Adam":
        return ("momentum", "velocity", "velocity_hat") if config.get("amsgrad") else ("momentum", "velocity")
    if compiled.class_name == "SGD":
        return ("momentum",) if config.get("momentum") else ()
    extra = [
        name for name, wanted in (("momentum", "momentum"), ("average", "centered")) if config.get(wanted)
    ]
    return ("velocity", *extra)


def _in_order_of_keras_3(compiled: _Optimizer, slots: Sequence[Sequence[Weight]]) -> Iterator[Weight]:
    """Yield the slot variables as Keras 3 lists them: Adam's first two by weight, all others by slot."""
    pairs = 2 if compiled.class_name == "Adam" else 0
    for pair in zip(*slots[:pairs], strict=True):
        yield from pair
    for slot in slots[pairs:]:
        yield from slot


def _as_integer(weight: Weight) -> OutputTensor:
    return OutputTensor(shape=(), dtype="<i8", source=weight, transform=partial(np.asarray, dtype=np.int64))
