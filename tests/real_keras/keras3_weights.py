"""Save models with a real Keras 3, load them and converted ones, and tell the weights of every layer.

Runs in a process of its own, called with a folder. The models that are built here are saved there as `.keras`,
`.weights.h5` and `.h5`; `converted.json` in it lists further `.keras` files, which may have a `.weights.h5` file beside
them. What Keras loads from a file `x` is written to the folder as `x.npz`: for each layer (its name behind those of the
models that hold it) the arrays of its weights.
`refused.json` then names the files that Keras could not save or load, with its words.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Iterator
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


def _models(refused: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Build models of all kinds, and note those that this release cannot build."""
    for build in (_functional, _sequential, _nested, _recurrent, _steep, _own, _attention):
        name = build.__name__[1:]
        try:
            model = build()
        except Exception as error:
            refused[name] = f"{type(error).__name__}: {error}"[-300:]
            continue
        yield name, model


def _functional() -> Any:
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(image)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.SeparableConv2D(4, 3)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, [layers.Dense(2)(x), layers.Dense(3)(x)])


def _sequential() -> Any:
    return keras.Sequential([keras.Input((4,)), *(layers.Dense(3) for _ in range(12)), layers.Dropout(0.5)])


def _nested() -> Any:
    deep = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization()], name="deep")
    entry = keras.Input((4,))
    middle = keras.Model(entry, layers.Dense(4)(deep(entry)), name="middle")
    outer = keras.Input((4,))
    return keras.Model(outer, layers.Dense(2)(middle(layers.Dense(4)(outer))))


def _recurrent() -> Any:
    steps = keras.Input((5, 4))
    x = layers.LSTM(3, return_sequences=True, dropout=0.1)(steps)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(4))(x)
    x = layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True)(x)
    return keras.Model(steps, layers.SimpleRNN(2)(x))


def _steep() -> Any:
    steep = layers.LSTM(3, recurrent_activation="hard_sigmoid")
    return keras.Sequential([keras.Input((5, 4)), steep, layers.Dense(2, activation="hard_sigmoid")])


def _own() -> Any:
    return keras.Sequential([keras.Input((4,)), Scaled(), layers.Dense(2)])


def _attention() -> Any:
    query = keras.Input((5, 4))
    x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(query, query))
    return keras.Model(query, x)


def _weights(model: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, list[np.ndarray[Any, Any]]]]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _weights(layer, (*above, layer.name))
        elif isinstance(layer, layers.TimeDistributed) and isinstance(layer.layer, keras.Model):
            yield from _weights(layer.layer, (*above, layer.name))
        elif layer.weights:
            yield "/".join((*above, layer.name)), layer.get_weights()


def _tell(path: Path, model: Any) -> None:
    folder = Path(sys.argv[1])
    arrays = {f"{name}|{i}": array for name, some in _weights(model) for i, array in enumerate(some)}
    np.savez(folder / f"{path.name}.npz", allow_pickle=False, **arrays)


def _save(folder: Path, name: str, model: Any) -> None:
    random = np.random.default_rng(7)
    model.set_weights([random.standard_normal(array.shape) for array in model.get_weights()])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(folder / f"{name}.keras")
    model.save_weights(folder / f"{name}.weights.h5")


def _load_weights(path: Path, model: Any) -> None:
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    model.load_weights(path)
    _tell(path, model)


def main(folder: Path) -> None:
    """Save, load and tell."""
    refused: dict[str, str] = {}

    def tried(name: str, act: Callable[..., None], *arguments: Any) -> None:
        try:
            act(*arguments)
        except Exception as error:
            refused[name] = f"{type(error).__name__}: {error}"[-300:]

    for name, model in _models(refused):
        tried(name, _save, folder, name, model)
        tried(f"{name}.h5", model.save, folder / f"{name}.h5")
        archive, weights = folder / f"{name}.keras", folder / f"{name}.weights.h5"
        tried(archive.name, _open, archive)
        tried(weights.name, _load_weights, weights, model)
    for archive in map(Path, json.loads((folder / "converted.json").read_text())):
        tried(archive.name, _open, archive)
        weights = archive.with_suffix(".weights.h5")
        if weights.exists():
            tried(weights.name, _load_weights_of, weights, archive)
    (folder / "refused.json").write_text(json.dumps(refused))


def _open(path: Path) -> None:
    _tell(path, keras.models.load_model(path, compile=False))


def _load_weights_of(weights: Path, archive: Path) -> None:
    """Load weights into the model of an archive, which Keras 3.0 to 3.3 build only with all inputs in lists."""
    with zipfile.ZipFile(archive) as members:
        config = json.loads(members.read("config.json"))
    _load_weights(
        weights, keras.saving.deserialize_keras_object(_in_lists({**config, "compile_config": None}))
    )


def _in_lists(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_lists(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _in_lists(item) for key, item in value.items()}
    for key in ("input_layers", "output_layers"):
        if found.get(key) and isinstance(found[key], list) and isinstance(found[key][0], str):
            found[key] = [found[key]]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
