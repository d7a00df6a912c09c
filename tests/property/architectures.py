"""Made-up models, and a small model of its own of how Keras writes them down.

Nothing here uses the package. `Container.trainable_weights` and its companions are told again in the fewest
words, so that the package's reading of lists is held against another hand's writing of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Flags", "Made", "MadeLayer", "config_of", "flat_list", "groups_of", "make", "reference_flags"]

Flags = Literal["saved", "config", "none"]

Named = tuple[str, tuple[int, ...]]


@dataclass(eq=False)
class MadeLayer:
    """A layer: its weights as (leaf, shape), or the layers inside it."""

    name: str
    class_name: str
    scope: str = ""
    trains: list[Named] = field(default_factory=list)
    rests: list[Named] = field(default_factory=list)
    children: list[MadeLayer] | None = None
    frozen: bool = False
    config: dict[str, Any] = field(default_factory=dict)

    def trainable(self) -> list[tuple[MadeLayer, int]]:
        """List (layer, index of its weight) of everything that trains."""
        if self.frozen:
            return []
        if self.children is not None:
            return [weight for child in self.children for weight in child.trainable()]
        return [(self, index) for index in range(len(self.trains))]

    def other(self) -> list[tuple[MadeLayer, int]]:
        """List everything else."""
        if self.children is not None:
            inner = [weight for child in self.children for weight in child.other()]
            if not self.frozen:
                return inner
            return [weight for child in self.children for weight in child.trainable()] + inner
        every = [(self, index) for index in range(len(self.trains) + len(self.rests))]
        return every if self.frozen else every[len(self.trains) :]

    def weight(self, index: int) -> Named:
        """Give the full name and shape of a weight."""
        leaf, shape = (self.trains + self.rests)[index]
        return f"{self.scope}/{leaf}:0" if self.scope else f"{leaf}:0", shape


@dataclass
class Made:
    """A template and what is odd about it.

    `outputs` of its last layers give an output. `given` is the name that its first layer had when a Sequential called its
    input by that; "" if it is no Sequential.
    """

    template: MadeLayer
    plain: bool
    swapped: bool
    branched: bool
    outputs: int = 1
    given: str = ""


def flat_list(made: Made) -> list[tuple[MadeLayer, int]]:
    """Give the nested group's list."""
    return made.template.trainable() + made.template.other()


@contextmanager
def reference_flags(made: Made, flags: Flags) -> Iterator[None]:
    """Give the layers the flags of a reference model meanwhile.

    ``saved`` are those of the live model, ``config`` those that its config has, which lacks the flags of models, and
    ``none`` freezes nothing.
    """
    layers = list(_below(made.template))
    before = [layer.frozen for layer in layers]
    for layer in layers:
        if flags == "none" or (flags == "config" and layer.children is not None):
            layer.frozen = False
    try:
        yield
    finally:
        for layer, frozen in zip(layers, before, strict=True):
            layer.frozen = frozen


def _below(layer: MadeLayer) -> Iterator[MadeLayer]:
    for child in layer.children or ():
        yield child
        yield from _below(child)


def groups_of(made: Made) -> list[tuple[str, list[tuple[MadeLayer, int]]]]:
    """Give the groups of the flat file that Keras saves for the template."""
    assert made.template.children is not None
    return [(layer.name, layer.trainable() + layer.other()) for layer in made.template.children]


def config_of(layer: MadeLayer, *, flags: bool = True) -> dict[str, Any]:
    """Give the layer's entry; a model's own flag is not in it."""
    if layer.children is not None:
        layers = [config_of(child, flags=flags) for child in layer.children]
        return {"class_name": "Sequential", "config": {"name": layer.name, "layers": layers}}
    trainable = not layer.frozen or not flags
    return {
        "class_name": layer.class_name,
        "config": {"name": layer.name, "trainable": trainable, **layer.config},
    }


def make(chance: random.Random, *, common: bool = False) -> Made:
    """Make up a model: `common` ones are what most people have, unfrozen and named by Keras."""
    while True:
        made = _Maker(chance, common=common).made()
        if _is_allowed(made.template):
            return made


def _is_allowed(model: MadeLayer) -> bool:
    """Tell whether no model has two layers of one name, which exchanged names of different models may lead to."""
    models = [layer for layer in (model, *_below(model)) if layer.children is not None]
    return all(len({child.name for child in one.children or ()}) == len(one.children or ()) for one in models)


