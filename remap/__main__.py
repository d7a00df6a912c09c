"""The way in: start the child that will read the file, then load the command line.

On two processors, the child loads h5py in the time that the command line takes to be loaded and parsed.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import NoReturn

from remap.errors import InputRefused, OutputRefused
from remap.isolation import EXHAUSTED, Isolation, exhausted

__all__ = ["main"]

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
_LOADED_AHEAD = ("remap.hdf5.reader.open_checkpoint",)


def main() -> None:
    """Run the command line and raise SystemExit with its exit code."""
    _open_streams()
    try:
        _command_line()
    except KeyboardInterrupt:
        _leave("Interrupted.", 130)
    except MemoryError:
        _leave(
            f"Error: {exhausted(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))}", InputRefused.exit_code
        )
    except BrokenPipeError:
        _leave("", 141)  # whoever read our output has seen enough
    except OSError as error:
        if error.errno in EXHAUSTED:
            _leave(f"Error: {exhausted(error)}", InputRefused.exit_code)
        if error.errno in _UNWRITABLE:
            _leave(
                f"Error: the result cannot be written to standard output: {error.strerror}",
                OutputRefused.exit_code,
            )
        raise


def _command_line() -> None:
    with Isolation(fork=True) as isolation:
        if sys.argv[1:2] and sys.argv[1] in ("inspect", "extract", "check", "compare"):
            isolation.start(*_LOADED_AHEAD, f"remap.{sys.argv[1]}")
        from remap.cli import app

        try:
            app(prog_name="h5remap", obj=isolation)
        finally:
            sys.stdout.flush()


def _open_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed by whoever started us: the next file that is opened would be taken for it.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(getattr(stream, "buffer", None), io.RawIOBase):
            # With PYTHONUNBUFFERED, Python drops without an error what a write to a full disk leaves over.
            stream = os.fdopen(stream.fileno(), "w", 1, encoding=stream.encoding, closefd=False)
            setattr(sys, name, stream)
        with suppress(OSError, ValueError, AttributeError):
            # Whoever started us may have left it non-blocking; then a slow reader would get half a result.
            os.set_blocking(stream.fileno(), True)
        if hasattr(stream, "reconfigure"):
            # A name that the terminal's encoding does not have must not end a command.
            stream.reconfigure(errors="backslashreplace")


def _leave(message: str, code: int) -> NoReturn:
    """End where a stream cannot be used: what is left in its buffer has nowhere to go."""
    from remap.console.terminal import drop_rest

    with suppress(OSError):
        sys.stderr.write(f"{message}\n" if message else "")
    for stream in (sys.stdout, sys.stderr):
        drop_rest(stream)
    raise SystemExit(code) from None


if __name__ == "__main__":
    main()
