"""Views as they were when a person last looked at them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["require_unchanged"]

_FOLDER = Path(__file__).parent / "snapshots"


def require_unchanged(name: str, text: str, *, folder: Path = _FOLDER) -> None:
    """Assert that a view is what it was; with H5REMAP_SNAPSHOTS=write take it as the new one."""
    path = folder / name
    if os.environ.get("H5REMAP_SNAPSHOTS") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{name} looks otherwise: look at it, then write it anew"
