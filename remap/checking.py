"""Would `load_weights` take a file? Keras's rules replayed for a file and a model, as a value and as JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from remap.errors import RemapError
from remap.keras.checkpoint import Checkpoint
from remap.keras.config import parse_model
from remap.keras.loading import (
    LoadedLayer,
    Loading,
    expected_layers,
    load_by_name,
    load_by_order,
    saved_layers,
)
from remap.keras.wrapper import find_template
from remap.likefile import read_like

__all__ = ["Check", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How Keras would load `source` into the model that `like` describes.

    `by_order` is what `load_weights(file)` does, `by_name` what `load_weights(file, by_name=True)` does.
    `warnings` are what Keras would not notice, and what could not be compared. `multi_gpu` says that the file
    is a multi-GPU checkpoint, from which the single model has to be taken first.
    """

    source: str
    like: str
    by_order: Loading
    by_name: Loading
    warnings: tuple[str, ...]
    multi_gpu: bool

    @property
    def by_order_words(self) -> tuple[str, ...]:
        """Give the words with which Keras would refuse, up to 2.6 and since then; none if it would not."""
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
            "by_order": _loading(self.by_order, self.by_order_words),
            "by_name": _loading(self.by_name, self.by_name_words),
            "warnings": list(self.warnings),
            "multi_gpu": self.multi_gpu,
        }


def check(source: str | os.PathLike[str], like: str | os.PathLike[str]) -> Check:
    """Replay what `load_weights` of Keras does with a file, without Keras and without reading a tensor.

    `like` describes the model: JSON of `model.to_json()`, a Keras .h5 or a .keras file of it, of any values.
    Raises InputRefused for a file that is neither, and Undecided for a like-file that is a multi-GPU
    checkpoint itself.
    """
    from remap.hdf5.reader import open_checkpoint

    expected = expected_layers(read_like(like))
    with open_checkpoint(source) as opened:
        checkpoint = opened.checkpoint
    saved = saved_layers(checkpoint.layers)
    by_order = load_by_order(saved, expected)
    return Check(
        source=os.fspath(source),
        like=os.fspath(like),
        by_order=by_order,
        by_name=load_by_name(saved, expected),
        warnings=(*_crossed(by_order), *_unknown(by_order)),
        multi_gpu=_is_multi_gpu(checkpoint),
    )


def _is_multi_gpu(checkpoint: Checkpoint) -> bool:
    model = None
    if checkpoint.model_config is not None:
        model = parse_model(checkpoint.model_config, where="model_config")
    try:
        find_template(checkpoint, model, submodel=None)
    except RemapError:
        return False
    return True


def _unknown(loading: Loading) -> Iterator[str]:
    """Say how many shapes were not compared, because JSON does not tell them."""
    pairs = [step.expected for step in loading.steps if step.expected and step.saved]
    open_shapes = sum(1 for layer in pairs for sides in layer.shapes or () if sides is None or None in sides)
    custom = [layer.name for layer in pairs if layer.shapes is None]
    if open_shapes and loading.loads:
        yield (
            f"{open_shapes} shapes follow from the layers before and are not in the JSON: what it does not "
            "say was not compared; a .h5 of the model as --like has them all"
        )
    if custom and loading.loads:
        yield f"layers of classes that Keras does not have were not compared: {_listed(custom)}"


def _crossed(loading: Loading) -> Iterator[str]:
    """Say where Keras would pass over a wrong order: equal shapes, other names."""
    if not loading.loads:
        return
    pairs = [(step.expected.name, step.saved) for step in loading.steps if step.expected and step.saved]
    model = {name for name, _ in pairs}
    alike = Counter(saved.shapes for _, saved in pairs)
    crossed = [(name, saved.name) for name, saved in pairs if saved.name != name and saved.name in model]
    unsure = [name for name, saved in pairs if saved.name != name and alike[saved.shapes] > 1]
    if crossed:
        name, other = crossed[0]
        yield (
            f"{len(crossed)} layers would get the weights of a layer of another name that the model has too "
            f"({name} those of {other}): Keras looks at the order only and will not notice"
        )
    elif unsure:
        yield (
            f"{len(unsure)} layers have other names in the file and equal shapes ({_listed(unsure)}): that "
            "their order is the same is taken on trust, by Keras too"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} …"


def _words(loading: Loading, *, by_name: bool) -> tuple[str, ...]:
    """Put a refusal in the words of Keras up to 2.6, then in those since 2.7, tf_keras and Keras 3.

    Only what Keras would meet first is said.
    """
    if loading.complaint:
        saved = sum(1 for step in loading.steps if step.saved is not None)
        expected = sum(1 for step in loading.steps if step.expected is not None)
        today = (
            "Layer count mismatch when loading weights from file. "
            f"Model expected {expected} layers, found {saved} saved layers."
        )
        return loading.complaint, today
    step = next((step for step in loading.steps if step.complaint), None)
    if step is None or step.expected is None or step.saved is None:
        return ()
    want, have = step.expected, step.saved
    if want.shapes is None or len(want.shapes) == len(have.shapes):
        return (step.complaint,)
    number = step.complaint.partition("#")[2].partition(" ")[0]
    named = want.name if by_name else f"{want.name} in the current model, {have.name} in the save file"
    today = (
        f"Weight count mismatch for layer #{number} (named {named}). Layer expects {len(want.shapes)} "
        f"weight(s). Received {len(have.shapes)} saved weight(s)"
    )
    return step.complaint, today


def _loading(loading: Loading, words: Sequence[str]) -> dict[str, Any]:
    return {
        "loads": loading.loads,
        "words": list(words),
        "layers": [_step(step) for step in loading.steps],
    }


def _step(step: LoadedLayer) -> dict[str, Any]:
    return {
        "model": asdict(step.expected) if step.expected is not None else None,
        "file": asdict(step.saved) if step.saved is not None else None,
        "complaint": step.complaint,
    }
