"""Operations of TensorFlow that a model of tf.keras 2.1 to 2.3 holds as layers, as operations of Keras 3.

tf.keras makes a TensorFlowOpLayer of each operation that is applied to a tensor of a functional model
(`base_layer_utils.create_keras_history` in TensorFlow 2.3). Its config has the operation as a NodeDef in the JSON of
protobuf, and by the index of the input those inputs that are constants. Only operations are written whose inputs
and attributes all have a known meaning; everything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from remap.architecture import Layer
from remap.errors import InputRefused
from remap.keras3.objects import keras_object
from remap.layers.declaration import BuiltAs, Keras3
from remap.typed_json import Config, Json, Value

__all__ = ["Operation", "array", "is_operation", "operation_of", "read_operation"]

_MODULE = "keras.src.ops"
_TYPES = {
    "DT_BOOL": "bool",
    "DT_DOUBLE": "float64",
    "DT_FLOAT": "float32",
    "DT_HALF": "float16",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
    "DT_UINT8": "uint8",
}
_FLOATS = frozenset({"float16", "float32", "float64"})
_NUMBERS = _FLOATS | {"int32", "int64"}
_ANY = frozenset(_TYPES.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation of Keras 3.

    Attributes:
        module: The module of Keras 3 that has the class.
        class_name: The class of the operation.
        config: Its arguments, without the name.
        inputs: What it is called on: None for a tensor, else a constant in the form of config.json.
        listed: Whether the inputs are one list.
    """

    module: str
    class_name: str
    config: Mapping[str, Json] = field(default_factory=dict)
    inputs: tuple[Json, ...]
    listed: bool = False

    def entry(self, name: str) -> dict[str, Json]:
        """Describe the operation as `serialize_keras_object` does."""
        config = {"name": name, **self.config}
        return keras_object(self.module, self.class_name, config, registered_name=self.class_name)

    def arguments(self, tensors: Sequence[Json]) -> list[Json] | None:
        """Give the positional arguments of a call on these tensors; None where it takes another number."""
        if len(tensors) != self.inputs.count(None):
            return None
        following = iter(tensors)
        arguments = [next(following) if one is None else one for one in self.inputs]
        return [arguments] if self.listed else arguments


def is_operation(entry: Mapping[str, Json]) -> bool:
    """Tell whether an entry of config.json is an operation, which Keras 3 does not count as a layer."""
    return str(entry["module"]).startswith(f"{_MODULE}.")


def operation_of(layer: Layer) -> Operation | None:
    """Give the operation that a layer is; None for other layers and for operations without a rule."""
    target = None if layer.declared is None else layer.declared.keras3
    if not isinstance(target, Keras3) or target.built_as is not BuiltAs.OPERATION:
        return None
    try:
        return read_operation(layer.config)
    except InputRefused:
        return None


