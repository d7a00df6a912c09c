"""Compare the start-up time of several copies of the package, one run of each in turn.

    python benchmarks/startup.py --rounds 40 COPY [COPY ...] -- inspect FILE

Each COPY is a folder that holds a `remap` package. Runs are interleaved, so that what else the machine does
meets all copies alike; medians and quartiles are in milliseconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time


def main() -> None:
    """Print one line of figures for each copy."""
    own, _, command = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("copies", nargs="+")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args(own.split())
    words = [sys.executable, "-P", "-m", "remap", *command.split()]
    times: dict[str, list[float]] = {copy: [] for copy in options.copies}
    for _ in range(options.rounds + 1):
        for copy, taken in times.items():
            start = time.perf_counter()
            subprocess.run(
                words, env=os.environ | {"PYTHONPATH": copy}, stdout=subprocess.DEVNULL, check=True
            )
            taken.append(1000 * (time.perf_counter() - start))
    for copy, taken in times.items():
        low, middle, high = statistics.quantiles(taken[1:], n=4)  # the first round fills the caches
        print(f"{copy:30} median {middle:6.1f} ms   quartiles {low:6.1f} {high:6.1f}")


if __name__ == "__main__":
    main()
