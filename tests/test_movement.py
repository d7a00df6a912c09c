"""How far weights moved between two files is what numpy says, whatever the numbers, the types and the formats."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from remap import Comparison, compare, extract
from remap.cli import app
from remap.comparison.movement import Sums, sums_of
from remap.comparison.results import Movement
from remap.console.comparison import comparison_lines
from remap.console.movement import movement_plot
from remap.isolation import Isolation
from tests.documented import require_documented
from tests.handmade import save_weights

Case = Callable[[str, str], Path]

GENERATOR = np.random.default_rng(5)


def movement(ours: NDArray[np.generic], theirs: NDArray[np.generic], pieces: int = 3) -> Movement:
    return sums_of(zip(np.array_split(ours, pieces), np.array_split(theirs, pieces), strict=True)).movement()


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "<i4", "|u1", "|b1"])
@pytest.mark.parametrize("pieces", [1, 3, 200])
def test_any_type_in_any_pieces(dtype: str, pieces: int) -> None:
    ours, theirs = ((GENERATOR.standard_normal(1000) * 9).astype(dtype) for _ in range(2))
    found = movement(ours, theirs, pieces)
    first, second = ours.astype("f8"), theirs.astype("f8")
    assert found.norm_a == pytest.approx(np.linalg.norm(first))
    assert found.norm_b == pytest.approx(np.linalg.norm(second))
    assert found.distance == pytest.approx(np.linalg.norm(first - second))
    assert found.relative == pytest.approx(found.distance / found.norm_a)
    assert found.cosine == pytest.approx(first @ second / found.norm_a / found.norm_b)
    assert (found.elements, found.not_finite) == (1000, 0)


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**-600, 2.0**600, 2.0**1000])
def test_squares_neither_overflow_nor_vanish(scale: float) -> None:
    ours, theirs = GENERATOR.standard_normal(100), GENERATOR.standard_normal(100)
    plain, scaled = movement(ours, theirs), movement(ours * scale, theirs * scale)
    assert scaled.norm_a == pytest.approx(plain.norm_a * scale, rel=1e-12, abs=0)
    assert scaled.distance == pytest.approx(plain.distance * scale, rel=1e-12, abs=0)
    assert scaled.relative == pytest.approx(plain.relative, rel=1e-12, abs=0)
    assert scaled.cosine == pytest.approx(plain.cosine, rel=1e-12, abs=0)


def test_pieces_of_very_different_sizes_are_summed_up_in_one_scale() -> None:
    ours = np.array([1e200, 1e-200, 3.0, 4.0])
    assert movement(ours, np.zeros(4), 4).norm_a == pytest.approx(1e200)
    assert movement(ours[1:], np.zeros(3), 3).norm_a == pytest.approx(5.0)


def test_zeros_before_tiny_numbers_do_not_hide_them() -> None:
    ours = np.concatenate([np.zeros(200), np.full(9, 1e-200)])
    assert movement(ours, np.zeros(209), 209).norm_a == pytest.approx(3e-200, abs=0)
    zeros = sums_of([(np.zeros(4), np.zeros(4))])
    zeros.join(sums_of([(np.full(9, 1e-200), np.zeros(9))]))
    assert zeros.movement().norm_a == pytest.approx(3e-200, abs=0)


def test_the_largest_numbers_give_the_largest_number() -> None:
    largest = np.full(8, np.finfo("f8").max)
    found = movement(largest, -largest)
    assert found.distance == np.finfo("f8").max
    assert found.relative == pytest.approx(2.0)
    assert found.cosine == pytest.approx(-1.0)
    assert movement(np.array([5e-324]), np.array([1e300])).relative == np.finfo("f8").max


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    ours = np.array([3.0, np.nan, 1.0, np.inf], "f4")
    theirs = np.array([4.0, 1.0, -np.inf, np.inf], "f4")
    found = movement(ours, theirs)
    assert (found.elements, found.not_finite) == (1, 3)
    assert (found.norm_a, found.norm_b, found.distance) == (3.0, 4.0, 1.0)
    nothing = movement(ours[1:], theirs[1:])
    assert (nothing.norm_a, nothing.relative, nothing.cosine) == (0.0, None, None)


def test_from_zero_there_is_neither_a_relative_change_nor_an_angle() -> None:
    found = movement(np.zeros(3), np.ones(3))
    assert (found.relative, found.cosine) == (None, None)
    assert movement(np.ones(3), np.zeros(3)).relative == 1.0
    assert Sums().movement().elements == 0


def moved(source: Path, target: Path, frozen: tuple[str, ...]) -> Path:
    """Write the next epoch: all layers but the frozen ones move."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        root = file["model_weights"]
        for layer in map(bytes.decode, root.attrs["layer_names"]):
            for name in root[layer].attrs["weight_names"]:
                if layer not in frozen:
                    values = root[layer][name]
                    values[...] = values[...] + GENERATOR.standard_normal(values.shape).astype(values.dtype)
    return target


