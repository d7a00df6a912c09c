"""Open .h5 files with `load_model` of real Keras 3 and compare predictions. A program of its own.

Called with a JSON file of jobs, the file and the recorded samples by name, and a file to write: for each name the
largest difference of predictions, relative to the largest number recorded, or why the file does not open.
"""

from __future__ import annotations

import gc
import json
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import keras
import numpy as np

from tests.real_keras.judge import custom_layers, difference, numbered


def main(jobs: Path, verdicts: Path) -> None:
    """Do all jobs."""
    gc.freeze()  # clear_session collects all garbage: without what was imported this takes half the time
    warnings.simplefilter("ignore")
    told = {name: _verdict(*paths) for name, paths in json.loads(jobs.read_text()).items()}
    verdicts.write_text(json.dumps(told))


def _verdict(path: str, samples: str) -> float | str:
    keras.backend.clear_session()
    try:
        model = keras.saving.load_model(path, compile=False, custom_objects=custom_layers())
        recorded = np.load(samples)
        return difference(model, numbered(recorded, "input"), numbered(recorded, "output"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
