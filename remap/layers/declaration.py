"""The declaration of a layer class: the data types."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from remap.layers.weights import OwnedWeights, WeightChange, no_weights
from remap.typed_json import Config, Value

__all__ = [
    "ANYTHING",
    "BuiltAs",
    "Fold",
    "Keras3",
    "LayerClass",
    "Limit",
    "Masks",
    "Removed",
    "Setting",
    "Writer",
    "three",
]

ANYTHING: tuple[Any, ...] = ("any value",)
"""In `Keras3.dropped`: the argument is left out whatever it holds."""


@dataclass(frozen=True, slots=True)
class Writer:
    """The Keras that wrote a file, by `keras_version`; None and text without a number mean Keras itself.

    tf.keras writes ``2.1.6-tf`` up to TensorFlow 1.12, ``2.2.4-tf`` from 1.13 to 2.2, and ``2.4.0`` from 2.3 on, a
    version that Keras itself never had before it became tf.keras.
    """

    keras_version: str | None

    @property
    def tensorflow(self) -> bool:
        """Tell whether tf.keras wrote the file."""
        return "-tf" in (self.keras_version or "") or self._number >= (2, 4)

    @property
    def before_1_13(self) -> bool:
        """Tell whether tf.keras of a TensorFlow before 1.13 wrote it."""
        return self.tensorflow and self._number < (2, 2)

    @property
    def ambiguous(self) -> bool:
        """Tell whether it was tf.keras from TensorFlow 1.13 to 2.2, which write the same version and differ."""
        return self.tensorflow and (2, 2) <= self._number < (2, 3)

    @property
    def masks_steps(self) -> bool | None:
        """Tell whether TimeDistributed gives its inner layer the mask of each step; None where that is not known.

        Keras does from 2.2 on, tf.keras from TensorFlow 1.12 on, which writes the same version as releases before it
        (`TimeDistributed.call` in keras/layers/wrappers.py).
        """
        if self.before_1_13 or not self._number[0]:
            return None
        return self._number >= (2, 2)

    @property
    def _number(self) -> tuple[int, int]:
        found = re.match(r"(\d+)\.(\d+)", self.keras_version or "")
        return (int(found[1]), int(found[2])) if found else (0, 0)


class Masks(Enum):
    """What a layer does with the mask of its input, in old Keras and in Keras 3.

    Source: `supports_masking`, `compute_mask` and the argument `mask` of `call` in both.
    """

    ENDED = auto()
    """Its output has no mask."""
    PASSED_ON = auto()
    PASSED_ON_BY_KERAS_3 = auto()
    """Its output has no mask in old Keras, and that of the input in Keras 3."""
    MADE = auto()
    """Its output has a mask of its own, where `LayerClass.makes_mask` says so."""
    USED = auto()
    """It skips masked steps; an output sequence has the mask of the input."""
    ATTENDED = auto()
    """It ignores masked steps of all inputs; its output has the mask of the first."""
    JOINED = auto()
    """It takes several inputs, whose masks Keras 3 combines by another rule."""
    JOINED_IN_TIME = auto()
    """The same, except that along axis 1 the masks are concatenated like the inputs."""
    STEP_BY_STEP = auto()
    """It calls its inner layer on every step: TimeDistributed."""
    GIVEN_TO_FUNCTION = auto()
    """A custom function may use it; the output has none."""


class BuiltAs(Enum):
    """How a layer is converted to Keras 3."""

    LAYER = auto()
    """By its arguments, with its weights in one group."""
    INPUT = auto()
    LAMBDA = auto()
    OPERATION = auto()
    """As an operation, by the rules in `remap.keras3.operations`."""
    CELLS = auto()
    """Like a layer, with the weights in its cell or cells."""
    WRAPPER = auto()
    """Like a layer, with the weights in its inner layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What applies to a whole model that is converted to Keras 3.

    Attributes:
        floatx: The float type of layers whose config has none.
        writer: The Keras that wrote the file.
        masks: Whether any layer makes a mask.
    """

    floatx: str
    writer: Writer
    masks: bool = False


@dataclass(frozen=True, slots=True)
class Fold:
    """The weights whose only effect is on the input of an activation, so that they can contain a factor of it.

    Attributes:
        leaves: Their names; without any the activation is applied to the layer's input.
        blocks: How many equal blocks the last axis of each consists of.
        chosen: The blocks that affect this activation.
    """

    leaves: tuple[str, ...] = ()
    blocks: int = 1
    chosen: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The values of an argument that mean the same in Keras 3; others are refused, or undecided if `unsure`."""

    allows: Callable[[Value], bool]
    why: str
    unsure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Keras3:
    """The class in Keras 3, and how arguments and weights are converted.

    An argument in a file that is in none of `keeps`, `renamed` and `dropped` is refused.

    Attributes:
        name: The name of the class.
        keeps: The arguments that are kept, separated by spaces.
        renamed: The arguments that have another name in Keras 3.
        dropped: The arguments that are left out, with the values for which that is right (ANYTHING: all).
        read_from_h5: Of the arguments that are left out, those that `load_model` of Keras 3 takes from an old .h5 file.
        limits: The values that are allowed for an argument.
        missing: The values of arguments that an old file may lack and whose default is different in Keras 3.
        notes_if_absent: The notes for arguments that a file lacks.
        fixed: Arguments with a value that is always written.
        single: Arguments for which Keras 3 takes the item of a list of one.
        takes_trainable: Whether the class takes `trainable`.
        changes: How weights are converted.
        folds: The weights before an activation, by its argument.
        cell: The object inside the layer that owns the weights; "" for the layer itself.
        form: How the layer is converted.
    """

    name: str
    keeps: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    missing: Mapping[str, Any] = field(default_factory=dict)
    notes_if_absent: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    single: frozenset[str] = frozenset()
    read_from_h5: str = ""
    takes_trainable: bool = True
    changes: tuple[WeightChange, ...] = ()
    folds: Mapping[str, Fold] = field(default_factory=dict)
    cell: str = ""
    built_as: BuiltAs = BuiltAs.LAYER


