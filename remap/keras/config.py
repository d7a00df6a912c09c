"""The JSON in which Keras describes a model, as a tree of layers.

Three generations write it: Keras 2 and tf.keras (`Network.get_config`, `Sequential.get_config`, a bare list
up to Keras 2.2.2), tf_keras the same, Keras 3 with `module`, `registered_name` and another form of nodes.
Nothing in it is run: code of Lambda layers is a string like any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from remap.errors import InputRefused

__all__ = ["Layer", "Node", "load_json", "parse_model"]

# A nested model costs five levels of JSON; no real model comes near this, and json's own parser recurses.
_DEEPEST = 200
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_CONTAINERS = frozenset({"Model", "Functional", "Sequential"})
_FUNCTIONAL_KEYS = frozenset({"layers", "input_layers", "output_layers"})
_SEQUENTIAL_KEYS = frozenset({"name", "layers", "build_input_shape", "trainable", "dtype"})

Node = tuple[tuple[str, int, int], ...]
"""One call of a layer: (layer name, node index, tensor index) of each tensor it was called on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer as its model's config describes it.

    `name` is "" where the config does not say it (a Sequential inside a Sequential, Keras up to 2.2.2).
    `children` is None unless the layer is a model. `wrapped` is the inner layer of a TimeDistributed or
    Bidirectional, `backward` the other half of a Bidirectional that was given one of its own. `nodes` are its
    calls inside the model that holds it, `inputs` and `outputs` the model's own ends, `feed` the InputLayer of
    the wrapper that a stack was taken out of. `config` is the raw config, `entry` the class and config that build
    the layer on its own.
    """

    name: str
    class_name: str
    trainable: bool
    config: Any = field(repr=False)
    children: tuple[Layer, ...] | None = None
    wrapped: Layer | None = None
    backward: Layer | None = None
    nodes: tuple[Node, ...] = ()
    inputs: Node = ()
    outputs: Node = ()
    feed: Layer | None = None

    @property
    def entry(self) -> dict[str, Any]:
        """Give the class and config as Keras writes them for a model saved on its own."""
        return {"class_name": self.class_name, "config": self.config}

    @property
    def sequential(self) -> bool:
        """Tell whether the model is a plain stack."""
        return self.children is not None and not _FUNCTIONAL_KEYS <= _keys(self.config)

    def walk(self) -> Iterator[Layer]:
        """Yield the layer, what it wraps and all layers inside it, depth first in load order."""
        pending = [self]
        while pending:
            layer = pending.pop()
            yield layer
            pending.extend(reversed(layer.children or ()))
            pending.extend(inner for inner in (layer.backward, layer.wrapped) if inner is not None)


def parse_model(text: str, *, where: str) -> Layer:
    """Read the JSON of a whole model.

    Raises InputRefused, naming `where`, for text that is not JSON, is nested too deeply or does not describe
    a model.
    """
    layer = _layer(_mapping(load_json(text, where=where), where), where=where)
    if layer.children is None:
        raise InputRefused(
            f"the JSON describes a {layer.class_name} layer, not a model",
            where=where,
            hint="give the output of model.to_json()",
        )
    return layer


def load_json(text: str, *, where: str) -> Any:
    """Read JSON that a file holds, bounded in depth.

    Raises InputRefused, naming `where`, for anything else.
    """
    steps = (1 if bracket in "[{" else -1 for bracket in _BRACKET.findall(_STRING.sub("", text)))
    deepest = max(accumulate(steps), default=0)
    if deepest > _DEEPEST:
        raise InputRefused(f"the JSON is nested {deepest:,} levels deep, which no model is", where=where)
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputRefused(f"not valid JSON: {error}", where=where) from None


def _layer(entry: Mapping[str, Any], *, where: str) -> Layer:
    class_name = entry.get("class_name")
    config = entry.get("config")
    if not isinstance(class_name, str) or not isinstance(config, dict | list):
        raise InputRefused("not a Keras architecture: an entry lacks class_name or config", where=where)
    fields = config if isinstance(config, dict) else {}
    name = entry.get("name") or fields.get("name") or ""
    if not isinstance(name, str):
        raise InputRefused("not a Keras architecture: a layer's name is not text", where=where)
    here = f"{where}, {class_name} {name!r}"
    listed = config if isinstance(config, list) else fields.get("layers")
    children = None
    if class_name in _CONTAINERS or _is_model(config):
        if not isinstance(listed, list):
            raise InputRefused("not a Keras architecture: a model without a list of layers", where=here)
        children = tuple(_layer(_mapping(child, here), where=here) for child in listed)
    wrapped, backward = (
        _layer(inner, where=here)
        if children is None and isinstance(inner := fields.get(key), dict) and "class_name" in inner
        else None
        for key in ("layer", "backward_layer")
    )
    calls = entry.get("inbound_nodes")
    return Layer(
        name=name,
        class_name=class_name,
        trainable=fields.get("trainable") is not False,
        config=config,
        children=children,
        wrapped=wrapped,
        backward=backward,
        nodes=tuple(tuple(_tensors(call)) for call in calls) if isinstance(calls, list) else (),
        inputs=tuple(_tensors(fields.get("input_layers"))) if children is not None else (),
        outputs=tuple(_tensors(fields.get("output_layers"))) if children is not None else (),
    )


def _is_model(config: Any) -> bool:
    """Tell whether a class of the user's own derives from Keras's models: it describes itself as they do."""
    keys = _keys(config)
    return isinstance(config, list) or _FUNCTIONAL_KEYS <= keys or {"layers"} <= keys <= _SEQUENTIAL_KEYS


def _keys(config: Any) -> frozenset[str]:
    return frozenset(config) if isinstance(config, dict) else frozenset()


def _tensors(value: Any) -> Iterator[tuple[str, int, int]]:
    """Find the tensors a node refers to, in every form that Keras 2, tf.keras and Keras 3 write them."""
    if isinstance(value, dict):
        history = value.get("keras_history")
        parts = [history] if history is not None else list(value.values())
    elif isinstance(value, list):
        match value:
            case [str(name), int(node), int(tensor), *rest] if not isinstance(node, bool):
                yield name, node, tensor
                parts = list(rest)
            case _:
                parts = value
    else:
        return
    for part in parts:
        yield from _tensors(part)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputRefused("not a Keras architecture: a layer is not described by an object", where=where)
    return value
