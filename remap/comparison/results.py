"""What `compare` tells: which tensors of two files belong together, and how they differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from remap.results import as_json

__all__ = [
    "ComparedTensor",
    "Comparison",
    "FileKind",
    "MatchedBy",
    "MovedLayer",
    "Movement",
    "Status",
    "Verdict",
]

Verdict = Literal["equal", "different", "undecided"]
FileKind = Literal["multi-gpu .h5", ".h5", ".keras", ".weights.h5"]
Status = Literal["equal", "converted", "different", "other shape", "only in a", "only in b"]
MatchedBy = Literal["paths", "architecture", "names", "order", "content"]

_EXIT_CODES: dict[Verdict, int] = {"equal": 0, "different": 3, "undecided": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """How far numbers moved from the first file to the second.

    `norm_a`, `norm_b` and `distance` are the Euclidean norms of the one, the other and their difference. `relative` is
    the distance divided by `norm_a`, None where that is zero. `cosine` is that of the angle between the two, None where
    one is zero. `elements` counts those that are finite in both, from which all this is computed, `not_finite` the others.
    """

    norm_a: float
    norm_b: float
    distance: float
    relative: float | None
    cosine: float | None
    elements: int
    not_finite: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedLayer:
    """How far a layer moved: the number of its tensors, and all of them together as one list of numbers.

    `unmoved` tells that all its tensors are equal, as those of a frozen layer. `movement` is None where no tensor has a
    partner of its shape.
    """

    layer: tuple[str, ...]
    tensors: int
    unmoved: bool
    movement: Movement | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTensor:
    """Two tensors that belong together, or one without a partner.

    `layer` is the path of the layer through the models that hold it. `a` and `b` are the places in the files, None
    on the side that has no such tensor; shapes are in elements, dtypes in numpy's short form. `status` is ``equal``
    bit for bit, ``converted`` where the one is bit for bit what a conversion to Keras 3 makes of the other,
    ``different``, ``other shape``, ``only in a`` or ``only in b``. `differing` counts the elements of other bits;
    the largest differences are those between finite values, None where there are none: the relative one is divided
    by the larger of the two absolute values. `movement` is there where it was asked for and shapes are equal.
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
    movement: Movement | None = None

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
    None unless both files have one. `layers` tells how far each layer moved, None where that was not asked for. The
    architectures themselves are not compared.
    """

    a: str
    b: str
    form_a: FileKind = field(repr=False)
    form_b: FileKind = field(repr=False)
    verdict: Verdict
    question: str
    matched_by: MatchedBy
    optimizer: Verdict | None
    notes: tuple[str, ...] = field(repr=False)
    tensors: tuple[ComparedTensor, ...] = field(repr=False)
    optimizer_tensors: tuple[ComparedTensor, ...] = field(repr=False)
    layers: tuple[MovedLayer, ...] | None = field(default=None, repr=False)

    @property
    def exit_code(self) -> int:
        """Give the status of a process that ends with this result: 0 equal, 3 different, 4 undecided."""
        return _EXIT_CODES[self.verdict]

    def _repr_html_(self) -> str:
        """Show the comparison in a notebook."""
        from remap.console.notebook import comparison_html  # Rich is needed only here

        return comparison_html(self)

    def to_json(self) -> dict[str, Any]:
        """Give the comparison as a JSON document; its `version` rises when a field changes its meaning."""
        return {"format": "h5remap-comparison", "version": 1, **as_json(self)}
