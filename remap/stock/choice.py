"""Which release's architecture of a network a checkpoint has.

The releases of Keras built the same network with other layers, names or orders of layers. The names of layers that the
code of a network gives decide first, then the version of Keras that wrote the file. What is left has to give one result:
if two architectures fit and lead to different files, the checkpoint is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from remap.architecture import Layer
from remap.assignment.reference import Reference, Request, reference_from_json
from remap.checkpoint import Checkpoint
from remap.conversion_plan import PlannedLayer
from remap.errors import GIVE_JSON, InputRefused, RemapError, Remedy, Undecided, UsageRefused
from remap.planning import compose, compose_for_keras3
from remap.stock.network import Network, parse, text_of
from remap.stock.templates import Form, Row, architecture, forms, layer_rows
from remap.weight_names import layer_scope, split_number

__all__ = ["StockModel", "StockRequest", "placed", "read_stock", "scopes_of", "settle", "telling_names"]

_NOT_COMPUTED = re.compile(r".*_(initializer|regularizer|constraint)|dtype|ragged|sparse|groups")
"""Keys of a config that do not change what a trained layer computes, or that some releases leave out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StockModel:
    """A network of `keras.applications` as a reference model; the checkpoint has to decide which release's it is.

    Attributes:
        network: The network and its options.
        forms: The architectures that releases of Keras give it.
    """

    network: Network
    forms: tuple[Form, ...]

    def reference(self, form: Form) -> Reference:
        """Give one architecture as a reference model."""
        name = text_of(self.network)
        return reference_from_json(
            architecture(form, self.network), where=f"{name} of Keras {form.versions[0]}"
        )


def read_stock(text: str) -> StockModel | None:
    """Read the name of a network with its options.

    Args:
        text: The name and the options, as `remap.stock.network.parse` reads them.

    Returns:
        The network; None if the text is not the name of one.

    Raises:
        UsageRefused: If the options are wrong, or no release takes them.
    """
    network = parse(text)
    if network is None:
        return None
    found = tuple(form for form in _forms(network.name) if form.takes(network.arguments))
    if not found:
        raise UsageRefused(
            f"no release of Keras that had multi_gpu_model built {network.name} with these options",
            where=text,
            hint="only some releases take classifier_activation, keras_applications, or an input_shape without fixed sides",
        )
    return StockModel(network=network, forms=found)


_forms = cache(forms)


@dataclass(frozen=True, slots=True, kw_only=True)
class StockRequest:
    """What the caller wants of a conversion, with a network as the reference model."""

    stock: StockModel
    request: Request

    @property
    def notes(self) -> tuple[str, ...]:
        """List what is assumed: nothing, for an architecture that was recorded settles all."""
        return ()

    def settle(self, checkpoint: Checkpoint, *, keras3: bool) -> Request:
        """Choose the reference model for a checkpoint.

        Args:
            checkpoint: What was read of the input.
            keras3: Whether the output is a file of Keras 3, which can hold the whole architecture.

        Returns:
            The request with the reference model.

        Raises:
            Undecided: If no architecture fits, or several do and lead to different files.
            RemapError: What planning refuses whatever the reference model is.
        """

        def outcome(like: Reference) -> Hashable:
            asked = replace(self.request, like=like)
            if keras3:
                plan = compose_for_keras3(checkpoint, asked)
                return placed(plan.layers), _computed(plan.architecture)
            return placed(compose(checkpoint, asked).layers)

        return replace(self.request, like=settle(self.stock, checkpoint, outcome))


def settle(stock: StockModel, checkpoint: Checkpoint, outcome: Callable[[Reference], Hashable]) -> Reference:
    """Choose the architecture that a checkpoint has.

    Args:
        stock: The network.
        checkpoint: The checkpoint.
        outcome: Gives what a reference model leads to, equal for equal files; raises Undecided or InputRefused if it does
            not fit.

    Returns:
        The reference model.

    Raises:
        Undecided: If none fits, or several do and their outcomes differ.
        InputRefused: If the layers of none are those of the file.
    """
    refusals: list[RemapError] = []
    for tier in _tiers(stock, checkpoint):
        found: dict[Hashable, Form] = {}
        for form in tier:
            result = _tried(stock.reference(form), outcome)
            if isinstance(result, RemapError):
                refusals.append(result)
            else:
                found.setdefault(result, form)
        if len(found) > 1:
            raise _several(stock, found.values())
        if found:
            return stock.reference(next(iter(found.values())))
    raise refusals[0]


