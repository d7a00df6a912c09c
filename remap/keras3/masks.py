"""Places where Keras 3 handles a mask differently from old Keras, so that predictions would differ silently.

Merge layers of old Keras combine the masks of their inputs with "and" and ignore inputs without a mask
(`_Merge.compute_mask` and `Concatenate.compute_mask` in keras/layers/merge.py). Keras 3 combines them with "or", and
gives no mask when an input has none (keras/src/layers/merging). Both are the same when all inputs have the same mask.
TimeDistributed gives its inner layer the mask of each step in both. Old Keras then asks that layer for the mask of its
output (`TimeDistributed.compute_mask` in keras/layers/wrappers.py), and where it has none reduces that of the input to
(batch, time); the mask in Keras 3 is that of the input as it was. Keras before 2.2 does neither, nor does any old Keras for
inputs of a fixed batch size.
What a custom class does with a mask is unknown, and the conditions differ: Keras 2 calls `compute_mask` of every layer,
Keras 3 only of layers with `supports_masking` (`Layer.__call__` in keras/src/layers/layer.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from remap.architecture import Layer, input_of, input_shape
from remap.errors import InputRefused, RemapError, Undecided
from remap.keras3.graph import makes_mask, read_graph
from remap.keras3.layer import WEIGHTS_ONLY, describe
from remap.layers.declaration import Masks, Writer

__all__ = ["mask_problems"]

_HINT = "build the model in Keras 3, pass the masks yourself, and load the weights"
# The number of visits is limited to so many for each call in the file.
_VISITS = 64

Mask = Any
"""None; a token, equal for masks that are equal; or a _Differing.

