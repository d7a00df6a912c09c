"""Run h5remap as `python -m remap`."""

from __future__ import annotations

from remap.cli import main

if __name__ == "__main__":
    main()
