"""The record of a batch: which outputs were made, from which inputs, by which options.

It is a file of JSON lines in the directory of the outputs. Each line is written in one call in append mode, so that
a batch that is killed leaves at most one incomplete line, at the end, which is not read.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remap import __version__
from remap.batch.work import Identity, identity_of
from remap.errors import InputRefused, OutputRefused
from remap.results import as_json

if TYPE_CHECKING:
    from remap.batch.work import Outcome
    from remap.options import Options

__all__ = ["RECORD", "Record", "fingerprint"]

RECORD = ".h5remap.jsonl"
"""The name of the record in the directory of the outputs."""
_VERSION = 1


def fingerprint(options: Options) -> str:
    """Name the options that decide on the bytes of an output, the release of h5remap and the reference model's bytes.

    Args:
        options: The options of the batch.

    Returns:
        A digest in hexadecimal.

    Raises:
        InputRefused: The reference model cannot be read.
    """
    fields = as_json(options)
    del fields["overwrite"]
    if options.like is not None:
        try:
            with Path(options.like).open("rb") as file:
                digest = hashlib.sha256()
                while piece := file.read(1 << 20):
                    digest.update(piece)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputRefused(f"the reference model cannot be read: {reason}", where=options.like) from None
        fields["like"] = digest.hexdigest()
    fields["version"] = __version__
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


class Record:
    """The record in a directory. A context manager that holds the file open for writing."""

    def __init__(self, directory: Path, settings: str) -> None:
        """Begin with nothing read.

        Args:
            directory: The directory of the outputs.
            settings: The fingerprint of the settings.
        """
        self._directory = directory
        self._settings = settings
        self._path = directory / RECORD
        # Of each line only a digest is kept: 100,000 outputs take less than 10 MiB.
        self._lines: set[bytes] = set()
        self._descriptor = -1

    def read(self) -> None:
        """Read what was recorded before, if anything was.

        Raises:
            OutputRefused: The record cannot be read.
        """
        try:
            with suppress(FileNotFoundError), self._path.open("rb") as file:
                self._lines.update(map(_digest, file))
        except OSError as error:
            raise self._refused("read", error) from None

    def __enter__(self) -> Record:
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(self._path, flags, 0o666)
            self._end_line()
        except OSError as error:
            raise self._refused("written", error) from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def holds(self, source: str, target: str) -> bool:
        """Tell whether an output is there as it was made from this input, as it is now, by these settings.

        Args:
            source: The input.
            target: The output.

        Returns:
            False also when one of the files is not there.
        """
        if not self._lines:
            return False
        before, after = identity_of(source), identity_of(target)
        if before is None or after is None:
            return False
        return _digest(self._line(source, before, target, after)) in self._lines

    def add(self, source: str, target: str, outcome: Outcome) -> None:
        """Record an output that is complete.

        Raises:
            OutputRefused: The line cannot be written.
        """
        if outcome.source is None or outcome.target is None:
            return
        try:
            os.write(self._descriptor, self._line(source, outcome.source, target, outcome.target))
        except OSError as error:
            raise self._refused("written", error) from None

    def _refused(self, verb: str, error: OSError) -> OutputRefused:
        return OutputRefused(
            f"the record of the batch cannot be {verb}: {error.strerror}", where=str(self._path)
        )

    def _line(self, source: str, before: Identity, target: str, after: Identity) -> bytes:
        fields: dict[str, Any] = {
            "format": "h5remap-record",
            "version": _VERSION,
            "settings": self._settings,
            # Absolute, for the next run may start elsewhere; outputs stay together with their record.
            "source": os.path.abspath(source),  # noqa: PTH100 - links are not to be resolved
            "input": as_json(before),
            "target": os.path.relpath(target, self._directory),
            "output": as_json(after),
        }
        return json.dumps(fields).encode() + b"\n"

    def _end_line(self) -> None:
        """Complete a last line that was left incomplete, so that the next one stands alone."""
        with self._path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    os.write(self._descriptor, b"\n")


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()
