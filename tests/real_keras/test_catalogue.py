"""What the catalogue says of classes in Keras 3 and in old Keras, against the classes themselves."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from remap.layers import CATALOGUE
from remap.layers.declaration import BuiltAs, Masks
from tests.test_catalogue import forms

# Of every class: the arguments of its constructor and of its bases', whether it passes masks on, whether it uses them.
DESCRIBE = """
import inspect, json, re, sys
package = __import__(sys.argv[1])
layers = package.layers
given = {
    "activation": "relu", "axes": 1, "cell": layers.LSTMCell(3), "cells": [layers.LSTMCell(3)], "dims": (1, 2),
    "function": abs, "target_shape": (2,), "scale": 2.0, "rate": 0.5, "stddev": 0.5, "mask_zero": True,
}
told = {}
for name in json.loads(sys.argv[2]):
    kind = getattr(layers, name, None)
    if kind is None:
        continue
    parameters = inspect.signature(kind.__init__).parameters
    needed = {
        one
        for one, what in parameters.items()
        if what.default is what.empty and what.kind == what.POSITIONAL_OR_KEYWORD or one == "mask_zero"
    }
    arguments = {one: given.get(one, 1) for one in needed - {"self"}}
    if "kernel_size" in arguments:
        arguments["kernel_size"] = (1,) * int(re.search(r"(\\d)D", name)[1])
    if "layer" in arguments:
        arguments["layer"] = layers.LSTM(3) if name == "Bidirectional" else layers.Dense(3)
    layer = kind(**arguments)
    taken = {one for base in kind.__mro__ for one in inspect.signature(base.__init__).parameters}
    told[name] = [sorted(taken), bool(layer.supports_masking), "mask" in inspect.signature(layer.call).parameters]
print(json.dumps(told))
"""
# Where masks are supported, `compute_mask` of these gives none all the same.
GIVES_NONE = {"Dot", "Lambda"}
# It uses a mask in training only.
IN_TRAINING = {"BatchNormalization"}


def described(package: str, names: set[str]) -> dict[str, list[Any]]:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": "numpy", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", DESCRIBE, package, json.dumps(sorted(names))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_keras_3_takes_every_argument_that_a_declaration_gives_it() -> None:
    special = {BuiltAs.INPUT, BuiltAs.OPERATION}
    declared = {
        name: forms(one)
        for name, one in CATALOGUE.items()
        if forms(one) and forms(one)[0].built_as not in special
    }
    told = described("keras", {form.name for several in declared.values() for form in several})
    for name, several in declared.items():
        for form in several:
            written = {*form.keeps.split(), *form.renamed.values(), *form.missing, *form.fixed}
            assert written <= set(told[form.name][0]), name


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_masks_go_on_where_the_catalogue_says_so(package: str) -> None:
    known = {name: one for name, one in CATALOGUE.items() if one.masks is not None and not one.is_input}
    names = {name: forms(one)[0].name if package == "keras" else name for name, one in known.items()}
    told = described(package, {*names.values()})
    for name, one in known.items():
        if names[name] in told:
            _, goes_on, takes = told[names[name]]
            assert one.masks is not None
            ends = {Masks.ENDED} if package == "keras" else {Masks.ENDED, Masks.PASSED_ON_BY_KERAS_3}
            assert name in GIVES_NONE or goes_on == (one.masks not in ends), name
            if names[name] not in IN_TRAINING and package == "keras":
                uses = {Masks.USED, Masks.ATTENDED, Masks.STEP_BY_STEP, Masks.GIVEN_TO_FUNCTION}
                assert takes == (one.masks in uses or one.uses_mask_in_keras_3), name
