"""Models that tf_keras builds here and now, and what Keras 3 predicts with them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remap import extract

# Each model, saved as Keras 2 does, with samples and predictions.
BUILD = """
import sys
import numpy as np, tf_keras as kit
from tf_keras import layers as l

class OfTheUser(l.Layer):
    def call(self, inputs):
        return inputs["left"] - 2 * inputs["right"]

def stack(*more):
    return kit.Sequential([l.Dense(4, input_shape=(4,)), *more])

def steps(inner):
    start = kit.Input((5, 4))
    return kit.Model(start, l.LSTM(3)(l.TimeDistributed(inner)(l.Masking()(start))))

def functional():
    start = kit.Input((4,))
    left, right = l.Dense(4)(start), l.Dense(4)(start)
    return kit.Model(start, l.Dense(4)(l.Add()([left, l.LeakyReLU()(right)])))

def on_a_dictionary():
    left, right = kit.Input((4,), name="z"), kit.Input((4,), name="a")
    return kit.Model([left, right], l.Dense(2)(OfTheUser()({"right": l.Dense(4)(right), "left": l.Dense(4)(left)})))

def of_functions():
    # Two models that call a function by one name, a function called like an activation, arguments, a wrapper.
    shift = np.array([0.5, -1.0, 0.25, 2.0])
    def part(factor):
        start = kit.Input((3, 4))
        scaled = l.Lambda(lambda x, by: x * by, name="scale", arguments={"by": factor})(start)
        return kit.Model(start, l.Dense(4, "relu")(scaled))
    start = kit.Input((3, 4))
    both = [part(2.0)(start), part(-3.0)(start)]
    joined = l.Lambda(lambda pair: pair[0] - pair[1], name="relu")(both)
    moved = l.Lambda(lambda x, by: x + by, arguments={"by": shift}, name="shift")(joined)
    return kit.Model(start, l.TimeDistributed(l.Lambda(lambda x: x[:, ::-1], name="turn"))(moved))

models = {
    "functions": of_functions(),
    "stack": steps(stack(l.BatchNormalization(), l.Dense(4, "tanh"))),
    "functional": steps(functional()),
    "twice": steps(stack(stack())),
    "dictionary": on_a_dictionary(),
}
random = np.random.default_rng(5)
for name, model in models.items():
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    inputs = [random.normal(size=(6, *one.shape[1:])).astype("float32") for one in model.inputs]
    for one in inputs:
        if one.ndim == 3:
            one[:, 2:4] = 0
    model.save(f"{sys.argv[1]}/{name}.h5", include_optimizer=False)
    samples = {f"input_{number}": one for number, one in enumerate(inputs)}
    np.savez(f"{sys.argv[1]}/{name}.npz", output=model.predict(inputs, verbose=0), **samples)
"""
LOAD = """
import json, sys
import numpy as np, keras

class OfTheUser(keras.layers.Layer):
    def call(self, inputs):
        return inputs["left"] - 2 * inputs["right"]

objects = {
    "OfTheUser": OfTheUser,
    "scale": lambda x, by: x * by,
    "scale_function": lambda x, by: x * by,
    "relu_function": lambda pair: pair[0] - pair[1],
    "shift": lambda x, by: x + by,
    "turn": lambda x: x[:, ::-1],
}
for name in ("dictionary", "functions"):
    for missing in objects if name == "functions" else ["OfTheUser"]:
        some = {key: value for key, value in objects.items() if key != missing}
        try:
            keras.saving.load_model(f"{sys.argv[1]}/{name}.keras", custom_objects=some)
        except (TypeError, ValueError):
            continue
        assert (name, missing) == ("functions", "OfTheUser"), (name, missing)
told = {}
for name in json.loads(sys.argv[2]):
    samples = np.load(f"{sys.argv[1]}/{name}.npz")
    inputs = [samples[f"input_{number}"] for number in range(len(samples) - 1)]
    model = keras.saving.load_model(f"{sys.argv[1]}/{name}.keras", custom_objects=objects)
    told[name] = float(abs(model.predict(inputs, verbose=0) - samples["output"]).max())
print(json.dumps(told))
"""


def run(program: str, *arguments: str) -> str:
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1] if done.stdout else ""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("tf_keras") is None:
        pytest.skip("tf_keras is not installed")
    folder = tmp_path_factory.mktemp("built")
    run(BUILD, str(folder))
    return folder


def test_predictions_are_those_of_tf_keras(built: Path) -> None:
    names = ["stack", "functional", "twice", "dictionary", "functions"]
    for name in names:
        extract(built / f"{name}.h5", built / f"{name}.keras", overwrite=True)
    differences = json.loads(run(LOAD, str(built), json.dumps(names)))
    assert {name for name, difference in differences.items() if difference > 1e-5} == set()
