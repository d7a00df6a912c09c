"""A model that has multi-GPU wrappers among its layers, as if it had been built on their templates.

A wrapper that is a layer owns no weights but its template's, lists them in the same order, and is called like its
template. So only the architecture changes: the template's entry stands in the place of the wrapper's, its name in
`layer_names` and in the nodes of the layers behind it. The weights, their names and their order in every group stay, and
with them the optimizer's state.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from remap.architecture import Layer, parse_model
from remap.checkpoint import Checkpoint
from remap.training_state import lift_training_config
from remap.typed_json import Config, Json, Value
from remap.wrappers import doubt_about, first_call, unwrap

__all__ = ["InnerWrapper", "built_on_templates", "on_templates"]

Path = tuple[str, ...]

# What a Sequential writes into the config of its first layer: see `Layer.entry`.
_SHAPE_OF_STACK = "batch_input_shape"

_SAME_NAME = "its template has the name of another layer of that model"
_OTHER_CALLS = "the layers behind it are called on other outputs than it has"
_IN_CUSTOM = "the layer around it may use it in another way"


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerWrapper:
    """A multi-GPU wrapper inside a model.

    Attributes:
        path: Its path in the file's own model.
        template: The path of its template in the model that is built on templates; its own path if it is kept.
        replicas: How often it calls its template; of a wrapper of a wrapper, both together.
        doubt: Why it may compute something else than its template, so that it is kept; "" if it does not.
    """

    path: Path
    template: Path
    replicas: int
    doubt: str = ""


def built_on_templates(
    checkpoint: Checkpoint, model: Layer
) -> tuple[Checkpoint, Layer, tuple[InnerWrapper, ...]]:
    """Give a checkpoint as Keras would have written it for the model built on the templates of its wrappers.

    Args:
        checkpoint: What was read of the file.
        model: Its architecture. If it is a wrapper itself, it stays one.

    Returns:
        The checkpoint, its architecture, and the wrappers in the file's own model. Those that are kept are nested models
        like any other.
    """
    built, found = on_templates(model)
    if built is model:
        return checkpoint, model, found
    names = {one.path[0]: one.template[0] for one in found if not one.doubt and len(one.path) == 1}
    training_config = checkpoint.training_config
    if training_config is not None:
        training_config = lift_training_config(training_config, model, built, where="training_config")
    changed = replace(
        checkpoint,
        layers=tuple(replace(group, name=names.get(group.name, group.name)) for group in checkpoint.layers),
        model_config=json.dumps(built.entry),
        training_config=training_config,
    )
    return changed, built, found


def on_templates(model: Layer) -> tuple[Layer, tuple[InnerWrapper, ...]]:
    """Put templates in the place of the multi-GPU wrappers inside a model; the model itself may be one and stays.

    Args:
        model: The model.

    Returns:
        The model, the same object if nothing changes, and the wrappers that were found in it.
    """
    if not any(unwrap(layer) for layer in model.walk() if layer is not model and layer.children):
        return model, ()
    builder = _Builder()
    config = builder.config_of(model, (), ())
    if all(one.doubt for one in builder.found):
        return model, tuple(builder.found)
    text = json.dumps({"class_name": model.class_name, "config": config})
    built = parse_model(text, where=model.stored.where)
    return replace(built, name=model.name, feed=model.feed), tuple(builder.found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """The entry of a layer in the new model: `first` is the number of its first call where a template moved in."""

    entry: Config
    name: str
    first: int | None = None


class _Builder:
    """Writes the new config of a model, and notes each wrapper."""

    def __init__(self) -> None:
        self.found: list[InnerWrapper] = []

    def config_of(self, model: Layer, old: Path, new: Path) -> Json:
        """Give the config of a model, `old` and `new` being its paths in the two models."""
        entries = model.stored.objects() if model.bare else model.config.objects("layers")
        children = list(zip(model.children or (), entries, strict=True))
        calls = _calls(model)
        doubts = _doubts_of_calls(model, calls)
        built = [self._layer(child, entry, old, new, doubts.get(child.name, "")) for child, entry in children]
        moved = {
            child.name: (one.name, one.first - min(calls.get(child.name, (0,))))
            for (child, _), one in zip(children, built, strict=True)
            if one.first is not None
        }
        if moved and model.sequential:
            built = list(_with_input_named(built, moved))
        layers = [_with_calls(one.entry, moved).json() for one in built]
        if model.bare:
            return layers
        config = model.config.replaced(layers=layers)
        if moved and config.has("output_layers"):
            config = config.replaced(output_layers=_renamed(config.value("output_layers"), moved))
        return config.json()

    def _layer(self, layer: Layer, entry: Config, old: Path, new: Path, doubt: str) -> _Built:
        """Give the entry of a layer; a TimeDistributed keeps its name, whatever it wraps."""
        if layer.children is None:
            entry = self._wrapping(layer, entry, (*old, layer.name), (*new, layer.name))
            return _Built(entry=entry, name=layer.name)
        found = _Chain.of(layer)
        doubt = doubt or found.doubt
        name = layer.name if doubt else found.template.name
        entry = self._model(layer, entry, (*old, layer.name), (*new, name), doubt)
        return _Built(entry=entry, name=name, first=found.first if found.replicas and not doubt else None)

    def _model(self, model: Layer, entry: Config, old: Path, new: Path, doubt: str = "") -> Config:
        """Give the entry of a model: that of its template if it is a wrapper."""
        found = _Chain.of(model)
        doubt = doubt or found.doubt
        if found.replicas:
            self.found.append(InnerWrapper(path=old, template=new, replicas=found.replicas, doubt=doubt))
        if doubt or not found.replicas:
            return entry.replaced(config=self.config_of(model, old, new))
        template = found.template
        inner = self.config_of(template, (*old, *found.path[1:]), new)
        if model.config.has(_SHAPE_OF_STACK) and not template.bare:
            inner = {**inner, _SHAPE_OF_STACK: model.config.value(_SHAPE_OF_STACK).json()}
        entry = entry.replaced(class_name=template.class_name, config=inner)
        return entry.replaced(name=template.name) if entry.has("name") else entry

    def _wrapping(self, layer: Layer, entry: Config, old: Path, new: Path) -> Config:
        """Give the entry of a layer that may wrap a model."""
        wrapped = layer.wrapped
        if wrapped is None:
            return entry
        if layer.innermost is layer:
            self.found += _kept(wrapped, old, new)
            return entry
        config = entry.object("config")
        inner = config.object("layer")
        if wrapped.children is None:
            inner = self._wrapping(wrapped, inner, old, new)
        else:
            inner = self._model(wrapped, inner, old, new)
        return entry.replaced(config=config.replaced(layer=inner.json()).json())


def _kept(layer: Layer, old: Path, new: Path) -> Iterator[InnerWrapper]:
    """Note the wrappers in an argument of a custom layer, whatever that does with them."""
    for inner in layer.walk():
        found = unwrap(inner) if inner.children else None
        if found is not None:
            yield InnerWrapper(path=old, template=new, replicas=found[1], doubt=_IN_CUSTOM)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """A model, and the template of its template until one is no wrapper.

    Attributes:
        template: The innermost template; the model itself if it is no wrapper.
        path: The names from the model to the template.
        replicas: How often the wrappers together call it, 0 if there are none.
        first: The number of its first call.
        doubt: What is in doubt about any of the wrappers.
    """

    template: Layer
    path: Path
    replicas: int = 0
    first: int = 0
    doubt: str = ""

    @classmethod
    def of(cls, model: Layer) -> _Chain:
        found = cls(template=model, path=(model.name,))
        while found.template.children and (inner := unwrap(found.template)) is not None:
            template = replace(inner[0], feed=None)
            found = cls(
                template=template,
                path=(*found.path, template.name),
                replicas=(found.replicas or 1) * inner[1],
                first=first_call(found.template, template),
                doubt=found.doubt or doubt_about(found.template, template),
            )
        return found


_Calls = Mapping[str, set[int]]
"""For each layer of a model the numbers of its calls on whose outputs other layers are called, or that are the model's."""


