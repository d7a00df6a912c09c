"""What `compare` tells: which tensors of two files belong together, and how they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from remap.results import as_json

__all__ = ["ComparedTensor", "Comparison", "Form", "MatchedBy", "Status", "Verdict"]

Verdict = Literal["equal", "different", "undecided"]
Form = Literal["multi-gpu .h5", ".h5", ".keras", ".weights.h5"]
Status = Literal["equal", "converted", "different", "other shape", "only in a", "only in b"]
MatchedBy = Literal["paths", "architecture", "names", "order", "content"]

_EXIT_CODES: dict[Verdict, int] = {"equal": 0, "different": 3, "undecided": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTensor:
    """Two tensors that belong together, or one without a partner.

    `layer` is the path of the layer through the models that hold it. `a` and `b` are the places in the files, None
    on the side that has no such tensor; shapes are in elements, dtypes in numpy's short form. `status` is ``equal``
    bit for bit, ``converted`` where the one is bit for bit what a conversion to Keras 3 makes of the other,
    ``different``, ``other shape``, ``only in a`` or ``only in b``. `differing` counts the elements of other bits;
    the largest differences are those between finite values, None where there are none: the relative one is divided
    by the larger of the two absolute values.
    """

    layer: tuple[str, ...]
    a: str | None
    b: str | None
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    dtype_a: str | None
    dtype_b: str | None
    status: Status
    differing: int = 0
    largest_absolute: float | None = None
    largest_relative: float | None = None

    @property
    def equal(self) -> bool:
        """Tell whether the two are the same tensor of one model."""
        return self.status in ("equal", "converted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Whether two files hold the same weights, and what was found for each tensor.

    `verdict` is ``undecided`` where the files do not tell which tensors belong together; `question` then says why.
    `matched_by` tells how layers were matched: by ``paths`` as Keras 3 does between two of its own files, by the
    ``architecture`` in one of the files, by ``names`` of layers and weights, by the ``order`` of layers with weights
    as Keras 2 does, or tensor by tensor by ``content``. `optimizer` is the verdict on the states of the optimizers,
    None unless both files have one. The architectures themselves are not compared.
    """

    a: str
    b: str
    form_a: Form
    form_b: Form
    verdict: Verdict
    question: str
    matched_by: MatchedBy
    optimizer: Verdict | None
    notes: tuple[str, ...]
    tensors: tuple[ComparedTensor, ...]
    optimizer_tensors: tuple[ComparedTensor, ...]

    @property
    def exit_code(self) -> int:
        """Give the status of a process that ends with this result: 0 equal, 3 different, 4 undecided."""
        return _EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Give the comparison as a JSON document; its `version` rises when a field changes its meaning."""
        return {"format": "h5remap-comparison", "version": 1, **as_json(self)}
