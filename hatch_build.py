"""Build hook: the README as a package index can show it.

The README shows pictures and leads to other pages by relative links, which a package index does not resolve. So the
description of a built package has each picture as the text in it, and each relative link as its words alone.
"""

from __future__ import annotations

import html
import itertools
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

__all__ = ["CustomMetadataHook", "description", "picture_text"]

_PICTURE = re.compile(r"!\[[^]]*\]\(([^):]+\.svg)\)")
_RELATIVE_LINK = re.compile(r"(?<!!)\[([^]]*)\]\((?![a-z]+:|#)[^)]+\)")
_TEXT = re.compile(r'<text class="[^"]*-(?!title)[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>')
_CHARACTER = 12.2
"""Width of one character in a picture that rich draws, in the picture's own unit."""


class CustomMetadataHook(MetadataHookInterface):
    """Give the package its description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`, which pyproject.toml declares as dynamic."""
        metadata["readme"] = {"content-type": "text/markdown", "text": description(Path(self.root))}


def description(root: Path) -> str:
    """Give the README without anything that only its repository can show.

    Args:
        root: The folder with README.md.

    Returns:
        Markdown without pictures and relative links.
    """
    text = (root / "README.md").read_text(encoding="utf-8")
    text = _PICTURE.sub(lambda found: _block(picture_text(root / found[1])), text)
    return _RELATIVE_LINK.sub(r"\1", text)


def picture_text(picture: Path) -> str:
    """Give the text of a terminal picture drawn by rich, each piece in its line and column."""
    lines: dict[float, str] = {}
    for x, y, text in _TEXT.findall(picture.read_text(encoding="utf-8")):
        line = lines.get(float(y), "").ljust(round(float(x) / _CHARACTER))
        lines[float(y)] = line + html.unescape(text).replace("\xa0", " ")
    if not lines:
        raise ValueError(f"no text in {picture}")
    heights = sorted(lines)
    step = min((after - before for before, after in itertools.pairwise(heights)), default=1)
    rows = {round((height - heights[0]) / step): lines[height].rstrip() for height in heights}
    return "\n".join(rows.get(row, "") for row in range(max(rows) + 1))


def _block(text: str) -> str:
    return f"```text\n{text}\n```"