def _calls(model: Layer) -> _Calls:
    calls: dict[str, set[int]] = defaultdict(set)
    nodes = [node for layer in model.children or () for node in layer.nodes]
    for name, number, _ in chain(model.outputs, *nodes):
        calls[name].add(number)
    return calls


def _doubts_of_calls(model: Layer, calls: _Calls) -> Mapping[str, str]:
    """Find the wrappers of a model whose templates would not fit into the model around them."""
    children = model.children or ()
    names = Counter(_Chain.of(child).template.name if child.children else child.name for child in children)
    doubts = {}
    for child in children:
        found = _Chain.of(child)
        if not found.replicas:
            continue
        numbers = calls.get(child.name, set())
        first = min(numbers, default=0)
        if names[found.template.name] > 1:
            doubts[child.name] = _SAME_NAME
        elif not model.sequential and numbers != set(range(first, first + len(child.nodes))):
            doubts[child.name] = _OTHER_CALLS
    return doubts


_Moved = Mapping[str, tuple[str, int]]
"""For each wrapper the name of its template, and the difference between the numbers of their calls."""


def _with_input_named(built: Sequence[_Built], moved: _Moved) -> Iterator[_Built]:
    """Rename the InputLayer that Keras made for the first layer of a stack, and named after it."""
    names = {f"{old}_input": f"{new}_input" for old, (new, _) in moved.items()}
    for number, one in enumerate(built):
        config = one.entry.object("config") if number == 0 and one.name in names else None
        if config is None:
            yield one
            continue
        name = names[one.name]
        entry = one.entry.replaced(config=config.replaced(name=name).json())
        yield _Built(entry=entry.replaced(name=name) if entry.has("name") else entry, name=name)


def _with_calls(entry: Config, moved: _Moved) -> Config:
    if not moved or not entry.given("inbound_nodes"):
        return entry
    return entry.replaced(inbound_nodes=_renamed(entry.value("inbound_nodes"), moved))


def _renamed(value: Value, moved: _Moved) -> Json:
    """Rename the tensors in nodes, also among the arguments of a call."""
    if value.kind == "object":
        return {key: _renamed(item, moved) for key, item in value.object().items()}
    if value.kind != "list":
        return value.json()
    parts = value.values()
    if [part.kind for part in parts[:3]] == ["text", "integer", "integer"] and parts[0].text() in moved:
        name, shift = moved[parts[0].text()]
        rest = [_renamed(part, moved) for part in parts[2:]]
        return [name, parts[1].integer() + shift, *rest]
    return [_renamed(part, moved) for part in parts]
