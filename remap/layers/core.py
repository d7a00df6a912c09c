"""Inputs, Dense and Embedding, activations, reshaping, regularization, preprocessing, Lambda."""

from __future__ import annotations

from remap.layers.declaration import ANYTHING, BuiltAs, Fold, Keras3, LayerClass, Limit, Masks, Setting, three
from remap.layers.weights import OwnedWeights, Slot, with_bias
from remap.typed_json import Config

__all__ = ["INPUT", "LAYERS", "RESCALING", "RESHAPE", "TENSORFLOW_OPERATION"]

_WHOLE = {"activation": Fold(("kernel", "bias"))}
_LAST = {"data_format": "channels_last"}
_NOISE = {"noise_shape": ANYTHING}


def _dense(config: Config) -> OwnedWeights:
    units = config.integer("units", at_least=0)
    return with_bias(config, Slot("kernel", (None, units)), bias=(units,))


def _embedding(config: Config) -> OwnedWeights:
    shape = (config.integer("input_dim", at_least=0), config.integer("output_dim", at_least=0))
    return OwnedWeights(trainable=(Slot("embeddings", shape),))


def _prelu(_: Config) -> OwnedWeights:
    return OwnedWeights(trainable=(Slot("alpha"),))


def _einsum_dense(config: Config) -> OwnedWeights:
    bias = (Slot("bias"),) if config.given("bias_axes") else ()
    return OwnedWeights(trainable=(Slot("kernel"), *bias))


def _random_features(_: Config) -> OwnedWeights:
    return OwnedWeights(
        trainable=(Slot("kernel_scale"),), non_trainable=(Slot("unscaled_kernel"), Slot("bias"))
    )


def _category_encoding(config: Config) -> OwnedWeights:
    counted = config.text("output_mode", default="binary") == "tf-idf"
    return OwnedWeights(non_trainable=(Slot("idf"),) if counted else ())


def _softmax(setting: Setting) -> Keras3:
    """Convert to an Activation in a model with masks: Softmax uses masks in Keras 3, and not in old Keras."""
    if not setting.masks:
        return Keras3(name="Softmax", keeps="axis")
    why = "Softmax of Keras 3 uses the masks of this model, and an Activation has no axis"
    return Keras3(
        name="Activation",
        dropped={"axis": ANYTHING},
        limits={"axis": Limit(allows=lambda axis: axis.is_one_of([-1]), why=why)},
        fixed={"activation": "softmax"},
    )


def _plain(name: str, keras3: Keras3, *, masks: Masks = Masks.PASSED_ON) -> LayerClass:
    return LayerClass(name=name, masks=masks, keras3=keras3)


