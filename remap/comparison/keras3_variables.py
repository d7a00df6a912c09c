"""The variables that Keras 3 has for one layer of Keras 2, from what the layer's class declares."""

from __future__ import annotations

from collections.abc import Sequence

from remap.architecture import Layer
from remap.checkpoint import Weight
from remap.errors import RemapError
from remap.keras3.layer import build_layer
from remap.layers.declaration import Keras3, Setting, Writer
from remap.output_tensors import OutputTensor, keep

__all__ = ["made_by_rows", "recipes_of"]

# What a layer's weights become does not depend on it.
_SETTING = Setting(floatx="float32", writer=Writer(None))
_Place = tuple[tuple[str, ...], str]


def recipes_of(
    layer: Layer | None, weights: Sequence[Weight], *, unchanged: bool = False
) -> dict[_Place, OutputTensor] | None:
    """Give for each variable below a layer in Keras 3 how it comes from the layer's weights.

    With `unchanged` each is one of them as it stands: they were saved by Keras 3 in the old format.
    None where the layer is not described, or the weights are not those of such a layer.
    """
    if layer is None or layer.children is not None:
        return None
    try:
        recipes = _recipes(layer, weights)
    except RemapError:
        return None
    if not unchanged:
        return recipes
    return {place: keep(recipe.source) for place, recipe in recipes.items() if recipe.source is not None}


def made_by_rows(layer: Layer) -> bool:
    """Tell whether each row of a variable in Keras 3 is made of one row of the weight alone: of no layer of cuDNN."""
    targets = (part.declared.keras3 for part in layer.walk() if part.declared is not None)
    return not any(isinstance(target, Keras3) and target.changes for target in targets)


def _recipes(layer: Layer, weights: Sequence[Weight]) -> dict[_Place, OutputTensor]:
    directions = 0 if layer.declared is None else layer.declared.directions
    if layer.wrapped is None or not directions:
        built = build_layer(layer, layer.name or "layer", weights, _SETTING)
        return {
            (tuple(group.path.split("/")) if group.path else (), str(number)): recipe
            for group in built.groups
            for number, recipe in enumerate(group.variables)
        }
    if directions == 1:
        return _below("layer", _recipes(layer.wrapped, weights))
    # The first half of the weights is the forward layer's (`Bidirectional` in keras/layers/wrappers.py).
    half = len(weights) // 2
    backward = layer.backward or layer.wrapped
    return {
        **_below("forward_layer", _recipes(layer.wrapped, weights[:half])),
        **_below("backward_layer", _recipes(backward, weights[half:])),
    }


def _below(owner: str, recipes: dict[_Place, OutputTensor]) -> dict[_Place, OutputTensor]:
    return {((owner, *path), key): recipe for (path, key), recipe in recipes.items()}
