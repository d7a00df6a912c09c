"""Would `load_weights` take a file? Keras's rules replayed for a file and a model, as a value and as JSON."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remap.architecture import parse_model
from remap.assignment.loading import (
    FileLayer,
    Loading,
    ModelLayer,
    file_layers,
    layers_of_weights,
    load_by_name,
    load_by_order,
    model_layers,
)
from remap.assignment.reference import Reference
from remap.checkpoint import Checkpoint, LayerGroup
from remap.errors import RemapError
from remap.isolation import run
from remap.layers.weights import Shape, Slot
from remap.recognize import find_template
from remap.reference_file import read_reference
from remap.results import as_json
from remap.weight_names import family, layer_scope, same_but_for_numbers, split_number

__all__ = ["Check", "check", "misfits", "wanted_by"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How Keras would load `source` into the model that `like` describes.

    `by_order` is what `load_weights(file)` does, `by_name` what `load_weights(file, by_name=True)` does.
    `warnings` are what Keras would not notice, and what could not be compared; `unknown` counts the shapes
    of which the like-file does not tell all sides, so that they were compared in part only. `multi_gpu` says
    that the file is a multi-GPU checkpoint, from which the single model has to be taken first. `crossed` says that by
    order layers would get the weights of others, as the names tell, and Keras would not notice.
    """

    source: str
    like: str
    by_order: Loading
    by_name: Loading
    warnings: tuple[str, ...]
    unknown: int
    multi_gpu: bool
    crossed: bool = False

    @property
    def by_order_words(self) -> tuple[str, ...]:
        """Give the words with which Keras would refuse: up to 2.6, since 2.7, Keras 3 where that differs."""
        return _words(self.by_order, by_name=False)

    @property
    def by_name_words(self) -> tuple[str, ...]:
        """Give the same for `by_name=True`."""
        return _words(self.by_name, by_name=True)

    @property
    def loads(self) -> bool:
        """Tell whether `load_weights(file)` would take the file."""
        return self.by_order.loads

    def to_json(self) -> dict[str, Any]:
        """Give the check as a JSON document; its `version` rises when a field changes its meaning."""
        return {
            "format": "h5remap-check",
            "version": 1,
            "source": self.source,
            "like": self.like,
            "loads": self.loads,
            "crossed": self.crossed,
            "by_order": _loading(self.by_order, self.by_order_words),
            "by_name": _loading(self.by_name, self.by_name_words),
            "warnings": list(self.warnings),
            "unknown": self.unknown,
            "multi_gpu": self.multi_gpu,
        }


def check(source: str | os.PathLike[str], like: str | os.PathLike[str], *, isolated: bool = False) -> Check:
    """Replay what `load_weights` of Keras does with a file, without Keras and without reading a tensor.

    `like` describes the model: JSON of `model.to_json()`, a Keras .h5 or a .keras file of it, of any values.
    With `isolated` both files are read in a child process with limits on time and memory (see SECURITY.md).

    Raises InputRefused for a file that is neither, and Undecided for a like-file that is a multi-GPU
    checkpoint itself.
    """
    if isolated:
        checked: Check = run("remap.check", source, like, where=os.fsdecode(source))
        return checked
    from remap.hdf5.reader import open_checkpoint

    described = read_reference(like)
    expected = wanted_by(described)
    with open_checkpoint(source) as opened:
        checkpoint = opened.checkpoint
    saved = file_layers(checkpoint.layers)
    by_order, by_name = load_by_order(saved, expected), load_by_name(saved, expected)
    crossed = tuple(_crossed(by_order, checkpoint.weighted, layers_of_weights(described)))
    return Check(
        source=os.fspath(source),
        like=os.fspath(like),
        by_order=by_order,
        by_name=by_name,
        warnings=(*(crossed or _renamed(by_order)), *_custom(by_order)),
        crossed=bool(crossed),
        unknown=_unknown(by_order, by_name),
        multi_gpu=_is_multi_gpu(checkpoint),
    )


def wanted_by(like: Reference) -> list[ModelLayer]:
    """List what a model wants, with the shapes of its own weights where it comes with some."""
    groups = {group.name: group for group in reversed(like.groups or ())}
    return [_completed(layer, groups.get(layer.name)) for layer in model_layers(like)]


def _completed(layer: ModelLayer, group: LayerGroup | None) -> ModelLayer:
    """Take the shapes that an architecture leaves open from the like-file's own weights, where they agree."""
    if group is None or layer.shapes is None or len(layer.shapes) != len(group.weights):
        return layer
    shapes = tuple(weight.shape for weight in group.weights)
    agree = all(
        sides is None or Slot("", sides).takes("", shape)
        for sides, shape in zip(layer.shapes, shapes, strict=True)
    )
    return ModelLayer(name=layer.name, shapes=shapes) if agree else layer


def _is_multi_gpu(checkpoint: Checkpoint) -> bool:
    model = None
    if checkpoint.model_config is not None:
        model = parse_model(checkpoint.model_config, where="model_config")
    try:
        find_template(checkpoint, model, submodel=None)
    except RemapError:
        return False
    return True


