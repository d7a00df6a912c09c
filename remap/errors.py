"""The closed set of errors that h5remap raises: what is wrong, where, what to do about it, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "GIVE_JSON",
    "GIVE_KERAS",
    "GIVE_WEIGHTS",
    "SAY_PLAIN",
    "TO_KERAS_3",
    "TO_KERAS_3_WEIGHTS",
    "InputRefused",
    "NothingToExtract",
    "Option",
    "OutputRefused",
    "RemapError",
    "Remedy",
    "Undecided",
    "UsageRefused",
]

Option = Literal["by_order", "keep_flags", "like", "overwrite", "plain", "submodel", "target", "weights_only"]
"""An argument of the public functions; the command line has an option of the same name (`target` is `--output`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Describe an argument with which the same call would get further.

    Attributes:
        option: The argument.
        value: Its value: True for a switch; for `target` only the extension of another output format, such as
            ``.weights.h5``; for `like` the name of a file that `code` writes, or a network of
            `keras.applications`.
        when: The condition under which the argument is right, "" for none.
        code: Python that the user has to run first, in the code that builds the model; "" for none.
    """

    option: Option
    value: str | Literal[True] = True
    when: str = ""
    code: str = ""

    @property
    def argument(self) -> str:
        """Write the argument as a Python call has it.

        >>> Remedy(option="like", value="model.json").argument
        "like='model.json'"
        >>> Remedy(option="target", value=".keras").argument
        "target='NAME.keras'"
        """
        value = f"NAME{self.value}" if self.option == "target" else self.value
        return f"{self.option}={value!r}"

    def to_json(self) -> dict[str, str | bool]:
        """Give the remedy as a JSON object."""
        return {
            "option": self.option,
            "value": self.value,
            "when": self.when,
            "code": self.code,
            "argument": self.argument,
        }

    def __str__(self) -> str:
        """Write the argument, its condition and the code to run first, for a Python programmer."""
        condition = f" if {self.when}" if self.when else ""
        first = f", after {self.code} in the code that builds the model" if self.code else ""
        return f"{self.argument}{condition}{first}"


GIVE_JSON = Remedy(option="like", value="model.json", code="open('model.json', 'w').write(model.to_json())")
GIVE_KERAS = Remedy(option="like", value="like.keras", code="model.save('like.keras')")
GIVE_WEIGHTS = Remedy(option="like", value="like.h5", code="model.save_weights('like.h5')")
SAY_PLAIN = Remedy(option="plain", when="nothing was frozen in training and the model has no nested model")

TO_KERAS_3 = Remedy(option="target", value=".keras", when="you use Keras 3")
TO_KERAS_3_WEIGHTS = Remedy(option="target", value=".weights.h5", when="you build the model in Keras 3")


class RemapError(Exception):
    """Report that a call cannot be carried out.

    Attributes:
        what: What is wrong: one sentence without a full stop.
        where: The file, or the place inside it (a path such as ``/model_weights/model_1``); may be empty.
        hint: What to do that is not an argument of the call; never names an option; may be empty.
        remedies: Arguments with which the same call would get further, the best first.
        exit_code: The status of the process when the command line ends with this error.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: str = "", hint: str = "", remedies: tuple[Remedy, ...] = ()
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.remedies = remedies

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"at {self.where}")
        if self.hint:
            parts.append(self.hint)
        if self.remedies:
            parts.append("try: " + "; or ".join(map(str, self.remedies)))
        return "; ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.hint, self.remedies)


def _rebuild(
    kind: type[RemapError], what: str, where: str, hint: str, remedies: tuple[Remedy, ...]
) -> RemapError:
    """Make the error again in another process: keyword-only arguments do not survive plain pickling."""
    return kind(what, where=where, hint=hint, remedies=remedies)


class UsageRefused(RemapError):
    """The call contradicts itself: two options that exclude each other, an output that is the input."""

    exit_code = 2


class InputRefused(RemapError):
    """The input is not HDF5, not Keras, damaged or unsafe."""

    exit_code = 3


class Undecided(RemapError):
    """The file fits more than one answer: `like`, `plain` or `submodel` has to tell which is right."""

    exit_code = 4


class NothingToExtract(RemapError):
    """The input already is a single model."""

    exit_code = 5


class OutputRefused(RemapError):
    """The output cannot be written, or is there already."""

    exit_code = 6
