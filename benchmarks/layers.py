"""Measure the commands on models of many layers: the processor time of each, as the number of layers grows.

    python benchmarks/layers.py [LAYERS ...]

Prints a table for each kind of file. The tensors are tiny, so that what counts is the number of layers: Dense
layers with a kernel and a bias each, in a single model, in a multi-GPU wrapper, and in models within a model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from inputs import write_names

ROOT = Path(__file__).resolve().parents[1]
SIZES = (1_000, 3_000, 10_000, 30_000)
_UNITS = 2
_NESTED = 50

Config = dict[str, Any]


def _entry(class_name: str, config: Config, nodes: list[Any]) -> Config:
    return {"class_name": class_name, "name": config["name"], "config": config, "inbound_nodes": nodes}


def _feed(name: str) -> Config:
    config = {"name": name, "batch_input_shape": [None, _UNITS], "dtype": "float32", "sparse": False}
    return _entry("InputLayer", config, [])


def _dense(name: str, before: str, call: int = 0) -> Config:
    config = {"name": name, "trainable": True, "units": _UNITS, "activation": "linear", "use_bias": True}
    return _entry("Dense", config, [[[before, call, 0, {}]]])


def _model(name: str, layers: list[Config], output: tuple[str, int]) -> Config:
    ends = {"input_layers": [[layers[0]["name"], 0, 0]], "output_layers": [[*output, 0]]}
    return {"class_name": "Model", "config": {"name": name, "layers": layers, **ends}}


def plain(count: int) -> Config:
    """Chain `count` Dense layers."""
    layers = [_feed("input_1")]
    for number in range(1, count + 1):
        layers.append(_dense(f"dense_{number}", layers[-1]["name"]))
    return _model("model_1", layers, (layers[-1]["name"], 0))


def nested(count: int) -> Config:
    """Chain models of 50 Dense layers each."""
    layers, before, call = [_feed("input_1")], "input_1", 0
    for part in range(count // _NESTED):
        inside = [_feed(f"input_{part + 2}")]
        for number in range(part * _NESTED + 1, (part + 1) * _NESTED + 1):
            inside.append(_dense(f"dense_{number}", inside[-1]["name"]))
        inner = _model(f"model_{part + 2}", inside, (inside[-1]["name"], 0))
        layers.append({**inner, "name": f"model_{part + 2}", "inbound_nodes": [[[before, call, 0, {}]]]})
        before, call = f"model_{part + 2}", 1
    return _model("model_1", layers, (before, call))


def wrapped(model: Config) -> Config:
    """Put a model in the wrapper that `multi_gpu_model` makes for two GPUs."""
    slices = [
        _entry(
            "Lambda",
            {"name": f"lambda_{gpu + 1}", "arguments": {"i": gpu, "parts": 2}},
            [[["input_1", 0, 0, {}]]],
        )
        for gpu in range(2)
    ]
    calls = [[[f"lambda_{gpu + 1}", 0, 0, {}]] for gpu in range(2)]
    inner = {**model, "name": "model_1", "inbound_nodes": calls}
    merge = _entry(
        "Concatenate", {"name": "output", "axis": 0}, [[["model_1", 1, 0, {}], ["model_1", 2, 0, {}]]]
    )
    return _model("model_0", [_feed("input_1"), *slices, inner, merge], ("output", 0))


def write(path: Path, model: Config, *, full: bool) -> None:
    """Write the file that Keras 2 saves for a model, with or without its architecture."""
    with h5py.File(path, "w", libver="earliest") as file:
        root = file
        if full:
            root = file.create_group("model_weights")
            file.attrs["model_config"] = json.dumps(model).encode()
            file.attrs["backend"] = b"tensorflow"
            file.attrs["keras_version"] = b"2.2.4"
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = b"2.2.4"
        layers = model["config"]["layers"]
        write_names(root, "layer_names", [layer["name"] for layer in layers])
        for layer in layers:
            group = root.create_group(layer["name"])
            weights = list(_weights(layer))
            write_names(group, "weight_names", [name for name, _ in weights])
            for name, shape in weights:
                group.create_dataset(name, data=np.full(shape, 0.5, "<f4"))


def _weights(layer: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    if layer["class_name"] == "Dense":
        yield f"{layer['name']}/kernel:0", (_UNITS, _UNITS)
        yield f"{layer['name']}/bias:0", (_UNITS,)
    for inner in layer["config"].get("layers", []):
        yield from _weights(inner)


KINDS: dict[str, Callable[[int], Config]] = {"plain": plain, "nested": nested}


def prepare(folder: Path, kind: str, count: int) -> dict[str, list[str]]:
    """Write every file of one kind and give the commands to measure."""
    model = KINDS[kind](count)
    for name, written in (("single", model), ("multi", wrapped(model))):
        write(folder / f"{name}.h5", written, full=True)
        write(folder / f"{name}_weights.h5", written, full=False)
    like = json.dumps({**model, "keras_version": "2.2.4", "backend": "tensorflow"})
    (folder / "model.json").write_text(like)
    commands = {
        f"inspect {name}": ["inspect", f"{name}.h5"]
        for name in ("single", "single_weights", "multi", "multi_weights")
    }
    for like in ("model.json", "single.h5", "single_weights.h5"):
        commands[f"check single_weights {like}"] = ["check", "single_weights.h5", "--like", like]
        commands[f"extract multi_weights {like}"] = [
            "extract",
            "multi_weights.h5",
            "-o",
            "out.h5",
            "--overwrite",
            "--like",
            like,
        ]
    commands["check multi_weights single"] = ["check", "multi_weights.h5", "--like", "model.json"]
    for suffix in ("h5", "weights.h5", "keras"):
        commands[f"extract multi .{suffix}"] = ["extract", "multi.h5", "-o", f"out.{suffix}", "--overwrite"]
    return commands


def measured(command: list[str], folder: Path) -> str:
    """Give the processor time of a command in seconds, with its exit code where that is not 0."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "remap", *command],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return f"{seconds:.2f}" + (f" (exit {done.returncode})" if done.returncode else "")


def main(sizes: Iterable[int]) -> None:
    """Print the tables."""
    sizes = list(sizes)
    print("Processor time in seconds.")
    for kind in KINDS:
        print(f"\n| {kind} | {' | '.join(f'{size:,} layers' for size in sizes)} |")
        print("|---|" + "---:|" * len(sizes))
        rows: dict[str, list[str]] = {}
        for size in sizes:
            with tempfile.TemporaryDirectory() as name:
                for row, command in prepare(Path(name), kind, size).items():
                    rows.setdefault(row, []).append(measured(command, Path(name)))
        for row, cells in rows.items():
            print(f"| {row} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(map(int, sys.argv[1:]) if len(sys.argv) > 1 else SIZES)
