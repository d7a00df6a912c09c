"""Where Keras 3 would treat a mask otherwise than old Keras did, so that predictions would differ without a word.

Old merge layers let a step count when all inputs that have a mask let it count (`_Merge.compute_mask` and
`Concatenate.compute_mask` in keras/layers/merge.py); Keras 3's when any does, and not at all when an input
has none (keras/src/layers/merging). That is the same as long as all inputs bear the same mask. And an old
TimeDistributed made a mask of what the layer inside it made; Keras 3's does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from remap.errors import InputRefused, RemapError, Undecided
from remap.keras.config import Layer
from remap.keras3.built import describe
from remap.keras3.graph import makes_mask, read_graph
from remap.keras3.writer import Writer

__all__ = ["mask_problems"]

_READERS = frozenset(
    "AdditiveAttention Attention Bidirectional ConvLSTM2D CuDNNGRU CuDNNLSTM GRU GlobalAveragePooling1D LSTM RNN "
    "SimpleRNN".split()
)
_MERGES = frozenset("Add Average Maximum Minimum Multiply Subtract".split())
_PASS_ON = frozenset(
    "Activation ActivityRegularization AlphaDropout BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Dense "
    "Dropout ELU GaussianDropout GaussianNoise LayerNormalization LeakyReLU PReLU ReLU Softmax SpatialDropout1D "
    "ThresholdedReLU TimeDistributed".split()
)
_TAKES_MASK = _READERS | {"Softmax", "TimeDistributed"}
_HINT = "convert to .weights.h5 instead, and pass the masks yourself in a model built with Keras 3"

Mask = Any
"""None; a token, equal for masks that are equal; or a Differing."""


@dataclass(frozen=True, slots=True)
class _Differing:
    """A mask that Keras 3 makes otherwise (or may, where the file's writer is not known), and where."""

    where: str
    unsure: bool = False


@dataclass(frozen=True, slots=True)
class _Signal:
    """A tensor: what it is (equal for equal tensors) and its mask."""

    identity: Any
    mask: Mask = None


def mask_problems(model: Layer, writer: Writer) -> tuple[RemapError, ...]:
    """Find the layers that would work under another mask in Keras 3."""
    if not any(makes_mask(layer) for layer in model.walk()):
        return ()
    search = _Search(writer)
    ends = max(len(model.inputs), 1)
    search.model(model, [_Signal(("input", index)) for index in range(ends)], ())
    return tuple(search.problems.values())


class _Search:
    """One walk through a model, with the masks that each call of a layer takes and gives."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.problems: dict[str, RemapError] = {}

    def model(self, model: Layer, inputs: Sequence[_Signal], path: tuple[Any, ...]) -> list[_Signal]:
        """Follow the masks through a model, from its inputs to its outputs."""
        if model.sequential:
            signals = list(inputs)
            for index, child in enumerate(model.children or ()):
                if child.class_name != "InputLayer":
                    signals = self._layer(child, signals, (*path, index))
            return signals
        children = {str(index): child for index, child in enumerate(model.children or ())}
        graph = read_graph(model, list(children), [None] * len(children))
        known: dict[tuple[str, int], list[_Signal]] = {}
        for (name, call, _), signal in zip(graph.inputs, inputs, strict=False):
            known[name, call] = [signal]
        pending = [(name, call) for name, calls in graph.calls.items() for call in range(len(calls))]
        while pending:
            waiting = []
            for name, call in pending:
                taken = graph.calls[name][call]
                if (name, call) in known:
                    continue
                if children[name].class_name == "InputLayer":
                    known[name, call] = [_Signal((*path, name))]
                elif all((above, number) in known for above, number, _ in taken):
                    signals = [_output(known[above, number], index) for above, number, index in taken]
                    known[name, call] = self._layer(children[name], signals, (*path, name, call))
                else:
                    waiting.append((name, call))
            if len(waiting) == len(pending):
                raise InputRefused("the layers are connected in a circle", where=f"model {model.name!r}")
            pending = waiting
        return [_output(known[name, call], index) for name, call, index in graph.outputs]

    def _layer(self, layer: Layer, taken: Sequence[_Signal], place: tuple[Any, ...]) -> list[_Signal]:
        if layer.children is not None:
            return self._inside(layer, taken, place)
        masks = [signal.mask for signal in taken]
        out: Mask = None
        if makes_mask(layer):
            out = (layer.class_name, repr(layer.config.get("mask_value")), taken[0].identity)
        elif layer.class_name in _READERS:
            out = self._reader(layer, masks)
        elif layer.class_name in _MERGES or layer.class_name == "Concatenate":
            out = _merged(layer, masks)
        elif layer.class_name == "TimeDistributed" and layer.wrapped is not None:
            out = self._time_distributed(layer, layer.wrapped, masks[0], place)
        elif layer.class_name in _PASS_ON:
            out = masks[0]
        return [_Signal(place, out)]

    def _inside(self, model: Layer, taken: Sequence[_Signal], place: tuple[Any, ...]) -> list[_Signal]:
        """Follow a model inside; tf.keras before TensorFlow 1.14 let no mask out of it that none came into."""
        found = self.model(model, taken, place)
        settled = not self.writer.before_1_13 and not self.writer.ambiguous
        if settled or any(signal.mask is not None for signal in taken):
            return found
        here = _Differing(describe(model), unsure=self.writer.ambiguous)
        return [signal if signal.mask is None else replace(signal, mask=here) for signal in found]

    def _reader(self, layer: Layer, masks: Sequence[Mask]) -> Mask:
        attends = layer.class_name in {"Attention", "AdditiveAttention"}
        if masks[0] is not None and len(masks) > 1 and not attends:
            # Keras 3 hands a mask on by itself only to layers that are called with nothing but one input.
            masks = [_Differing(f"{describe(layer)}, called with a state and a mask")]
        for mask in masks:
            self._read(layer, mask)
        if masks[0] is not None and self.writer.ambiguous and _zeroes_here_and_there(layer):
            self.problems.setdefault(
                describe(layer),
                Undecided(
                    "masked steps, which give zeros or the step before, by the version of TensorFlow that wrote this",
                    where=describe(layer),
                    hint="convert to .weights.h5 instead",
                ),
            )
        return masks[0] if attends or _returns_sequences(layer) else None

    def _read(self, layer: Layer, mask: Mask) -> None:
        if isinstance(mask, _Differing):
            kind = Undecided if mask.unsure else InputRefused
            verb = "may be" if mask.unsure else "would be"
            what = f"the mask that layer {layer.name!r} works under {verb} another in Keras 3"
            self.problems.setdefault(mask.where, kind(what, where=mask.where, hint=_HINT))

    def _time_distributed(self, layer: Layer, inner: Layer, mask: Mask, place: tuple[Any, ...]) -> Mask:
        here = _Differing(describe(layer))
        if mask is not None and (inner.children is not None or inner.class_name in _TAKES_MASK):
            self._read(layer, here)
        made = self._layer(inner, [_Signal((place, "step"))], (place, "step"))
        return here if made[0].mask is not None else mask


def _output(signals: Sequence[_Signal], index: int) -> _Signal:
    return signals[index] if index < len(signals) else _Signal((signals[0].identity, index))


def _returns_sequences(layer: Layer) -> bool:
    config = layer.config if layer.wrapped is None else layer.wrapped.config
    return bool(config.get("return_sequences"))


def _zeroes_here_and_there(layer: Layer) -> bool:
    """Tell whether TensorFlow 2.0 forgets that masked steps of this layer give zeros, as 1.13 to 1.15 did not.

    It does wherever its fast path for LSTM and GRU runs (`standard_lstm` and `standard_gru` in
    keras/layers/recurrent_v2.py).
    """
    inner = layer if layer.wrapped is None else layer.wrapped
    fast = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "unroll": False}
    return (
        inner.class_name in {"GRU", "LSTM"}
        and bool(inner.config.get("return_sequences"))
        and (layer.class_name == "Bidirectional" or bool(inner.config.get("zero_output_for_mask")))
        and all(inner.config.get(key) == value for key, value in fast.items())
    )


def _merged(layer: Layer, masks: Sequence[Mask]) -> Mask:
    if all(mask is None for mask in masks):
        return None
    differing = [mask for mask in masks if isinstance(mask, _Differing)]
    if differing:
        return differing[0]
    if len(set(masks)) == 1:
        return masks[0]
    if layer.class_name == "Concatenate" and layer.config.get("axis") == 1 and None not in masks:
        return ("one after the other", tuple(masks))
    return _Differing(f"{describe(layer)}, where masks meet")
