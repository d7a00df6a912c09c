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
from remap.batch.places import Identity, absolute, identity_of
from remap.errors import InputRefused, OutputRefused
from remap.reference_file import names_network
from remap.results import as_json
from remap.urls import join, masked, remote

if TYPE_CHECKING:
    from remap.batch.work import Outcome
    from remap.options import Options

__all__ = ["RECORD", "Record", "fingerprint", "record_in"]

RECORD = ".h5remap.jsonl"
"""The name of the record in the directory of the outputs."""
_VERSION = 1
_LEAST = 1 << 14
"""Bytes by which a record behind a URL has grown when it is written anew: some thirty outputs."""


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
    if options.like is not None and not names_network(options.like):
        fields["like"] = _digest_of(options.like)
    fields["version"] = __version__
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _digest_of(place: str) -> str:
    if remote(place) is not None:
        from remap.remote.reading import digest

        return digest(place)
    total = hashlib.sha256()
    try:
        with Path(place).open("rb") as file:
            while piece := file.read(1 << 20):
                total.update(piece)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputRefused(f"the reference model cannot be read: {reason}", where=place) from None
    return total.hexdigest()


def record_in(directory: str, settings: str) -> Record:
    """Give the record in a directory, which may be a URL, with nothing read.

    Args:
        directory: The directory of the outputs.
        settings: The fingerprint of the settings.

    Returns:
        The record.
    """
    return (Record if remote(directory) is None else _RemoteRecord)(directory, settings)


class Record:
    """The record in a directory. A context manager that holds the file open for writing."""

    def __init__(self, directory: str, settings: str) -> None:
        """Begin with nothing read.

        Args:
            directory: The directory of the outputs.
            settings: The fingerprint of the settings.
        """
        self._directory = directory
        self._settings = settings
        self._place = (
            join(directory, RECORD) if remote(directory) is not None else str(Path(directory, RECORD))
        )
        # Of each line only a digest is kept: 100,000 outputs take less than 10 MiB.
        self._lines: set[bytes] = set()
        self._descriptor = -1

    def read(self) -> None:
        """Read what was recorded before, if anything was.

        Raises:
            OutputRefused: The record cannot be read.
        """
        try:
            with suppress(FileNotFoundError), Path(self._place).open("rb") as file:
                self._lines.update(map(_digest, file))
        except OSError as error:
            raise self._refused("read", error) from None

    def __enter__(self) -> Record:
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(self._place, flags, 0o666)
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
        self._append(self._line(source, outcome.source, target, outcome.target))

    def _append(self, line: bytes) -> None:
        try:
            os.write(self._descriptor, line)
        except OSError as error:
            raise self._refused("written", error) from None

    def _refused(self, verb: str, error: OSError) -> OutputRefused:
        return OutputRefused(
            f"the record of the batch cannot be {verb}: {error.strerror}", where=masked(self._place)
        )

    def _line(self, source: str, before: Identity, target: str, after: Identity) -> bytes:
        fields: dict[str, Any] = {
            "format": "h5remap-record",
            "version": _VERSION,
            "settings": self._settings,
            # Absolute, for the next run may start elsewhere; outputs stay together with their record.
            "source": masked(absolute(source)),
            "input": as_json(before),
            "target": self._relative(target),
            "output": as_json(after),
        }
        return json.dumps(fields).encode() + b"\n"

    def _relative(self, target: str) -> str:
        if remote(target) is None:
            return os.path.relpath(target, self._directory)
        return target.removeprefix(join(self._directory, ""))

    def _end_line(self) -> None:
        """Complete a last line that was left incomplete, so that the next one stands alone."""
        with Path(self._place).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    os.write(self._descriptor, b"\n")


class _RemoteRecord(Record):
    """The record in a directory behind a URL, where nothing can be appended to a file.

    It is written anew when it has grown by a part, so that all writing together is a small multiple of its size. What a
    batch that is killed did not record is compared with what it would write by the next.
    """

    def __init__(self, directory: str, settings: str) -> None:
        super().__init__(directory, settings)
        self._content = bytearray()
        self._written = 0

    def read(self) -> None:
        self._load()
        self._lines.update(map(_digest, bytes(self._content).splitlines(keepends=True)))

    def __enter__(self) -> Record:
        if not self._content:
            self._load()
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._content) > self._written:
            self._write()

    def _load(self) -> None:
        from remap.remote.listing import exists
        from remap.remote.reading import read_whole

        if exists(self._place):
            self._content += read_whole(self._place)
        if self._content and not self._content.endswith(b"\n"):
            self._content += b"\n"
        self._written = len(self._content)

    def _append(self, line: bytes) -> None:
        self._content += line
        if len(self._content) - self._written > max(_LEAST, self._written // 8):
            self._write()

    def _write(self) -> None:
        from remap.remote.writing import replace

        replace(self._place, bytes(self._content))
        self._written = len(self._content)


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()
