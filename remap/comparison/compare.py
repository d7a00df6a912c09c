"""Do two files hold the same model? Any two of multi-GPU .h5, .h5, .keras and .weights.h5.

Layers are matched by what the files themselves say, and tensors compared bit for bit, after what a conversion to
Keras 3 does to them. Where the files do not tell which tensors belong together, that is the answer.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from remap.comparison.matching import Pair, Way, by_key, side_by_side, ways_to_match
from remap.comparison.models import HeldModel, held_by_checkpoint, held_by_objects
from remap.comparison.results import ComparedTensor, Comparison, MatchedBy, MovedLayer, Verdict
from remap.isolation import run
from remap.urls import masked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from remap.checkpoint import Weight
    from remap.hdf5.difference import Parts, Readable
    from remap.output_tensors import OutputTensor

__all__ = ["compare"]

_MOVED = "all the same tensors, but not in the same places"
_UNTOLD = "the files hold the same tensors, but do not tell which layer each belongs to: several have the same shape"
_TWO_ORDERS = (
    "the files are equal in the order that the trainable flags ask for, but the names of the weights tell "
    "another order"
)
_FLAGS_ASSUMED = (
    "assumed, not verified: nested models have the trainable flags of the architecture, which decide the order "
    "of their weights"
)
_UNKNOWN_CONVERSION = (
    "some tensors differ, and the files do not tell how Keras 3 stores the weights of their layers: a conversion may have "
    "changed or moved them"
)
_NOT_CONVERTED = (
    "the same numbers in both files, where the same layer in Keras 3 needs others (hard_sigmoid has another slope there, or "
    "gates are stored in another order)"
)


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    stats: bool = False,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
) -> Comparison:
    """Compare the weights, and the optimizer's state, of two files.

    Args:
        a: A multi-GPU checkpoint, a Keras .h5 of a single model (with an architecture or without), a `.keras` archive or
            a `.weights.h5` of Keras 3.
        b: Another of these.
        stats: Whether to tell how far each layer moved, too: a second reading of both files.
        progress: Called with bytes done and bytes in all. A second reading may follow the first.
        isolated: Read in a child process with limits on time and memory (see SECURITY.md).

    Returns:
        What was found for each tensor, and the verdict. The architectures are not compared, but for what they say of
        the weights.

    Raises:
        InputRefused: For a file that is none of these, damaged or unsafe.
    """
    if isolated:
        where = f"{masked(a)}, {masked(b)}"
        found: Comparison = run("remap.compare", a, b, where=where, stats=stats, progress=progress)
        return found
    with ExitStack() as stack:
        one, other = (_Opened.open(path, stack) for path in (a, b))
        return _Comparing(one, other, progress).result(masked(a), masked(b), stats=stats)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file, and the model in it."""

    file: Readable
    held: HeldModel

    @classmethod
    def open(cls, path: str | os.PathLike[str], stack: ExitStack) -> _Opened:
        from remap.hdf5.keras3_reader import open_any
        from remap.hdf5.reader import OpenedCheckpoint

        opened = open_any(path)
        stack.enter_context(opened)
        name = opened.source.name
        if isinstance(opened, OpenedCheckpoint):
            return cls(opened, held_by_checkpoint(opened.checkpoint, where=name))
        held = held_by_objects(
            [(one.path, one.name, one.variables if one.holds_weights else ()) for one in opened.objects],
            config=opened.config,
            optimizer=tuple(weight for one in opened.optimizer for weight in one.variables),
            where=name,
        )
        return cls(opened, held)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What one way of matching gives."""

    matched_by: MatchedBy
    tensors: tuple[ComparedTensor, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def equal(self) -> bool:
        return all(tensor.equal for tensor in self.tensors)


class _Comparing:
    """One comparison of two open files."""

    def __init__(self, one: _Opened, other: _Opened, progress: Callable[[int, int], None] | None) -> None:
        self._one, self._other = one, other
        self._progress = progress
        self._done = 0
        self._total = sum(
            opened.file.extent(weight).size
            for opened in (one, other)
            for weight in (*opened.held.weights, *opened.held.optimizer)
        )

    def result(self, a: str, b: str, *, stats: bool) -> Comparison:
        one, other = self._one.held, self._other.held
        found, verdict, question = self._weights()
        notes = found.notes
        optimizer: Verdict | None = None
        state: tuple[ComparedTensor, ...] = ()
        if one.optimizer and other.optimizer:
            optimizer, state, more = self._optimizers()
            notes = (*notes, *more)
            if optimizer == "different":
                verdict, question = "different", ""
        elif one.optimizer or other.optimizer:
            notes = (*notes, f"only {a if one.optimizer else b} has an optimizer's state")
        tensors, layers = self._moved(found) if stats else (found.tensors, None)
        for opened in (self._one, self._other):
            opened.file.source.require_unchanged()
        return Comparison(
            a=a,
            b=b,
            form_a=one.form,
            form_b=other.form,
            verdict=verdict,
            question=question,
            matched_by=found.matched_by,
            optimizer=optimizer,
            notes=notes,
            tensors=tensors,
            optimizer_tensors=state,
            layers=layers,
        )

    def _moved(self, found: _Found) -> tuple[tuple[ComparedTensor, ...], tuple[MovedLayer, ...]]:
        """Tell how far each tensor and each layer moved."""
        from remap.comparison.movement import moved_layers, sums_of

        self._done = 0
        moved = []
        for pair, tensor in zip(found.pairs, found.tensors, strict=True):
            self._count(pair.ours, pair.theirs)
            parts = self._parts(pair)
            moved.append((tensor, None if parts is None else sums_of(parts)))
        tensors = tuple(
            tensor if sums is None else replace(tensor, movement=sums.movement()) for tensor, sums in moved
        )
        return tensors, moved_layers(moved)

    def _weights(self) -> tuple[_Found, Verdict, str]:
        """Try the ways in which the files can be read, until in one all tensors are equal."""
        tried: list[tuple[Way, _Found]] = []
        for way in ways_to_match(self._one.held, self._other.held):
            found = self._measured(way.matched_by, way.pairs)
            if found.equal and way.flags_assumed and tried:
                return found, "undecided", _TWO_ORDERS
            if found.equal:
                return (_noted(found, _FLAGS_ASSUMED) if way.flags_assumed else found), "equal", ""
            tried.append((way, found))
        if not tried:
            return self._by_content()
        way, found = min(tried, key=lambda one: sum(not tensor.equal for tensor in one[1].tensors))
        if _may_be_converted(found) or not self._is_moved(found):
            return _judged(found)
        if len(tried) == 1 and not way.flags_assumed and way.matched_by in ("paths", "architecture"):
            return _noted(found, _MOVED), "different", ""
        return found, "undecided", _UNTOLD

    def _measured(self, matched_by: MatchedBy, pairs: Sequence[Pair]) -> _Found:
        notes: list[str] = []
        self._done = 0
        tensors = tuple(self._compared(pair, notes) for pair in pairs)
        return _Found(
            matched_by=matched_by, tensors=tensors, pairs=tuple(pairs), notes=tuple(dict.fromkeys(notes))
        )

    def _compared(self, pair: Pair, notes: list[str]) -> ComparedTensor:
        from remap.hdf5.difference import measure, parts_of

        ours, theirs = pair.ours, pair.theirs
        self._count(ours, theirs)
        if ours is None or theirs is None:
            return _compared(pair, "only in b" if ours is None else "only in a")
        parts = self._parts(pair)
        if parts is None:
            return _compared(pair, "other shape")
        difference = measure(parts)
        if difference.differing:
            if pair.is_computed and ours.shape == theirs.shape:
                unchanged = measure(parts_of(self._one.file, ours, self._other.file, theirs))
                notes += [f"{'/'.join(pair.layer)}: {_NOT_CONVERTED}"] if not unchanged.differing else []
            return _compared(
                pair,
                "different",
                difference.differing,
                difference.largest_absolute,
                difference.largest_relative,
            )
        if pair.has_one_type:
            return _compared(pair, "converted" if pair.is_computed else "equal")
        return _compared(pair, "different")

    def _parts(self, pair: Pair) -> Parts | None:
        """Give the elements of two weights, those of the old one as Keras 3 has them; None for other shapes."""
        from remap.hdf5.difference import parts_of, parts_of_array, parts_of_rows
        from remap.hdf5.reader import read_tensor

        ours, theirs = pair.ours, pair.theirs
        if ours is None or theirs is None:
            return None
        if pair.recipe is None or not pair.is_computed:
            if ours.shape != theirs.shape:
                return None
            return parts_of(self._one.file, ours, self._other.file, theirs)
        files = (self._one.file, self._other.file)
        (old_file, new_file), (old, new) = files, (ours, theirs)
        if pair.reversed:
            (new_file, old_file), (new, old) = files, (ours, theirs)
        if pair.recipe.shape != new.shape:
            return None
        if pair.by_rows and len(old.shape) > 1 and old.shape == new.shape:
            parts = parts_of_rows(partial(_rows_made, pair.recipe), old_file, old, new_file, new)
        else:
            parts = parts_of_array(pair.recipe.make(read_tensor(old_file, old)), new_file, new)
        return ((right, left) for left, right in parts) if pair.reversed else parts

    def _count(self, *weights: Weight | None) -> None:
        files = (self._one.file, self._other.file)
        for file, weight in zip(files, weights, strict=True):
            if weight is not None:
                self._done += file.extent(weight).size
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)

    def _is_moved(self, found: _Found) -> bool:
        """Tell whether the tensors that differ are the same ones on both sides, in other places."""
        unlike = [pair for pair, tensor in zip(found.pairs, found.tensors, strict=True) if not tensor.equal]
        ours = [pair.ours for pair in unlike if pair.ours is not None]
        theirs = [pair.theirs for pair in unlike if pair.theirs is not None]
        if Counter(weight.shape for weight in ours) != Counter(weight.shape for weight in theirs):
            return False
        return all(
            Counter(self._digests(self._one, ours, start=start))
            == Counter(self._digests(self._other, theirs, start=start))
            for start in (True, False)
        )

    def _digests(
        self, opened: _Opened, weights: Sequence[Weight], *, start: bool = False
    ) -> Iterator[tuple[tuple[int, ...], str, bytes]]:
        from remap.hdf5.difference import digest

        for weight in weights:
            yield weight.shape, weight.dtype[1:], digest(opened.file, weight, start=start)

    def _by_content(self) -> tuple[_Found, Verdict, str]:
        """Match tensors by what they hold, where nothing else tells."""
        ours, theirs = self._one.held.weights, self._other.held.weights
        unsure = self._one.held.is_keras3 != self._other.held.is_keras3
        pairs = [replace(pair, unsure=unsure) for pair in self._content_pairs(ours, theirs)]
        found = self._measured("content", pairs)
        if not found.equal:
            return _judged(found)
        shapes = Counter((weight.shape, weight.dtype) for weight in ours)
        if max(shapes.values(), default=0) > 1:
            return found, "undecided", _UNTOLD
        return found, "equal", ""

    def _content_pairs(self, ours: Sequence[Weight], theirs: Sequence[Weight]) -> list[Pair]:
        """Pair tensors of equal content; of the others those that are alone in having their shape."""
        left: dict[tuple[tuple[int, ...], str, bytes], deque[Weight]] = defaultdict(deque)
        for weight, key in zip(theirs, self._digests(self._other, theirs), strict=True):
            left[key].append(weight)
        pairs, alone = [], []
        for weight, key in zip(ours, self._digests(self._one, ours), strict=True):
            if left[key]:
                pairs.append(Pair(layer=(), ours=weight, theirs=left[key].popleft()))
            else:
                alone.append(weight)
        others = {weight.path: weight for weights in left.values() for weight in weights}
        counts = Counter(weight.shape for weight in others.values())
        single = {weight.shape: weight for weight in others.values() if counts[weight.shape] == 1}
        wanted = Counter(weight.shape for weight in alone)
        for weight in alone:
            partner = single.pop(weight.shape, None) if wanted[weight.shape] == 1 else None
            if partner is not None:
                del others[partner.path]
            pairs.append(Pair(layer=(), ours=weight, theirs=partner))
        pairs += [Pair(layer=(), ours=None, theirs=weight) for weight in others.values()]
        return pairs

    def _optimizers(self) -> tuple[Verdict, tuple[ComparedTensor, ...], tuple[str, ...]]:
        one, other = self._one.held, self._other.held
        if one.is_keras3 != other.is_keras3:
            return self._converted_state()
        pairs = (
            by_key({weight.path: weight for weight in one.optimizer}, {w.path: w for w in other.optimizer})
            if one.is_keras3
            else [
                Pair(layer=("optimizer",), ours=ours, theirs=theirs)
                for ours, theirs in side_by_side(one.optimizer, other.optimizer)
            ]
        )
        found = self._measured("order", pairs)
        return ("equal" if found.equal else "different"), found.tensors, found.notes

    def _converted_state(self) -> tuple[Verdict, tuple[ComparedTensor, ...], tuple[str, ...]]:
        """Find the sums of Keras 3's optimizer among those of the old one, which keeps them in another order."""
        one, other = self._one.held.optimizer, self._other.held.optimizer
        ours = tuple(weight for weight in one if weight.shape != ())
        theirs = tuple(weight for weight in other if weight.shape != ())
        pairs = self._content_pairs(ours, theirs)
        extra = "theirs" if self._one.held.is_keras3 else "ours"
        # The old optimizer may keep sums that Keras 3's does not.
        pairs = [
            pair
            for pair in pairs
            if not (pair.ours is None or pair.theirs is None) or getattr(pair, extra) is None
        ]
        found = self._measured("content", pairs)
        note = (
            "the optimizer's sums are compared by content: the two formats keep them in different orders, and "
            "counters and learning rates are left out"
        )
        return ("equal" if found.equal else "different"), found.tensors, (note,)


