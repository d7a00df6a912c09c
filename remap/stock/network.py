"""The name of a network with its options, as `--like` takes it: ``mobilenet_v2,alpha=0.5,classes=7``.

The options are the arguments of the functions of `keras.applications`. A name is written in any case, with or without
underscores; no shell has to quote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from remap.errors import Remedy, UsageRefused

__all__ = [
    "NETWORKS",
    "Arguments",
    "Network",
    "Shape",
    "as_python",
    "near_names",
    "parse",
    "spellings",
    "suggested",
    "text_of",
]

NETWORKS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        """DenseNet121 DenseNet169 DenseNet201 InceptionResNetV2 InceptionV3 NASNetLarge NASNetMobile
        ResNet50 ResNet50V2 ResNet101 ResNet101V2 ResNet152 ResNet152V2 VGG16 VGG19 Xception EfficientNetB0
        EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6
        EfficientNetB7""".split(),
        (),
    ),
    "MobileNet": ("alpha", "depth_multiplier", "dropout"),
    "MobileNetV2": ("alpha",),
}
"""The functions of `keras.applications`, with the options that not all of them have."""
_SHARED = ("include_top", "classes", "pooling", "input_shape", "classifier_activation", "keras_applications")

Shape = tuple[int | None, int | None, int]
"""Height, width and channels of an input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The arguments of a network's function, with the defaults of Keras.

    Attributes:
        include_top: Whether the layers that classify are there.
        classes: The size of the output of these layers.
        pooling: What follows the last feature map without them: ``avg``, ``max``, or None.
        input_shape: The shape of the input; None for the network's default.
        alpha: The factor for the widths of a MobileNet.
        depth_multiplier: The factor for the depthwise convolutions of a MobileNet.
        dropout: The rate of the dropout of a MobileNet.
        classifier_activation: The activation of the last layer, since TensorFlow 2.2.
        keras_applications: The release of the package `keras_applications`, if it is known and the file does not decide.
    """

    include_top: bool = True
    classes: int = 1000
    pooling: str | None = None
    input_shape: Shape | None = None
    alpha: float = 1.0
    depth_multiplier: int = 1
    dropout: float = 0.001
    classifier_activation: str = "softmax"
    keras_applications: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network with its options."""

    name: str
    arguments: Arguments


def parse(text: str) -> Network | None:
    """Read the name of a network and its options.

    Args:
        text: The name, then the options, separated by commas.

    Returns:
        The network and its options; None if the text does not begin with the name of a network.

    Raises:
        UsageRefused: If the network has no such option, or the option no such value.

    >>> parse("mobilenet_v2,alpha=0.5,classes=7").arguments.alpha
    0.5
    >>> parse("model.json") is None
    True
    """
    start, *given = text.split(",")
    name = next((known for known in NETWORKS if _bare(known) == _bare(start)), None)
    if name is None:
        return None
    known = (*_SHARED, *NETWORKS[name])
    arguments = Arguments()
    for item in given:
        key, _, value = item.partition("=")
        if key not in known:
            raise UsageRefused(
                f"{name} has no option {key!r}",
                where=text,
                hint=f"it has {', '.join(known)}, each written as in classes=10",
            )
        try:
            arguments = replace(arguments, **{key: _READERS[key](value)})
        except ValueError:
            raise UsageRefused(
                f"{value!r} is no value of {key}", where=text, hint=f"write it as in {_EXAMPLES[key]}"
            ) from None
    return Network(name=name, arguments=arguments)


def text_of(network: Network) -> str:
    """Write a network with its options as `parse` reads it.

    >>> text_of(Network(name="MobileNetV2", arguments=Arguments(alpha=0.5, input_shape=(96, 96, 3))))
    'MobileNetV2,input_shape=96x96x3,alpha=0.5'
    """
    arguments = (
        f"{key}={'x'.join(map(str, value)) if isinstance(value, tuple) else value}"
        for key, value in _given(network.arguments)
    )
    return ",".join((network.name, *arguments))


def as_python(network: Network) -> str:
    """Write the call that builds a network.

    >>> as_python(Network(name="ResNet50", arguments=Arguments(classes=7, input_shape=(96, 96, 3))))
    'keras.applications.ResNet50(classes=7, input_shape=(96, 96, 3))'
    """
    arguments = ", ".join(f"{key}={value!r}" for key, value in _given(network.arguments))
    return f"keras.applications.{network.name}({arguments})"


def suggested(network: Network) -> Remedy:
    """Suggest a network as the reference model."""
    return Remedy(option="like", value=text_of(network), when=f"the model is {as_python(network)}")


def spellings(beginning: str) -> tuple[str, ...]:
    """List the networks whose name begins with a text, in small letters as Keras calls their modules or as their functions.

    >>> spellings("inc")
    ('inception_resnet_v2', 'inception_v3')
    >>> spellings("Inc")
    ('InceptionResNetV2', 'InceptionV3')
    """
    small = (re.sub(r"(?<=[a-z0-9])(ResNet|V\d)", r"_\1", name).lower() for name in NETWORKS)
    names = tuple(small) if beginning == beginning.lower() else tuple(NETWORKS)
    return tuple(name for name in names if name.startswith(beginning))


def near_names(text: str) -> tuple[str, ...]:
    """List networks that are called nearly as a text is."""
    import difflib  # only for messages

    bare = {_bare(name): name for name in NETWORKS}
    found = difflib.get_close_matches(_bare(re.split(r"[^\w-]", text)[0]), bare, cutoff=0.75)
    return tuple(bare[name] for name in found)


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _given(arguments: Arguments) -> Iterator[tuple[str, Any]]:
    """List the arguments that differ from the defaults."""
    for field in fields(arguments):
        value = getattr(arguments, field.name)
        if value != field.default:
            yield field.name, value


def _flag(text: str) -> bool:
    return bool(["False", "True"].index(text.capitalize()))


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,6}", text):
        raise ValueError(text)
    return int(text)


def _factor(text: str) -> float:
    if not re.fullmatch(r"[0-9]{0,2}\.?[0-9]{1,6}", text) or not 0.05 <= float(text) <= 10:
        raise ValueError(text)
    return float(text)


def _rate(text: str) -> float:
    if not re.fullmatch(r"0?\.?[0-9]{1,9}|1e-[0-9]{1,2}", text):
        raise ValueError(text)
    return float(text)


def _pooling(text: str) -> str | None:
    return [None, "avg", "max"][["None", "avg", "max"].index(text)]


def _input_shape(text: str) -> Shape:
    height, width, channels = text.split("x")
    return _side(height), _side(width), _count(channels)


def _side(text: str) -> int | None:
    return None if text == "None" else _count(text)


def _activation(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_]{1,40}", text):
        raise ValueError(text)
    return "linear" if text == "None" else text


def _release(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,2}){2}", text):
        raise ValueError(text)
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    "include_top": _flag,
    "classes": _count,
    "pooling": _pooling,
    "input_shape": _input_shape,
    "alpha": _factor,
    "depth_multiplier": _count,
    "dropout": _rate,
    "classifier_activation": _activation,
    "keras_applications": _release,
}
_EXAMPLES = {
    "include_top": "include_top=False",
    "classes": "classes=10",
    "pooling": "pooling=avg, pooling=max or pooling=None",
    "input_shape": "input_shape=224x224x3, with None for a side that is not fixed",
    "alpha": "alpha=0.5, between 0.05 and 10",
    "depth_multiplier": "depth_multiplier=1",
    "dropout": "dropout=0.001",
    "classifier_activation": "classifier_activation=sigmoid, or classifier_activation=None",
    "keras_applications": "keras_applications=1.0.8",
}
