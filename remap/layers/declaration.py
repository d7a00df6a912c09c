"""What a declaration of a layer class says."""

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
    "Fold",
    "Form",
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
    """A release of Keras by the version it writes into its files; None and odd text are taken for Keras itself.

    tf.keras writes ``2.1.6-tf`` up to TensorFlow 1.12, ``2.2.4-tf`` from 1.13 to 2.2, and from 2.3 on plain
    ``2.4.0``, which Keras itself never was before it became the same thing.
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
        """Tell whether it was any tf.keras from TensorFlow 1.13 to 2.2, which differ and do not say so."""
        return self.tensorflow and (2, 2) <= self._number < (2, 3)

    @property
    def _number(self) -> tuple[int, int]:
        found = re.match(r"(\d+)\.(\d+)", self.keras_version or "")
        return (int(found[1]), int(found[2])) if found else (0, 0)


class Masks(Enum):
    """What a layer does with the mask of what it takes, in old Keras and in Keras 3.

    Read from `supports_masking`, `compute_mask` and the argument `mask` of `call` in both.
    """

    ENDED = auto()
    """Its output has no mask."""
    PASSED_ON = auto()
    PASSED_ON_BY_KERAS_3 = auto()
    """Its output has no mask in old Keras, and that of the input in Keras 3."""
    MADE = auto()
    """Its output has a mask of its own, where `LayerClass.makes_mask` says so."""
    USED = auto()
    """It skips masked steps; a sequence that it returns has the mask of the input."""
    ATTENDED = auto()
    """It leaves out masked steps of all inputs; its output has the mask of the first."""
    JOINED = auto()
    """It takes several inputs, whose masks Keras 3 joins by another rule."""
    JOINED_IN_TIME = auto()
    """The same, but along axis 1 the masks are put one after the other, as the inputs are."""
    STEP_BY_STEP = auto()
    """It calls the layer inside it on every step: TimeDistributed."""
    GIVEN_TO_FUNCTION = auto()
    """A function of the user's may use it; the output has none."""


class Form(Enum):
    """How a layer is written for Keras 3."""

    LAYER = auto()
    """By its arguments, its weights in one list."""
    INPUT = auto()
    LAMBDA = auto()
    OPERATION = auto()
    """As an operation, by the rules in `remap.keras3.operations`."""
    CELLS = auto()
    """Like a layer, with the weights in the cell or cells that it is given."""
    WRAPPER = auto()
    """Like a layer, with the weights in the layer that it wraps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What holds for a whole model that is written for Keras 3.

    `floatx` is the float type of layers that name none, `writer` the Keras that wrote the file, `masks` tells
    whether any layer makes a mask.
    """

    floatx: str
    writer: Writer
    masks: bool = False


@dataclass(frozen=True, slots=True)
class Fold:
    """Which weights feed an activation and nothing else, so that a factor before it can be put into them.

    `leaves` are their names; of each, the last axis consists of `blocks` equal parts of which `chosen` are
    meant. Without leaves the layer's input feeds it: the factor needs a layer of its own.
    """

    leaves: tuple[str, ...] = ()
    blocks: int = 1
    chosen: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Values of an argument that mean the same in Keras 3; others are refused, or undecided if `unsure`."""

    allows: Callable[[Value], bool]
    why: str
    unsure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Keras3:
    """How a class is called in Keras 3, and what becomes of its arguments and weights.

    Of the arguments, those that it `keeps` (names with spaces between) go over under their own name and `renamed`
    ones under another; `dropped` ones are left out if they hold one of the values given (ANYTHING: whatever they
    hold). Any other argument is a refusal. `limits` are the values that may go over. `missing` is what an argument
    meant where an old file does not have it and Keras 3 takes it otherwise, `unsaid` the note where one is not
    there. `fixed` is written in any case. Of `single`, Keras 3 takes the one item of a list. `takes_trainable`
    tells whether the class takes `trainable`.

    `changes` are those of the weights, `folds` the weights that feed an activation, `cell` the object of Keras 3
    that has the weights, where that is not the layer itself.
    """

    name: str
    keeps: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    missing: Mapping[str, Any] = field(default_factory=dict)
    unsaid: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    single: frozenset[str] = frozenset()
    takes_trainable: bool = True
    changes: tuple[WeightChange, ...] = ()
    folds: Mapping[str, Fold] = field(default_factory=dict)
    cell: str = ""
    form: Form = Form.LAYER


@dataclass(frozen=True, slots=True)
class Removed:
    """A class that Keras 3 no longer has.

    Attributes:
        hint: What to do about it other than choosing another output format.
        weights_help: Whether a file of weights alone can be used without the class.
    """

    hint: str
    weights_help: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerClass:
    """Everything that is known of one of Keras's layer classes.

    `told_by` names the arguments (with spaces between) by which a config is known to be of this class: every release
    writes them. Without one of them the layer is of a class of the user's own that has the same name, as many
    classes were called Attention before Keras had one.

    `weights` gives the weights that a layer owns by its config, or None where the config does not tell;
    `never_trained` the leaf names that no release ever trained. A class with `directions` owns what the layer it wraps
    owns, so many times. `keras3` says how it is written for Keras 3, where need be by the model around it; None
    where that is not known. `masks` is None where that is not known.

    `takes_list`: takes its input as a list, even of one tensor. `takes_state`: takes further tensors as its
    initial state. `listed_when_frozen`: Keras 2.0 lists its weights as trainable when it is frozen. `joins_along`:
    the axis along which it puts its inputs together. `runs_fast`: TensorFlow 2 has a second implementation of it.
    `told_by_name`: its automatic name says what it is. `uses_mask_in_keras_3`: it does not in old Keras.
    """

    name: str
    masks: Masks | None
    keras3: Keras3 | Removed | Callable[[Setting], Keras3] | None
    told_by: str = ""
    weights: Callable[[Config], OwnedWeights | None] = no_weights
    never_trained: frozenset[str] = frozenset()
    makes_mask: Callable[[Config], bool] = lambda _: False
    directions: int = 0
    takes_list: bool = False
    takes_state: bool = False
    listed_when_frozen: bool = False
    joins_along: Callable[[Config], int | None] = lambda _: None
    runs_fast: bool = False
    told_by_name: bool = False
    uses_mask_in_keras_3: bool = False
    is_input: bool = False
    calls_function: bool = False
    needs_cudnn: bool = False

    def describes(self, config: Config) -> bool:
        """Tell whether a config may be one that Keras wrote for this class."""
        return all(config.has(argument) for argument in self.told_by.split())

    @property
    def weightless(self) -> bool:
        """Tell whether no layer of the class owns a weight."""
        return self.weights is no_weights and not self.directions

    @property
    def automatic_names(self) -> frozenset[str]:
        """Give what Keras calls a layer that the user did not name, less its number.

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
