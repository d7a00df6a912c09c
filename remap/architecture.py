"""The JSON in which Keras describes a model, as a tree of layers.

Three generations write it: Keras 2 and tf.keras (`Network.get_config`, `Sequential.get_config`, a bare list
up to Keras 2.2.2), tf_keras the same, Keras 3 with `module`, `registered_name` and another form of nodes.
Nothing in it is run: code of Lambda layers is a string like any other.
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

_GIVE = "give the output of model.to_json()"
_NOTHING = read_json("{}", where="a bare list of layers").object()

Node = tuple[tuple[str, int, int], ...]
"""One call of a layer: (layer name, node index, tensor index) of each tensor it was called on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer as its model's config describes it.

    `name` is "" where the config does not say it (a Sequential inside a Sequential, Keras up to 2.2.2).
    `children` is None unless the layer is a model. `wrapped` is the inner layer of a TimeDistributed or
    Bidirectional, `backward` the other half of a Bidirectional that was given one of its own. `nodes` are its
    calls inside the model that holds it, `inputs` and `outputs` the model's own ends, `feed` the InputLayer of
    the wrapper that a stack was taken out of. `config` has the arguments of the class; it is empty where `stored`,
    the config as the file has it, is a bare list of layers. `calls` are the calls as the file has them.
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
        """Give the class and config as Keras writes them for a model saved on its own."""
        return {"class_name": self.class_name, "config": self.stored.json()}

    @property
    def declared(self) -> LayerClass | None:
        """Give what is known of the class: None for a class of the user's own, and for a model."""
        found = CATALOGUE.get(self.class_name) if self.children is None else None
        return found if found is not None and found.describes(self.config) else None

    @property
    def is_input(self) -> bool:
        """Tell whether the layer is an InputLayer."""
        return self.declared is not None and self.declared.is_input

    @property
    def innermost(self) -> Layer:
        """Give the layer inside every TimeDistributed around it, which stores its weights as if it stood alone."""
        layer = self
        while layer.wrapped is not None and layer.declared is not None and layer.declared.directions == 1:
            layer = layer.wrapped
        return layer

    @property
    def sequential(self) -> bool:
        """Tell whether the model is a plain stack."""
        return self.children is not None and not _FUNCTIONAL_KEYS <= frozenset(self.config.keys())

    @property
    def bare(self) -> bool:
        """Tell whether the model's config is a bare list of layers, as Keras up to 2.2.2 writes a stack's."""
        return self.stored.kind == "list"

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
    """Read the description of a layer or model: its class, its config, the layers in it, its calls.

    Raises InputRefused, naming the JSON path, for what Keras does not write.
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
    """Tell whether a class of the user's own derives from Keras's models: it describes itself as they do."""
    keys = frozenset(config.keys())
    return bare or _FUNCTIONAL_KEYS <= keys or {"layers"} <= keys <= _SEQUENTIAL_KEYS


def _children(stored: Value, config: Config) -> tuple[Layer, ...]:
    """Read the layers of a model; their names differ, but for those that old stacks do not write down."""
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
    """Read the layer that an argument holds; other things of that name are of a class of the user's own."""
    if not config.has(key) or config.value(key).kind != "object" or not config.object(key).has("class_name"):
        return None
    return read_layer(config.object(key))


def _ends(config: Config, key: str) -> Node:
    return tuple(_tensors(config.value(key))) if config.has(key) else ()


def _tensors(value: Value) -> Iterator[tuple[str, int, int]]:
    """Find the tensors that a node refers to, in every form that Keras 2, tf.keras and Keras 3 write them."""
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
    """Name the dtype of a layer, None where its config leaves it to the model.

    Keras 2 writes a plain string, tf.keras also a ``Policy`` or ``PolicyV1``, Keras 3 a ``DTypePolicy``.
    """
    if not config.given("dtype"):
        return None
    dtype = config.value("dtype")
    name = dtype.keras_object().config.text("name") if dtype.kind == "object" else dtype.text()
    return None if name.startswith("infer") else name


def input_shape(config: Config) -> Value | None:
    """Find the shape that a layer's config says it takes."""
    key = "batch_input_shape" if config.has("batch_input_shape") else "batch_shape"
    return config.value(key) if config.given(key) else None


def input_of(layer: Layer) -> tuple[list[Json], str | None] | None:
    """Find the shape and dtype of what a layer or stack takes: from the first layer that says it."""
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
    """Say which weights a layer that is not a model owns, or None where that is not known: for custom classes above all.

    A wrapper owns what its inner layer owns (`keras/layers/wrappers.py`): a Bidirectional that twice, forward
    before backward.

    Raises InputRefused for a config of a built-in class that no Keras writes.
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
    """Tell whether the class is one of Keras's that never own a weight."""
    return layer.declared is not None and layer.declared.weightless