A token is a number, or (class, value, rank, identity) of a mask that a built-in layer makes of the tensor with that
identity, or of the mask that TimeDistributed gives its inner layer (_STEP). The rank is None where it is not known.
"""
_STEP = "the mask of a step"


@dataclass(frozen=True, slots=True)
class _Differing:
    """A mask that is different in Keras 3, or may be (`unsure`): in which layer, and why that is unknown."""

    where: str
    unsure: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Signal:
    """A tensor: a number that identifies it, its mask, and how many axes it has where that is known."""

    identity: int
    mask: Mask = None
    rank: int | None = None


def mask_problems(model: Layer, writer: Writer) -> tuple[RemapError, ...]:
    """Find the layers that would use a different mask in Keras 3.

    Args:
        model: The model.
        writer: The Keras that wrote the file.

    Returns:
        One problem for each place where masks differ or may differ and a layer uses the mask.

    Raises:
        InputRefused: The layers are connected in a circle, or nested models are called in too many ways.
    """
    layers = tuple(model.walk())
    if not any(makes_mask(layer) for layer in layers):
        return ()
    calls = sum(max(len(layer.nodes), 1) for layer in layers)
    search = _Search(writer, calls, fixed_batch=any(map(_has_fixed_batch, layers)))
    ends = max(len(model.inputs), 1)
    search.model(model, [search.signal() for _ in range(ends)])
    return tuple(search.problems.values())


class _Search:
    """The computation of the masks of all calls in a model.

    A nested model is computed once for each pattern of its inputs (which are the same tensor, which masks are equal)
    and not once for each call: nested models that are called twice would take 2^depth steps.
    """

    def __init__(self, writer: Writer, calls: int, *, fixed_batch: bool) -> None:
        self.writer = writer
        self.fixed_batch = fixed_batch
        self.problems: dict[str, RemapError] = {}
        self._left = _VISITS * calls
        self._fresh = count()
        self._joined: dict[tuple[Mask, ...], int] = {}
        self._further: dict[tuple[int, int], _Signal] = {}
        self._followed: dict[tuple[int, tuple[_Signal, ...]], list[_Signal]] = {}

    def signal(self, mask: Mask = None, rank: int | None = None) -> _Signal:
        """Make a new tensor."""
        return _Signal(next(self._fresh), mask, rank)

    def model(self, model: Layer, inputs: Sequence[_Signal]) -> list[_Signal]:
        """Give the outputs of a model that is called on these inputs."""
        to_pattern = _Renaming(count(-1, -1))
        pattern = tuple(to_pattern.signal(one) for one in inputs)
        key = (id(model), pattern)
        if key not in self._followed:
            follow = self._stack if model.sequential else self._functional
            self._followed[key] = follow(model, pattern)
        back = _Renaming(self._fresh, {new: old for old, new in to_pattern.numbers.items()})
        return [back.signal(one) for one in self._followed[key]]

    def _stack(self, model: Layer, inputs: Sequence[_Signal]) -> list[_Signal]:
        found = input_of(model)
        signals = [_ranked(one, None if found is None else len(found[0])) for one in inputs]
        for child in model.children or ():
            if not child.is_input:
                signals = self._layer(child, signals)
        return signals

    def _functional(self, model: Layer, inputs: Sequence[_Signal]) -> list[_Signal]:
        children = {str(index): child for index, child in enumerate(model.children or ())}
        graph = read_graph(model, list(children), [None] * len(children))
        known: dict[tuple[str, int], list[_Signal]] = {}
        for (name, call, _), signal in zip(graph.inputs, inputs, strict=False):
            shape = input_shape(children[name].config)
            known[name, call] = [_ranked(signal, None if shape is None else len(shape.shape()))]
        for name, call in graph.in_order:
            if (name, call) in known:
                continue
            if children[name].is_input:
                known[name, call] = [self.signal()]
                continue
            taken = [
                self._output(known[above, number], index) for above, number, index in graph.calls[name][call]
            ]
            known[name, call] = self._layer(children[name], taken)
        return [self._output(known[name, call], index) for name, call, index in graph.outputs]

    def _output(self, signals: Sequence[_Signal], index: int) -> _Signal:
        if index < len(signals):
            return signals[index]
        return self._further.setdefault((signals[0].identity, index), self.signal())

    def _layer(self, layer: Layer, taken: Sequence[_Signal]) -> list[_Signal]:
        self._left -= 1
        if self._left < 0:
            raise InputRefused(
                "nested models are called in too many ways to compute their masks", where=describe(layer)
            )
        if layer.children is not None:
            return self._inside(layer, taken)
        if not taken:
            return [self.signal()]
        rank = taken[0].rank if _kind(layer) is Masks.PASSED_ON else None
        return [self.signal(self._mask_after(layer, taken), rank)]

    def _mask_after(self, layer: Layer, taken: Sequence[_Signal]) -> Mask:
        """Give the mask of a layer's output."""
        masks = [signal.mask for signal in taken]
        kind = _kind(layer)
        if kind is None:
            return self._unknown(layer, masks)
        if makes_mask(layer):
            return (layer.class_name, _mask_value(layer), _rank_of_mask(layer, taken[0]), taken[0].identity)
        if kind in {Masks.USED, Masks.ATTENDED}:
            return self._user(layer, kind, masks)
        if kind in {Masks.JOINED, Masks.JOINED_IN_TIME}:
            return self._joined_mask(layer, kind, masks)
        if kind is Masks.STEP_BY_STEP and layer.wrapped is not None:
            return self._step_by_step(layer, layer.wrapped, taken[0])
        if kind is Masks.GIVEN_TO_FUNCTION:
            for mask in masks:
                self._use(layer, mask)
        if kind is Masks.PASSED_ON_BY_KERAS_3 and masks[0] is not None:
            return _Differing(describe(layer))
        return masks[0] if kind is Masks.PASSED_ON else None

    def _inside(self, model: Layer, taken: Sequence[_Signal]) -> list[_Signal]:
        """Call a nested model; before TensorFlow 1.14 its output has a mask only if its input has one."""
        found = self.model(model, taken)
        settled = not self.writer.before_1_13 and not self.writer.ambiguous
        if settled or any(signal.mask is not None for signal in taken):
            return found
        here = _Differing(describe(model), unsure=self.writer.ambiguous)
        return [signal if signal.mask is None else replace(signal, mask=here) for signal in found]

    def _unknown(self, layer: Layer, masks: Sequence[Mask]) -> Mask:
        """Call a custom layer: it may use the masks of its inputs, and the mask of its output is unknown."""
        for mask in masks:
            self._use(layer, mask)
        if all(mask is None for mask in masks) and not makes_mask(layer):
            return None
        return _Differing(
            describe(layer),
            unsure=True,
            why=f": what class {layer.class_name!r} does with masks is not known",
        )

    def _user(self, layer: Layer, kind: Masks, masks: Sequence[Mask]) -> Mask:
        attends = kind is Masks.ATTENDED
        if masks[0] is not None and len(masks) > 1 and not attends:
            # Keras 3 passes a mask automatically only to layers that are called with a single argument.
            masks = [_Differing(f"{describe(layer)}, called with a state and a mask")]
        for mask in masks:
            self._use(layer, mask)
        if masks[0] is not None and self.writer.ambiguous and _zeros_depend_on_version(layer):
            self.problems.setdefault(
                describe(layer),
                Undecided(
                    "the output of masked steps (zeros or that of the step before) depends on the version of "
                    "TensorFlow, which the file does not have",
                    where=describe(layer),
                    remedies=WEIGHTS_ONLY,
                ),
            )
        return masks[0] if attends or _returns_sequences(layer) else None

    def _use(self, layer: Layer, mask: Mask) -> None:
        if isinstance(mask, _Differing):
            kind = Undecided if mask.unsure else InputRefused
            verb = "may be" if mask.unsure else "would be"
            what = f"the mask that layer {layer.name!r} uses {verb} different in Keras 3{mask.why}"
            self.problems.setdefault(
                mask.where, kind(what, where=mask.where, hint=_HINT, remedies=WEIGHTS_ONLY)
            )

    def _step_by_step(self, layer: Layer, inner: Layer, taken: _Signal) -> Mask:
        mask, rank = taken.mask, _rank(taken.mask)
        here = _Differing(describe(layer), unsure=self.writer.masks_steps is None)
        if isinstance(mask, _Differing):
            return self._unlike(layer, inner, mask)
        if mask is not None and not self.writer.masks_steps:
            self._unlike(layer, inner, here)
        one_axis = isinstance(mask, tuple) and mask[0] == _STEP and (rank is None or rank < 2)
        if mask is not None and (one_axis or self.fixed_batch):
            self._use(layer, here)  # TimeDistributed of Keras 3 takes no mask of one axis
        step = None if mask is None else (_STEP, "", _less(rank), next(self._fresh))
        after = self._layer(inner, [self.signal(step, _less(taken.rank))])[0].mask
        if isinstance(after, _Differing):
            return after
        if after == step:
            return mask
        return mask if after is None and rank == 2 else here

    def _unlike(self, layer: Layer, inner: Layer, mask: _Differing) -> Mask:
        """Call the inner layer of TimeDistributed under a mask that is different in Keras 3."""
        if any(map(_may_use_mask, inner.walk())):
            self._use(layer, mask)
        return mask

    def _joined_mask(self, layer: Layer, kind: Masks, masks: Sequence[Mask]) -> Mask:
        if all(mask is None for mask in masks):
            return None
        differing = [mask for mask in masks if isinstance(mask, _Differing)]
        if differing:
            return differing[0]
        if len(set(masks)) == 1:
            return masks[0]
        in_time = kind is Masks.JOINED_IN_TIME and layer.config.integer("axis", default=-1) == 1
        if in_time and None not in masks:
            return self._joined.setdefault(tuple(masks), next(self._fresh))
        return _Differing(f"{describe(layer)}, where masks meet")


