"""What one file settled serves the next only where all it follows from is the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

import remap
from remap import conversion
from remap.conversion import Settled, extract_with
from remap.errors import RemapError, UsageRefused
from remap.options import Options

Case = Callable[[str, str], Path]


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Settled:
    """Give one that counts in `calls` how often a plan was made, and a reference read."""
    calls.clear()
    for name in ("_prepare", "_request"):
        original = getattr(conversion, name)

        def counted(*args: Any, _name: str = name, _original: Any = original, **named: Any) -> Any:
            calls.append(_name)
            return _original(*args, **named)

        monkeypatch.setattr(conversion, name, counted)
    return Settled()


calls: list[str] = []


def convert(settled: Settled, source: Path, target: Path, **named: Any) -> None:
    extract_with(source, target, Options(**named, overwrite=True), settled=settled)


def same_as_alone(settled: Settled, source: Path, folder: Path, **named: Any) -> None:
    """Require that a file gives, after others, what it gives alone: the same bytes or the same refusal."""
    after = outcome(lambda target: convert(settled, source, target, **named), folder / "after.h5")
    assert after == outcome(lambda target: alone(source, target, **named), folder / "alone.h5")


def outcome(convert_to: Callable[[Path], None], target: Path) -> bytes:
    try:
        convert_to(target)
    except RemapError as error:
        return str(error).encode()
    return target.read_bytes()


def alone(source: Path, target: Path, **named: Any) -> None:
    remap.extract(source, target, overwrite=True, **named)


def test_files_with_a_network_by_name_are_settled_once(settled: Settled, case: Case, tmp_path: Path) -> None:
    source = case("keras-2.3.1", "application") / "multi_weights.h5"
    for _ in range(2):
        convert(settled, source, tmp_path / "out.h5", like="mobilenet,alpha=0.1,classes=5")
    assert calls == ["_request", "_prepare"]


def test_files_of_one_run_are_settled_once_and_keep_their_values(
    settled: Settled, case: Case, tmp_path: Path
) -> None:
    folder = case("keras-2.2.4", "two_io")
    sources = [Path(shutil.copy(folder / "multi_weights.h5", tmp_path / f"{n}.h5")) for n in range(3)]
    with h5py.File(sources[1], "r+") as file:
        found: list[h5py.Dataset] = []
        file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
        for dataset in found:
            dataset[...] += 1
    outputs = []
    for source in sources:
        convert(settled, source, tmp_path / "out.h5", like=folder / "single.json")
        outputs.append((tmp_path / "out.h5").read_bytes())
        assert calls == ["_request", "_prepare"]
    assert outputs[0] == outputs[2] != outputs[1]
    calls.clear()
    same_as_alone(settled, sources[1], tmp_path, like=folder / "single.json")


@pytest.mark.parametrize("first", ["conv_bn", "gan"])
def test_files_of_other_layouts_and_settings_are_settled_anew(
    settled: Settled, case: Case, tmp_path: Path, first: str
) -> None:
    others = ("conv_bn", "nested", "two_io", "gan")
    choices: list[dict[str, Any]] = [{}, {"weights_only": True}, {"plain": True}, {"submodel": "generator"}]
    for name in others:
        for member in ("multi.h5", "multi_weights.h5"):
            for named in choices:
                for source in (case("keras-2.2.4", first) / "multi.h5", case("keras-2.2.4", name) / member):
                    if source.exists():
                        same_as_alone(settled, source, tmp_path, **named)


def test_one_name_or_one_shape_that_differs_is_another_layout(
    settled: Settled, case: Case, tmp_path: Path
) -> None:
    source = case("keras-2.2.4", "conv_bn") / "multi.h5"
    convert(settled, source, tmp_path / "out.h5")
    changed = Path(shutil.copy(source, tmp_path / "changed.h5"))
    with h5py.File(changed, "r+") as file:
        text = file.attrs["model_config"]
        text = text.decode() if isinstance(text, bytes) else text
        file.attrs["model_config"] = text.replace('"trainable": true', '"trainable": false', 1).encode()
    calls.clear()
    same_as_alone(settled, changed, tmp_path)
    assert calls.count("_prepare") == 2  # one for the file alone


def test_a_reference_model_that_changes_is_read_again(settled: Settled, case: Case, tmp_path: Path) -> None:
    folder, other = case("keras-2.2.4", "two_io"), case("keras-2.2.4", "conv_bn")
    like = Path(shutil.copy(folder / "single.json", tmp_path / "like.json"))
    convert(settled, folder / "multi_weights.h5", tmp_path / "out.h5", like=like)
    status = like.stat()
    like.write_bytes((other / "single.json").read_bytes())
    os.utime(like, ns=(status.st_atime_ns, status.st_mtime_ns))
    same_as_alone(settled, folder / "multi_weights.h5", tmp_path, like=like)
    like.unlink()
    same_as_alone(settled, folder / "multi_weights.h5", tmp_path, like=like)


def test_a_reference_model_that_was_read_still_excludes_plain(
    settled: Settled, case: Case, tmp_path: Path
) -> None:
    folder = case("keras-2.2.4", "two_io")
    convert(settled, folder / "multi_weights.h5", tmp_path / "out.h5", like=folder / "single.json")
    with pytest.raises(UsageRefused, match="exclude each other"):
        convert(
            settled, folder / "multi_weights.h5", tmp_path / "o.h5", like=folder / "single.json", plain=True
        )
