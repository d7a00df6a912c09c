"""Whatever an architecture or a training configuration holds, every command ends in words of ours."""

from __future__ import annotations

import pytest

from tests.attack.architectures import campaign

# The cases with the longest lists are left to longer runs.
PARTS = ("keras-2.2.4/[a-k]*", "keras-2.3.1/[n-z]*", "tf.keras-2.*/[a-k]*", "keras-2.[01]*/[n-z]*")


@pytest.mark.parametrize("part", range(len(PARTS)))
def test_a_thousand_changed_architectures(part: int) -> None:
    counts, failures = campaign(runs=250, seed=part, cases=PARTS[part])
    assert failures == []
    assert counts["extract: done"]
    assert counts["extract: InputRefused"]
