"""The custom layers and functions of the models in fixtures/field, as one would write them for Keras 3.

Each layer owns its weights in the order of the old one and computes the same; what no recorded model uses is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

__all__ = ["field_objects"]

Class = type[Any]


class _Own(keras.layers.Layer):  # type: ignore[misc]
    """A layer that keeps the arguments of the old one as they are in its config."""

    def __init__(
        self, *, name: str | None = None, trainable: bool = True, dtype: Any = None, **given: Any
    ) -> None:
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        self.given = given
        self.supports_masking = True

    def weight(self, name: str, *shape: int) -> Any:
        """Add a weight."""
        return self.add_weight(name=name, shape=shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.given}


def _activation(value: Any) -> Callable[..., Any]:
    if isinstance(value, dict):
        value = value["config"]
    return _gelu if value == "gelu" else keras.activations.get(value)


def _gelu(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


def _scaled_dot(query: Any, key: Any, value: Any, mask: Any, *, history_only: bool) -> Any:
    e = ops.matmul(query, ops.swapaxes(key, -1, -2)) / ops.sqrt(ops.cast(query.shape[-1], query.dtype))
    e = ops.exp(e - ops.max(e, axis=-1, keepdims=True))
    if history_only:
        places = ops.arange(e.shape[-1])
        e *= ops.cast(places[None, :] <= places[:, None], e.dtype)
    if mask is not None:
        e *= ops.cast(mask[:, None, :], e.dtype)
    return ops.matmul(e / (ops.sum(e, axis=-1, keepdims=True) + 1e-7), value)


# keras-self-attention, keras-multi-head, keras-transformer, keras-bert, keras-gpt-2.


class ScaledDotProductAttention(_Own):
    def call(self, x: Any, mask: Any = None) -> Any:
        return _scaled_dot(x, x, x, mask, history_only=self.given["history_only"])


class SeqWeightedAttention(_Own):
    def build(self, shape: Any) -> None:
        self.w, self.b = self.weight("W", shape[2], 1), self.weight("b", 1)

    def call(self, x: Any) -> Any:
        weights = ops.softmax(ops.squeeze(ops.matmul(x, self.w) + self.b, -1))
        return ops.sum(x * weights[..., None], axis=1)


class SeqSelfAttention(_Own):
    def build(self, shape: Any) -> None:
        units = self.given["units"]
        self.wt, self.wx = self.weight("Wt", shape[2], units), self.weight("Wx", shape[2], units)
        self.bh, self.wa, self.ba = (
            self.weight("bh", units),
            self.weight("Wa", units, 1),
            self.weight("ba", 1),
        )

    def call(self, x: Any, mask: Any = None) -> Any:
        h = ops.tanh(ops.matmul(x, self.wt)[:, :, None] + ops.matmul(x, self.wx)[:, None] + self.bh)
        e = _activation(self.given["attention_activation"])(ops.squeeze(ops.matmul(h, self.wa) + self.ba, -1))
        e = ops.exp(e - ops.max(e, axis=-1, keepdims=True))
        if mask is not None:
            kept = ops.cast(mask, e.dtype)
            e = e * kept[:, :, None] * kept[:, None, :]
        return ops.matmul(e / (ops.sum(e, axis=-1, keepdims=True) + 1e-7), x)


class MultiHeadAttention(_Own):
    def build(self, shape: Any) -> None:
        size = shape[-1]
        self.pairs = [(self.weight(f"W{part}", size, size), self.weight(f"b{part}", size)) for part in "qkvo"]

    def call(self, x: Any, mask: Any = None) -> Any:
        heads, size = self.given["head_num"], x.shape[-1]
        activation = _activation(self.given["activation"])

        def split(w: Any, b: Any) -> Any:
            y = ops.reshape(activation(ops.matmul(x, w) + b), (-1, x.shape[1], heads, size // heads))
            return ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, x.shape[1], size // heads))

        query, key, value = (split(*pair) for pair in self.pairs[:3])
        kept = None if mask is None else ops.repeat(mask, heads, axis=0)
        y = _scaled_dot(query, key, value, kept, history_only=self.given["history_only"])
        y = ops.transpose(ops.reshape(y, (-1, heads, x.shape[1], size // heads)), (0, 2, 1, 3))
        w, b = self.pairs[3]
        return activation(ops.matmul(ops.reshape(y, (-1, x.shape[1], size)), w) + b)


class FeedForward(_Own):
    def build(self, shape: Any) -> None:
        size, units = shape[-1], self.given["units"]
        self.w1, self.b1 = self.weight("W1", size, units), self.weight("b1", units)
        self.w2, self.b2 = self.weight("W2", units, size), self.weight("b2", size)

    def call(self, x: Any) -> Any:
        h = _activation(self.given["activation"])(ops.matmul(x, self.w1) + self.b1)
        return ops.matmul(h, self.w2) + self.b2


class LayerNormalization(_Own):
    def build(self, shape: Any) -> None:
        self.gamma, self.beta = self.weight("gamma", shape[-1]), self.weight("beta", shape[-1])

    def call(self, x: Any) -> Any:
        mean = ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=-1, keepdims=True)
        return self.gamma * (x - mean) / ops.sqrt(variance + self.given["epsilon"]) + self.beta


class PositionEmbedding(_Own):
    def build(self, _: Any) -> None:
        self.table = self.weight("embeddings", self.given["input_dim"], self.given["output_dim"])

    def call(self, x: Any) -> Any:
        return x + self.table[: x.shape[1]]


class EmbeddingRet(_Own):
    def build(self, _: Any) -> None:
        self.table = self.weight("embeddings", self.given["input_dim"], self.given["output_dim"])

    def call(self, x: Any) -> Any:
        return [ops.take(self.table, ops.cast(x, "int32"), axis=0), ops.copy(self.table)]


class EmbeddingSim(_Own):
    def call(self, inputs: Any) -> Any:
        x, table = inputs
        return ops.softmax(ops.matmul(x, ops.transpose(table)))


# keras-retinanet, efficientnet.


class UpsampleLike(_Own):
    def call(self, inputs: Any) -> Any:
        x, like = inputs
        return ops.image.resize(x, like.shape[1:3], interpolation="nearest")


class FixedDropout(keras.layers.Dropout):  # type: ignore[misc]
    pass


class PriorProbability(keras.initializers.Initializer):  # type: ignore[misc]
    def __init__(self, probability: float = 0.01) -> None:
        self.probability = probability

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return ops.zeros(shape, dtype or "float32")


# Keras's examples and papers.


class L2Normalization(_Own):
    def build(self, shape: Any) -> None:
        self.gamma = self.weight("gamma", shape[-1])

    def call(self, x: Any) -> Any:
        return x / ops.sqrt(ops.sum(ops.square(x), axis=3, keepdims=True)) * self.gamma


class AnchorBoxes(_Own):
    def call(self, x: Any) -> Any:
        return ops.zeros_like(x[..., :4]) + self.given["size"]


def _squash(vectors: Any) -> Any:
    norm = ops.sum(ops.square(vectors), -1, keepdims=True)
    return norm / (1 + norm) / ops.sqrt(norm + 1e-7) * vectors


class CapsuleLayer(_Own):
    def build(self, shape: Any) -> None:
        self.w = self.weight("W", self.given["num_capsule"], shape[1], self.given["dim_capsule"], shape[2])

    def call(self, x: Any) -> Any:
        found = ops.einsum("nidf,bif->bnid", self.w, x)
        b = ops.zeros_like(found[..., 0])
        for _ in range(self.given["routings"]):
            outputs = _squash(ops.sum(ops.softmax(b, 1)[..., None] * found, 2))
            b = b + ops.sum(outputs[:, :, None, :] * found, -1)
        return outputs


class Length(_Own):
    def call(self, x: Any) -> Any:
        return ops.sqrt(ops.sum(ops.square(x), -1) + 1e-7)


class Mask(_Own):
    def call(self, inputs: Any) -> Any:
        x, mask = inputs
        return ops.reshape(x * mask[..., None], (-1, x.shape[1] * x.shape[2]))


class Antirectifier(_Own):
    def call(self, x: Any) -> Any:
        x = x - ops.mean(x, axis=1, keepdims=True)
        x = x / ops.sqrt(ops.sum(ops.square(x), axis=1, keepdims=True))
        return ops.concatenate([ops.relu(x), ops.relu(-x)], axis=1)


class CRF(_Own):
    def build(self, shape: Any) -> None:
        units = self.given["units"]
        self.kernel, self.chain = self.weight("kernel", shape[-1], units), self.weight("chain", units, units)
        self.bias, self.left = self.weight("bias", units), self.weight("left", units)

    def call(self, x: Any) -> Any:
        energy = ops.matmul(x, self.kernel) + self.bias + self.left
        return ops.softmax(energy + ops.matmul(energy, self.chain))


class AttLayer(_Own):
    def build(self, shape: Any) -> None:
        size = self.given["attention_dim"]
        self.w, self.b = self.weight("W", shape[-1], size), self.weight("b", size)
        self.u = self.weight("u", size, 1)

    def call(self, x: Any) -> Any:
        weights = ops.softmax(ops.squeeze(ops.matmul(ops.tanh(ops.matmul(x, self.w) + self.b), self.u), -1))
        return ops.sum(x * weights[..., None], axis=1)


_CLASSES: tuple[Class, ...] = (
    ScaledDotProductAttention, SeqWeightedAttention, SeqSelfAttention, MultiHeadAttention, FeedForward,
    LayerNormalization, PositionEmbedding, EmbeddingRet, EmbeddingSim, UpsampleLike, FixedDropout, PriorProbability,
    L2Normalization, AnchorBoxes, CapsuleLayer, Length, Mask, Antirectifier, CRF, AttLayer,
)  # fmt: skip


def _distance(pair: Any) -> Any:
    return ops.sqrt(ops.maximum(ops.sum(ops.square(pair[0] - pair[1]), axis=1, keepdims=True), 1e-7))


def _dueling(pair: Any) -> Any:
    return pair[0] + pair[1] - ops.mean(pair[1], axis=1, keepdims=True)


def _space_to_depth(x: Any) -> Any:
    _, height, width, depth = x.shape
    x = ops.reshape(x, (-1, height // 2, 2, width // 2, 2, depth))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, height // 2, width // 2, 4 * depth))


def _yolo_loss(tensors: Any) -> Any:
    return sum(ops.sum(ops.square(tensors[i] - tensors[2 + i]), axis=(1, 2, 3))[:, None] for i in range(2))


def _normalized(x: Any) -> Any:
    return x / (ops.max(ops.abs(x), 2, keepdims=True) + 1e-5)


# For each case its Lambda layers, in the order in which the report asks for their functions.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "bert_lambda": (lambda x: x[:, 0],),
    "bidirectional_attention": (lambda x: ops.sum(x, axis=-2),),
    "capsule_network": (_squash,),
    "dqn_dueling": (lambda x: x / 255.0, _dueling),
    "masked_steps": (lambda x: x * 2.0,),
    "mnist_siamese": (_distance,),
    "mrcnn_fpn": (lambda x: ops.squeeze(ops.squeeze(x, 3), 2),),
    "ssd": (lambda x: x * 2.0 - 1.0,),
    "tcn": (_normalized, _normalized, _normalized, lambda x: x[:, -1, :]),
    "vae": (lambda pair: pair[0],),
    "yolo": (_yolo_loss,),
    "yolo_v2": (_space_to_depth,),
}


def field_objects(case: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Give what `custom_objects` must have for a case; LookupError where something is not written here."""
    classes = {kind.__name__: kind for kind in _CLASSES} | {"gelu": _gelu, "swish": keras.activations.silu}
    functions = iter(_FUNCTIONS.get(case, ()))
    found = {name: classes.get(name) or next(functions, None) for name in names}
    missing = [name for name, one in found.items() if one is None]
    if missing:
        raise LookupError(f"not written for Keras 3: {missing}")
    return found
