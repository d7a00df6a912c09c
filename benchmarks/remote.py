"""What reading from URLs takes: bytes and requests of `inspect`, processor time of `extract`.

`PYTHONPATH=. python benchmarks/remote.py` prints the figures that docs/remote.md has. The server is one of the loopback
address without encryption, so that `extract` reads everything twice; times on the clock say nothing of real servers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

import remap
from tests.remote.servers import Web, serving

ROWS = 64


def checkpoint(path: Path, tensors: int, size: int, *, nested: bool) -> Path:
    """Write a weights file whose tensors take no room on the disk: of a wrapper, or one group for each layer."""
    options = h5p.create(h5p.DATASET_CREATE)
    options.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    options.set_fill_time(h5d.FILL_TIME_NEVER)
    layers = [f"conv_{number}" for number in range(tensors // 2)]
    kernel = size // (tensors // 2) // 4 // ROWS
    with h5py.File(path, "w") as file:
        groups = ["input_1", "lambda_1", "model_1", "dense_1"] if nested else layers
        file.attrs["layer_names"] = np.array([name.encode() for name in groups])
        for name in groups:
            group = file.create_group(name)
            owned = (layers if name == "model_1" else []) if nested else [name]
            names = [f"{layer}/{kind}:0" for layer in owned for kind in ("kernel", "bias")]
            group.attrs["weight_names"] = np.array([one.encode() for one in names])
            for one in names:
                layer, _, own = one.partition("/")
                shape = (ROWS,) if own == "bias:0" else (kernel, ROWS)
                parent = group.require_group(layer).id
                h5d.create(parent, own.encode(), h5t.IEEE_F32LE, h5s.create_simple(shape), options)
    return path


def processor_time(work: Callable[[], object]) -> float:
    """Give the seconds of processor time that work takes in this process, the server's threads included."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name, serving(Web()) as web:
        folder = Path(name)
        print("inspect of 4 GiB over http:")
        for nested in (True, False):
            for tensors in (60, 400, 1000):
                path = web.files["/large.h5"] = checkpoint(folder / "a.h5", tensors, 4 << 30, nested=nested)
                web.sent, web.asked = 0, []
                remap.inspect(f"{web.url}/large.h5")
                kind = "multi-GPU" if nested else "single"
                print(f"  {kind}, {tensors} tensors: {web.sent >> 10:,} KiB in {web.gets:,} requests")
                path.unlink()
        path = web.files["/large.h5"] = checkpoint(folder / "b.h5", 32, 256 << 20, nested=True)
        out = folder / "out.h5"
        print("extract of 256 MiB, processor time:")
        for source in (str(path), f"{web.url}/large.h5"):
            web.sent = 0
            seconds = processor_time(
                lambda source=source: remap.extract(
                    source, out, submodel="model_1", plain=True, overwrite=True
                )
            )
            print(f"  {'http' if web.sent else 'disk'}: {seconds:.2f} s, {web.sent >> 20:,} MiB transferred")


if __name__ == "__main__":
    main()
