"""Check whether `load_weights` would take a file: Keras's rules replayed for a file and a model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from remap.assignment.loading import (
    FileLayer,
    Loading,
    ModelLayer,
    file_layers,
    load_by_name,
    load_by_order,
    model_layers,
    narrowed,
)
from remap.assignment.reference import Reference
from remap.checkpoint import LayerGroup
from remap.isolation import run
from remap.layers.weights import Shape, Slot
from remap.recognize import own_architecture, recognize
from remap.reference_file import read_reference
from remap.results import as_json
from remap.urls import masked
from remap.weight_names import layer_scope

__all__ = ["Check", "Verdict", "check", "layers_to_load", "misfits"]

Verdict = Literal["loads", "crossed", "does not load", "cannot tell"]
"""``crossed``: Keras would take the file, but give layers the weights of other layers of the model; ``cannot tell``:
custom classes decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How Keras would load a file into a model.

    Attributes:
        source: The file.
        like: The file that describes the model.
        verdict: What `load_weights(file)` does.
        by_order: The same in detail.
        by_name: What `load_weights(file, by_name=True)` does.
        warnings: What Keras would not notice, and what could not be compared.
        unknown: How many shapes were compared in part only, because the description of the model does not tell all sides.
        multi_gpu: Whether the file is a multi-GPU checkpoint, from which the single model has to be extracted first.
    """

    source: str
    like: str
    verdict: Verdict
    by_order: Loading = field(repr=False)
    by_name: Loading = field(repr=False)
    warnings: tuple[str, ...]
    unknown: int
    multi_gpu: bool
    crossed: bool = False

    @property
    def by_order_words(self) -> tuple[str, ...]:
        """Give the messages with which Keras would refuse: up to 2.6, since 2.7, and Keras 3 if that differs."""
        return _words(self.by_order, by_name=False)

    @property
    def by_name_words(self) -> tuple[str, ...]:
        """Give the same for `by_name=True`."""
        return _words(self.by_name, by_name=True)

    @property
    def loads(self) -> bool:
        """Tell whether `load_weights(file)` takes the file and gives every layer its own weights."""
        return self.verdict == "loads"

    def _repr_html_(self) -> str:
        """Show the check in a notebook."""
        from remap.console.notebook import check_html  # Rich is needed only here

        return check_html(self)

    def to_json(self) -> dict[str, Any]:
        """Give the check as a JSON document; its `version` rises when a field changes its meaning."""
        return {
            "format": "h5remap-check",
            "version": 1,
            "source": self.source,
            "like": self.like,
            "loads": self.loads,
            "verdict": self.verdict,
            "by_order": _loading(self.by_order, self.by_order_words),
            "by_name": _loading(self.by_name, self.by_name_words),
            "warnings": list(self.warnings),
            "unknown": self.unknown,
            "undecided": list(self.by_order.undecided),
            "multi_gpu": self.multi_gpu,
        }


def check(
    source: str | os.PathLike[str],
    like: str | os.PathLike[str],
    *,
    by_order: bool = False,
    isolated: bool = False,
) -> Check:
    """Replay what `load_weights` of Keras does with a file, without Keras and without reading a tensor.

    Args:
        source: The file.
        like: The model: JSON of `model.to_json()`, a Keras .h5 or a .keras file of it, of any values.
        by_order: Whether the order of layers in the file is known to be right even if the names of their weights say that
            layers would get the weights of other layers.
        isolated: Whether to read both files in a child process with limits on time and memory (see SECURITY.md).

    Returns:
        The verdict, and every step of loading.

    Raises:
        InputRefused: If a file is neither, or is damaged.
        Undecided: If `like` is a multi-GPU checkpoint itself.
    """
    if isolated:
        checked: Check = run("remap.check", source, like, where=masked(source), by_order=by_order)
        return checked
    from remap.hdf5.reader import open_checkpoint

    described = read_reference(like)
    with open_checkpoint(source) as opened:
        checkpoint = opened.checkpoint
    saved = file_layers(checkpoint.layers)
    expected = layers_to_load(described, saved)
    loading, by_name = load_by_order(saved, expected), load_by_name(saved, expected)
    model = own_architecture(checkpoint, where=masked(source))
    return Check(
        source=masked(source),
        like=masked(like),
        verdict=_verdict(loading, by_order=by_order),
        by_order=loading,
        by_name=by_name,
        warnings=(*_order_warnings(loading), *_custom(loading)),
        unknown=_unknown(loading, by_name),
        multi_gpu=recognize(checkpoint, model).kind == "multi-gpu",
    )


def layers_to_load(like: Reference, saved: Sequence[FileLayer]) -> list[ModelLayer]:
    """List the layers of a model that load a file, with the shapes of its own weights where it comes with some."""
    groups = {group.name: group for group in reversed(like.groups or ())}
    return narrowed([_completed(layer, groups.get(layer.name)) for layer in model_layers(like)], saved)


def _verdict(loading: Loading, *, by_order: bool) -> Verdict:
    if not loading.loads:
        return "does not load"
    if loading.crossed and not by_order:
        return "crossed"
    return "cannot tell" if loading.undecided else "loads"


def _completed(layer: ModelLayer, group: LayerGroup | None) -> ModelLayer:
    """Take the shapes that an architecture leaves open from the weights of the reference model, if they agree."""
    if group is None or layer.shapes is None or len(layer.shapes) != len(group.weights):
        return layer
    shapes = tuple(weight.shape for weight in group.weights)
    agree = all(
        sides is None or Slot("", sides).fits(shape)
        for sides, shape in zip(layer.shapes, shapes, strict=True)
    )
    owners = tuple(layer_scope(weight.name) for weight in group.weights)
    return replace(layer, shapes=shapes, owners=owners) if agree else layer


def _unknown(*loadings: Loading) -> int:
    """Count the shapes of which JSON does not tell all sides, because they follow from the layers before."""
    layers = {
        step.expected.name: step.expected.shapes or ()
        for loading in loadings
        for step in loading.steps
        if step.expected and step.saved
    }
    return sum(1 for shapes in layers.values() for sides in shapes if sides is None or None in sides)


def _custom(loading: Loading) -> Iterator[str]:
    names = [
        step.expected.name
        for step in loading.steps
        if step.expected and step.saved and step.expected.shapes is None
    ]
    if names and loading.loads:
        yield f"layers of classes that Keras does not have were not compared: {_listed(names)}"
    if loading.undecided:
        yield (
            f"whether it loads depends on the weights of custom classes: {', '.join(loading.undecided)}; "
            "a .h5 file of the model tells them"
        )


def _order_warnings(loading: Loading) -> Iterator[str]:
    """Warn of an order that Keras would not notice to be wrong: equal shapes, other names."""
    if not loading.loads:
        return
    if loading.crossed:
        name, other = loading.crossed[0]
        yield (
            f"{len(loading.crossed)} layers would get the weights of a layer of another name that the model has too "
            f"({name} those of {other}): Keras compares the order only and will not notice"
        )
        return
    pairs = [(step.expected.name, step.saved) for step in loading.steps if step.expected and step.saved]
    alike = Counter(saved.shapes for _, saved in pairs)
    unsure = [name for name, saved in pairs if saved.name != name and alike[saved.shapes] > 1]
    if unsure:
        yield (
            f"{len(unsure)} layers have other names in the file and equal shapes ({_listed(unsure)}): that "
            "their order is the same is assumed, not verified, by Keras too"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} …"


def _words(loading: Loading, *, by_name: bool) -> tuple[str, ...]:
    """Give the messages of Keras up to 2.6, of Keras since 2.7 and, if it differs, of Keras 3.

    Each reports only what it finds first: by order all but Keras 3 count the weights of every layer before they compare a
    shape.
    """
    if loading.complaint:
        saved = sum(1 for step in loading.steps if step.saved is not None)
        expected = sum(1 for step in loading.steps if step.expected is not None)
        today = (
            "Layer count mismatch when loading weights from file. "
            f"Model expected {expected} layers, found {saved} saved layers."
        )
        return loading.complaint, today
    refused = [
        (step.expected, step.saved, step.complaint)
        for step in loading.steps
        if step.expected and step.saved and step.complaint
    ]
    if not refused:
        return ()
    first = refused[0]
    earlier = first
    if not by_name:
        earlier = next((pair for pair in refused if _miscounted(*pair[:2]) or _transposed(*pair[:2])), first)
    old = "axes don't match array" if _transposed(*earlier[:2]) else earlier[2]
    pairs = (earlier,) if earlier is first else (earlier, first)
    return old, *(_words_since_2_7(*pair, by_name=by_name) for pair in pairs)


def _miscounted(want: ModelLayer, have: FileLayer) -> bool:
    return len(want.shapes or ()) != len(have.shapes)


def _transposed(want: ModelLayer, have: FileLayer) -> bool:
    """Tell whether Keras 2 would transpose something that is no kernel of a convolution.

    It does so before it compares shapes (`preprocess_weights_for_loading`).
    """
    return not _miscounted(want, have) and any(
        len(sides) == 4 != len(found) for sides, found in misfits(want, have)
    )


def _words_since_2_7(want: ModelLayer, have: FileLayer, complaint: str, *, by_name: bool) -> str:
    number = complaint.partition("#")[2].partition(" ")[0]
    if _miscounted(want, have):
        named = want.name if by_name else f"{want.name} in the current model, {have.name} in the save file"
        return (
            f"Weight count mismatch for layer #{number} (named {named}). Layer expects "
            f"{len(want.shapes or ())} weight(s). Received {len(have.shapes)} saved weight(s)"
        )
    sides, found = next(misfits(want, have))
    shown = ", ".join("?" if side is None else str(side) for side in sides)
    return (
        f"Shape mismatch in layer #{number} (named {want.name}). Weight expects shape "
        f"({shown}{',' if len(sides) == 1 else ''}). Received saved weight with shape {found}"
    )


def misfits(want: ModelLayer, have: FileLayer) -> Iterator[tuple[Shape, tuple[int, ...]]]:
    """List the shapes that a layer expects and that the file has, where they differ."""
    for sides, found in zip(want.shapes or (), have.shapes, strict=False):
        if sides is not None and not Slot("", sides).fits(found):
            yield sides, found


def _loading(loading: Loading, words: Sequence[str]) -> dict[str, Any]:
    return {
        "loads": loading.loads,
        "words": list(words),
        "layers": [
            {
                "model": _layer(step.expected),
                "file": _layer(step.saved),
                "complaint": step.complaint,
                "crossed": as_json(step.crossed),
            }
            for step in loading.steps
        ],
    }


def _layer(layer: ModelLayer | FileLayer | None) -> dict[str, Any] | None:
    return None if layer is None else {"name": layer.name, "shapes": as_json(layer.shapes)}
