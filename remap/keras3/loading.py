"""Keras 3's rules for loading its own formats, replayed: each object of a model takes the variables at its path.

`_load_state` in keras/src/saving/saving_lib.py walks through the model, `Layer.load_own_variables` compares numbers of
variables, and `Variable.assign` shapes. What a file holds at other paths is ignored. tf_keras reads these formats by the
same rules, where a layer has its weights in one object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from remap.architecture import Layer, owned_weights
from remap.assignment.loading import FileLayer, Loading, LoadStep, ModelLayer, crossings
from remap.checkpoint import Weight
from remap.conversion_plan import PlannedLayer, PlannedWeight
from remap.errors import RemapError, Remedy
from remap.keras3.graph import makes_mask
from remap.keras3.layer import ConvertedLayer
from remap.keras3.model import build_model
from remap.keras3.objects import valid_names
from remap.keras3.tensors import Translation, VariableGroup
from remap.keras3.variables import layer_paths, recipes_of
from remap.layers.declaration import BuiltAs, Keras3, Removed, Setting, Writer
from remap.layers.weights import Shape, Slot
from remap.output_tensors import OutputTensor

__all__ = [
    "ModelObject",
    "SavedObject",
    "changed_classes",
    "load_by_path",
    "model_objects",
    "order_in_keras3",
    "removed_classes",
    "tf_keras_objects",
    "translated",
    "written_for_keras3",
]

# While a model is translated, these stand for what is not known: a side, a whole shape, the weights of a custom class.
_ANY_SIDE = -1
_ANY_SHAPE = "any shape"
_CUSTOM = "custom"
_FLOAT = "<f4"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelObject:
    """An object of a model, which may have variables.

    Attributes:
        path: The chain of attributes that leads to it, as in ``layers/dense_1``.
        name: The name of the layer.
        shapes: The shapes of its variables in order, None for one that is not known. None for a layer of a custom class,
            which may have any variables here and below.
        custom: The custom class; "" for any other.
    """

    path: str
    name: str
    shapes: tuple[Shape | None, ...] | None
    custom: str = ""


SavedObject = tuple[str, str | None, tuple[tuple[int, ...], ...]]
"""An object in a file: its path, the name that the file notes, the shapes of its variables."""


def model_objects(model: Layer, *, keras3: bool) -> list[ModelObject]:
    """List the objects of a model with variables as Keras 3 builds it, in the order of its layers.

    Args:
        model: The architecture.
        keras3: Whether Keras 3 wrote it; otherwise it is translated.

    Raises:
        InputRefused: The architecture cannot be translated.
    """
    if keras3:
        return [
            one for path, layer, names in layer_paths(model, (), ()) for one in _stored(path, layer, names)
        ]
    return [_translated(group) for group in _built(model).groups if group.variables]


def tf_keras_objects(model: Layer) -> list[ModelObject]:
    """List the objects of a model with variables as tf_keras builds it."""
    found = []
    for path, layer, names in layer_paths(model, (), ()):
        target = layer.declared.keras3 if layer.declared is not None else None
        owned = owned_weights(layer)
        where, name = "/".join(path), "/".join(names)
        if owned is None or not isinstance(target, Keras3) or target.built_as is not BuiltAs.LAYER:
            if owned is None or owned.slots:
                found.append(ModelObject(path=where, name=name, shapes=None, custom=layer.class_name))
        elif owned.slots:
            inner = f"{where}/cell" if target.cell else where
            shapes = tuple(slot.shape for slot in owned.slots)
            found.append(ModelObject(path=inner, name=name, shapes=shapes))
    return found


def changed_classes(model: Layer) -> tuple[str, ...]:
    """Name the classes of a model's layers whose weights Keras 3 stores in another form."""
    return _classes(model, lambda target: isinstance(target, Keras3) and bool(target.changes))


def removed_classes(model: Layer) -> tuple[str, ...]:
    """Name the classes of a model's layers with weights that Keras 3 does not have."""
    return _classes(model, lambda target: isinstance(target, Removed))


