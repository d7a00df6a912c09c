"""Checkpoints and architectures on paper: values only, no files."""

from __future__ import annotations

import base64
import json
from typing import Any

from remap.architecture import Layer, parse_model
from remap.checkpoint import Checkpoint, LayerGroup, Weight

__all__ = ["dense", "entry", "group", "listed", "model", "parallel", "replicated", "sliced", "stack"]


def listed(*names: str, size: int = 2) -> tuple[Weight, ...]:
    """Make weights of the shapes that their leaves usually have."""
    shapes = {"kernel": (size, size), "embeddings": (9, size)}
    return tuple(
        Weight(
            name=f"{name}:0", path=f"/{name}", shape=shapes.get(name.rpartition("/")[2], (size,)), dtype="<f4"
        )
        for name in names
    )


def group(name: str, *weights: str) -> LayerGroup:
    """Make a group."""
    return LayerGroup(name=name, weights=listed(*weights))


def replicated(*weights: str, name: str = "model_1", inputs: int = 1, gpus: int = 2) -> Checkpoint:
    """Make the weights file of a wrapper."""
    before = [f"input_{i}" for i in range(inputs)] + [f"lambda_{i}" for i in range(inputs * gpus)]
    layers = (*(group(layer) for layer in before), group(name, *weights), group("out"))
    return Checkpoint(root="/", layers=layers)


def entry(name: str, class_name: str, nodes: list[Any] | None = None, **config: Any) -> dict[str, Any]:
    """Make a layer's entry; `nodes` are the names it is called on, a list a call."""
    calls = [[[source, 0, 0, {}] for source in call] for call in nodes or []]
    return {
        "name": name,
        "class_name": class_name,
        "config": {"name": name, **config},
        "inbound_nodes": calls,
    }


def dense(name: str, **config: Any) -> dict[str, Any]:
    """Make a Dense layer's entry."""
    return entry(name, "Dense", units=2, **config)


def model(*layers: dict[str, Any], outputs: tuple[str, ...] = ()) -> Layer:
    """Make a functional model."""
    ends = {"input_layers": [], "output_layers": [[name, 0, 0] for name in outputs]}
    config = {"name": "m", "layers": list(layers), **ends}
    return parse_model(json.dumps({"class_name": "Model", "config": config}), where="paper")


def stack(*layers: dict[str, Any], name: str = "model_1") -> dict[str, Any]:
    """Make the entry of a Sequential."""
    return {"name": name, "class_name": "Sequential", "config": {"name": name, "layers": list(layers)}}


def sliced(name: str, source: str, part: int, parts: int) -> dict[str, Any]:
    """Make the entry of a Lambda layer with which `multi_gpu_model` takes a part of the batch.

    Of the byte code it has only what that says of itself.
    """
    code = base64.b64encode(b"\xe3get_slice\xfa/lib/site-packages/keras/utils/multi_gpu_utils.py").decode()
    made = entry(name, "Lambda", [[source]])
    made["config"] |= {
        "function": [code, None, None],
        "function_type": "lambda",
        "arguments": {"i": part, "parts": parts},
    }
    return made


def parallel(template: dict[str, Any], *, name: str, parts: int = 2) -> dict[str, Any]:
    """Make the entry of a wrapper of a model with one input and one output, as `multi_gpu_model` builds it."""
    slices = [sliced(f"lambda_{part}", "in", part, parts) for part in range(parts)]
    inner = {**template, "inbound_nodes": [[[one["name"], 0, 0, {}]] for one in slices]}
    merge = entry("merged", "Concatenate", axis=0)
    merge["inbound_nodes"] = [[[inner["name"], 1 + part, 0, {}] for part in range(parts)]]
    layers = [entry("in", "InputLayer", batch_input_shape=[None, 2]), *slices, inner, merge]
    ends = {"input_layers": [["in", 0, 0]], "output_layers": [["merged", 0, 0]]}
    return {"name": name, "class_name": "Model", "config": {"name": name, "layers": layers, **ends}}
