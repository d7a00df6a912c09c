"""What a checkpoint holds, as a value and as JSON: the verdict, the layers as a tree, what is still open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

from remap.conversion_plan import Plan, PlannedLayer, SettledBy
from remap.errors import Remedy
from remap.inner_wrappers import InnerWrapper
from remap.recognize import Kind

if TYPE_CHECKING:
    from remap.keras3.opening import LoadModel
    from remap.stats import Stats

__all__ = [
    "Flag",
    "InspectedLayer",
    "InspectedWeight",
    "Inspection",
    "Kind",
    "Move",
    "Report",
    "Role",
    "as_json",
    "mapping_of",
    "plan_json",
    "report_of",
]


def as_json(value: Any) -> Any:
    """Turn dataclasses into dictionaries and tuples into lists, all the way down."""
    if isinstance(value, Remedy):
        return value.to_json()
    if is_dataclass(value):
        return {one.name: as_json(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return value


Role = Literal["model", "slice", "merge", "input", "layer"]
Flag = Literal["nested", "multi-gpu", "shared", "frozen", "custom", "cudnn", "code", "split names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedWeight:
    """A tensor of the file: name, place, shape in elements, numpy dtype, and its values' numbers if asked."""

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    stats: Stats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedLayer:
    """A layer: what it is, what it is for in the file, its weights in load order and the layers inside it.

    `class_name` is None where the file does not tell. `role` is ``model`` for a model that can be extracted,
    ``slice``, ``merge`` and ``input`` for what a wrapper puts around it, ``layer`` for all else. Weights of a
    model whose layers are known stand with those layers. `grouped` says that the layers inside are only what
    the names of the weights show, in the order of the file: which order Keras would load is not settled.
    """

    name: str
    class_name: str | None = None
    role: Role = "layer"
    flags: tuple[Flag, ...] = ()
    weights: tuple[InspectedWeight, ...] = ()
    layers: tuple[InspectedLayer, ...] = ()
    grouped: bool = False
    parameters: int = 0
    tensors: int = 0

    def walk(self) -> Iterator[InspectedLayer]:
        """Yield the layer and all inside it, depth first."""
        yield self
        for layer in self.layers:
            yield from layer.walk()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that `inspect` tells.

    `kind` is ``multi-gpu`` for a wrapper, ``multi-gpu-inside`` for a model with wrappers among its layers or inside its
    nested models, ``several`` for a file with more than one model to choose from, ``single`` for a model that Keras loads
    as it is, ``empty`` for a file without weights. `content` is ``full model`` or ``weights``. `wrappers` are the
    multi-GPU wrappers inside the file's own model; in `layers` their templates stand in their places. `submodels` are
    the paths by which `extract` takes a model inside alone. `template` names the replicated model; `replicas` is None
    where the file does not tell. `settled_by` is what settles the template's layers, ``architecture`` or ``names``; it is
    None where they are not settled: `question` then says why, `hint` what to do that is not an argument of `extract`.
    `remedies` are arguments of `extract` that settle them, or that give a file which Keras 3 opens. `keras3_obstacle` says
    why `load_model` of Keras 3 cannot open the single model as an .h5 file, and is empty where it can or there is no
    architecture; `custom_objects` names the classes and functions that it has to be given. `size` is in bytes.
    """

    source: str
    size: int = field(repr=False)
    kind: Kind
    content: Literal["full model", "weights"]
    class_name: str | None = field(repr=False)
    name: str = field(repr=False)
    keras_version: str | None = field(repr=False)
    backend: str | None = field(repr=False)
    template: str | None
    replicas: int | None
    settled_by: SettledBy | None
    question: str = field(repr=False)
    hint: str = field(repr=False)
    remedies: tuple[Remedy, ...] = field(repr=False)
    keras3_obstacle: str = field(repr=False)
    custom_objects: tuple[str, ...] = field(repr=False)
    notes: tuple[str, ...] = field(repr=False)
    optimizer: str | None = field(repr=False)
    optimizer_tensors: int = field(repr=False)
    parameters: int
    tensors: int
    layers: tuple[InspectedLayer, ...] = field(repr=False)
    submodels: tuple[str, ...] = field(default=(), repr=False)
    wrappers: tuple[InnerWrapper, ...] = field(default=(), repr=False)

    @property
    def models(self) -> tuple[InspectedLayer, ...]:
        """List the layers that can be extracted as a model of their own."""
        return tuple(part for layer in self.layers for part in layer.walk() if part.role == "model")

    def _repr_html_(self) -> str:
        """Show the inspection in a notebook."""
        from remap.console.notebook import inspection_html  # Rich is needed only here

        return inspection_html(self)

    def to_json(self) -> dict[str, Any]:
        """Give the inspection as a JSON document; its `version` rises when a field changes its meaning."""
        return {"format": "h5remap-inspection", "version": 1, **as_json(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came out of an extraction, how it was settled, and what stayed behind.

    `target` is None for a plan that was not carried out; `size` is the output's size in bytes, 0 without one.
    `replicas` is None where the file does not tell. `settled_by` is ``architecture``, ``reference`` or ``names``.
    `frozen` and `flags` are those of the plan. `custom_objects` are the names under which `load_model` must be
    given functions and classes that the file does not hold. `keras3_obstacle` says why `load_model` of Keras 3 cannot
    open an .h5 output, `remedies` then what to write instead.
    """

    source: str
    target: str | None
    template: str
    replicas: int | None = field(repr=False)
    settled_by: SettledBy
    kind: str
    layers: int = field(repr=False)
    weighted_layers: int = field(repr=False)
    tensors: int
    parameters: int
    optimizer_tensors: int = field(repr=False)
    size: int = field(repr=False)
    frozen: tuple[str, ...] = field(repr=False)
    flags: str = field(repr=False)
    notes: tuple[str, ...] = field(repr=False)
    left_behind: tuple[str, ...] = field(repr=False)
    custom_objects: tuple[str, ...] = field(default=(), repr=False)
    keras3_obstacle: str = field(default="", repr=False)
    remedies: tuple[Remedy, ...] = field(default=(), repr=False)

    def _repr_html_(self) -> str:
        """Show the report in a notebook."""
        from remap.console.notebook import report_html  # Rich is needed only here

        return report_html(self)

    def to_json(self) -> dict[str, Any]:
        """Give the report as a JSON document; its `version` rises when a field changes its meaning."""
        return {"format": "h5remap-report", "version": 1, **as_json(self)}


