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

from remap.comparison.models import HeldLayer, HeldModel, held_by_checkpoint, held_by_objects, take_apart
from remap.comparison.results import ComparedTensor, Comparison, MatchedBy, Verdict
from remap.isolation import run
from remap.keras3.variables import made_by_rows, recipes_of
from remap.urls import masked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from remap.checkpoint import Weight
    from remap.hdf5.difference import Readable
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


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
) -> Comparison:
    """Compare the weights, and the optimizer's state, of two files.

    Args:
        a: A multi-GPU checkpoint, a Keras .h5 of a single model (with an architecture or without), a `.keras` archive or
            a `.weights.h5` of Keras 3.
        b: Another of these.
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
        found: Comparison = run("remap.compare", a, b, where=where, progress=progress)
        return found
    with ExitStack() as stack:
        one, other = (_Opened.open(path, stack) for path in (a, b))
        return _Comparing(one, other, progress).result(masked(a), masked(b))


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
class _Pair:
    """Two weights that belong together, or one alone; `recipe` makes of the old one what Keras 3 has.

    `reversed` says that the old one is that of the second file, `by_rows` that it can be made row by row, `unsure` that a
    conversion to Keras 3 may have changed the numbers, and nothing tells how.
    """

    layer: tuple[str, ...]
    ours: Weight | None
    theirs: Weight | None
    recipe: OutputTensor | None = None
    reversed: bool = False
    by_rows: bool = False
    unsure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What one way of matching gives."""

    matched_by: MatchedBy
    tensors: tuple[ComparedTensor, ...]
    pairs: tuple[_Pair, ...]
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

    def result(self, a: str, b: str) -> Comparison:
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
            tensors=found.tensors,
            optimizer_tensors=state,
        )

    def _weights(self) -> tuple[_Found, Verdict, str]:
        """Try the ways in which the files can be read, until in one all tensors are equal."""
        tried: list[tuple[_Way, _Found]] = []
        for way in _ways(self._one.held, self._other.held):
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

    def _measured(self, matched_by: MatchedBy, pairs: Sequence[_Pair]) -> _Found:
        notes: list[str] = []
        self._done = 0
        tensors = tuple(self._compared(pair, notes) for pair in pairs)
        return _Found(
            matched_by=matched_by, tensors=tensors, pairs=tuple(pairs), notes=tuple(dict.fromkeys(notes))
        )

    def _compared(self, pair: _Pair, notes: list[str]) -> ComparedTensor:
        from remap.hdf5.difference import measure, measure_array, measure_rows
        from remap.hdf5.reader import read_tensor

        ours, theirs = pair.ours, pair.theirs
        self._count(ours, theirs)
        if ours is None or theirs is None:
            return _compared(pair, "only in b" if ours is None else "only in a")
        if pair.recipe is None or pair.recipe.transform is None:
            if ours.shape != theirs.shape:
                return _compared(pair, "other shape")
            difference = measure(self._one.file, ours, self._other.file, theirs)
            same = not difference.differing and ours.dtype[1:] == theirs.dtype[1:]
            return _compared(
                pair,
                "equal" if same else "different",
                difference.differing,
                difference.largest_absolute,
                difference.largest_relative,
            )
        old, new = (theirs, ours) if pair.reversed else (ours, theirs)
        old_file, new_file = (
            (self._other.file, self._one.file) if pair.reversed else (self._one.file, self._other.file)
        )
        if pair.recipe.shape != new.shape:
            return _compared(pair, "other shape")
        if pair.by_rows and len(old.shape) > 1 and old.shape == new.shape:
            difference = measure_rows(partial(_rows_made, pair.recipe), old_file, old, new_file, new)
        else:
            made = pair.recipe.make(read_tensor(old_file, old))
            difference = measure_array(made, new_file, new)
        if not difference.differing and pair.recipe.dtype[1:] == new.dtype[1:]:
            return _compared(pair, "converted")
        if old.shape == new.shape and not measure(old_file, old, new_file, new).differing:
            notes.append(
                f"{'/'.join(pair.layer)}: the same numbers in both files, where the same layer in Keras 3 needs others "
                "(hard_sigmoid has another slope there, or gates are stored in another order)"
            )
        return _compared(
            pair, "different", difference.differing, difference.largest_absolute, difference.largest_relative
        )

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

    def _content_pairs(self, ours: Sequence[Weight], theirs: Sequence[Weight]) -> list[_Pair]:
        """Pair tensors of equal content; of the others those that are alone in having their shape."""
        left: dict[tuple[tuple[int, ...], str, bytes], deque[Weight]] = defaultdict(deque)
        for weight, key in zip(theirs, self._digests(self._other, theirs), strict=True):
            left[key].append(weight)
        pairs, alone = [], []
        for weight, key in zip(ours, self._digests(self._one, ours), strict=True):
            if left[key]:
                pairs.append(_Pair(layer=(), ours=weight, theirs=left[key].popleft()))
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
            pairs.append(_Pair(layer=(), ours=weight, theirs=partner))
        pairs += [_Pair(layer=(), ours=None, theirs=weight) for weight in others.values()]
        return pairs

    def _optimizers(self) -> tuple[Verdict, tuple[ComparedTensor, ...], tuple[str, ...]]:
        one, other = self._one.held, self._other.held
        if one.is_keras3 != other.is_keras3:
            return self._converted_state()
        pairs = (
            _by_key({weight.path: weight for weight in one.optimizer}, {w.path: w for w in other.optimizer})
            if one.is_keras3
            else [
                _Pair(layer=("optimizer",), ours=ours, theirs=theirs)
                for ours, theirs in _side_by_side(one.optimizer, other.optimizer)
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
    pair: _Pair,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A way in which the tensors of two files may belong together.

    `flags_assumed` says that it goes by trainable flags that may not be those of the file.
    """

    matched_by: MatchedBy
    pairs: list[_Pair]
    flags_assumed: bool = False


def _ways(one: HeldModel, other: HeldModel) -> Iterator[_Way]:
    """Give each way in which the tensors of two files may belong together, the surest first."""
    if one.is_keras3 and other.is_keras3:
        # Keras 3 loads a weights file by the paths in it (`_load_state`).
        yield _Way(matched_by="paths", pairs=_by_key(_by_path(one), _by_path(other)))
        return
    seen: list[list[_Pair]] = []
    for basis, ours in take_apart(one, one.architecture or other.architecture):
        for other_basis, theirs in take_apart(other, other.architecture or one.architecture):
            matched = _matched_layers(ours, theirs, ordered=_is_ordered(one, other))
            if matched is None:
                continue
            how, layers = matched
            modern = one.saved_by_keras3 and other.saved_by_keras3
            pairs = [pair for left, right in layers for pair in _tensor_pairs(left, right, unchanged=modern)]
            if pairs in seen:
                continue
            seen.append(pairs)
            by: MatchedBy = "names" if "names" in (basis, other_basis) else "architecture"
            yield _Way(
                matched_by="order" if how == "order" else by,
                pairs=pairs,
                flags_assumed="flags" in (basis, other_basis),
            )


def _is_ordered(one: HeldModel, other: HeldModel) -> bool:
    """Tell whether both files tell the order of their layers."""
    return all(not held.is_keras3 or held.architecture is not None for held in (one, other))


def _by_path(held: HeldModel) -> dict[str, Weight]:
    return {f"{group.name}/{weight.name}": weight for group in held.groups for weight in group.weights}


def _by_key(ours: dict[str, Weight], theirs: dict[str, Weight]) -> list[_Pair]:
    return [
        _Pair(layer=tuple(key.split("/")[:-1]), ours=ours.get(key), theirs=theirs.get(key))
        for key in dict.fromkeys((*ours, *theirs))
    ]


def _side_by_side(
    ours: Sequence[Weight], theirs: Sequence[Weight]
) -> Iterator[tuple[Weight | None, Weight | None]]:
    for number in range(max(len(ours), len(theirs))):
        yield (
            ours[number] if number < len(ours) else None,
            theirs[number] if number < len(theirs) else None,
        )


_Layers = list[tuple[HeldLayer | None, HeldLayer | None]]


def _matched_layers(
    ours: Sequence[HeldLayer], theirs: Sequence[HeldLayer], *, ordered: bool
) -> tuple[str, _Layers] | None:
    """Match layers by their whole names, by their own names, or by order; None where nothing tells."""
    for start in (0, -1):
        named = _matched_by_names(ours, theirs, start)
        if named is not None:
            return "names", named
    if ordered and len(ours) == len(theirs) and all(map(_alike, ours, theirs)):
        return "order", list(zip(ours, theirs, strict=True))
    left = {layer.names[-1]: layer for layer in ours}
    right = {layer.names[-1]: layer for layer in theirs}
    common = left.keys() & right.keys()
    if len(left) < len(ours) or len(right) < len(theirs) or 2 * len(common) <= max(len(left), len(right)):
        return None
    matched: _Layers = [(layer, right.get(name)) for name, layer in left.items()]
    return "names", [*matched, *((None, layer) for name, layer in right.items() if name not in common)]


def _matched_by_names(ours: Sequence[HeldLayer], theirs: Sequence[HeldLayer], start: int) -> _Layers | None:
    """Match layers by their names, from one in their paths on; None where not all have a partner.

    A layer that one file stores once and the other in each place where it stands is matched with all of them
    (`_dedup_weights` of tf.keras 2 leaves repeated weights out).
    """
    left: dict[tuple[str, ...], list[HeldLayer]] = defaultdict(list)
    right: dict[tuple[str, ...], list[HeldLayer]] = defaultdict(list)
    for layers, found in ((ours, left), (theirs, right)):
        for layer in layers:
            found[layer.names[start:]].append(layer)
    if left.keys() != right.keys():
        return None
    matched: _Layers = []
    for name, some in left.items():
        others = right[name]
        if len(some) == 1:
            some = some * len(others)
        elif len(others) == 1:
            others = others * len(some)
        if len(some) != len(others):
            return None
        matched += zip(some, others, strict=True)
    return matched


def _alike(one: HeldLayer, other: HeldLayer) -> bool:
    """Tell whether two layers may be one: equal numbers of weights with equal numbers of elements, or one converted."""
    if len(one.weights) != len(other.weights):
        return False
    if _needs_conversion(one, other) and (one.described or other.described):
        return True
    return Counter(weight.shape for weight in one.weights) == Counter(
        weight.shape for weight in other.weights
    )


def _needs_conversion(one: HeldLayer, other: HeldLayer) -> bool:
    return bool(one.places) != bool(other.places)


def _tensor_pairs(one: HeldLayer | None, other: HeldLayer | None, *, unchanged: bool) -> list[_Pair]:
    if one is None or other is None:
        alone = one or other
        assert alone is not None  # noqa: S101 - a pair has a layer
        return [
            _Pair(
                layer=alone.names,
                ours=None if one is None else weight,
                theirs=None if other is None else weight,
            )
            for weight in alone.weights
        ]
    if _needs_conversion(one, other):
        old, new = (other, one) if one.places else (one, other)
        described = old.described or new.described
        recipes = recipes_of(described, old.weights, unchanged=unchanged)
        stored = dict(zip(new.places, new.weights, strict=True))
        if recipes is not None and recipes.keys() == stored.keys():
            return [
                _Pair(
                    layer=one.names,
                    ours=stored[place] if one.places else recipe.source,
                    theirs=recipe.source if one.places else stored[place],
                    recipe=recipe,
                    reversed=bool(one.places),
                    by_rows=described is not None and made_by_rows(described),
                )
                for place, recipe in recipes.items()
            ]
    described = one.described or other.described
    owners = {owner for owner, _ in (*one.places, *other.places)}
    unsure = _needs_conversion(one, other) and (
        described is None or described.declared is not None or len(owners) > 1
    )
    return [
        _Pair(layer=one.names, ours=ours, theirs=theirs, unsure=unsure)
        for ours, theirs in _side_by_side(one.weights, other.weights)
    ]