def _tried(like: Reference, outcome: Callable[[Reference], Hashable]) -> Hashable:
    """Give what a reference model leads to, or why it does not fit."""
    try:
        return outcome(like)
    except (Undecided, InputRefused) as refusal:
        return refusal


def _several(stock: StockModel, found: Collection[Form]) -> Undecided:
    network = stock.network
    packages = dict.fromkeys(form.packages[0] for form in found if form.packages)
    return Undecided(
        f"{len(found)} releases built {network.name} in different ways that fit the file, and neither the names of layers "
        "nor the version of Keras in it decide",
        where=text_of(network),
        remedies=(
            *(
                Remedy(
                    option="like",
                    value=text_of(
                        replace(network, arguments=replace(network.arguments, keras_applications=package))
                    ),
                    when=f"it was built with keras_applications {package}, which pip show keras_applications tells",
                )
                for package in packages
            ),
            GIVE_JSON,
        ),
    )


def placed(layers: Iterable[PlannedLayer]) -> Hashable:
    """Tell which tensors each layer gets; layers without weights do not count when weights are loaded."""
    return tuple(
        (layer.name, tuple(weight.source.path for weight in layer.weights))
        for layer in layers
        if layer.weights
    )


def _computed(model: Layer | None) -> Hashable:
    """Describe what an architecture computes."""
    return tuple(
        (
            layer.name,
            layer.class_name,
            layer.nodes,
            json.dumps(layer.config.without(*filter(_NOT_COMPUTED.fullmatch, layer.config.keys())).json()),
        )
        for layer in (model.children if model is not None else None) or ()
    )


def _tiers(stock: StockModel, checkpoint: Checkpoint) -> tuple[Sequence[Form], ...]:
    """Sort architectures by what speaks for them: names and version, names, all others."""
    scopes = scopes_of(weight.name for layer in checkpoint.layers for weight in layer.weights)
    counts = [len(scopes & telling_names(form, stock.network)) for form in stock.forms]
    named = [form for form, count in zip(stock.forms, counts, strict=True) if count == max(counts)]
    near = _near(
        checkpoint.keras_version,
        {version for form in _forms(stock.network.name) for version in form.versions},
    )
    both = [form for form in named if near & set(form.versions)]
    rest = [form for form in named if form not in both]
    others = [form for form in stock.forms if form not in named]
    return both, rest, others


def telling_names(form: Form, network: Network) -> set[str]:
    """List the names of layers as far as they are the same in every session: of automatic ones the class."""
    return {_told(row) for row in layer_rows(form, network.arguments)}


def scopes_of(names: Iterable[str]) -> set[str]:
    """List what weights say of the names of their layers, also without the counter of a second build."""
    scopes = {layer_scope(name) for name in names}
    return scopes | {split_number(scope, "_")[0] for scope in scopes}


def _told(row: Row) -> str:
    """Drop the number of a name that Keras made from the class (`_to_snake_case` in keras/engine/base_layer.py)."""
    snake = re.sub(
        "([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", row.class_name)
    ).lower()
    kind = split_number(row.name, "_")[0]
    return kind if kind == snake else row.name


def _near(version: str | None, recorded: Iterable[str]) -> set[str]:
    """Give the recorded versions that a file's version is, or is between."""
    if version is None:
        return set()
    if version in recorded:
        return {version}
    place = _place(version)
    own = sorted((_place(other), other) for other in recorded if _place(other)[0] == place[0])
    below = [other for at, other in own if at < place][-1:]
    above = [other for at, other in own if at > place][:1]
    return {*below, *above}


def _place(version: str) -> tuple[bool, tuple[int, ...]]:
    """Order the versions of tf.keras and of Keras apart: since 2.4 the first have no mark."""
    numbers = tuple(int(number) for number in re.findall(r"\d{1,6}", version.partition("-")[0]))
    return version.endswith("-tf") or numbers >= (2, 4), numbers