class _Maker:
    def __init__(self, chance: random.Random, *, common: bool) -> None:
        self.chance = chance
        self.common = common
        self.numbers: dict[str, int] = {}
        self.automatic = common or chance.random() < 0.6
        self.nests = not common and chance.random() < 0.5
        self.freezes = not common and chance.random() < 0.6
        self.customs = not common and chance.random() < 0.3
        self.restarts = (
            self.nests and chance.random() < 0.4
        )  # each nested model names its layers from the start
        self.inside = False
        self.opened: dict[str, int] = {}
        self.sizes = [chance.choice([2, 3, 4]) for _ in range(chance.choice([1, 2]))]

    def made(self) -> Made:
        children = [self.layer(0) for _ in range(self.chance.randint(2, 9))]
        branched = not self.common and self.chance.random() < 0.25
        if branched:
            children = self.branches(children)
        children.append(self.dense(self.name("dense")))
        children[-1].frozen = self.freezes and self.chance.random() < 0.2
        template = MadeLayer(name="model_1", class_name="Sequential", children=children)
        outputs = 1 + (not self.common and self.chance.random() < 0.15)
        if outputs > 1:
            children[-1:] = [self.head(), self.head()]
        given = children[0].name if not branched and outputs == 1 and self.chance.random() < 0.5 else ""
        leaves = list(self.leaves(template))
        swapped = not self.common and self.disguise(leaves)
        plain = not any(layer.frozen for layer in leaves) and not any(child.children for child in children)
        return Made(
            template=template,
            plain=plain,
            swapped=swapped,
            branched=branched,
            outputs=outputs,
            given=given,
        )

    def head(self) -> MadeLayer:
        """Make a layer that gives one of two outputs, which no other layer reads; the outputs are in order."""
        name, size = self.name("dense"), self.sizes[0]
        made = MadeLayer(name, "Dense", scope=self.scope(name), config={"units": 5, "use_bias": False})
        made.trains = [("kernel", (size, 5))]
        made.frozen = self.freezes and self.chance.random() < 0.4
        return made

    def branches(self, layers: list[MadeLayer]) -> list[MadeLayer]:
        """Take layers as those of two branches, built one after the other: Keras lists them by their depth."""
        place = self.chance.randint(1, len(layers) - 1)
        one, other = layers[:place], layers[place:]
        merged = []
        while one and other:
            merged.append(self.chance.choice((one, other)).pop(0))
        return [*merged, *one, *other]

    def leaves(self, layer: MadeLayer) -> list[MadeLayer]:
        if layer.children is None:
            return [layer]
        return [leaf for child in layer.children for leaf in self.leaves(child)]

    def disguise(self, leaves: list[MadeLayer]) -> bool:
        """Let scopes differ from names as in real files; tell whether a scope is the name of another layer.

        Where that is a built-in layer, the law holds all the same: what a built-in layer owns is known. What a custom layer
        owns is not, so that its name is all there is.
        """
        kind = self.chance.random()
        if kind < 0.15:
            for leaf in leaves:
                leaf.scope = f"{leaf.scope}_1" if leaf.scope else ""
        elif kind < 0.25:
            for leaf in leaves:
                leaf.scope = f"tower/{leaf.scope}" if leaf.scope else ""
        elif kind < 0.35:
            one, other = self.chance.sample(leaves, 2) if len(leaves) > 1 else (leaves[0], leaves[0])
            one.name, other.name = other.name, one.name
            return True
        elif kind < 0.45:
            renamed = self.chance.choice(leaves)
            renamed.name = "renamed"
            custom = [leaf for leaf in leaves if leaf.class_name == renamed.class_name == "Odd"]
            return any(leaf.name == renamed.scope for leaf in custom)
        return False

    def scope(self, name: str) -> str:
        """Open a scope, to which TensorFlow 1 adds a counter if it was opened before."""
        count = self.opened.get(name, 0)
        self.opened[name] = count + 1
        return f"{name}_{count}" if count else name

    def name(self, kind: str) -> str:
        if self.inside:
            self.numbers[kind] = self.numbers.get(kind, 0) + 1
            return f"{kind[:2]}{self.numbers[kind]}"
        self.numbers[kind] = self.numbers.get(kind, 0) + 1
        if self.automatic:
            return f"{kind}_{self.numbers[kind]}"
        return f"{self.chance.choice(['head', 'block', 'part'])}_{kind[0]}{sum(self.numbers.values())}"

    def layer(self, depth: int) -> MadeLayer:
        kind = self.chance.random()
        if self.nests and depth < 2 and kind < 0.3:
            name = self.name("model")
            numbers, inside = self.numbers, self.inside
            if self.restarts:
                self.numbers, self.inside = {}, True
            children = [self.layer(depth + 1) for _ in range(self.chance.randint(1, 4))]
            self.numbers, self.inside = numbers, inside
            frozen = self.freezes and self.chance.random() < 0.5
            return MadeLayer(name, "Sequential", children=children, frozen=frozen)
        if self.customs and kind < 0.45:
            return self.custom()
        made = self.normalization() if kind < 0.65 else self.dense(self.name("dense"))
        made.frozen = self.freezes and self.chance.random() < 0.4
        return made

    def dense(self, name: str) -> MadeLayer:
        size = self.chance.choice(self.sizes)
        bias = [("bias", (size,))] if self.chance.random() < 0.8 else []
        weights: list[Named] = [("kernel", (size, size)), *bias]
        config = {"units": size, "use_bias": bool(bias)}
        return MadeLayer(name, "Dense", scope=self.scope(name), trains=weights, config=config)

    def normalization(self) -> MadeLayer:
        name, size = self.name("batch_normalization"), self.chance.choice(self.sizes)
        bare = not self.common and self.chance.random() < 0.2
        return MadeLayer(
            name,
            "BatchNormalization",
            scope=self.scope(name),
            trains=[] if bare else [("gamma", (size,)), ("beta", (size,))],
            rests=[("moving_mean", (size,)), ("moving_variance", (size,))],
            config={"scale": not bare, "center": not bare},
        )

    def custom(self) -> MadeLayer:
        name, size = self.name("odd"), self.chance.choice(self.sizes)
        trains: list[Named] = [(f"w{index}x", (size,)) for index in range(self.chance.randint(0, 2))]
        rests: list[Named] = [(f"s{index}x", (size,)) for index in range(self.chance.randint(0, 1))]
        scope = self.scope(name) if self.chance.random() < 0.8 else ""
        return MadeLayer(name, "Odd", scope=scope, trains=trains, rests=rests)
