"""Take the names of weights apart.

A name such as ``block1/conv_1/kernel:0`` is the name of a TensorFlow variable: a scope, a leaf and a device slot. The leaf
follows from the layer's class. The scope usually is the layer's name, but relocation, a second build in one session,
renaming and nesting make it differ, so no name is relied on alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = [
    "clean",
    "family",
    "layer_scope",
    "leaf",
    "numbered",
    "path_parts",
    "runs",
    "same_but_for_numbers",
    "scope",
    "slotless",
    "split_number",
    "uniquify",
]

_DEEPEST = 64
"""Parts that a path may have; the deepest that real models reach is about ten."""
_AMBIGUOUS_PARTS = frozenset({"", ".", ".."})

# Keras 2.3 counts repeated names on bytes objects, so their repr ends up in the file (`_uniquify` in
# keras/engine/saving.py).
_BYTES_REPR = r"^b(['\"])(.*)\1(_\d+)?$"

# What Keras puts between a layer's name and a leaf: the directions of a Bidirectional, recurrent cells.
_INNER = r"^(forward_.+|backward_.+|stacked_rnn_cells(_\d+)?|(.+_)?cell(_\d+)?)$"

_MOST_DIGITS = 18


def clean(name: str) -> str:
    """Turn the ``b'dense/kernel:0'_2`` of Keras 2.3 into ``dense/kernel:0``; leave every other name as it is."""
    if not name.startswith(("b'", 'b"')):  # as nearly every name
        return name
    match = re.match(_BYTES_REPR, name, re.DOTALL)
    return match[2] if match else name


def slotless(name: str) -> str:
    """Remove the device slot, which Keras 3 does not write: ``dense/kernel`` for ``dense/kernel:0``."""
    return clean(name).partition(":")[0]


def uniquify(names: list[str]) -> list[str]:
    """Make repeated names unique as Keras does, by a counter at the end."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique


def leaf(name: str) -> str:
    """Give the last part without device slot and counter: ``kernel`` for ``a/b/kernel_1:0``."""
    last = name.rpartition("/")[2]
    return split_number(split_number(last, ":")[0], "_")[0]


def scope(name: str) -> str:
    """Give the part before the leaf: ``a/b`` for ``a/b/kernel:0``, "" for a weight without a scope."""
    return name.rpartition("/")[0]


def layer_scope(name: str) -> str:
    """Give the scope without what Keras puts inside a layer: ``bi`` for ``bi/forward_lstm/kernel:0``."""
    parts = scope(clean(name)).split("/")
    while len(parts) > 1 and re.match(_INNER, parts[-1]):
        parts.pop()
    return "/".join(parts)


def family(name: str) -> tuple[str, int]:
    """Split off the number of an automatic name: ``("dense", 3)`` for ``dense_3``, ``("dense", 0)`` for ``dense``."""
    kind, number = split_number(name, "_")
    return kind, int(number or 0)


def same_but_for_numbers(pairs: Iterable[tuple[str, str]]) -> bool:
    """Tell whether two lists of names differ only by automatic numbers, by one constant difference for each class.

    A session that has built other models before continues counting.
    """
    offsets: dict[str, int] = {}
    for ours, theirs in pairs:
        (our_kind, our_number), (their_kind, their_number) = family(ours), family(theirs)
        offset = their_number - our_number
        if our_kind != their_kind or offsets.setdefault(our_kind, offset) != offset:
            return False
    return True


def numbered(name: str) -> tuple[str, tuple[int, ...]]:
    """Split off all numbers at the end: ``("dense", (3, 1))`` for ``dense_3_1``, ``dense_3`` built twice."""
    parts = name.split("_")
    end = len(parts)
    while end > 1 and _is_number(parts[end - 1]):
        end -= 1
    return "_".join(parts[:end]), tuple(map(int, parts[end:]))


def split_number(name: str, mark: str) -> tuple[str, str]:
    """Split off the number behind a mark at the end; it is "" if there is none."""
    before, found, number = name.rpartition(mark)
    return (before, number) if found and _is_number(number) else (name, "")


def _is_number(text: str) -> bool:
    """Tell whether a text may be a counter of Keras or TensorFlow; Python reads no integers of thousands of digits."""
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def runs(path: str) -> list[str]:
    """List the parts of a scope that may be a layer's name, likeliest first.

    The whole scope; then its ends, longest first (a name scope of the user's, or the name of a model that was built when it
    was called, stands before the layer); then its beginnings (cells and wrapped layers stand behind the layer); then the
    parts in between.
    """
    parts = path.split("/")
    count = len(parts)
    if count == 1:
        return parts
    ends = [(start, count) for start in range(1, count)]
    beginnings = [(0, end) for end in range(count - 1, 0, -1)]
    inside = [(start, end) for start in range(1, count - 1) for end in range(count - 1, start, -1)]
    return ["/".join(parts[start:end]) for start, end in [(0, count), *ends, *beginnings, *inside]]


LONGEST_LIST = 64512
"""Bytes of the names in one attribute: HDF5_OBJECT_HEADER_LIMIT in keras/engine/saving.py, by which Keras splits a list."""


def list_size(names: Sequence[str]) -> int:
    """Give the bytes of a list of names in an attribute, where all have the length of the longest."""
    return len(names) * max((len(name.encode()) for name in names), default=0)


def path_parts(name: str) -> tuple[bytes, ...]:
    """Split a name at its slashes into the parts of a path in an HDF5 file, each of which can only mean itself.

    HDF5 drops empty parts and takes ``.`` for the group itself, ``..`` misleads people, and characters that cannot be
    printed do harm where they are shown. Raises ValueError for a name with such a part, or with more parts than any
    model's.
    """
    parts = name.split("/")
    if not name.isprintable() or not _AMBIGUOUS_PARTS.isdisjoint(parts) or len(parts) > _DEEPEST:
        raise ValueError(f"the name {name[:200]!r} does not lead to one place in a file")
    return tuple(name.encode().split(b"/"))
