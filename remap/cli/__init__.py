"""The command line: what is offered, the commands, and how each runs."""

from __future__ import annotations

from remap.cli.commands import app

__all__ = ["app"]