def _classes(model: Layer, holds: Callable[[object], bool]) -> tuple[str, ...]:
    found = (
        layer.class_name
        for layer in model.walk()
        if layer.declared is not None and not layer.declared.weightless and holds(layer.declared.keras3)
    )
    return tuple(dict.fromkeys(found))


def translated(model: Layer) -> Translation | None:
    """Translate a model of Keras 2 whose weights are not there; None where that is refused."""
    from remap.keras3.conversion import translate  # imports what the rest of this module does not need

    try:
        return translate(model, _placeholders(model), keras_version=None)
    except RemapError:
        return None


def order_in_keras3(
    model: Layer, translation: Translation | None, expected: Sequence[ModelLayer]
) -> list[ModelLayer]:
    """Sort the layers of a model of Keras 2 as Keras 3 lists them; as they are where it cannot be translated."""
    if translation is None:
        return list(expected)
    children = model.children or ()
    names = valid_names(((child.name, child.class_name) for child in children), masks=_masks(model))
    called = {child.name: name for child, name in zip(children, names, strict=True)}
    places: dict[str, int] = {}
    for number, group in enumerate(translation.groups):
        if group.path.count("/") == 1:
            places.setdefault(group.name, number)
    last = len(translation.groups)
    return sorted(expected, key=lambda layer: places.get(called.get(layer.name, layer.name), last))


def written_for_keras3(translation: Translation | None) -> tuple[Remedy, ...]:
    """Give the format of Keras 3 that can be written of a model of Keras 2, as an argument of `extract`."""
    if translation is None:
        return ()
    return (Remedy(option="target", value=".weights.h5" if translation.problems else ".keras"),)


def _built(model: Layer) -> ConvertedLayer:
    setting = Setting(floatx="float32", writer=Writer(None), masks=_masks(model))
    return build_model(model, model.name or "model", _placeholders(model), setting)


def _masks(model: Layer) -> bool:
    return any(makes_mask(layer) for layer in model.walk())


def _stored(path: tuple[str, ...], layer: Layer, names: tuple[str, ...]) -> Iterator[ModelObject]:
    """Give the objects of one layer as Keras 3 describes it."""
    where, name = "/".join(path), "/".join(names)
    stand_ins = _stand_ins(layer)
    recipes = None if _is_unknown(stand_ins) else recipes_of(layer, stand_ins)
    if recipes is None:
        yield ModelObject(path=where, name=name, shapes=None, custom=layer.class_name)
        return
    shares: dict[str, list[Shape | None]] = {}
    for (owner, _), recipe in recipes.items():
        shares.setdefault("/".join((*path, *owner)), []).append(_shape(recipe))
    for inner, shapes in shares.items():
        yield ModelObject(path=inner, name=name, shapes=tuple(shapes))


def _translated(group: VariableGroup) -> ModelObject:
    sources = [variable.source for variable in group.variables if variable.source is not None]
    if _is_unknown(sources):
        return ModelObject(path=group.path, name=group.name, shapes=None, custom=sources[0].path)
    return ModelObject(
        path=group.path, name=group.name, shapes=tuple(_shape(variable) for variable in group.variables)
    )


def _shape(variable: OutputTensor) -> Shape | None:
    if variable.source is not None and variable.source.name == _ANY_SHAPE:
        return None
    return tuple(None if side < 0 else side for side in variable.shape)


def _is_unknown(weights: Iterable[Weight]) -> bool:
    return any(weight.name == _CUSTOM for weight in weights)


def _placeholders(model: Layer) -> tuple[PlannedLayer, ...]:
    """Plan a model whose weights are not there: of their shapes only what its config tells is known."""
    planned = []
    for child in model.children or ():
        inner = child.innermost
        nested = inner.children is not None
        weights = () if nested else _stand_ins(child)
        planned.append(
            PlannedLayer(
                name=child.name,
                weights=tuple(PlannedWeight(name=weight.name, source=weight) for weight in weights),
                children=_placeholders(inner) if nested else (),
            )
        )
    return tuple(planned)


