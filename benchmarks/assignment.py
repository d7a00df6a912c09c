"""Measure the assignment alone, from what was read of a file to the plan: every way to settle it, as lists grow.

    python benchmarks/assignment.py [ROUNDS]

Prints a table of the processor time, medians of some rounds. The models are made up as the property tests make them;
the garbage collector is off, as it is in the command line.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from remap.assignment.reference import Request
from remap.errors import Undecided
from remap.planning import compose
from tests.property.architectures import Made, MadeLayer
from tests.property.test_never_wrong import checkpoint_of, like_for

SIZES = (1_000, 3_000, 10_000, 30_000)
WAYS = ("config", "json", "new json", "flat file", "names")


def _dense(number: int, *, frozen: bool = False, scope: str = "dense") -> MadeLayer:
    return MadeLayer(
        f"dense_{number}",
        "Dense",
        scope=f"{scope}_{number}",
        trains=[("kernel", (4, 4)), ("bias", (4,))],
        config={"units": 4},
        frozen=frozen,
    )


def _normalised(number: int) -> MadeLayer:
    return MadeLayer(
        f"batch_normalization_{number}",
        "BatchNormalization",
        scope=f"batch_normalization_{number}",
        trains=[("gamma", (4,)), ("beta", (4,))],
        rests=[("moving_mean", (4,)), ("moving_variance", (4,))],
    )


def _nested(count: int, *, scope: str = "dense") -> list[MadeLayer]:
    each = count // 20
    return [
        MadeLayer(
            f"model_{number + 2}",
            "Sequential",
            children=[_dense(number * each + inner, scope=scope) for inner in range(1, each + 1)],
            frozen=number % 2 == 0,
        )
        for number in range(10)
    ]


KINDS: dict[str, Callable[[int], list[MadeLayer]]] = {
    "all of one kind": lambda count: [_dense(number) for number in range(1, count // 2 + 1)],
    "normalised": lambda count: [
        layer for number in range(1, count // 6 + 1) for layer in (_dense(number), _normalised(number))
    ],
    "every other one frozen": lambda count: [
        _dense(number, frozen=number % 2 == 0) for number in range(1, count // 2 + 1)
    ],
    "ten nested models, five frozen": _nested,
    "the same, of names that say nothing": lambda count: _nested(count, scope="other"),
}


def measured(made: Made, way: str, rounds: int) -> str:
    """Give the seconds that one way takes for a model, in brackets where it is refused."""
    checkpoint, like = checkpoint_of(made, full=way == "config"), like_for(made, way)
    seconds, form = [], "{:.2f}"
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        try:
            compose(checkpoint, Request(like=like))
        except Undecided:
            form = "({:.2f})"
        seconds.append(time.process_time() - start)
    return form.format(statistics.median(seconds))


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    gc.disable()
    print("Processor time in seconds; in brackets, what is refused.\n")
    print(f"| model | settled by | {' | '.join(f'{size:,} weights' for size in SIZES)} |")
    print("|---|---|" + "---:|" * len(SIZES))
    for kind, layers in KINDS.items():
        for way in WAYS:
            template = [MadeLayer("model_1", "Sequential", children=layers(size)) for size in SIZES]
            mades = [Made(template=one, plain=True, swapped=False) for one in template]
            print(
                f"| {kind} | {way} | {' | '.join(measured(one, way, rounds) for one in mades)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
