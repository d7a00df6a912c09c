"""Where every weight of a plan comes from and goes to, one by one, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from remap.document import as_json
from remap.keras.plan import Plan, PlannedLayer
from remap.report import report_of

__all__ = ["Move", "mapping_of", "plan_json"]


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
