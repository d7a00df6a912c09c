"""The script that people write instead: read every tensor, create every dataset, and hope."""

import sys

import h5py
import numpy as np

with h5py.File(sys.argv[1], "r") as source, h5py.File(sys.argv[2], "w") as target:
    group = source["model_1"]
    pieces = sorted(group.attrs, key=lambda name: int(name[len("weight_names") :] or 0))
    layers: dict[str, list[str]] = {}
    for name in (item.decode() for piece in pieces for item in group.attrs[piece]):
        layers.setdefault(name.split("/")[0], []).append(name)
    for number, piece in enumerate(np.array_split([layer.encode() for layer in layers], 4)):
        target.attrs[f"layer_names{number}"] = piece
    for layer, names in layers.items():
        inside = target.create_group(layer)
        inside.attrs["weight_names"] = [name.encode() for name in names]
        for name in names:
            inside.create_dataset(name, data=group[name][()])