def _unknown(*loadings: Loading) -> int:
    """Count the shapes of which JSON does not tell all sides: they follow from the layers before."""
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


def _crossed(
    loading: Loading, groups: Sequence[LayerGroup], inside: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Say where Keras would pass over a wrong order: equal shapes, and names that tell of another order."""
    if not loading.loads:
        return
    pairs = [(step.expected.name, step.saved.name) for step in loading.steps if step.expected and step.saved]
    model = {name for name, _ in pairs}
    layers = [(name, other) for name, other in pairs if other != name and other in model]
    if layers and not same_but_for_numbers(pairs):
        name, other = layers[0]
        yield (
            f"{len(layers)} layers would get the weights of a layer of another name that the model has too "
            f"({name} those of {other}): Keras looks at the order only and will not notice"
        )
    for (name, _), group in zip(pairs, groups, strict=False):
        turned = _turned_names(inside.get(name, ()), [layer_scope(weight.name) for weight in group.weights])
        if turned:
            own, other = turned[0]
            yield (
                f"in {name}, {len(turned)} weights are those of another layer inside it ({own} would get weights of "
                f"{other}): other trainable flags, and Keras looks at the order only and will not notice"
            )


def _turned_names(theirs: Sequence[str], ours: Sequence[str]) -> list[tuple[str, str]]:
    """Give the pairs of names that differ, where both sides have the same names in another order.

    Names are the same as they are, or less a counter that TensorFlow put behind each, or by their rank among the
    automatic names of their kind: another session numbers on.
    """
    if len(theirs) != len(ours) or not all(ours) or not all(theirs):
        return []
    bare = [split_number(name, "_") for name in ours]
    variants = (
        (theirs, ours),
        (theirs, [name for name, number in bare if number]),
        (_by_rank(theirs), _by_rank(ours)),
    )
    for wanted, found in variants:
        if Counter(wanted) == Counter(found):
            return [
                (theirs[place], ours[place]) for place in range(len(ours)) if wanted[place] != found[place]
            ]
    return []


def _by_rank(names: Sequence[str]) -> list[tuple[str, int]]:
    kins: dict[str, list[int]] = defaultdict(list)
    for name in dict.fromkeys(names):
        kin, number = family(name)
        kins[kin].append(number)
    ranks = {
        (kin, number): rank for kin, numbers in kins.items() for rank, number in enumerate(sorted(numbers))
    }
    return [(family(name)[0], ranks[family(name)]) for name in names]


def _renamed(loading: Loading) -> Iterator[str]:
    """Say where layers of equal shapes have other names: nothing tells whether their order is the same."""
    if not loading.loads:
        return
    pairs = [(step.expected.name, step.saved) for step in loading.steps if step.expected and step.saved]
    alike = Counter(saved.shapes for _, saved in pairs)
    unsure = [name for name, saved in pairs if saved.name != name and alike[saved.shapes] > 1]
    if unsure:
        yield (
            f"{len(unsure)} layers have other names in the file and equal shapes ({_listed(unsure)}): that "
            "their order is the same is taken on trust, by Keras too"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} …"


def _words(loading: Loading, *, by_name: bool) -> tuple[str, ...]:
    """Put a refusal in the words of Keras up to 2.6, of Keras since 2.7 and, where it differs, of Keras 3.

    Only what each would meet first is said: by order all but Keras 3 count the weights of every layer before
    they look at a shape.
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
        earlier = next((pair for pair in refused if _miscounted(*pair[:2]) or _turned(*pair[:2])), first)
    old = "axes don't match array" if _turned(*earlier[:2]) else earlier[2]
    pairs = (earlier,) if earlier is first else (earlier, first)
    return old, *(_words_today(*pair, by_name=by_name) for pair in pairs)


def _miscounted(want: ModelLayer, have: FileLayer) -> bool:
    return len(want.shapes or ()) != len(have.shapes)


def _turned(want: ModelLayer, have: FileLayer) -> bool:
    """Tell whether Keras 2 would turn the axes of something that is no kernel of a convolution.

    It does so before it compares shapes (`preprocess_weights_for_loading`).
    """
    return not _miscounted(want, have) and any(
        len(sides) == 4 != len(found) for sides, found in misfits(want, have)
    )


def _words_today(want: ModelLayer, have: FileLayer, complaint: str, *, by_name: bool) -> str:
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
    """Give the shapes that a layer wants, and what the file has in their places, where they differ."""
    for sides, found in zip(want.shapes or (), have.shapes, strict=False):
        if sides is not None and not Slot("", sides).takes("", found):
            yield sides, found


def _loading(loading: Loading, words: Sequence[str]) -> dict[str, Any]:
    return {
        "loads": loading.loads,
        "words": list(words),
        "layers": [
            {
                "model": as_json(step.expected),
                "file": as_json(step.saved),
                "complaint": step.complaint,
            }
            for step in loading.steps
        ],
    }
