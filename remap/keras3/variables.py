"""Where Keras 3 stores the variables of a model's layers, and how they come from the weights of Keras 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remap.architecture import Layer
from remap.checkpoint import Weight
from remap.errors import RemapError
from remap.keras3.layer import build_layer
from remap.keras3.objects import number_names, snake_case
from remap.layers import FUNCTIONAL, is_model_class
from remap.layers.declaration import Keras3, Setting, Writer
from remap.output_tensors import OutputTensor, keep

__all__ = ["layer_paths", "made_by_rows", "recipes_of"]

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


def layer_paths(
    model: Layer, above: tuple[str, ...], names: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Layer, tuple[str, ...]]]:
    """Give the path of each layer of a Keras 3 model in its weights file (`_save_container_state`)."""
    children = model.children or ()
    kinds = number_names(_kind(child) for child in children)
    for child, kind in zip(children, kinds, strict=True):
        path = (*above, "layers", kind)
        inner = child
        while (
            inner.innermost is not inner
            and inner.wrapped is not None
            and inner.innermost.children is not None
        ):
            inner = inner.wrapped
            path = (*path, "layer")
        called = (*names, child.name)
        if inner.children is None:
            yield path, child, called
        else:
            yield from layer_paths(inner, path, called)


def _kind(layer: Layer) -> str:
    """Give a layer's class as paths have it: a functional model of Keras 2 is a Functional."""
    functional = layer.children is not None and is_model_class(layer.class_name) and not layer.sequential
    return snake_case(FUNCTIONAL if functional else layer.class_name)
