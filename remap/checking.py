"""Would `load_weights` take a file? Keras's rules replayed for a file and a model, as a value and as JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from remap.keras.loading import (
    LoadedLayer,
    Loading,
    expected_layers,
    load_by_name,
    load_by_order,
    saved_layers,
)
from remap.likefile import read_like

__all__ = ["Check", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How Keras would load `source` into the model that `like` describes.

    `by_order` is what `load_weights(file)` does, `by_name` what `load_weights(file, by_name=True)` does.
    `warnings` are what Keras would not notice.
    """

    source: str
    like: str
    by_order: Loading
    by_name: Loading
    warnings: tuple[str, ...]

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
            "by_order": _loading(self.by_order),
            "by_name": _loading(self.by_name),
            "warnings": list(self.warnings),
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
        saved = saved_layers(opened.checkpoint.layers)
    by_order = load_by_order(saved, expected)
    return Check(
        source=os.fspath(source),
        like=os.fspath(like),
        by_order=by_order,
        by_name=load_by_name(saved, expected),
        warnings=tuple(_warnings(by_order)),
    )


def _warnings(loading: Loading) -> Iterator[str]:
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


def _loading(loading: Loading) -> dict[str, Any]:
    return {
        "loads": loading.loads,
        "complaint": loading.complaint,
        "layers": [_step(step) for step in loading.steps],
    }


def _step(step: LoadedLayer) -> dict[str, Any]:
    return {
        "model": asdict(step.expected) if step.expected is not None else None,
        "file": asdict(step.saved) if step.saved is not None else None,
        "complaint": step.complaint,
    }
