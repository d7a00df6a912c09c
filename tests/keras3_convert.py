"""Convert recorded files to the formats of Keras 3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from remap.assignment.reference import Request
from remap.formats.keras3 import describe_archive, describe_weights
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from remap.keras3.conversion import translate
from remap.keras3.tensors import Translation
from remap.planning import compose_for_keras3

__all__ = ["Job", "convert", "translate_flat"]


@dataclass(frozen=True, slots=True)
class Job:
    """Two converted files, what old Keras predicted, and the keys that `custom_objects` must have.

    `case` names a model in `fixtures/field`, whose own layers and functions it needs.
    """

    name: str
    keras: Path
    weights: Path
    samples: Path
    custom_objects: tuple[str, ...] = ()
    case: str = ""

    def to_json(self) -> dict[str, object]:
        """Give what `real_keras/judge.py` reads."""
        files = {"keras": self.keras, "weights": self.weights, "samples": self.samples}
        paths = {role: str(path) for role, path in files.items()}
        more = {"custom_objects": self.custom_objects, "case": self.case}
        return {"name": self.name, **paths, **more}


def translate_flat(path: Path) -> Translation:
    """Translate a single model's own full file."""
    with open_checkpoint(path) as opened:
        assert opened.checkpoint.model_config is not None
        plan = compose_for_keras3(opened.checkpoint, Request())
    assert plan.architecture is not None
    return translate(plan.architecture, plan.layers, keras_version=plan.keras_version)


def convert(translation: Translation, source: Path, stem: Path) -> tuple[Path, Path]:
    """Write both files of Keras 3."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    keras, weights = stem.with_name(f"{stem.name}.keras"), stem.with_name(f"{stem.name}.weights.h5")
    with open_checkpoint(source) as opened:
        publish(describe_archive(translation), opened, keras, overwrite=True)
        publish(describe_weights(translation), opened, weights, overwrite=True)
    return keras, weights
