"""The architecture of a network for given arguments: the JSON that `to_json` of a release of Keras writes.

Each network has one file of recorded architectures, packed by fixtures/make/stock.py. It is text, compressed as .xz:

    {"class_name": "Conv2D", "config": {"filters": @{width,64}, ...}}
                                the config of a layer without its name; these lines are numbered from 0
    form 2.2.0+1.0.2 2.1.6      an architecture, with the `keras_version` of the files that have it, and behind a plus sign
                                the release of keras_applications that built it
    224x224x3 NonexNonex3 any   the shape of the input if none is given: with `include_top`, and without; and whether the
                                sides have to be given: any, fixed or free
    {"class_name": "Model", ...}
                                what stands around the layers
    part body                   the layers common to all; then the parts top, none, avg and max, which end the network
    17 conv1_bn 1               a layer: number of its config, its name, where its inputs stand, counted back

What depends on arguments stands as ``@{rule,arguments}``; the rules are those of the code of `keras.applications`, and the
recording compares them with other arguments in each release.
"""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from remap.stock.network import Arguments, Network, Shape

__all__ = ["Form", "Row", "architecture", "forms", "layer_rows", "read_forms"]

_RULE = re.compile(r"@\{([^}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A layer: its config with rules, its name, how many layers back its inputs stand, and when it is there.

    Attributes:
        config: Class and config as JSON with rules, without the name.
        name: Its name.
        inputs: How many layers before it each of its inputs stands.
        equal: Rules that have to give equal values for the layer to be there; () for a layer that always is.
    """

    config: str
    name: str
    inputs: tuple[int, ...]
    equal: tuple[str, ...] = ()

    @property
    def class_name(self) -> str:
        """Give the class of the layer."""
        return self.config.split('"', 4)[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One architecture of a network, which one or several releases build.

    Attributes:
        versions: The `keras_version` of files of these releases.
        packages: The releases of keras_applications that build it; none where the networks are a part of Keras.
        model: The JSON around the layers, with rules.
        inputs: The input shape where none is given: with the layers that classify, and without them.
        sides: The inputs for which the layers are these: of ``fixed`` size, of ``free`` size, or ``any``.
        parts: The layers common to all arguments, and those that end the network.
    """

    versions: tuple[str, ...]
    packages: tuple[str, ...]
    model: str
    inputs: tuple[Shape, Shape]
    sides: str
    parts: dict[str, tuple[Row, ...]]

    def takes(self, arguments: Arguments) -> bool:
        """Tell whether the releases know the arguments and build these layers for them."""
        chosen = any("@{activation}" in row.config for row in self.parts["top"])
        if not chosen and arguments.classifier_activation != Arguments().classifier_activation:
            return False
        if arguments.keras_applications not in (None, *self.packages):
            return False
        free = self.input_shape(arguments)[0] is None
        return self.sides == "any" or self.sides == ("free" if free else "fixed")

    def input_shape(self, arguments: Arguments) -> Shape:
        """Give the shape of the input."""
        return arguments.input_shape or self.inputs[0 if arguments.include_top else 1]


def forms(network: str) -> tuple[Form, ...]:
    """Read the architectures of a network that are part of the package."""
    import lzma  # only here: few runs need it

    data = pkgutil.get_data(__package__, f"networks/{network}.xz") or b""
    return read_forms(lzma.decompress(data).decode())


def read_forms(text: str) -> tuple[Form, ...]:
    """Read the architectures in the text of a network's file."""
    head, *blocks = text.split("\nform ")
    configs = head.split("\n")
    return tuple(_form(block, configs) for block in blocks)


def _form(block: str, configs: list[str]) -> Form:
    head, *parts = block.split("\npart ")
    names, inputs, model = head.split("\n")
    releases = names.split()
    top, bare, sides = inputs.split()
    return Form(
        versions=tuple(dict.fromkeys(release.partition("+")[0] for release in releases)),
        packages=tuple(
            dict.fromkeys(package for release in releases if (package := release.partition("+")[2]))
        ),
        model=model,
        inputs=(_shape(top), _shape(bare)),
        sides=sides,
        parts=dict(_part(part, configs) for part in parts),
    )


def _part(part: str, configs: list[str]) -> tuple[str, tuple[Row, ...]]:
    name, *lines = part.split("\n")
    return name, tuple(_row(line, configs) for line in lines if line)


def _row(line: str, configs: list[str]) -> Row:
    number, name, back, *equal = line.split(" ")
    return Row(
        config=configs[int(number)],
        name=name,
        inputs=tuple(map(int, back.split(","))) if back else (),
        equal=tuple(equal),
    )


def _shape(word: str) -> Shape:
    height, width, channels = word.split("x")
    return _side(height), _side(width), int(channels)


def _side(word: str) -> int | None:
    return None if word == "None" else int(word)


def layer_rows(form: Form, arguments: Arguments) -> Iterator[Row]:
    """List the layers of an architecture, those too that are there for some widths only."""
    yield from form.parts["body"]
    yield from form.parts["top" if arguments.include_top else arguments.pooling or "none"]


def architecture(form: Form, network: Network) -> str:
    """Write the JSON of a network.

    Args:
        form: The architecture.
        network: The network and its arguments.

    Returns:
        What `to_json` of its releases writes, but for the code of Lambda layers.
    """
    arguments = network.arguments
    values = _Values(arguments, form.input_shape(arguments))
    entries: list[str] = []
    names: list[str] = []
    for row in layer_rows(form, arguments):
        if len({values.fill(rule) for rule in row.equal}) > 1:
            names.append(names[-row.inputs[-1]])  # what follows takes its last input instead
            continue
        inputs = [[names[-back], 0, 0, {}] for back in row.inputs]
        end = {"name": row.name, "inbound_nodes": [inputs] if inputs else []}
        config = row.config.replace('"config": {', f'"config": {{"name": {json.dumps(row.name)}, ', 1)
        entries.append(f"{values.fill(config)[:-1]}, {json.dumps(end)[1:]}")
        names.append(row.name)
    model = values.fill(form.model)
    for key, value in (
        ("@[layers]", f"[{', '.join(entries)}]"),
        ("@[input]", json.dumps(names[0])),
        ("@[output]", json.dumps(names[-1])),
    ):
        model = model.replace(key, value)
    return model


class _Values:
    """The values that the rules have for given arguments."""

    def __init__(self, arguments: Arguments, shape: Shape) -> None:
        self._arguments = arguments
        self._shape = shape
        self._rules: dict[str, Callable[..., object]] = {
            "activation": lambda: arguments.classifier_activation,
            "alpha": lambda: f"{arguments.alpha:.2f}",
            "classes": lambda: arguments.classes,
            "depth": lambda: arguments.depth_multiplier,
            "divisible": lambda base, times="1": _divisible(int(int(base) * arguments.alpha)) * int(times),
            "dropout": lambda: arguments.dropout,
            "height": lambda: str(self._shape[0]),
            "input": lambda: [None, *self._shape],
            "last": self._last,
            "pad": self._pad,
            "size": self._size,
            "stem": lambda base: _divisible(int(base) * arguments.alpha),
            "width": lambda base: int(int(base) * arguments.alpha),
        }

    def fill(self, text: str) -> str:
        """Put the values of rules in their places."""
        return _RULE.sub(self._value, text)

    def _value(self, found: re.Match[str]) -> str:
        name, *arguments = found[1].split(",")
        value = self._rules[name](*arguments)
        return value if isinstance(value, str) else json.dumps(value)

    def _last(self, base: str) -> int:
        return _divisible(int(base) * self._arguments.alpha) if self._arguments.alpha > 1 else int(base)

    def _pad(self, half: str, *steps: str) -> list[list[int]]:
        """Pad for a convolution with strides: one less before an even side (`correct_pad` in keras_applications)."""
        sides = [_after(side, steps) for side in self._shape[:2]]
        odd = [0 if side is None else side % 2 for side in (sides if sides[0] is not None else [None, None])]
        return [[int(half) - 1 + one, int(half)] for one in odd]

    def _size(self, channels: str, *steps: str) -> list[int | None]:
        """Give the shape of a feature map."""
        return [*(_after(side, steps) for side in self._shape[:2]), int(channels)]


def _after(side: int | None, steps: tuple[str, ...]) -> int | None:
    """Follow a side through convolutions without padding, each given as ``KERNEL:STRIDE``; padded ones as kernel 1."""
    for step in steps:
        kernel, stride = map(int, step.split(":"))
        side = None if side is None else (side - kernel) // stride + 1
    return side


def _divisible(width: float) -> int:
    """Round to a multiple of 8, by less than a tenth down (`_make_divisible` in keras_applications/mobilenet_v2.py)."""
    found = max(8, int(width + 4) // 8 * 8)
    return found + 8 if found < 0.9 * width else found
