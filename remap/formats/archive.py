"""A zip archive as bytes around one large member whose bytes come later.

Members are stored as they are, as Keras stores them, and dated 1980-01-01, the first day of the format,
so that the same content gives the same bytes. The form is that of APPNOTE.TXT 6.3 (PKWARE), with its 64-bit
fields only where a number needs them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Archive"]

_LIMIT = 0xFFFFFFFF
_DATE = (1980 - 1980) << 9 | 1 << 5 | 1
_PLAIN, _WIDE = 20, 45
_MODE = 0o600 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive of small `members` (name and content) and, behind them, of the member `name` with `size` bytes."""

    members: tuple[tuple[str, bytes], ...]
    name: str
    size: int

    @property
    def start(self) -> int:
        """Give the offset of the large member's own bytes in the archive."""
        return len(self.head(0))

    def head(self, checksum: int) -> bytes:
        """Give everything before the large member's bytes, whose CRC-32 is `checksum`."""
        small = b"".join(_local(name, len(data), zlib.crc32(data)) + data for name, data in self.members)
        return small + _local(self.name, self.size, checksum)

    def tail(self, checksum: int) -> bytes:
        """Give everything behind them: the table of contents."""
        entries, offset = [], 0
        for name, data in self.members:
            entries.append(_central(name, len(data), zlib.crc32(data), offset))
            offset += len(_local(name, len(data), 0)) + len(data)
        entries.append(_central(self.name, self.size, checksum, offset))
        return b"".join(entries) + _end(entries, self.start + self.size)


def _local(name: str, size: int, checksum: int) -> bytes:
    wide = size >= _LIMIT
    extra = struct.pack("<HHQQ", 1, 16, size, size) if wide else b""
    shown = _LIMIT if wide else size
    raw = name.encode("ascii")
    fields = (_WIDE if wide else _PLAIN, 0, 0, 0, _DATE, checksum, shown, shown, len(raw), len(extra))
    return b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", *fields) + raw + extra


def _central(name: str, size: int, checksum: int, offset: int) -> bytes:
    wide = [number for number in (size, size, offset) if number >= _LIMIT]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version = _WIDE if wide else _PLAIN
    raw = name.encode("ascii")
    numbers = (
        min(size, _LIMIT),
        min(size, _LIMIT),
        len(raw),
        len(extra),
        0,
        0,
        0,
        _MODE,
        min(offset, _LIMIT),
    )
    system = 3 << 8  # Unix, so that the mode counts
    return (
        b"PK\x01\x02"
        + struct.pack("<HHHHHHI", system | version, version, 0, 0, 0, _DATE, checksum)
        + struct.pack("<IIHHHHHII", *numbers)
        + raw
        + extra
    )


def _end(entries: Sequence[bytes], offset: int) -> bytes:
    count, size = len(entries), sum(map(len, entries))
    wide = b""
    if offset >= _LIMIT:
        record = struct.pack("<QHHIIQQQQ", 44, 3 << 8 | _WIDE, _WIDE, 0, 0, count, count, size, offset)
        wide = b"PK\x06\x06" + record + b"PK\x06\x07" + struct.pack("<IQI", 0, offset + size, 1)
    numbers = (0, 0, count, count, size, min(offset, _LIMIT), 0)
    return wide + b"PK\x05\x06" + struct.pack("<HHHHIIH", *numbers)
