"""The JSON of `model.to_json()` and of the attribute `model_config` as a tree of layers.

Keras 2, tf.keras and tf_keras write the same form (`Network.get_config`, `Sequential.get_config`; up to Keras 2.2.2
the config of a Sequential is a list of layers). Keras 3 adds `module` and `registered_name` and writes nodes in
another form. Nothing in the JSON is run: the code of a Lambda layer is a text like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from remap.errors import InputRefused
from remap.layers import CATALOGUE, is_model_class
from remap.layers.declaration import LayerClass
from remap.layers.weights import OwnedWeights, joined
from remap.typed_json import Config, Json, Value, read_json

__all__ = [
    "Config",
    "Layer",
    "Node",
    "dtype_name",
    "input_of",
    "input_shape",
    "is_weightless",
    "owned_weights",
    "parse_model",
    "read_layer",
]

_FUNCTIONAL_KEYS = frozenset({"layers", "input_layers", "output_layers"})
_SEQUENTIAL_KEYS = frozenset({"name", "layers", "build_input_shape", "trainable", "dtype"})

_SHAPE_OF_STACK = "batch_input_shape"

_GIVE = "give the output of model.to_json()"
_NOTHING = read_json("{}", where="a bare list of layers").object()

Node = tuple[tuple[str, int, int], ...]
"""One call of a layer: (layer name, node index, tensor index) of each tensor it was called on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer as the config of its model describes it.

    Attributes:
        name: Its name; "" for a nested Sequential in files of Keras up to 2.2.2, which do not have it.
        class_name: Its class.
        trainable: Its own flag `trainable`.
        config: The arguments of the class; empty where `stored` is a list of layers.
        stored: The config as the file has it.
        children: The layers of a model; None for other layers.
        wrapped: The inner layer of a TimeDistributed or Bidirectional.
        backward: The backward layer of a Bidirectional that was given one.
        nodes: Its calls in the model that contains it.
        calls: The same as the file has them.
        inputs: The input tensors of a model.
        outputs: The output tensors of a model.
        feed: The InputLayer of the multi-GPU wrapper from which this Sequential was extracted.
    """

    name: str
    class_name: str
    trainable: bool
    config: Config = field(repr=False)
    stored: Value = field(repr=False)
    children: tuple[Layer, ...] | None = None
    wrapped: Layer | None = None
    backward: Layer | None = None
    nodes: tuple[Node, ...] = ()
    calls: tuple[Value, ...] = field(default=(), repr=False)
    inputs: Node = ()
    outputs: Node = ()
    feed: Layer | None = None

    @property
    def entry(self) -> dict[str, Any]:
        """Give the class and config in the form of `model_config`.

        A Sequential of tf.keras 1.14 to 2.1 writes the shape of its input into the config of its first layer, also if
        that is a model (`Sequential.get_config`); a model's own config does not have it.
        """
        if self.children is not None and self.config.has(_SHAPE_OF_STACK):
            return {"class_name": self.class_name, "config": self.config.without(_SHAPE_OF_STACK).json()}
        return {"class_name": self.class_name, "config": self.stored.json()}

    @property
    def declared(self) -> LayerClass | None:
        """Give the declaration of the class; None for a custom class and for a model."""
        found = CATALOGUE.get(self.class_name) if self.children is None else None
        return found if found is not None and found.describes(self.config) else None

    @property
    def is_input(self) -> bool:
        """Tell whether the layer is an InputLayer."""
        return self.declared is not None and self.declared.is_input

    @property
    def innermost(self) -> Layer:
        """Give the layer inside all TimeDistributed wrappers, which has their weights."""
        layer = self
        while layer.wrapped is not None and layer.declared is not None and layer.declared.directions == 1:
            layer = layer.wrapped
        return layer

    @property
    def sequential(self) -> bool:
        """Tell whether the layer is a Sequential or a custom class with the config of one."""
        return self.children is not None and not _FUNCTIONAL_KEYS <= frozenset(self.config.keys())

    @property
    def bare(self) -> bool:
        """Tell whether the config is a list of layers, as Keras up to 2.2.2 writes that of a Sequential."""
        return self.stored.kind == "list"

    def walk(self) -> Iterator[Layer]:
        """Yield the layer, its inner layers and all layers of nested models, depth first in load order."""
        pending = [self]
        while pending:
            layer = pending.pop()
            yield layer
            pending.extend(reversed(layer.children or ()))
            pending.extend(inner for inner in (layer.backward, layer.wrapped) if inner is not None)


def parse_model(text: str, *, where: str) -> Layer:
    """Read the JSON of a model.

    Args:
        text: The JSON.
        where: The file, for messages.

    Raises:
        InputRefused: The text is not JSON, is nested too deeply or does not describe a model.
    """
    value = read_json(text, where=where)
    if value.kind != "object" or not {"class_name", "config"} <= set(value.object().keys()):
        value.refuse(
            "not a Keras architecture: an object with class_name and config was expected", hint=_GIVE
        )
    layer = read_layer(value.object())
    if layer.children is None:
        raise InputRefused(
            f"the JSON describes a {layer.class_name} layer, not a model", where=where, hint=_GIVE
        )
    return layer


def read_layer(entry: Config) -> Layer:
    """Read the entry of a layer or model, with all layers in it.

    Args:
        entry: The entry.

    Raises:
        InputRefused: Keras does not write such an entry; the error has the JSON path.
    """
    class_name = entry.name("class_name")
    stored = entry.value("config")
    if stored.kind not in {"object", "list"}:
        stored.refuse("the config of a layer is neither an object nor, in an old stack, a list of layers")
    config = stored.object() if stored.kind == "object" else _NOTHING
    is_model = is_model_class(class_name) or _describes_model(stored.kind == "list", config)
    inner = {} if is_model else {key: _wrapped(config, key) for key in ("layer", "backward_layer")}
    nodes = entry.values("inbound_nodes", default=None) or ()
    return Layer(
        name=_name(entry) or _name(config),
        class_name=class_name,
        trainable=config.flag("trainable", default=True),
        config=config,
        stored=stored,
        children=_children(stored, config) if is_model else None,
        wrapped=inner.get("layer"),
        backward=inner.get("backward_layer"),
        nodes=tuple(tuple(_tensors(call)) for call in nodes),
        calls=nodes,
        inputs=_ends(config, "input_layers") if is_model else (),
        outputs=_ends(config, "output_layers") if is_model else (),
    )


def _name(fields: Config) -> str:
    name = fields.name("name", default=None)
    return "" if name is None else name


def _describes_model(bare: bool, config: Config) -> bool:
    """Tell whether a custom class has the config of a model."""
    keys = frozenset(config.keys())
    return bare or _FUNCTIONAL_KEYS <= keys or {"layers"} <= keys <= _SEQUENTIAL_KEYS


def _children(stored: Value, config: Config) -> tuple[Layer, ...]:
    """Read the layers of a model; their names are different, except for missing ones."""
    listed = config.objects("layers") if stored.kind == "object" else stored.objects()
    children = []
    names: set[str] = set()
    for entry in listed:
        layer = read_layer(entry)
        if layer.name and layer.name in names:
            entry.refuse(f"a second layer of this model is called {layer.name!r}, which Keras does not allow")
        names.add(layer.name)
        children.append(layer)
    return tuple(children)


def _wrapped(config: Config, key: str) -> Layer | None:
    """Read the layer in an argument; None where a custom class has something else there."""
    if not config.has(key) or config.value(key).kind != "object" or not config.object(key).has("class_name"):
        return None
    return read_layer(config.object(key))


def _ends(config: Config, key: str) -> Node:
    return tuple(_tensors(config.value(key))) if config.has(key) else ()


def _tensors(value: Value) -> Iterator[tuple[str, int, int]]:
    """Find the tensors in a node, in every form that Keras 2, tf.keras and Keras 3 write."""
    pending = [value]
    while pending:
        one = pending.pop()
        parts: list[Value] = []
        if one.kind == "object":
            fields = one.object()
            parts = [value for key, value in fields.items()]
            if fields.given("keras_history"):
                parts = [fields.value("keras_history")]
        elif one.kind == "list":
            parts = list(one.values())
            if [part.kind for part in parts[:3]] == ["text", "integer", "integer"]:
                yield parts[0].text(), parts[1].integer(), parts[2].integer()
                parts = parts[3:]
        pending.extend(reversed(parts))


def dtype_name(config: Config) -> str | None:
    """Give the dtype of a layer; None where its config does not have one.

    Keras 2 writes a plain string, tf.keras also a ``Policy`` or ``PolicyV1``, Keras 3 a ``DTypePolicy``.
    """
    if not config.given("dtype"):
        return None
    dtype = config.value("dtype")
    name = dtype.keras_object().config.text("name") if dtype.kind == "object" else dtype.text()
    return None if name.startswith("infer") else name


def input_shape(config: Config) -> Value | None:
    """Give the input shape in a layer's config."""
    key = "batch_input_shape" if config.has("batch_input_shape") else "batch_shape"
    return config.value(key) if config.given(key) else None


