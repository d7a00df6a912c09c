"""The layout of Keras's .h5 files up to Keras 2.15, full model or weights alone.

`save_model_to_hdf5` and `save_weights_to_hdf5_group` in keras/engine/saving.py (Keras 2.2 and 2.3) and
tensorflow/python/keras/saving/hdf5_format.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remap.conversion_plan import Plan, PlannedWeight
from remap.formats.description import Attribute, FileDescription, Group
from remap.output_tensors import keep
from remap.weight_names import LONGEST_LIST

__all__ = ["describe"]


def describe(plan: Plan) -> FileDescription:
    """Describe the .h5 file of a plan.

    Raises:
        OutputRefused: The plan's names cannot stand in one file.
        ValueError: The plan contradicts itself: an optimizer's list that would have to be split (which Keras 2.2.3 to
            2.3.1 write and cannot read), or state of training in a weights file.
    """
    if plan.model_config is None:
        if plan.optimizer is not None or plan.training_config is not None:
            raise ValueError("a weights file holds no state of training")
        return FileDescription(groups=tuple(_layers(plan, ())))
    return FileDescription(groups=tuple(_full_model(plan)))


def _full_model(plan: Plan) -> Iterator[Group]:
    yield Group(
        path=(),
        attributes=(
            *_text("backend", plan.file_backend),
            *_text("keras_version", plan.file_keras_version),
            *_text("model_config", plan.model_config),
            *_text("training_config", plan.training_config),
        ),
    )
    yield from _layers(plan, ("model_weights",))
    if plan.optimizer is not None:
        group = _weights(("optimizer_weights",), plan.optimizer)
        if len(group.attributes) > 1:
            raise ValueError("the names of the optimizer's tensors need more room than one attribute has")
        yield group


def _layers(plan: Plan, root: tuple[str, ...]) -> Iterator[Group]:
    yield Group(
        path=root,
        attributes=(
            *_text("backend", plan.backend),
            *_text("keras_version", plan.keras_version),
            *_names("layer_names", [layer.name for layer in plan.layers]),
        ),
    )
    # Sorted, a group is created before what lies inside it, whichever other layers have its name in their paths.
    for layer in sorted(plan.layers, key=lambda layer: layer.name):
        yield _weights((*root, layer.name), layer.weights)


def _weights(path: tuple[str, ...], weights: Sequence[PlannedWeight]) -> Group:
    return Group(
        path=path,
        attributes=_names("weight_names", [weight.name for weight in weights]),
        tensors=tuple((weight.name, keep(weight.source)) for weight in weights),
    )


def _text(name: str, text: str | None) -> tuple[Attribute, ...]:
    if text is None:
        return ()
    return (Attribute(name=name, value=text, width=max(1, _size(text))),)


def _names(name: str, names: Sequence[str]) -> tuple[Attribute, ...]:
    """Split a list as `save_attributes_to_hdf5_group` of Keras does: into the fewest equal pieces that are small enough."""
    width = max(map(_size, names), default=0)
    pieces = 1
    while -(-len(names) // pieces) * width > LONGEST_LIST:
        pieces += 1
    if pieces == 1:
        return (Attribute(name=name, value=tuple(names), width=width),)
    size, longer = divmod(len(names), pieces)
    starts = [number * size + min(number, longer) for number in range(pieces + 1)]
    return tuple(
        Attribute(
            name=f"{name}{number}", value=tuple(names[starts[number] : starts[number + 1]]), width=width
        )
        for number in range(pieces)
    )


def _size(text: str) -> int:
    # Surrogates, which UTF-8 does not have, are refused where the file is described.
    return len(text.encode(errors="surrogatepass"))
