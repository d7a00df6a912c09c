"""Build models in Keras 3, as someone would who has nothing older, and describe them in every way.

Called with a folder; makes `<case>.json`, `<case>.h5`, `<case>.keras` and `<case>.weights.h5` there. With `load` behind it,
loads the weights files `<case>-out.h5` into the same models and prints what they predict of the samples `<case>.npz`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np


def dense_plain() -> Any:
    """Stack Dense layers of one shape."""
    x = vector = keras.Input((6,))
    for _ in range(12):
        x = keras.layers.Dense(6, activation="tanh")(x)
    return keras.Model(vector, x)


def dense_bn_plain() -> Any:
    """Stack Dense and BatchNormalization in turn."""
    x = vector = keras.Input((6,))
    for _ in range(4):
        x = keras.layers.Dense(6)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Activation("relu")(x)
    return keras.Model(vector, keras.layers.Dense(6)(x))


def alternating_frozen() -> Any:
    """Stack Dense layers, every second one frozen."""
    x = vector = keras.Input((8,))
    for index in range(6):
        layer = keras.layers.Dense(8, activation="tanh")
        x = layer(x)
        layer.trainable = index % 2 == 0
    return keras.Model(vector, x)


MODELS: dict[str, Callable[[], Any]] = {
    "dense_plain": dense_plain,
    "dense_bn_plain": dense_bn_plain,
    "alternating_frozen": alternating_frozen,
}


def main(folder: Path, *, load: bool) -> None:
    """Describe the models, or load what was made for them."""
    predictions = {}
    for name, make in MODELS.items():
        keras.backend.clear_session()
        model = make()
        if load:
            model.load_weights(folder / f"{name}-out.h5")
            predictions[name] = model.predict(np.load(folder / f"{name}.npz")["input_0"], verbose=0).tolist()
            model.load_weights(folder / f"{name}-out.h5", by_name=True)
        else:
            (folder / f"{name}.json").write_text(model.to_json())
            model.save(folder / f"{name}.h5")
            model.save(folder / f"{name}.keras")
            model.save_weights(folder / f"{name}.weights.h5")
    sys.stdout.write("\n" + json.dumps(predictions) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), load=len(sys.argv) > 2)