def input_of(layer: Layer) -> tuple[list[Json], str | None] | None:
    """Find the input shape and dtype of a layer or model: from the first layer that has them."""
    shape = input_shape(layer.config)
    if shape is not None:
        return list(shape.shape()), dtype_name(layer.config)
    if layer.children:
        if layer.sequential:
            found = input_of(layer.children[0])
        else:
            names = [name for name, _, _ in layer.inputs]
            ends = [child for child in layer.children if [child.name] == names]
            found = input_of(ends[0]) if ends else None
        if found is not None:
            return found
    if layer.wrapped is not None and layer.declared is not None and layer.declared.directions == 2:
        return input_of(layer.wrapped)
    built = layer.config.shape("build_input_shape", default=None)
    return ([None, *built[1:]], None) if built else None


def owned_weights(layer: Layer) -> OwnedWeights | None:
    """Give the weights of a layer that is not a model; None where they are unknown, as for a custom class.

    A wrapper has the weights of its inner layer (`keras/layers/wrappers.py`): a Bidirectional twice, those of the
    forward layer first.

    Args:
        layer: The layer.

    Raises:
        InputRefused: No Keras writes such a config of a built-in class.
    """
    declared = layer.declared
    if declared is None:
        return None
    if not declared.directions:
        return None if layer.wrapped is not None else declared.weights(layer.config)
    if layer.wrapped is None or layer.wrapped.children is not None:
        return None
    parts = [layer.wrapped, layer.backward or layer.wrapped][: declared.directions]
    known = [owned for part in parts if (owned := owned_weights(part)) is not None]
    return joined(known) if len(known) == len(parts) else None


def is_weightless(layer: Layer) -> bool:
    """Tell whether the layer is of a built-in class without weights."""
    return layer.declared is not None and layer.declared.weightless