def _rows_made(recipe: OutputTensor, rows: NDArray[Any]) -> NDArray[Any]:
    return replace(recipe, shape=rows.shape).make(rows)


def _noted(found: _Found, note: str) -> _Found:
    return replace(found, notes=(*found.notes, note))


def _judged(found: _Found) -> tuple[_Found, Verdict, str]:
    """Give the verdict where tensors differ: undecided if all of them may have been changed by a conversion."""
    if _may_be_converted(found):
        return found, "undecided", _UNKNOWN_CONVERSION
    return found, "different", ""


def _may_be_converted(found: _Found) -> bool:
    pairs = zip(found.pairs, found.tensors, strict=True)
    return all(pair.unsure for pair, tensor in pairs if not tensor.equal)


def _compared(
    pair: Pair,
    status: str,
    differing: int = 0,
    absolute: float | None = None,
    relative: float | None = None,
) -> ComparedTensor:
    ours, theirs = pair.ours, pair.theirs
    return ComparedTensor(
        layer=pair.layer,
        a=None if ours is None else ours.path,
        b=None if theirs is None else theirs.path,
        shape_a=None if ours is None else ours.shape,
        shape_b=None if theirs is None else theirs.shape,
        dtype_a=None if ours is None else ours.dtype,
        dtype_b=None if theirs is None else theirs.dtype,
        status=status,  # type: ignore[arg-type]
        differing=differing,
        largest_absolute=absolute,
        largest_relative=relative,
    )