def _stand_ins(layer: Layer) -> tuple[Weight, ...]:
    owned = owned_weights(layer)
    if owned is None or (owned.slots and not _is_translated(layer)):
        return (Weight(name=_CUSTOM, path=layer.class_name, shape=(), dtype=_FLOAT),)
    return tuple(
        Weight(name=_ANY_SHAPE, path="", shape=(), dtype=_FLOAT)
        if slot.shape is None
        else Weight(
            name=slot.leaf,
            path="",
            shape=tuple(_ANY_SIDE if side is None else side for side in slot.shape),
            dtype=_FLOAT,
        )
        for slot in owned.slots
    )


def _is_translated(layer: Layer) -> bool:
    """Tell whether it is known where Keras 3 stores the weights of a layer."""
    return all(
        part.declared is not None
        and (isinstance(part.declared.keras3, Keras3) or callable(part.declared.keras3))
        for part in (layer, *filter(None, (layer.wrapped, layer.backward)))
    )


def load_by_path(saved: Sequence[SavedObject], expected: Sequence[ModelObject]) -> Loading:
    """Give each object of a model the variables at its path, and list those that nothing takes behind them."""
    left = {path: (name, shapes) for path, name, shapes in saved if shapes}
    steps: list[LoadStep] = []
    custom = []
    for one in expected:
        if one.shapes is None:
            custom.append(one)
            continue
        name, shapes = left.pop(one.path, (None, ()))
        want = ModelLayer(name=one.name, shapes=one.shapes)
        have = FileLayer(name=name or one.name.rpartition("/")[2], shapes=shapes) if shapes else None
        steps.append(LoadStep(expected=want, saved=have, complaint=_complaint(want, have), path=one.path))
    for one in custom:
        below = [path for path in left if path == one.path or path.startswith(f"{one.path}/")]
        shares = [left.pop(path)[1] for path in below]
        steps.append(
            LoadStep(
                expected=ModelLayer(name=one.name, shapes=None, custom=(one.custom,)),
                saved=FileLayer(name=one.name, shapes=tuple(s for share in shares for s in share))
                if shares
                else None,
                path=one.path,
            )
        )
    steps = _with_crossings(steps)
    steps += [
        LoadStep(expected=None, saved=FileLayer(name=name or path, shapes=shapes), path=path)
        for path, (name, shapes) in left.items()
    ]
    loading = Loading(steps=tuple(steps))
    return (
        replace(loading, undecided=tuple(dict.fromkeys(one.custom for one in custom)))
        if loading.loads
        else loading
    )


def _with_crossings(steps: Sequence[LoadStep]) -> list[LoadStep]:
    pairs = [
        (replace(step.expected, name=step.expected.name.rpartition("/")[2]), step.saved)
        for step in steps
        if step.expected is not None and step.saved is not None
    ]
    found = crossings(pairs)
    numbers = iter(range(len(pairs)))
    return [
        replace(step, crossed=found.get(next(numbers))) if step.expected and step.saved else step
        for step in steps
    ]


def _complaint(want: ModelLayer, have: FileLayer | None) -> str:
    """Say what Keras 3 says; `Layer.load_own_variables`, `Variable.assign`."""
    shapes = have.shapes if have is not None else ()
    wanted = want.shapes or ()
    if len(shapes) != len(wanted):
        name = want.name.rpartition("/")[2]
        return f"Layer '{name}' expected {len(wanted)} variables, but received {len(shapes)} variables during loading."
    for sides, found in zip(wanted, shapes, strict=True):
        if sides is not None and not Slot("", sides).fits(found):
            shown = ", ".join("?" if side is None else str(side) for side in sides)
            return (
                "The shape of the target variable and the shape of the target value in `variable.assign(value)` must "
                f"match. variable.shape=({shown}{',' if len(sides) == 1 else ''}), Received: value.shape={found}."
            )
    return ""
