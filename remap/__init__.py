"""Turn Keras multi-GPU checkpoints into the single-model files they should have been."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from remap.errors import (
    InputRefused,
    NothingToExtract,
    OutputRefused,
    RemapError,
    Remedy,
    Undecided,
    UsageRefused,
)

if TYPE_CHECKING:
    from remap.batch.look import Look, check_many, inspect_many
    from remap.batch.results import Progress, Result
    from remap.batch.run import extract_many
    from remap.checking import Check, check
    from remap.comparison.compare import compare
    from remap.comparison.results import Comparison
    from remap.conversion import extract, plan
    from remap.conversion_plan import Plan
    from remap.inspection import inspect
    from remap.results import Inspection, Report

__all__ = [
    "Check",
    "Comparison",
    "InputRefused",
    "Inspection",
    "Look",
    "NothingToExtract",
    "OutputRefused",
    "Plan",
    "Progress",
    "RemapError",
    "Remedy",
    "Report",
    "Result",
    "Undecided",
    "UsageRefused",
    "__version__",
    "check",
    "check_many",
    "compare",
    "extract",
    "extract_many",
    "inspect",
    "inspect_many",
    "plan",
]
__version__ = "0.1.0"

_HOMES = {
    "Check": "remap.checking",
    "Comparison": "remap.comparison.results",
    "Inspection": "remap.results",
    "Look": "remap.batch.look",
    "Plan": "remap.conversion_plan",
    "Progress": "remap.batch.results",
    "Report": "remap.results",
    "Result": "remap.batch.results",
    "check": "remap.checking",
    "check_many": "remap.batch.look",
    "compare": "remap.comparison.compare",
    "extract": "remap.conversion",
    "extract_many": "remap.batch.run",
    "inspect": "remap.inspection",
    "inspect_many": "remap.batch.look",
    "plan": "remap.conversion",
}


def __getattr__(name: str) -> Any:
    """Import h5py and numpy only when something that needs them is asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the names that the package offers, whether they are loaded or not."""
    return sorted(__all__)
