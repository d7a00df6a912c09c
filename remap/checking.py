"""Check which of Keras's loaders would take a file for a model: their rules replayed, without Keras."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from remap.architecture import Layer
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
from remap.assignment.messages import messages
from remap.assignment.reference import Reference, reference_from_checkpoint
from remap.checkpoint import Checkpoint, LayerGroup
from remap.isolation import run
from remap.layers.weights import Slot
from remap.loaders import (
    Answer,
    FileFormat,
    LoaderVerdict,
    OldFile,
    Opening,
    answer_of,
    new_format,
    old_format,
)
from remap.model_to_load import ModelToLoad, OwnModel, untold
from remap.recognize import own_architecture, recognize
from remap.results import as_json
from remap.urls import base_name, masked, url_in
from remap.weight_names import layer_scope

if TYPE_CHECKING:
    from remap.errors import Remedy
    from remap.hdf5.keras3_reader import OpenedKeras3
    from remap.keras3.loading import SavedObject
    from remap.stock.choice import StockModel

__all__ = ["Check", "Verdict", "check", "layers_to_load"]

Verdict = Literal["loads", "crossed", "does not load", "cannot tell"]
"""``crossed``: Keras would take the file, but give layers the weights of other layers of the model; ``cannot tell``:
custom classes decide."""

_VERDICTS: dict[Answer, Verdict] = {
    "yes": "loads",
    "crossed": "crossed",
    "no": "does not load",
    "cannot tell": "cannot tell",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How Keras would load a file into a model.

    Attributes:
        source: The file.
        like: The file that describes the model; None for the architecture in the file itself.
        form: The format of the file.
        verdict: What `load_weights(file)` does: of Keras 2 for a file in its format, else of Keras 3.
        loaders: What each of Keras's loaders does.
        loading: The same as `verdict` in detail: by order for a file in the format of Keras 2, else by paths.
        by_name: What `load_weights(file, by_name=True)` does; None for the formats of Keras 3, which it does not take.
        warnings: What Keras would not notice, and what could not be compared.
        unknown: How many shapes were compared in part only, because the description of the model does not tell all sides.
        multi_gpu: Whether the file is a multi-GPU checkpoint, from which the single model has to be extracted first.
    """

    source: str
    like: str | None
    form: FileFormat
    verdict: Verdict
    loaders: tuple[LoaderVerdict, ...] = field(repr=False)
    loading: Loading = field(repr=False)
    by_name: Loading | None = field(repr=False)
    warnings: tuple[str, ...]
    unknown: int
    multi_gpu: bool

    @property
    def words(self) -> tuple[str, ...]:
        """Give the messages with which Keras would refuse: up to 2.6, since 2.7, and Keras 3 if that differs.

        For a format of Keras 3 it is the one of Keras 3.
        """
        if self.form != ".h5":
            return (self.loading.first_complaint,) if not self.loading.loads else ()
        return messages(self.loading, by_name=False)

    @property
    def by_name_words(self) -> tuple[str, ...]:
        """Give the same for `by_name=True`."""
        return () if self.by_name is None else messages(self.by_name, by_name=True)

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
            "form": self.form,
            "loads": self.loads,
            "verdict": self.verdict,
            "loaders": as_json(self.loaders),
            "loading": _loading(self.loading, self.words),
            "by_name": None if self.by_name is None else _loading(self.by_name, self.by_name_words),
            "warnings": list(self.warnings),
            "unknown": self.unknown,
            "undecided": list(self.loading.undecided),
            "multi_gpu": self.multi_gpu,
        }


def check(
    source: str | os.PathLike[str],
    like: str | os.PathLike[str] | None = None,
    *,
    by_order: bool = False,
    isolated: bool = False,
) -> Check:
    """Replay what Keras's loaders do with a file, without Keras and without reading a tensor.

    Args:
        source: A Keras .h5 file, a `.keras` archive or a `.weights.h5` file of Keras 3.
        like: The model: JSON of `model.to_json()`, another such file of it, of any values, or the name of a network of
            `keras.applications`. Without it the model is the one that the file itself describes.
        by_order: Whether the order of layers in the file is known to be right even if the names of their weights say that
            layers would get the weights of other layers.
        isolated: Whether to read both files in a child process with limits on time and memory (see SECURITY.md).

    Returns:
        The verdict, what each loader does, and every step of loading.

    Raises:
        InputRefused: If a file is none of these, or is damaged.
        Undecided: If `like`, or without it the file, does not tell the layers of a single model.
    """
    if isolated:
        checked: Check = run("remap.check", source, like, where=masked(source), by_order=by_order)
        return checked
    from remap.hdf5.keras3_reader import open_any
    from remap.hdf5.reader import OpenedCheckpoint

    name = masked(source)
    described = None if like is None else ModelToLoad.read(like)
    with open_any(source) as opened:
        if isinstance(opened, OpenedCheckpoint):
            return _check_old(name, opened.checkpoint, described, order_is_right=by_order)
        return _check_new(name, opened, described, order_is_right=by_order)


def _check_old(name: str, checkpoint: Checkpoint, like: ModelToLoad | None, *, order_is_right: bool) -> Check:
    """Check a file in the format of Keras 2."""
    if like is None:
        if checkpoint.model_config is None:
            raise untold(name)
        told = reference_from_checkpoint(checkpoint, where=name)
    else:
        told = like.told() if like.stock is None else _decided(like.stock, checkpoint, order_is_right)
    saved = file_layers(checkpoint.layers)
    expected = layers_to_load(told, saved)
    loading, by_name = load_by_order(saved, expected), load_by_name(saved, expected)
    model = own_architecture(checkpoint, where=name)
    multi_gpu = recognize(checkpoint, model).kind == "multi-gpu"
    file = _old_file(name, told, saved, expected, loading, checkpoint, model, multi_gpu=multi_gpu)
    return Check(
        source=name,
        like=None if like is None else like.where,
        form=".h5",
        verdict=_VERDICTS[answer_of(loading, order_is_right=order_is_right)],
        loaders=old_format(file, order_is_right=order_is_right),
        loading=loading,
        by_name=by_name,
        warnings=(*_order_warnings(loading), *_custom(loading)),
        unknown=_unknown(loading, by_name),
        multi_gpu=multi_gpu,
    )


