"""Lambda layers of keras.applications as the built-in layers that compute the same.

The function of a Lambda is byte code, which is never decoded. Those of keras.applications are known by where they stand,
between layers whose names the network fixes:

- InceptionResNetV2 adds to the input of each block its output times a number (`inception_resnet_block` in
  keras/applications/inception_resnet_v2.py, the same in Keras 2.0.9 to tf.keras 2.3).
- ResNeXt computes a grouped convolution by a depthwise one whose channels a Reshape takes apart into groups; the Lambda adds
  up the inputs of each group, and a Reshape joins the groups (`block3` in keras_applications 1.0.8, and in
  keras/applications/resnet.py of tf.keras from 2.0 on).

A Lambda that differs in anything stays one whose function `custom_objects` must give.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from remap.architecture import Layer, read_layer
from remap.layers.convolution import DEPTHWISE_CONV2D
from remap.layers.core import RESCALING, RESHAPE, TENSORFLOW_OPERATION
from remap.layers.merging import ADD
from remap.typed_json import Json, read_json

__all__ = ["replace_known_functions"]

_BLOCK = re.compile(r"block(35|17|8)_\d+")
_GROUPS = re.compile(r"(conv[2-5]_block\d+)_2_reduce")
_AXIS_OF_INPUTS = 4
_TYPES: Mapping[str, str] = {"float16": "DT_HALF", "float32": "DT_FLOAT", "float64": "DT_DOUBLE"}
_SCALES: Mapping[str, tuple[float, ...]] = {"35": (0.17,), "17": (0.1,), "8": (0.2, 1.0)}


def replace_known_functions(model: Layer) -> tuple[Layer, tuple[str, ...]]:
    """Replace the Lambda layers of keras.applications in a model and in the models inside it.

    Args:
        model: The model.

    Returns:
        The model, and one note for each layer that was replaced.
    """
    notes: list[str] = []
    return _replaced(model, notes), tuple(notes)


def _replaced(layer: Layer, notes: list[str]) -> Layer:
    if layer.wrapped is not None:
        return replace(layer, wrapped=_replaced(layer.wrapped, notes))
    if layer.children is None:
        return layer
    siblings = {child.name: child for child in layer.children}
    children = [new for child in layer.children for new in _known(child, siblings, notes)]
    return replace(layer, children=tuple(children))


def _known(layer: Layer, siblings: Mapping[str, Layer], notes: list[str]) -> Iterator[Layer]:
    if _adds_groups(layer, siblings):
        notes.append(
            f"layer {layer.name!r} (Lambda) of ResNeXt becomes an operation of Keras 3 that computes the same: a sum"
        )
        yield _sum(layer)
        return
    scale = _scale_of(layer, siblings)
    scaled = f"{layer.name}_scale"
    if scale is None or scaled in siblings:
        yield _replaced(layer, notes)
        return
    notes.append(
        f"layer {layer.name!r} (Lambda) of InceptionResNetV2 becomes {RESCALING.name} and {ADD.name} layers, which "
        "compute the same"
    )
    kept = layer.config
    dtype: dict[str, Json] = {"dtype": kept.value("dtype").json()} if kept.given("dtype") else {}
    (added, branch) = layer.nodes[0]
    yield _built(RESCALING.name, {"name": scaled, "scale": scale, "offset": 0.0, **dtype}, [branch])
    yield _built(ADD.name, {"name": layer.name, **dtype}, [added, (scaled, 0, 0)])


def _scale_of(layer: Layer, siblings: Mapping[str, Layer]) -> float | None:
    """Give the number by which a block of InceptionResNetV2 is scaled; None for any other layer."""
    name = _BLOCK.fullmatch(layer.name)
    if name is None or layer.declared is None or not layer.declared.calls_function:
        return None
    arguments = layer.config.object("arguments", default=None)
    plain_call = len(layer.nodes) == 1 and len(layer.nodes[0]) == 2 and _without_keywords(layer)
    if arguments is None or arguments.keys() != ("scale",) or not plain_call or layer.config.given("mask"):
        return None
    _, (branch, call, tensor) = layer.nodes[0]
    convolution, mixed = siblings.get(f"{layer.name}_conv"), siblings.get(f"{layer.name}_mixed")
    if convolution is None or mixed is None or (branch, call, tensor) != (convolution.name, 0, 0):
        return None
    known = (
        convolution.nodes == (((mixed.name, 0, 0),),)
        and convolution.config.holds("activation", "linear")
        and mixed.declared is not None
        and mixed.declared.joins_along(mixed.config) in {3, -1, 1}
    )
    scale = next((one for one in _SCALES[name[1]] if arguments.holds("scale", one)), None)
    return scale if known else None


def _adds_groups(layer: Layer, siblings: Mapping[str, Layer]) -> bool:
    """Tell whether a layer is the Lambda in a grouped convolution of ResNeXt."""
    name = _GROUPS.fullmatch(layer.name)
    if name is None or layer.declared is None or not layer.declared.calls_function:
        return False
    arguments = layer.config.object("arguments", default=None)
    plain_call = len(layer.nodes) == 1 and len(layer.nodes[0]) == 1 and _without_keywords(layer)
    if (arguments is not None and arguments.keys()) or not plain_call or layer.config.given("mask"):
        return False
    if layer.config.given("dtype") and not any(layer.config.holds("dtype", one) for one in _TYPES):
        return False
    convolution, normalized = (siblings.get(f"{name[1]}_2_{kind}") for kind in ("conv", "bn"))
    ((source, *_),) = layer.nodes[0]
    split = siblings.get(source)
    joined = siblings.get(normalized.nodes[0][0][0]) if normalized is not None and normalized.nodes else None
    if convolution is None or split is None or joined is None or normalized is None:
        return False
    in_line = all(
        after.nodes == (((before.name, 0, 0),),)
        for before, after in itertools.pairwise((convolution, split, layer, joined, normalized))
    )
    reshapes = split.declared is RESHAPE and joined.declared is RESHAPE
    if not in_line or not reshapes or convolution.declared is not DEPTHWISE_CONV2D:
        return False
    apart, together = (_sizes(one) for one in (split, joined))
    if len(apart) != 5:
        return False
    *places, groups, inputs, outputs = apart
    multiplied = inputs == outputs and convolution.config.holds("depth_multiplier", outputs)
    return multiplied and together == [*places, groups * outputs]


def _sizes(reshape: Layer) -> list[int]:
    """Give the sizes that a Reshape gives to its input; none if they are not known."""
    if not reshape.config.given("target_shape"):
        return []
    sizes = reshape.config.value("target_shape")
    known = sizes.kind == "list" and all(one.kind == "integer" for one in sizes.values())
    return list(sizes.integers()) if known else []


def _sum(layer: Layer) -> Layer:
    """Write the Lambda of a grouped convolution as TensorFlow would have recorded the sum."""
    kept = layer.config
    dtype = next((one for one in _TYPES if kept.holds("dtype", one)), None)
    node: dict[str, Json] = {
        "name": layer.name,
        "op": "Sum",
        "input": ["x", "axis"],
        "attr": {"T": {"type": _TYPES[dtype or "float32"]}, "keep_dims": {"b": False}},
    }
    config: dict[str, Json] = {
        "name": layer.name,
        "node_def": node,
        "constants": {"1": _AXIS_OF_INPUTS},
        **({"dtype": dtype} if dtype else {}),
    }
    return _built(TENSORFLOW_OPERATION.name, config, list(layer.nodes[0]))


def _without_keywords(layer: Layer) -> bool:
    parts = [tensor.values() for tensor in layer.calls[0].values()]
    return all(len(part) == 3 or part[3].kind == "null" or not part[3].object().keys() for part in parts)


def _built(class_name: str, config: Mapping[str, Json], taken: list[tuple[str, int, int]]) -> Layer:
    entry = {
        "class_name": class_name,
        "config": config,
        "name": config["name"],
        "inbound_nodes": [[[*tensor, {}] for tensor in taken]],
    }
    return read_layer(read_json(json.dumps(entry), where=f"layer {config['name']!r}").object())