@dataclass(frozen=True, slots=True)
class Removed:
    """A class that Keras 3 does not have.

    Attributes:
        hint: What to do about it other than choosing another output format.
        weights_help: Whether a file of weights alone can be used without the class.
    """

    hint: str
    weights_help: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerClass:
    """Everything that is known about a built-in layer class.

    Attributes:
        name: Its name.
        masks: What it does with masks; None where that is not known.
        keras3: How it is converted to Keras 3, as a function where that depends on the model; None where no rule is
            known.
        always_written: Arguments, separated by spaces, that every release writes for this class. A config without one of
            them is of a custom class of the same name, as many classes were called Attention before Keras had one.
        weights: The weights of a layer by its config; None where the config does not determine them.
        never_trained: Leaf names of weights that no release trains.
        makes_mask: Whether a layer with this config makes a mask.
        directions: For a wrapper, how many times it has the weights of its inner layer.
        takes_list: Whether it is called on a list, even of one tensor.
        takes_state: Whether further inputs are its initial state.
        listed_when_frozen: Whether Keras 2.0 lists its weights as trainable when it is frozen.
        joins_along: The axis along which it concatenates its inputs.
        runs_fast: Whether TensorFlow 2 has a second, fast implementation.
        identified_by_name: Whether an automatic name identifies the class.
        uses_mask_in_keras_3: Whether it uses a mask in Keras 3 but not in old Keras.
        is_input: Whether it is an input of a model.
        calls_function: Whether it calls a custom function.
        needs_cudnn: Whether it runs on a GPU only.
    """

    name: str
    masks: Masks | None
    keras3: Keras3 | Removed | Callable[[Setting], Keras3] | None
    always_written: str = ""
    weights: Callable[[Config], OwnedWeights | None] = no_weights
    never_trained: frozenset[str] = frozenset()
    makes_mask: Callable[[Config], bool] = lambda _: False
    directions: int = 0
    takes_list: bool = False
    takes_state: bool = False
    listed_when_frozen: bool = False
    joins_along: Callable[[Config], int | None] = lambda _: None
    runs_fast: bool = False
    identified_by_name: bool = False
    uses_mask_in_keras_3: bool = False
    is_input: bool = False
    calls_function: bool = False
    needs_cudnn: bool = False

    def describes(self, config: Config) -> bool:
        """Tell whether a config may be one that Keras wrote for this class."""
        return not self.always_written or all(map(config.has, self.always_written.split()))

    @property
    def weightless(self) -> bool:
        """Tell whether no layer of the class owns a weight."""
        return self.weights is no_weights and not self.directions

    @property
    def automatic_names(self) -> frozenset[str]:
        """Give the automatic names of a layer, without the number.

        Source: `_to_snake_case` in keras/engine/base_layer.py, `to_snake_case` in keras/src/utils/naming.py.
        """
        return frozenset(
            re.sub(
                r"([a-z])([A-Z])", r"\1_\2", re.sub(rf"(.)([A-Z][{digits}a-z]+)", r"\1_\2", self.name)
            ).lower()
            for digits in ("0-9", "")
        )


def three(*parts: str) -> str:
    """Name the initializer, regularizer and constraint of each of some weights."""
    return " ".join(
        f"{part}_{what}" for part in parts for what in ("initializer", "regularizer", "constraint")
    )
