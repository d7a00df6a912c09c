"""Every built-in layer of every era, in Keras 3: the same predictions, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from remap.errors import InputRefused, RemapError, Undecided
from tests.conftest import LAYER_ARCHIVES
from tests.keras3_convert import convert, translate_flat

NO_LAYER = (InputRefused, "Keras 3 has no such layer")
OTHER_MASK = (InputRefused, "would be different in Keras 3")
REFUSED = {
    "attention_causal": (InputRefused, "causal"),
    "locally_connected1d": NO_LAYER,
    "locally_connected2d": NO_LAYER,
    # Masks that differ are joined by another rule now, and a mask beside an initial state is not handed on.
    "mask_add_different": OTHER_MASK,
    "mask_add_half": OTHER_MASK,
    "mask_concatenate_different": OTHER_MASK,
    "mask_concatenate_half": OTHER_MASK,
    "mask_decoder": OTHER_MASK,
    "mask_multiply_different": OTHER_MASK,
    "mask_multiply_half": OTHER_MASK,
    "operation_without_rule": (InputRefused, "no rule is known for the operation 'Erf'"),
    "noise_strong": (InputRefused, "0 to 1"),
}
REFUSED_IN = {
    # The sampling points of bilinear interpolation moved with TensorFlow 2.
    ("keras-2.2.4", "upsampling_bilinear"): (InputRefused, "sampling points"),
    ("keras-2.3.1", "upsampling_bilinear"): (InputRefused, "sampling points"),
    # tf.keras from TensorFlow 1.13 to 2.2 calls itself 2.2.4-tf all the same.
    ("tf.keras-1.15.5", "upsampling_bilinear"): (Undecided, "sampling points"),
    ("tf.keras-2.0.4-eager", "upsampling_bilinear"): (Undecided, "sampling points"),
    # Models inside let no mask out before TensorFlow 1.14.
    ("tf.keras-1.12.3", "mask_out_of_model"): OTHER_MASK,
    ("tf.keras-1.12.3", "mask_out_of_stack"): OTHER_MASK,
    **{
        (era, name): (Undecided, "may be different")
        for era in ("tf.keras-1.13.2", "tf.keras-1.15.5", "tf.keras-2.0.4-eager")
        for name in ("mask_out_of_model", "mask_out_of_stack")
    },
    # TensorFlow 2.0 gives the step before, not zeros, for masked steps of its fast LSTM and GRU.
    **{
        ("tf.keras-2.0.4-eager", f"mask_bidirectional_{name}"): (Undecided, "masked steps")
        for name in ("sequence", "sum", "two")
    },
    # Keras 2.0 does not write down what a cell is like, and cannot load its own file either.
    ("keras-2.0.9", "cells"): (InputRefused, "does not have the configs of the cells"),
    ("keras-2.0.9", "mask_cells"): (InputRefused, "does not have the configs of the cells"),
}


def expected_refusal(era: str, name: str) -> tuple[type[RemapError], str] | None:
    return REFUSED_IN.get((era, name)) or REFUSED.get(name)


@pytest.mark.parametrize("era", LAYER_ARCHIVES)
def test_what_would_differ_is_refused_by_name(era: str, unpacked: dict[str, Path], tmp_path: Path) -> None:
    for source in sorted(unpacked[era].glob("*.h5")):
        refusal = expected_refusal(era, source.stem)
        if refusal is not None:
            kind, words = refusal
            with pytest.raises(kind, match=words) as caught:
                convert(translate_flat(source), source, tmp_path / source.stem)
            assert "layer" in caught.value.where or "model" in caught.value.where, source.stem
            assert caught.value.hint or caught.value.remedies
            assert not list(tmp_path.iterdir()), source.stem


@pytest.mark.parametrize("era", [era for era in LAYER_ARCHIVES if era.startswith("tf.keras-1.13")])
def test_interpolation_that_was_not_written_down_is_pointed_out(era: str, unpacked: dict[str, Path]) -> None:
    notes = translate_flat(unpacked[era] / "upsampling_bilinear.h5").notes
    assert any("did not write down how it interpolates" in note for note in notes)