def read_operation(config: Config) -> Operation:
    """Translate the operation of a TensorFlowOpLayer.

    Args:
        config: The config of the layer.

    Raises:
        InputRefused: The operation, an attribute, a data type or a constant is not one that is known to mean the
            same in Keras 3.
    """
    node = config.object("node_def")
    _require_keys(node, {"name", "op", "input", "attr", "device"})
    name = node.name("op")
    rule = _RULES.get(name)
    if rule is None:
        node.refuse(f"no rule is known for the operation {name!r} of TensorFlow")
    attributes = node.object("attr")
    _require_keys(attributes, {"T", *rule.attributes})
    inputs = node.value("input").texts()
    if any(one.startswith("^") for one in inputs):
        node.refuse("an operation that waits for another one")
    return rule.translate(
        _Node(
            config=node,
            attributes=attributes,
            count=len(inputs),
            constants=_constants(config, len(inputs)),
            dtype=_data_type(attributes, "SrcT" if name == "Cast" else "T", rule.types),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A NodeDef: its attributes, how many inputs it has, those that are constants, and the type of the tensors."""

    config: Config
    attributes: Config
    count: int
    constants: Mapping[int, Value]
    dtype: str

    def split(self, tensors: int, constants: int) -> list[Value]:
        """Give the constants of an operation that takes so many tensors and then so many constants."""
        if self.count != tensors + constants or set(self.constants) != set(range(tensors, self.count)):
            self.config.refuse(f"{self.count} inputs, constants {sorted(self.constants)} among them")
        return list(self.constants.values())

    def flag(self, name: str) -> bool:
        """Give an attribute that is true or false."""
        return self.attributes.object(name).flag("b")

    def integer(self, name: str) -> int:
        """Give an attribute that is an integer, which protobuf writes as text."""
        text = self.attributes.object(name).text("i")
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            self.config.refuse(f"{name} is not a small integer")
        return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """How an operation is translated, the types it is known for, and its attributes beside T."""

    translate: Callable[[_Node], Operation]
    types: frozenset[str] = _NUMBERS
    attributes: frozenset[str] = frozenset()


def _require_keys(config: Config, known: set[str]) -> None:
    for key, value in config.items():
        if key not in known:
            value.refuse(f"an attribute {key!r} that is not known of the operation")


def _data_type(attributes: Config, name: str, allowed: frozenset[str]) -> str:
    written = attributes.object(name).name("type")
    dtype = _TYPES.get(written)
    if dtype is None or dtype not in allowed:
        attributes.refuse(f"the operation is not known for tensors of type {written}")
    return dtype


def _constants(config: Config, count: int) -> dict[int, Value]:
    """Give the constants by the index of the input; tf.keras inserts them among the tensors in the order written."""
    found: dict[int, Value] = {}
    for key, value in config.object("constants").items():
        known = key.isascii() and key.isdecimal() and len(key) < 7
        if not known or not max(found, default=-1) < int(key) < count:
            config.refuse(f"a constant for input {key!r} of {count}")
        found[int(key)] = value
    return found


def _constant(value: Value, dtype: str) -> Json:
    """Write a constant: a number as it is, which takes the type of the tensor, an array with its type."""
    if value.kind == "list":
        return array(value, dtype)
    return value.number() if dtype in _FLOATS else value.integer()


def array(value: Value, dtype: str | None = None) -> dict[str, Json]:
    """Write an array of numbers as Keras 3 does.

    Args:
        value: The numbers, in nested lists.
        dtype: The type of the array; without one it is that which numpy gives it.

    Raises:
        InputRefused: The lists are not an array of finite numbers.
    """
    try:
        found = np.array(_numbers(value))
    except (ValueError, OverflowError):
        value.refuse("lists of different lengths where an array is expected")
    if found.dtype.kind not in "bif" or not found.size:
        value.refuse("an array that is empty or not of numbers")
    return keras_object("numpy", "__numpy__", {"value": found.tolist(), "dtype": dtype or str(found.dtype)})


def _numbers(value: Value) -> Json:
    if value.kind == "list":
        return [_numbers(item) for item in value.values()]
    if value.kind == "flag":
        return value.flag()
    return value.integer() if value.kind == "integer" else value.number()


def _axes(value: Value) -> list[int]:
    axes = [value.integer()] if value.kind == "integer" else list(value.integers())
    if not axes:
        value.refuse("no axis")
    return axes


def _elementwise(module: str, class_name: str, tensors: int) -> Callable[[_Node], Operation]:
    """Translate an operation that takes each element by itself, with constants in any place."""

    def translate(node: _Node) -> Operation:
        if node.count != tensors or len(node.constants) == tensors:
            node.config.refuse(f"{node.count} inputs, {len(node.constants)} of them constants")
        inputs = tuple(
            _constant(node.constants[index], node.dtype) if index in node.constants else None
            for index in range(tensors)
        )
        return Operation(module=f"{_MODULE}.{module}", class_name=class_name, inputs=inputs)

    return translate


def _reshape(node: _Node) -> Operation:
    (shape,) = node.split(1, 1)
    sizes = list(shape.integers(at_least=-1))
    return _numpy("Reshape", {"newshape": sizes})


def _transpose(node: _Node) -> Operation:
    (permutation,) = node.split(1, 1)
    axes = list(permutation.integers(at_least=0))
    if sorted(axes) != list(range(len(axes))):
        permutation.refuse("axes that are not a permutation")
    return _numpy("Transpose", {"axes": axes})


def _reduced(class_name: str) -> Callable[[_Node], Operation]:
    """Translate an operation over some axes."""

    def translate(node: _Node) -> Operation:
        (axes,) = node.split(1, 1)
        return _numpy(class_name, {"axis": _axes(axes), "keepdims": node.flag("keep_dims")})

    return translate


def _concat(node: _Node) -> Operation:
    tensors = node.integer("N")
    (axis,) = node.split(tensors, 1)
    return Operation(
        module=f"{_MODULE}.numpy",
        class_name="Concatenate",
        config={"axis": axis.integer()},
        inputs=(None,) * tensors,
        listed=True,
    )


def _multiply_matrices(first: str, second: str) -> Callable[[_Node], Operation]:
    """Translate a product of matrices of which the attributes say whether they are transposed."""

    def translate(node: _Node) -> Operation:
        product = _elementwise("numpy", "Matmul", 2)(node)
        left, right = node.flag(first), node.flag(second)
        if not left and not right:
            return product
        subscripts = f"...{'ba' if left else 'ab'},...{'cb' if right else 'bc'}->...ac"
        return Operation(
            module=product.module,
            class_name="Einsum",
            config={"subscripts": subscripts},
            inputs=product.inputs,
        )

    return translate


def _cast(node: _Node) -> Operation:
    node.split(1, 0)
    target = _data_type(node.attributes, "DstT", _ANY)
    if node.flag("Truncate") or target == node.dtype:
        node.config.refuse("a Cast that truncates or that changes nothing")
    return Operation(module=f"{_MODULE}.core", class_name="Cast", config={"dtype": target}, inputs=(None,))


def _strided_slice(node: _Node) -> Operation:
    """Write a slice as the key of `x[key]` (StridedSlice in tensorflow/core/ops/array_ops.cc)."""
    begins, ends, strides = (one.integers() for one in node.split(1, 3))
    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    no_begin, no_end, ellipsis, new_axis, shrink = (node.integer(name) for name in names)
    length = len(begins)
    sound = len(ends) == len(strides) == length > 0 and 0 not in strides and ellipsis.bit_count() <= 1
    if not sound or max(no_begin, no_end, ellipsis, new_axis, shrink) >= 2**length:
        node.config.refuse("a slice whose parts do not belong together")
    key: list[Json] = []
    for index in range(length):
        bit = 1 << index
        if ellipsis & bit:
            key.append(keras_object("builtins", "__ellipsis__", {}))
        elif new_axis & bit:
            key.append(None)
        elif shrink & bit:
            if no_begin & bit or strides[index] != 1:
                node.config.refuse("an index that is also a slice")
            key.append(begins[index])
        else:
            limits = {
                "start": None if no_begin & bit else begins[index],
                "stop": None if no_end & bit else ends[index],
                "step": strides[index],
            }
            key.append(keras_object("builtins", "__slice__", limits))
    return Operation(module=f"{_MODULE}.numpy", class_name="GetItem", inputs=(None, key))


def _numpy(class_name: str, config: Mapping[str, Json]) -> Operation:
    return Operation(module=f"{_MODULE}.numpy", class_name=class_name, config=config, inputs=(None,))


def _arithmetic(class_name: str, types: frozenset[str] = _NUMBERS) -> _Rule:
    return _Rule(translate=_elementwise("numpy", class_name, 2), types=types)


_RULES: Mapping[str, _Rule] = {
    "Add": _arithmetic("Add"),
    "AddV2": _arithmetic("Add"),
    "BatchMatMul": _Rule(
        translate=_multiply_matrices("adj_x", "adj_y"),
        types=_FLOATS,
        attributes=frozenset({"adj_x", "adj_y"}),
    ),
    "BatchMatMulV2": _Rule(
        translate=_multiply_matrices("adj_x", "adj_y"),
        types=_FLOATS,
        attributes=frozenset({"adj_x", "adj_y"}),
    ),
    "Cast": _Rule(translate=_cast, types=_ANY, attributes=frozenset({"SrcT", "DstT", "Truncate"})),
    "ConcatV2": _Rule(translate=_concat, types=_ANY, attributes=frozenset({"N", "Tidx"})),
    "MatMul": _Rule(
        translate=_multiply_matrices("transpose_a", "transpose_b"),
        types=_FLOATS,
        attributes=frozenset({"transpose_a", "transpose_b"}),
    ),
    "Maximum": _arithmetic("Maximum"),
    "Mean": _Rule(translate=_reduced("Mean"), types=_FLOATS, attributes=frozenset({"keep_dims", "Tidx"})),
    "Minimum": _arithmetic("Minimum"),
    "Mul": _arithmetic("Multiply"),
    "RealDiv": _arithmetic("Divide", _FLOATS),
    "Relu": _Rule(translate=_elementwise("nn", "Relu", 1), types=_FLOATS),
    "Reshape": _Rule(translate=_reshape, types=_ANY, attributes=frozenset({"Tshape"})),
    "Sigmoid": _Rule(translate=_elementwise("nn", "Sigmoid", 1), types=_FLOATS),
    "StridedSlice": _Rule(
        translate=_strided_slice,
        types=_ANY,
        attributes=frozenset(
            "Index begin_mask end_mask ellipsis_mask new_axis_mask shrink_axis_mask".split()
        ),
    ),
    "Sub": _arithmetic("Subtract"),
    "Sum": _Rule(translate=_reduced("Sum"), types=_FLOATS, attributes=frozenset({"keep_dims", "Tidx"})),
    "Tanh": _Rule(translate=_elementwise("numpy", "Tanh", 1), types=_FLOATS),
    "Transpose": _Rule(translate=_transpose, types=_ANY, attributes=frozenset({"Tperm"})),
}