INPUT = LayerClass(
    name="InputLayer",
    masks=Masks.ENDED,
    keras3=Keras3(
        name="InputLayer",
        keeps="sparse",
        dropped={
            "ragged": (None, False),
            "optional": (None, False),
            "type_spec": (None,),
            "batch_shape": ANYTHING,
        },
        read_from_h5="ragged",
        takes_trainable=False,
        built_as=BuiltAs.INPUT,
    ),
    is_input=True,
)
TENSORFLOW_OPERATION = LayerClass(
    name="TensorFlowOpLayer",
    masks=Masks.ENDED,
    keras3=Keras3(
        name="TensorFlowOpLayer",
        dropped={"node_def": ANYTHING, "constants": ANYTHING},
        built_as=BuiltAs.OPERATION,
    ),
    always_written="node_def",
)
RESHAPE = _plain("Reshape", Keras3(name="Reshape", keeps="target_shape"), masks=Masks.ENDED)
RESCALING = LayerClass(
    name="Rescaling",
    masks=Masks.PASSED_ON_BY_KERAS_3,
    keras3=Keras3(name="Rescaling", keeps="scale offset"),
    always_written="scale offset",
)
LAYERS = (
    INPUT,
    RESCALING,
    LayerClass(
        name="Dense",
        masks=Masks.PASSED_ON,
        keras3=Keras3(
            name="Dense",
            keeps=f"units activation use_bias {three('kernel', 'bias')}",
            dropped={"input_dim": ANYTHING},
            folds=_WHOLE,
        ),
        always_written="units",
        weights=_dense,
        identified_by_name=True,
    ),
    LayerClass(name="EinsumDense", masks=None, keras3=None, always_written="equation", weights=_einsum_dense),
    LayerClass(
        name="Embedding",
        masks=Masks.MADE,
        keras3=Keras3(
            name="Embedding",
            keeps=f"input_dim output_dim mask_zero {three('embeddings')}",
            dropped={"input_length": ANYTHING},
            read_from_h5="input_length",
        ),
        always_written="input_dim output_dim",
        weights=_embedding,
        makes_mask=lambda config: config.flag("mask_zero", default=False),
        identified_by_name=True,
    ),
    LayerClass(
        name="Masking",
        masks=Masks.MADE,
        keras3=Keras3(name="Masking", keeps="mask_value"),
        makes_mask=lambda _: True,
    ),
    LayerClass(
        name="Lambda",
        masks=Masks.GIVEN_TO_FUNCTION,
        keras3=Keras3(
            name="Lambda",
            dropped={
                **dict.fromkeys(("function", "function_type", "module", "arguments"), ANYTHING),
                **dict.fromkeys(("output_shape", "output_shape_type", "output_shape_module"), ANYTHING),
                "mask": (None,),
            },
            built_as=BuiltAs.LAMBDA,
        ),
        calls_function=True,
    ),
    _plain("Activation", Keras3(name="Activation", keeps="activation", folds={"activation": Fold()})),
    _plain("ELU", Keras3(name="ELU", keeps="alpha")),
    _plain(
        "LeakyReLU",
        Keras3(
            name="LeakyReLU",
            keeps="negative_slope",
            renamed={"alpha": "negative_slope"},
            read_from_h5="alpha",
        ),
    ),
    LayerClass(
        name="PReLU",
        masks=Masks.PASSED_ON,
        keras3=Keras3(name="PReLU", keeps=f"shared_axes {three('alpha')}"),
        weights=_prelu,
        identified_by_name=True,
    ),
    _plain("ReLU", Keras3(name="ReLU", keeps="max_value negative_slope threshold")),
    LayerClass(name="Softmax", masks=Masks.PASSED_ON, keras3=_softmax, uses_mask_in_keras_3=True),
    _plain("ThresholdedReLU", Keras3(name="ReLU", renamed={"theta": "threshold"})),
    _plain("Flatten", Keras3(name="Flatten", keeps="data_format", missing=_LAST), masks=Masks.ENDED),
    _plain("Permute", Keras3(name="Permute", keeps="dims"), masks=Masks.ENDED),
    _plain("RepeatVector", Keras3(name="RepeatVector", keeps="n"), masks=Masks.ENDED),
    RESHAPE,
    _plain("ActivityRegularization", Keras3(name="ActivityRegularization", keeps="l1 l2")),
    _plain("AlphaDropout", Keras3(name="AlphaDropout", keeps="rate noise_shape seed")),
    _plain("Dropout", Keras3(name="Dropout", keeps="rate noise_shape seed")),
    _plain("GaussianDropout", Keras3(name="GaussianDropout", keeps="rate seed")),
    _plain(
        "GaussianNoise",
        Keras3(
            name="GaussianNoise",
            keeps="stddev seed",
            limits={
                "stddev": Limit(allows=lambda stddev: 0 <= stddev.number() <= 1, why="Keras 3 takes 0 to 1")
            },
        ),
    ),
    _plain(
        "SpatialDropout1D",
        Keras3(name="SpatialDropout1D", keeps="rate seed", dropped=_NOISE, takes_trainable=False),
    ),
    *(
        _plain(
            f"SpatialDropout{rank}D",
            Keras3(
                name=f"SpatialDropout{rank}D",
                keeps="rate seed data_format",
                dropped=_NOISE,
                takes_trainable=False,
            ),
        )
        for rank in (2, 3)
    ),
    TENSORFLOW_OPERATION,
    # Preprocessing layers of TensorFlow 2.3, without a rule for Keras 3.
    LayerClass(
        name="CategoryEncoding",
        masks=None,
        keras3=None,
        always_written="output_mode",
        weights=_category_encoding,
    ),
    LayerClass(
        name="RandomFourierFeatures",
        masks=None,
        keras3=None,
        always_written="output_dim scale",
        weights=_random_features,
    ),
    *(
        LayerClass(name=name, masks=None, keras3=None)
        for name in (
            "CategoryCrossing",
            "CenterCrop",
            "Discretization",
            "Hashing",
            "RandomContrast",
            "RandomCrop",
            "RandomFlip",
            "RandomHeight",
            "RandomRotation",
            "RandomTranslation",
            "RandomWidth",
            "RandomZoom",
            "Resizing",
        )
    ),
)