@pytest.fixture(scope="module")
def epochs(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("epochs")
    first = folder / "e1.h5"
    shutil.copy(case("keras-2.2.4", "nested") / "single.h5", first)
    return first, moved(first, folder / "e2.h5", ("stem",))


def test_frozen_layers_are_told(epochs: tuple[Path, Path]) -> None:
    found = compare(*epochs, stats=True)
    assert found.layers is not None
    assert {"/".join(layer.layer): layer.unmoved for layer in found.layers} == {
        "stem": True, "backbone/c1": False, "backbone/b1": False, "backbone/c2": False, "backbone/b2": False,
        "fc": False, "fc_bn": False, "predictions": False,
    }  # fmt: skip
    stem = found.layers[0]
    assert stem.movement is not None
    assert (stem.tensors, stem.movement.distance) == (2, 0.0)
    assert stem.movement.cosine == pytest.approx(1.0)
    assert stem.movement.elements == 12
    require_documented(found.to_json())
    require_documented(compare(*epochs).to_json())
    with h5py.File(epochs[0]) as one, h5py.File(epochs[1]) as other:
        ours, theirs = (
            np.concatenate(
                [file[f"model_weights/fc/fc/{name}:0"][...].ravel() for name in ("kernel", "bias")]
            )
            for file in (one, other)
        )
    fc = next(layer.movement for layer in found.layers if layer.layer == ("fc",))
    assert fc is not None
    assert fc.distance == pytest.approx(float(np.linalg.norm(ours.astype("f8") - theirs)))


@pytest.mark.parametrize("name", ["conv_bn", "nested", "recurrent"])
def test_a_conversion_changes_no_cosine(case: Case, tmp_path: Path, name: str) -> None:
    first = case("keras-2.2.4", name) / "single.h5"
    second = moved(first, tmp_path / "e2.h5", ())
    extract(first, tmp_path / "e1.keras")
    extract(second, tmp_path / "e2.keras")
    old, new = (
        compare(first, second, stats=True),
        compare(tmp_path / "e1.keras", tmp_path / "e2.keras", stats=True),
    )
    mixed, reverse = (
        compare(first, tmp_path / "e2.keras", stats=True),
        compare(tmp_path / "e2.keras", first, stats=True),
    )
    assert old.layers
    assert new.layers
    assert mixed.layers
    assert reverse.layers
    assert sum(one.movement.elements for one in old.layers if one.movement) == sum(
        one.movement.elements for one in mixed.layers if one.movement
    )
    swapped = {one.layer: one.movement for one in reverse.layers}
    for layer in mixed.layers:
        assert not layer.unmoved
        assert layer.movement is not None
        other = swapped[layer.layer]
        assert other is not None
        assert layer.movement.distance == pytest.approx(other.distance)
        assert (layer.movement.norm_a, layer.movement.norm_b) == pytest.approx((other.norm_b, other.norm_a))
    if name == "conv_bn":
        assert [one.movement for one in mixed.layers] == [one.movement for one in old.layers]


def test_a_layer_without_a_partner_of_its_shape_has_no_movement(tmp_path: Path) -> None:
    one = save_weights(
        tmp_path / "a.h5", {"x": {"x/kernel:0": np.ones((2, 2), "<f4")}, "y": {"y/k:0": np.ones(3, "<f4")}}
    )
    other = save_weights(
        tmp_path / "b.h5", {"x": {"x/kernel:0": np.ones((2, 3), "<f4")}, "y": {"y/k:0": np.ones(3, "<f4")}}
    )
    found = compare(one, other, stats=True)
    assert found.layers is not None
    assert [(layer.unmoved, layer.movement is None) for layer in found.layers] == [
        (False, True),
        (True, False),
    ]
    assert "no tensor of its shape" in shown(found)
    ET.fromstring(movement_plot(found))  # noqa: S314 - our own


def shown(found: Comparison, *, width: int = 110, every: bool = False) -> str:
    lines = comparison_lines(found, width=width, ascii_only=True, every=every)
    return "\n".join(line.plain for line in lines)


@pytest.mark.parametrize("width", [60, 80, 110])
def test_frozen_layers_stand_out_in_the_table(epochs: tuple[Path, Path], width: int) -> None:
    found = compare(*epochs, stats=True)
    text = shown(found, width=width)
    assert text.count("did not move\n") == 2
    assert "1 of 8 layers did not move" in text
    assert "largest difference" not in text
    assert "largest difference" in shown(found, every=True)
    assert "layer  " not in shown(compare(*epochs)).partition("shape")[0].partition("layer")[2]


def test_frozen_layers_stand_out_in_the_plot(epochs: tuple[Path, Path]) -> None:
    root = ET.fromstring(movement_plot(compare(*epochs, stats=True)))  # noqa: S314 - our own
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}circle")) == 1
    assert len(root.findall(f"{space}rect")) == 1 + 7  # the ground, and the layers that moved
    assert "did not move" in [text.text for text in root.iter(f"{space}text")]


@pytest.mark.parametrize("change", [5e-324, 1e-300, 1.0, 1e300])
def test_names_and_numbers_of_a_file_cannot_break_the_plot(tmp_path: Path, change: float) -> None:
    files = [
        save_weights(tmp_path / f"{value}<&>.h5", {"<b>&": {"w:0": np.array([1e-10, value], "<f8")}})
        for value in (0.0, change)
    ]
    ET.fromstring(movement_plot(compare(*files, stats=True)))  # noqa: S314 - our own


def test_the_command_writes_the_plot_and_the_page(epochs: tuple[Path, Path], tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        with Isolation() as isolation:
            result = CliRunner().invoke(app, ["compare", *map(str, epochs), *words], obj=isolation)
        return result.exit_code, result.stdout

    plot, view, page = (tmp_path / name for name in ("plot.svg", "view.svg", "page.html"))
    code, out = run("--stats", "--json", "--svg", str(plot), "--html", str(page))
    assert code == 3
    require_documented(json.loads(out))
    assert "did not move" in plot.read_text()
    assert "did not move" in page.read_text()
    assert run("--svg", str(view))[0] == 3
    assert "Different." in view.read_text().replace("&#160;", " ")
    assert run("--svg", str(view))[0] == 6
    assert run("--html", str(tmp_path / "page.txt"))[0] == 2
