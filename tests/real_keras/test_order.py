"""Keras 3 numbers the layers of a file by an order of its own: ours is that order, whatever the graph."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from remap.errors import Undecided
from remap.keras3.tensors import Translation
from tests.test_keras3_order import translated

GRAPHS = 100
KERAS = """
import gc, json, sys
import keras
gc.freeze()
told = []
for config in json.loads(open(sys.argv[1]).read()):
    keras.backend.clear_session()
    model = keras.saving.deserialize_keras_object(config)
    told.append([layer.name for layer in model.layers])
open(sys.argv[2], "w").write(json.dumps(told))
"""


class _Graph:
    """A random graph of Dense and Add layers and of models inside, all on vectors of two."""

    def __init__(self, seed: int, *, masking: bool = False) -> None:
        self.random = random.Random(seed)
        self.layers: dict[str, dict[str, Any]] = {}
        self.calls: dict[str, list[list[tuple[str, int, int]]]] = {}
        self.pool: list[tuple[str, int, int]] = []
        self.inputs: list[tuple[str, int, int]] = []
        for number in range(self.random.randint(1, 2)):
            self._add(f"input_{number}", "InputLayer", {"batch_input_shape": [None, 3, 2]})
            self.inputs.append(self._call(f"input_{number}", []))
        for number in range(self.random.randint(2, 14)):
            self._grow(number, masking=masking)
        self.outputs = self.random.sample(self.pool, min(len(self.pool), self.random.randint(1, 3)))

    def _add(self, name: str, class_name: str, config: dict[str, Any]) -> None:
        self.layers[name] = {"class_name": class_name, "config": {"name": name, **config}}
        self.calls[name] = []

    def _call(self, name: str, tensors: list[tuple[str, int, int]]) -> tuple[str, int, int]:
        self.calls[name].append(tensors)
        tensor = (name, len(self.calls[name]) - 1, 0)
        self.pool.append(tensor)
        return tensor

    def _grow(self, number: int, *, masking: bool) -> None:
        kind = self.random.choice(["Dense", "Dense", "again", "Add", "Model", "Sequential", "Masking"])
        known = [name for name, entry in self.layers.items() if entry["class_name"] in {"Dense", "Model"}]
        if kind == "again" and known:
            self._call(self.random.choice(known), [self.random.choice(self.pool)])
        elif kind == "Add":
            self._add(f"add_{number}", "Add", {})
            self._call(f"add_{number}", [self.random.choice(self.pool) for _ in range(2)])
        elif kind == "Model":
            self._add(f"model_{number}", "Model", _inner(number))
            self._call(f"model_{number}", [self.random.choice(self.pool)])
        elif kind == "Sequential":
            first = {
                "class_name": "Dense",
                "config": {"name": "only", "units": 2, "batch_input_shape": [None, 3, 2]},
            }
            self._add(f"stack_{number}", "Sequential", {"layers": [first]})
            self._call(f"stack_{number}", [self.random.choice(self.pool)])
        elif kind == "Masking" and masking:
            self._add(f"masking_{number}", "Masking", {"mask_value": 0.0})
            self._call(f"masking_{number}", [self.random.choice(self.pool)])
        else:
            self._add(f"dense_{number}", "Dense", {"units": 2})
            self._call(f"dense_{number}", [self.random.choice(self.pool)])

    def config(self) -> dict[str, Any]:
        """Write what old Keras would: only what leads to the outputs, calls counted anew."""
        needed: set[tuple[str, int]] = set()
        pending = [(name, call) for name, call, _ in self.outputs]
        while pending:
            node = pending.pop()
            if node not in needed:
                needed.add(node)
                pending += [(name, call) for name, call, _ in self.calls[node[0]][node[1]]]
        number: dict[tuple[str, int], int] = {}
        for name, calls in self.calls.items():
            first = 1 if self.layers[name]["class_name"] in {"Model", "Sequential"} else 0
            kept = [call for call in range(len(calls)) if (name, call) in needed]
            number.update({(name, call): index + first for index, call in enumerate(kept)})
        layers = []
        for name, entry in self.layers.items():
            kept = [call for call in range(len(self.calls[name])) if (name, call) in needed]
            if not kept:
                continue
            nodes = [
                [[above, number[above, index], tensor, {}] for above, index, tensor in self.calls[name][call]]
                for call in kept
                if self.calls[name][call]
            ]
            layers.append({**entry, "name": name, "inbound_nodes": nodes})
        ends = [[name, number[name, call], tensor] for name, call, tensor in self.outputs]
        starts = [[name, 0, 0] for name, call, _ in self.inputs if (name, call) in needed]
        config = {"name": "whole", "layers": layers, "input_layers": starts, "output_layers": ends}
        return {"class_name": "Model", "config": config}


def _inner(number: int) -> dict[str, Any]:
    chain: list[dict[str, Any]] = [
        {
            "name": "start",
            "class_name": "InputLayer",
            "config": {"name": "start", "batch_input_shape": [None, 3, 2]},
        }
    ]
    chain[0]["inbound_nodes"] = []
    for index in range(1 + number % 2):
        name = f"inside_{index}"
        node = [[[chain[-1]["name"], 0, 0, {}]]]
        chain.append(
            {"name": name, "class_name": "Dense", "config": {"name": name, "units": 2}, "inbound_nodes": node}
        )
    return {"layers": chain, "input_layers": [["start", 0, 0]], "output_layers": [[chain[-1]["name"], 0, 0]]}


def ask_keras(translations: list[Translation], folder: Path) -> list[list[str]]:
    asked, told = folder / "asked.json", folder / "told.json"
    asked.write_text(json.dumps([translation.config for translation in translations]))
    done = subprocess.run(
        [sys.executable, "-c", KERAS, str(asked), str(told)],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    listed: list[list[str]] = json.loads(told.read_text())
    return listed


def ours(translation: Translation) -> list[str]:
    return [entry["name"] for entry in translation.config["config"]["layers"]]


def test_layers_are_listed_as_keras_lists_them(tmp_path: Path) -> None:
    translations = [translated(_Graph(seed).config()) for seed in range(GRAPHS)]
    for translation, theirs in zip(translations, ask_keras(translations, tmp_path), strict=True):
        assert ours(translation) == theirs


def test_masks_change_no_order_that_is_not_said_to_depend_on_them(tmp_path: Path) -> None:
    translations = [translated(_Graph(seed, masking=True).config()) for seed in range(1000, 1000 + GRAPHS)]
    sure = [
        one for one in translations if not any(isinstance(problem, Undecided) for problem in one.problems)
    ]
    assert len(sure) > GRAPHS / 2
    for translation, theirs in zip(sure, ask_keras(sure, tmp_path), strict=True):
        weighted = [name for name in ours(translation) if name.startswith(("dense", "model", "stack"))]
        kinds = {name.split("_")[0] for name in weighted}
        for kind in kinds:
            assert [n for n in weighted if n.startswith(kind)] == [n for n in theirs if n.startswith(kind)]
