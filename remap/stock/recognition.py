"""Recognize a network of `keras.applications` by the names and shapes of its weights."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from math import isqrt

from remap.assignment.assign import assign
from remap.assignment.reference import Request
from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.errors import RemapError, Undecided
from remap.recognize import Template, choose, recognize
from remap.stock.choice import placed, read_stock, scopes_of, settle
from remap.stock.network import NETWORKS, Arguments, Network, Shape, suggested, text_of
from remap.stock.templates import Form, architecture, layer_rows
from remap.weight_names import clean, layer_scope, leaf, split_number

__all__ = ["recognized", "with_network"]

_FILTERS = re.compile(r'"filters": ([0-9]+)')
# The widths that are in use, the likeliest first; `recognized` takes the first that fits.
_ALPHAS = (1.0, 0.75, 0.5, 0.25, 0.35, 1.4, 1.3, *(number / 20 for number in range(1, 41)))


def recognized(checkpoint: Checkpoint, template: Template | None) -> Network | None:
    """Find the network that a weights file holds.

    Args:
        checkpoint: The file.
        template: The model in it; None if the file is that of a single model.

    Returns:
        The network with its options, which settles the file as a reference model; None if it is no network that is known,
        or a changed one.
    """
    if template is None:
        every = tuple(weight for layer in checkpoint.layers for weight in layer.weights)
        template = Template(group=LayerGroup(name="", weights=every), architecture=None, replicas=None)
    for network in _possible(template.group.weights):
        if _settles(network, checkpoint, template):
            return network
    return None


def _settles(network: Network, checkpoint: Checkpoint, template: Template) -> bool:
    """Tell whether a network settles a file as its reference model."""
    try:
        stock = read_stock(text_of(network))
        if stock is not None:
            settle(stock, checkpoint, lambda like: placed(assign(template, Request(like=like)).layers))
    except RemapError:
        return False
    return stock is not None


def with_network(refusal: Undecided, checkpoint: Checkpoint, submodel: str | None) -> Undecided:
    """Add the network that a weights file holds to what would settle it, if it is recognized.

    Args:
        refusal: Why the file is not settled without a reference model.
        checkpoint: The file.
        submodel: Which of several models was asked for.

    Returns:
        The refusal, with the network as its first remedy.
    """
    recognition = recognize(checkpoint, None)
    try:
        template = None if recognition.kind == "single" else choose(recognition, submodel=submodel)
    except RemapError:
        return refusal
    found = recognized(checkpoint, template)
    if found is None:
        return refusal
    return Undecided(
        refusal.what, where=refusal.where, hint=refusal.hint, remedies=(suggested(found), *refusal.remedies)
    )


@cache
def _counts() -> dict[str, tuple[frozenset[int], frozenset[int]]]:
    """Read how many weights each network has: with the layers that classify, and without."""
    text = (pkgutil.get_data(__package__, "networks/weights.txt") or b"").decode()
    found = {}
    for line in text.splitlines():
        name, *sides = line.split(" ")
        top, bare = (frozenset(map(int, side.split(","))) for side in sides)
        found[name] = (top, bare)
    return found


def _possible(weights: Sequence[Weight]) -> Iterator[Network]:
    """List the networks with as many weights and layers called so, with the arguments that the shapes tell."""
    kinds = {split_number(layer_scope(weight.name), "_")[0] for weight in weights}
    for name, counts in _counts().items():
        for include_top, numbers in zip((True, False), counts, strict=True):
            network = Network(name=name, arguments=Arguments(include_top=include_top))
            if len(weights) in numbers and (form := _named(network, kinds)) is not None:
                yield from _with_arguments(network, form, weights)


def _named(network: Network, kinds: set[str]) -> Form | None:
    """Find an architecture that has layers of all names, whatever their numbers are."""
    stock = read_stock(text_of(network))
    for form in stock.forms if stock is not None else ():
        if kinds <= {split_number(row.name, "_")[0] for row in layer_rows(form, network.arguments)}:
            return form
    return None


def _with_arguments(network: Network, form: Form, weights: Sequence[Weight]) -> Iterator[Network]:
    """Read the options off the shapes of weights."""
    kernels = [
        weight for weight in weights if leaf(clean(weight.name)) == "kernel" and len(weight.shape) in (2, 4)
    ]
    if not all(weight.parameters for weight in kernels):
        return
    maps = [weight.shape for weight in kernels if len(weight.shape) == 4]
    arguments = network.arguments
    if not maps:
        return
    if arguments.include_top:
        last = [row.name for row in layer_rows(form, arguments) if "@{classes}" in row.config]
        named = [weight.shape for weight in kernels if {*last} & scopes_of([weight.name])]
        if not named:
            return
        arguments = replace(arguments, classes=named[-1][-1])
    arguments = replace(arguments, input_shape=_input_shape(form, arguments, kernels))
    if "alpha" not in NETWORKS[network.name]:
        yield replace(network, arguments=arguments)
        return
    widths = sorted(shape[-1] for shape in maps)
    for alpha in _ALPHAS:
        scaled = replace(network, arguments=replace(arguments, alpha=alpha))
        if sorted(map(int, _FILTERS.findall(architecture(form, scaled)))) == widths:
            yield scaled
            return


def _input_shape(form: Form, arguments: Arguments, kernels: Sequence[Weight]) -> Shape | None:
    """Find the shape of the input; None if it may be the default.

    Only VGG flattens the last feature map, which is a 32nd of a side of the input, into a Dense layer.
    """
    height, width, channels = form.input_shape(arguments)
    maps = [weight.shape for weight in kernels if len(weight.shape) == 4]
    if not any(shape[2] == channels for shape in maps):
        channels = maps[0][2]
    flattened = [weight.shape for weight in kernels if "fc1" in scopes_of([weight.name])]
    if arguments.include_top and flattened:
        side = 32 * isqrt(flattened[0][0] // maps[-1][-1])
        height, width = (side, side) if side and side != height else (height, width)
    found = (height, width, channels)
    return None if found == form.input_shape(arguments) else found
