"""Long runs of like things are found, whatever stands around them."""

from __future__ import annotations

import pytest

from remap.console.tree import Run, folded


def told(text: str) -> str:
    """Show what is left of a text when its runs are folded."""
    return "".join(
        f"[{item.count}/{item.cycle}]" if isinstance(item, Run) else item for item in folded(text, str)
    )


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("", ""),
        ("abc", "abc"),
        ("aaaaaa", "aaaaaa"),
        ("aaaaaaa", "a[6/1]"),
        ("xaaaaaaaay", "xa[7/1]y"),
        ("cbacbacbacba", "cba[9/3]"),
        ("xcbacbacbay", "xcba[6/3]y"),
        ("ababab", "ababab"),
        ("abababab", "ab[6/2]"),
        ("abababababacccccccc", "ab[8/2]ac[7/1]"),
    ],
)
def test_folds_cycles_that_come_often_enough(text: str, short: str) -> None:
    assert told(text) == short


def test_nothing_is_lost() -> None:
    text = "in" + "conv bn relu " * 9 + "out" * 40
    left = list(folded(text, str))
    assert sum(item.count if isinstance(item, Run) else 1 for item in left) == len(text)