class _Renaming:
    """New numbers for tensors and masks: those given, else the next unused one."""

    def __init__(self, fresh: count[int], numbers: dict[int, int] | None = None) -> None:
        self.numbers = numbers or {}
        self._fresh = fresh

    def signal(self, signal: _Signal) -> _Signal:
        """Rename a tensor and its mask."""
        return replace(signal, identity=self._number(signal.identity), mask=self._mask(signal.mask))

    def _mask(self, mask: Mask) -> Mask:
        if isinstance(mask, int):
            return self._number(mask)
        if isinstance(mask, tuple):
            maker, value, rank, identity = mask
            return maker, value, rank, self._number(identity)
        return mask

    def _number(self, number: int) -> int:
        if number not in self.numbers:
            self.numbers[number] = next(self._fresh)
        return self.numbers[number]


def _kind(layer: Layer) -> Masks | None:
    """Give what the layer's class does with masks; None where that is not known."""
    return None if layer.declared is None else layer.declared.masks


def _may_use_mask(layer: Layer) -> bool:
    """Tell whether a layer would use a mask in Keras 3; a model passes it to its layers."""
    if layer.children is not None:
        return False
    return _kind(layer) in {None, Masks.USED, Masks.ATTENDED, Masks.STEP_BY_STEP, Masks.GIVEN_TO_FUNCTION}


def _has_fixed_batch(layer: Layer) -> bool:
    shape = input_shape(layer.config)
    return shape is not None and shape.shape()[:1] != (None,)


def _ranked(signal: _Signal, rank: int | None) -> _Signal:
    return signal if signal.rank is not None else replace(signal, rank=rank)


def _less(rank: int | None) -> int | None:
    """Give the number of axes of one step."""
    return None if rank is None else rank - 1


def _rank(mask: Mask) -> int | None:
    return mask[2] if isinstance(mask, tuple) else None


def _rank_of_mask(layer: Layer, taken: _Signal) -> int | None:
    """Give the number of axes of the mask that a layer makes: an Embedding for each word, others for each vector."""
    return taken.rank if layer.config.given("mask_zero") else _less(taken.rank)


def _mask_value(layer: Layer) -> str:
    return repr(layer.config.value("mask_value").json()) if layer.config.has("mask_value") else ""


def _returns_sequences(layer: Layer) -> bool:
    config = layer.config if layer.wrapped is None else layer.wrapped.config
    return bool(config.flag("return_sequences", default=None))


def _zeros_depend_on_version(layer: Layer) -> bool:
    """Tell whether TensorFlow 2.0 ignores `zero_output_for_mask` of this layer, which 1.13 to 1.15 respect.

    It does in its fast implementation of LSTM and GRU (`standard_lstm` and `standard_gru` in
    keras/layers/recurrent_v2.py).
    """
    inner = layer.wrapped or layer
    config = inner.config
    names = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    flags = {"use_bias": True, "unroll": False}
    return (
        inner.declared is not None
        and inner.declared.runs_fast
        and bool(config.flag("return_sequences", default=None))
        and (inner is not layer or bool(config.flag("zero_output_for_mask", default=None)))
        and all(config.holds(key, value) for key, value in names.items())
        and all(config.holds(key, value) for key, value in flags.items())
    )
