"""What a conversion did, as a value and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from remap.document import as_json
from remap.keras.plan import Plan

__all__ = ["Report", "report_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came out of an extraction, how it was settled, and what stayed behind.

    `target` is None for a plan that was not carried out; `size` is the output's size in bytes, 0 without one.
    `replicas` is None where the file does not tell. `rung` is ``config``, ``like`` or ``names``. `frozen` and `flags` are
    those of the plan.
    """

    source: str
    target: str | None
    template: str
    replicas: int | None
    rung: str
    kind: str
    layers: int
    weighted_layers: int
    tensors: int
    parameters: int
    optimizer_tensors: int
    size: int
    frozen: tuple[str, ...]
    flags: str
    notes: tuple[str, ...]
    left_behind: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the report as a JSON document; its `version` rises when a field changes its meaning."""
        return {"format": "h5remap-report", "version": 1, **as_json(self)}


def report_of(plan: Plan, *, source: str, target: str | None, size: int) -> Report:
    """Sum up a plan."""
    weights = [weight.source for layer in plan.layers for weight in layer.weights]
    return Report(
        source=source,
        target=target,
        template=plan.template,
        replicas=plan.replicas,
        rung=plan.rung,
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
    )
