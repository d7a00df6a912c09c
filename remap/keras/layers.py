"""Which weights each built-in layer class owns: trainable and not, in Keras's order.

A class that is not known here is the user's own.
"""

from __future__ import annotations

from remap.keras.config import Layer
from remap.keras.rules import RULES
from remap.keras.slots import OwnedWeights, joined

__all__ = ["is_weightless", "owned_weights"]


def owned_weights(layer: Layer) -> OwnedWeights | None:
    """Say which weights a layer that is not a model owns, or None for a class that Keras does not have.

    A wrapper owns what its inner layer owns (`keras/layers/wrappers.py`): a Bidirectional that twice, forward
    before backward.
    """
    if is_weightless(layer):
        return OwnedWeights()
    config = layer.config.json()
    if layer.wrapped is not None:
        if layer.wrapped.children is not None or layer.class_name not in {"TimeDistributed", "Bidirectional"}:
            return None
        inner = owned_weights(layer.wrapped)
        if inner is None or layer.class_name == "TimeDistributed":
            return inner
        other = inner if layer.backward is None else owned_weights(layer.backward)
        return None if other is None else joined((inner, other))
    rule = RULES.get(layer.class_name)
    if rule is None:
        return None
    try:
        return rule(config)
    except (KeyError, TypeError, ValueError):
        return None


def is_weightless(layer: Layer) -> bool:
    """Tell whether the class is one of Keras's that never own a weight."""
    return layer.class_name in _WEIGHTLESS


_WEIGHTLESS = frozenset(
    """
    Activation ActivityRegularization Add AddLoss AddMetric AlphaDropout Average AveragePooling1D
    AveragePooling2D AveragePooling3D CategoryCrossing CenterCrop Concatenate Cropping1D Cropping2D
    Cropping3D Discretization Dot Dropout ELU Flatten GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    Hashing InputLayer Lambda LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Merge Minimum
    Multiply Permute RandomContrast RandomCrop RandomFlip RandomHeight RandomRotation RandomTranslation
    RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing SlicingOpLambda Softmax
    SpatialDropout1D SpatialDropout2D SpatialDropout3D Subtract TFOpLambda TensorFlowOpLayer ThresholdedReLU
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()
)