def _old_file(
    name: str,
    told: Reference,
    saved: Sequence[FileLayer],
    expected: Sequence[ModelLayer],
    loading: Loading,
    checkpoint: Checkpoint,
    own: Layer | None,
    *,
    multi_gpu: bool,
) -> OldFile:
    from remap.keras3.loading import (
        changed_classes,
        order_in_keras3,
        removed_classes,
        translated,
        written_for_keras3,
    )
    from remap.keras3.opening import steeper_in_keras3

    model, old = told.architecture, told.keras3 is False
    translation = translated(model) if model is not None and (old or multi_gpu) else None
    remedies = written_for_keras3(translation)
    in_keras3 = loading
    if model is not None and old:
        if any(layer.children is not None for layer in model.walk() if layer is not model):
            # Keras 3 lists the weights of a frozen nested model in another order.
            expected = layers_to_load(replace(told, keras3=True), saved)
        in_keras3 = load_by_order(saved, order_in_keras3(model, translation, expected))
    return OldFile(
        name=_called(name),
        multi_gpu=multi_gpu,
        by_order=loading,
        in_keras3=in_keras3,
        changed=() if model is None else changed_classes(model),
        removed=() if model is None else removed_classes(model),
        steeper=model is not None and old and steeper_in_keras3(model),
        opening=_opening_of_old(checkpoint, own, remedies if multi_gpu else None),
        remedies=remedies if old else (),
    )


def _opening_of_old(
    checkpoint: Checkpoint, model: Layer | None, remedies: tuple[Remedy, ...] | None
) -> Opening | None:
    """Predict what `load_model` of Keras 3 makes of a file; `remedies` are given for the model in a multi-GPU wrapper."""
    from remap.keras3.opening import custom_classes, load_model_of_file

    if model is None:
        return None
    if remedies is not None:
        return Opening(obstacle="the Python code in the layers of the multi-GPU wrapper", remedies=remedies)
    if (checkpoint.keras_version or "").startswith("3."):
        return Opening(custom_objects=custom_classes(model))
    found = load_model_of_file(checkpoint, model)
    return Opening(obstacle=found.obstacle, custom_objects=found.custom_objects, remedies=found.remedies)


def _check_new(name: str, opened: OpenedKeras3, like: ModelToLoad | None, *, order_is_right: bool) -> Check:
    """Check a file in a format of Keras 3."""
    from remap.keras3.loading import load_by_path, tf_keras_objects

    form: FileFormat = ".weights.h5" if opened.config is None else ".keras"
    own = OwnModel.of(opened, name)
    model = like if like is not None else own.model(name)
    saved: list[SavedObject] = [
        ("/".join(one.path), one.name, tuple(weight.shape for weight in one.variables))
        for one in opened.weighted
    ]
    loading = load_by_path(saved, model.expected())
    architecture = None if model.reference is None else model.reference.architecture
    in_tf_keras = None if architecture is None else load_by_path(saved, tf_keras_objects(architecture))
    loaders = new_format(
        _called(name),
        form,
        by_path=loading,
        in_tf_keras=in_tf_keras,
        opening=own.opening(saved, name),
        order_is_right=order_is_right,
    )
    (answer,) = [one.answer for one in loaders if one.loader == "load_weights of Keras 3"]
    return Check(
        source=name,
        like=None if like is None else like.where,
        form=form,
        verdict=_VERDICTS[answer],
        loaders=loaders,
        loading=loading,
        by_name=None,
        warnings=(*_order_warnings(loading), *_ignored(loading), *_custom(loading)),
        unknown=_unknown(loading),
        multi_gpu=False,
    )


def _called(name: str) -> str:
    """Give the name by whose ending Keras chooses a format: of a URL the last part, without a query."""
    url = url_in(name)
    return name if url is None else base_name(url)


def _decided(network: StockModel, checkpoint: Checkpoint, order_is_right: bool) -> Reference:
    """Choose the release of a network whose architecture the file has, or one of several with the same answer."""
    from remap.stock.choice import settle  # most models are told by files

    saved = file_layers(checkpoint.layers)

    def outcome(told: Reference) -> Answer:
        return answer_of(load_by_order(saved, layers_to_load(told, saved)), order_is_right=order_is_right)

    return settle(network, checkpoint, outcome)


def layers_to_load(like: Reference, saved: Sequence[FileLayer]) -> list[ModelLayer]:
    """List the layers of a model that load a file, with the shapes of its own weights where it comes with some."""
    groups = {group.name: group for group in reversed(like.groups or ())}
    return narrowed([_completed(layer, groups.get(layer.name)) for layer in model_layers(like)], saved)


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


def _ignored(loading: Loading) -> Iterator[str]:
    """Warn of what Keras 3 leaves out without a word."""
    paths = [step.path for step in loading.steps if step.expected is None]
    if paths and loading.loads:
        yield f"the model has no place for what the file holds at {_listed(paths)}, and Keras 3 does not say so"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} …"


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
                "path": step.path,
            }
            for step in loading.steps
        ],
    }


def _layer(layer: ModelLayer | FileLayer | None) -> dict[str, Any] | None:
    return None if layer is None else {"name": layer.name, "shapes": as_json(layer.shapes)}
