"""The way in: start the child that will read the file, then load the command line.

On two processors, the child loads h5py in the time that the command line takes to be loaded and parsed.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import ExitStack

__all__ = ["command_line", "main"]


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    gc.disable()  # a command ends before its rubbish matters
    try:
        command_line()
    finally:
        gc.freeze()  # or the interpreter's last act would be to look through everything that was loaded


def command_line() -> None:
    """Run the command line and raise SystemExit with its exit code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed by whoever started us: the next file that is opened would be taken for it.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    with ExitStack() as ending:
        worker = None
        if sys.argv[1:2] and sys.argv[1] in ("inspect", "extract", "check"):
            from remap.worker import Ahead

            worker = ending.enter_context(Ahead("remap.hdf5.reader.open_checkpoint", f"remap.{sys.argv[1]}"))
        from remap.cli import app

        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # A name that the terminal's encoding does not have must not end a command.
                stream.reconfigure(errors="backslashreplace")
        app(prog_name="h5remap", obj=worker)


if __name__ == "__main__":
    main()
