"""What releases of Keras saved for the networks of `keras.applications`, as checkpoints without a file.

fixtures/make/check_networks.py records names, shapes and order of the weights; each weight has a number.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.conversion_plan import PlannedLayer

__all__ = ["RELEASES", "Saved", "planned", "saved"]

FOLDER = Path(__file__).parents[1] / "fixtures" / "networks"
RELEASES = sorted(path.name.removesuffix(".json.xz") for path in FOLDER.glob("*.json.xz"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A network that one release saved: how `--like` names it, the wrapper's file, and what the own file has."""

    like: str
    checkpoint: Checkpoint
    truth: Hashable

    @property
    def network(self) -> str:
        return self.like.partition(",")[0]


@cache
def saved(release: str) -> tuple[Saved, ...]:
    """Read what one release saved."""
    entries = json.loads(lzma.decompress((FOLDER / f"{release}.json.xz").read_bytes()))
    return tuple(
        Saved(
            like=entry["like"],
            checkpoint=Checkpoint(
                root="/",
                layers=tuple(
                    LayerGroup(
                        name=name,
                        weights=tuple(
                            Weight(name=weight, path=f"/{number}", shape=tuple(shape), dtype="<f4")
                            for weight, shape, number in weights
                        ),
                    )
                    for name, weights in entry["multi"]
                ),
                backend="tensorflow",
                keras_version=entry["keras_version"],
            ),
            truth=tuple(
                (name, tuple(f"/{number}" for number in numbers)) for name, numbers in entry["single"]
            ),
        )
        for entry in entries
    )


def planned(layers: Iterable[PlannedLayer]) -> Hashable:
    """Give the layers with weights of a plan, as `Saved.truth` does."""
    return tuple(
        (layer.name, tuple(weight.source.path for weight in layer.weights))
        for layer in layers
        if layer.weights
    )