def report_of(plan: Plan, *, source: str, target: str | None, size: int) -> Report:
    """Sum up a plan."""
    weights = [weight.source for layer in plan.layers for weight in layer.weights]
    loading = _load_model(plan)
    return Report(
        source=source,
        target=target,
        template=plan.template,
        replicas=plan.replicas,
        settled_by=plan.settled_by,
        kind="weights" if plan.model_config is None else "full model",
        layers=len(plan.layers),
        weighted_layers=sum(1 for layer in plan.layers if layer.weights),
        tensors=len(weights),
        parameters=sum(weight.parameters for weight in weights),
        optimizer_tensors=len(plan.optimizer or ()),
        size=size,
        frozen=plan.frozen,
        flags=plan.flags,
        notes=plan.notes,
        left_behind=plan.left_behind,
        custom_objects=plan.custom_objects if loading is None else loading.custom_objects,
        keras3_obstacle=loading.obstacle if loading is not None else "",
        remedies=loading.remedies if loading is not None else (),
    )


def _load_model(plan: Plan) -> LoadModel | None:
    """Predict what `load_model` makes of an .h5 output; None where that holds no architecture."""
    if plan.model_config is None or plan.architecture is None or plan.extension != ".h5":
        return None
    # Imported here because weights files do not need it.
    from remap.keras3.opening import load_model_of

    return load_model_of(plan.architecture, lambda: plan.layers, keras_version=plan.keras_version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A weight on its way: the tensor at `source` in the input becomes `name` of a layer of the output.

    `layer` is the path of the layer, through the models that hold it. `shape` is in elements, `dtype` is
    numpy's short form.
    """

    source: str
    layer: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    dtype: str


def mapping_of(plan: Plan) -> tuple[Move, ...]:
    """List the weights of a plan in load order; those inside nested models stand with their own layers."""
    return tuple(
        Move(
            source=weight.source.path,
            layer=path,
            name=weight.name,
            shape=weight.source.shape,
            dtype=weight.source.dtype,
        )
        for path, layer in _leaves(plan.layers, ())
        for weight in layer.weights
    )


def plan_json(plan: Plan, *, source: str) -> dict[str, Any]:
    """Give a plan as a JSON document; its `version` rises when a field changes its meaning."""
    summary = report_of(plan, source=source, target=None, size=0).to_json()
    return {
        **summary,
        "format": "h5remap-plan",
        "version": 1,
        "mapping": as_json(mapping_of(plan)),
    }


def _leaves(
    layers: tuple[PlannedLayer, ...], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], PlannedLayer]]:
    for layer in layers:
        path = (*above, layer.name)
        if layer.children:
            yield from _leaves(layer.children, path)
        else:
            yield path, layer
