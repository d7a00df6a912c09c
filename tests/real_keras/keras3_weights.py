"""Save models with a real Keras 3, load them and converted ones, and tell the weights of every layer.

Runs in a process of its own, called with a folder. The models that are built here are saved there as `.keras` and
`.weights.h5`; `converted.json` in it lists further `.keras` files. For each file, what Keras loads from it is written
beside it as `.npz`: for each layer (its name behind those of the models that hold it) the arrays of its weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

layers = keras.layers


@keras.saving.register_keras_serializable()
class Scaled(keras.layers.Layer):  # type: ignore[misc]
    """A layer of the user's own, with a layer inside."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), name="factor")
        self.inner = layers.Dense(shape[-1])
        self.inner.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs * self.factor)


def _models() -> Iterator[tuple[str, Any]]:
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(image)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.SeparableConv2D(4, 3)(x)
    x = layers.GlobalAveragePooling2D()(x)
    yield "functional", keras.Model(image, [layers.Dense(2)(x), layers.Dense(3)(x)])
    yield (
        "sequential",
        keras.Sequential([keras.Input((4,)), *(layers.Dense(3) for _ in range(12)), layers.Dropout(0.5)]),
    )
    deep = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization()], name="deep")
    entry = keras.Input((4,))
    middle = keras.Model(entry, layers.Dense(4)(deep(entry)), name="middle")
    outer = keras.Input((4,))
    yield "nested", keras.Model(outer, layers.Dense(2)(middle(layers.Dense(4)(outer))))
    steps = keras.Input((5, 4))
    x = layers.LSTM(3, return_sequences=True, dropout=0.1)(steps)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(4))(x)
    x = layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True)(x)
    yield "recurrent", keras.Model(steps, layers.SimpleRNN(2)(x))
    steep = layers.LSTM(3, recurrent_activation="hard_sigmoid")
    yield "steep", keras.Sequential([keras.Input((5, 4)), steep, layers.Dense(2, activation="hard_sigmoid")])
    yield "own", keras.Sequential([keras.Input((4,)), Scaled(), layers.Dense(2)])
    query = keras.Input((5, 4))
    x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(query, query))
    yield "attention", keras.Model(query, x)


def _weights(model: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, list[np.ndarray[Any, Any]]]]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _weights(layer, (*above, layer.name))
        elif isinstance(layer, layers.TimeDistributed) and isinstance(layer.layer, keras.Model):
            yield from _weights(layer.layer, (*above, layer.name))
        elif layer.weights:
            yield "/".join((*above, layer.name)), layer.get_weights()


def _tell(path: Path, model: Any) -> None:
    arrays = {f"{name}|{i}": array for name, some in _weights(model) for i, array in enumerate(some)}
    np.savez(path.with_suffix(".npz"), allow_pickle=False, **arrays)


def main(folder: Path) -> None:
    """Save, load and tell."""
    for name, model in _models():
        random = np.random.default_rng(7)
        model.set_weights([random.standard_normal(array.shape) for array in model.get_weights()])
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
        model.save(folder / f"{name}.keras")
        model.save_weights(folder / f"{name}.weights.h5")
        model.save(folder / f"{name}.h5")
        _tell(folder / f"{name}.keras", keras.models.load_model(folder / f"{name}.keras"))
        model.set_weights([np.zeros_like(array) for array in model.get_weights()])
        model.load_weights(folder / f"{name}.weights.h5")
        _tell(folder / f"{name}.weights.h5", model)
    for name in json.loads((folder / "converted.json").read_text()):
        _tell(Path(name), keras.models.load_model(name, compile=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
