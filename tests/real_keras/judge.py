"""Say what real Keras 3 makes of converted files. A program of its own: KERAS_BACKEND names the backend.

Each line of standard input is a JSON list of two paths, a file of jobs to read and a file of verdicts to write;
the answer is the line `done`.

A job names a `.keras` file, a `.weights.h5` file and the samples that old Keras recorded. A verdict holds the
largest difference between predictions, relative to the largest number recorded, after `load_model` and, all
weights changed in between, after `load_weights`; what differs between the `.weights.h5` file and the one that
Keras then saves itself; whether Keras opens the file only with `custom_objects`; the warnings, and the error if there
was one.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import keras

from tests.real_keras.field_objects import field_objects


def custom_layers() -> dict[str, Any]:
    """Write the user's own layers of the fixtures as one would for Keras 3."""

    class Odd(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.mixer = self.add_weight(shape=(shape[-1], shape[-1]))

        def call(self, inputs: Any) -> Any:
            return keras.ops.matmul(inputs, self.mixer)

    class Early(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.scale = self.add_weight(shape=(6,))

        def call(self, inputs: Any) -> Any:
            return inputs * self.scale

    class Raw(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.shift = self.add_weight(shape=(shape[-1],))

        def call(self, inputs: Any) -> Any:
            return inputs + self.shift

    class Both(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.count = self.add_weight(shape=(3,), initializer="zeros", dtype="int32", trainable=False)
            self.w = self.add_weight(shape=(shape[-1], shape[-1]))
            self.mean = self.add_weight(shape=(shape[-1],), trainable=False)
            self.gain = self.add_weight(shape=())

        def call(self, inputs: Any) -> Any:
            return keras.ops.matmul(inputs - self.mean, self.w) * self.gain

    class Temperature(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            del shape
            self.t = self.add_weight(shape=())

        def call(self, inputs: Any) -> Any:
            return inputs * self.t

    return {kind.__name__: kind for kind in (Odd, Early, Raw, Both, Temperature)}


def double(inputs: Any) -> Any:
    """Do what the Lambda layers of the fixtures do."""
    return inputs * 2


def opens(path: str) -> bool:
    """Tell whether Keras opens a file without `custom_objects`."""
    try:
        keras.saving.load_model(path, compile=False)
    except (TypeError, ValueError):
        return False
    return True


def judge(job: dict[str, Any]) -> dict[str, Any]:
    """Load both files of a job and compare what comes out."""
    keras.backend.clear_session()
    samples = np.load(job["samples"])
    inputs = numbered(samples, "input")
    expected = numbered(samples, "output")
    verdict: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # TensorFlow and numpy 2 about each other; says nothing of the file.
        warnings.filterwarnings("ignore", message="__array__ implementation")
        if job["case"]:
            objects = field_objects(job["case"], tuple(job["custom_objects"]))
        else:
            classes = custom_layers()
            objects = {name: classes.get(name, double) for name in job["custom_objects"]}
        verdict["needs_objects"] = bool(objects) and not opens(job["keras"])
        model = keras.saving.load_model(job["keras"], compile=False, custom_objects=objects)
        verdict["model"] = difference(model, inputs, expected)
        for variable in model.variables:
            if "seed" not in variable.path:
                variable.assign(np.ones(variable.shape))
        model.load_weights(job["weights"])
        verdict["weights"] = difference(model, inputs, expected)
        own = job["weights"].replace(".weights.h5", ".own.weights.h5")
        model.save_weights(own)
        verdict["layout"] = _layout_differences(job["weights"], own)
    verdict["warnings"] = sorted({str(warning.message).splitlines()[0][:200] for warning in caught})
    return verdict


def numbered(samples: Any, kind: str) -> list[Any]:
    return [
        samples[f"{kind}_{index}"] for index in range(sum(name.startswith(kind) for name in samples.files))
    ]


def difference(model: Any, inputs: list[Any], expected: list[Any]) -> float:
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
    found = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    found = list(found) if isinstance(found, list | tuple) else [found]
    if [tuple(one.shape) for one in found] != [one.shape for one in expected]:
        raise ValueError(f"outputs of shapes {[tuple(one.shape) for one in found]}")
    return max(
        float(np.max(np.abs(np.asarray(one, "f8") - want)) / max(float(np.max(np.abs(want))), 1e-3))
        for one, want in zip(map(keras.ops.convert_to_numpy, found), expected, strict=True)
    )


def _layout_differences(ours: str, own: str) -> list[str]:
    listed = [_contents(path) for path in (ours, own)]
    return [
        f"{place}: {listed[0].get(place)} for {listed[1].get(place)}"
        for place in sorted(
            place
            for place in listed[0].keys() | listed[1].keys()
            if listed[0].get(place) != listed[1].get(place)
        )
    ]


def _contents(path: str) -> dict[str, str]:
    contents: dict[str, str] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            contents[name] = f"{item.shape} {item.dtype}"
        elif "name" in item.attrs:
            contents[name] = str(item.attrs["name"])

    with h5py.File(path) as file:
        file.visititems(visit)
    return contents


def main() -> None:
    """Judge lists of jobs until the input ends."""
    gc.freeze()  # clear_session collects all garbage: without what was imported this takes half the time
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        jobs, verdicts = map(Path, json.loads(line))
        verdicts.write_text(
            json.dumps({job["name"]: _judge_or_say(job) for job in json.loads(jobs.read_text())})
        )
        answers.write("done\n")
        answers.flush()


def _judge_or_say(job: dict[str, str]) -> dict[str, Any]:
    try:
        return judge(job)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:2000]}


if __name__ == "__main__":
    main()
