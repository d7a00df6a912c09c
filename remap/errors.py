"""The closed set of ways in which h5remap says no, each with its exit code."""

from __future__ import annotations

__all__ = [
    "InputRefused",
    "NothingToExtract",
    "OutputRefused",
    "RemapError",
    "Undecided",
    "UsageRefused",
]


class RemapError(Exception):
    """Say what was found, where, and what to do next.

    `what` is one sentence without a full stop, `where` names the file or the place inside it (a path such
    as ``/model_weights/model_1``) and may be empty, `hint` is the next thing to do and may be empty.
    `exit_code` is the process's status when the command line ends with this error.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"at {self.where}")
        if self.hint:
            parts.append(self.hint)
        return "; ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(kind: type[RemapError], what: str, where: str, hint: str) -> RemapError:
    """Make the error again in another process: keyword-only arguments do not survive plain pickling."""
    return kind(what, where=where, hint=hint)


class UsageRefused(RemapError):
    """The call itself makes no sense: two options that exclude each other, an output that is the input."""

    exit_code = 2


class InputRefused(RemapError):
    """The input is not HDF5, not Keras, damaged or unsafe."""

    exit_code = 3


class Undecided(RemapError):
    """What the file says fits more than one model: `--like`, `--plain` or `--submodel` is needed."""

    exit_code = 4


class NothingToExtract(RemapError):
    """The input already is a single model."""

    exit_code = 5


class OutputRefused(RemapError):
    """The output cannot be written, or is there already."""

    exit_code = 6
