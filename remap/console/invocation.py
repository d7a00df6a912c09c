"""A command as the user gave it, and the same command with another option."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal

from remap.errors import Option, Remedy
from remap.urls import url_in

__all__ = ["Command", "Invocation", "command_line"]

Command = Literal["inspect", "extract", "check", "compare"]

_ACCEPTED: dict[Command, frozenset[Option]] = {
    "inspect": frozenset(),
    "extract": frozenset(("keep_flags", "like", "overwrite", "plain", "submodel", "target", "weights_only")),
    "check": frozenset(("by_order", "like")),
    "compare": frozenset(),
}
_EXCLUSIVE: tuple[frozenset[Option], ...] = (frozenset(("like", "plain")), frozenset(("keep_flags", "plain")))
_FILES = frozenset(("like", "target"))
_EXTENSION = re.compile(r"(\.weights)?\.(h5|hdf5|hdf|keras)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A command with its file and those options that decide the result.

    Attributes:
        command: The name of the command.
        source: The file that it reads.
        others: Further files that it reads.
        options: Options by the names of the library's arguments, in the order in which they are printed; `target` is
            the output. A switch has the value True.
        dry_run: Whether nothing shall be written.
    """

    command: Command
    source: str
    others: tuple[str, ...] = ()
    options: tuple[tuple[Option, str | Literal[True]], ...] = ()
    dry_run: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """List the files that the command names, the one that it reads first."""
        return (
            self.source, *self.others, *(value for option, value in self.options if option in _FILES and value is not True)
        )  # fmt: skip

    def accepts(self, remedy: Remedy) -> bool:
        """Tell whether the command has the option of a remedy."""
        return remedy.option in _ACCEPTED[self.command]

    def with_remedy(self, remedy: Remedy) -> Invocation:
        """Give the same command with the option of a remedy, without those that exclude it."""
        options = dict(self.options)
        value = remedy.value
        if remedy.option == "target" and value is not True:
            value = _with_extension(str(options.get("target", self.source)), value)
        for excluding in _EXCLUSIVE:
            if remedy.option in excluding:
                for option in excluding - {remedy.option}:
                    options.pop(option, None)
        options[remedy.option] = value
        return replace(self, options=tuple(options.items()))

    @property
    def line(self) -> str:
        """Write the command so that it can be pasted into a shell."""
        words = [self.command, *map(_file, (self.source, *self.others))]
        for option, value in self.options:
            words += _words(option, value)
        if self.dry_run:
            words.append("--dry-run")
        return command_line(*words)


def command_line(*words: str) -> str:
    """Write a command of h5remap so that it can be pasted into a shell."""
    return " ".join(("h5remap", *map(_quoted, words)))


def _quoted(word: str) -> str:
    """Quote a word for a shell, and escape what no terminal should be sent, as $'...' of bash and zsh does."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = (
        char
        if char.isprintable() and char not in "\\'"
        else "".join(f"\\{byte:03o}" for byte in _encoded(char))
        for char in word
    )
    return f"$'{''.join(escaped)}'"


def _encoded(char: str) -> bytes:
    """Encode a character; a byte of a file name that is no UTF-8 is itself."""
    return char.encode("utf-8", "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass")


def _words(option: Option, value: str | Literal[True]) -> Iterator[str]:
    flag = "-o" if option == "target" else "--" + option.replace("_", "-")
    if value is True:
        yield flag
    elif option in _FILES:
        yield from (flag, _file(value))
    elif value.startswith("-"):
        yield f"{flag}={value}"
    else:
        yield from (flag, value)


def _file(name: str) -> str:
    """Write a file name so that no parser of options takes it for one."""
    return f"./{name}" if name.startswith("-") else name


def _with_extension(name: str, extension: str) -> str:
    """Replace the extension of an output, which may be a URL."""
    slash = name.rfind("/") + 1 if url_in(name) is not None else len(name) - len(PurePath(name).name)
    directory, own = name[:slash], name[slash:]
    stem = _EXTENSION.sub("", own)
    if stem == own:
        stem = PurePath(own).stem or own
    return f"{directory}{stem}{extension}" if own else f"{name}model{extension}"
