"""The output appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from remap.errors import InputRefused, OutputRefused, UsageRefused
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from tests.handmade import save_full, save_weights, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]


def test_output_says_what_is_described(tmp_path: Path) -> None:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    with open_checkpoint(source) as opened:
        size = publish(unchanged(opened.checkpoint), opened, target, overwrite=False)
        assert target.stat().st_size == size
        with open_checkpoint(target) as written:
            assert written.checkpoint == opened.checkpoint
    with h5py.File(source) as before, h5py.File(target) as after:
        for path in ("model_weights/model_1/dense_1/kernel:0", "optimizer_weights/m:0"):
            assert np.array_equal(before[path][()], after[path][()])


def test_refuses_an_output_that_is_there(tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    target.write_bytes(b"precious")
    with open_checkpoint(save_weights(tmp_path / "in.h5")) as opened:
        with pytest.raises(OutputRefused, match="already") as caught:
            publish(unchanged(opened.checkpoint), opened, target, overwrite=False)
        assert [remedy.argument for remedy in caught.value.remedies] == ["overwrite=True"]
        assert target.read_bytes() == b"precious"
        publish(unchanged(opened.checkpoint), opened, target, overwrite=True)
    assert target.read_bytes() != b"precious"
    assert _names(tmp_path) == ["in.h5", "out.h5"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_refuses_the_input_as_output_by_whatever_name(tmp_path: Path, overwrite: bool) -> None:
    source = save_weights(tmp_path / "in.h5")
    before = source.read_bytes()
    (tmp_path / "hard.h5").hardlink_to(source)
    (tmp_path / "soft.h5").symlink_to(source)
    with open_checkpoint(source) as opened:
        for name in ("in.h5", "hard.h5", "soft.h5"):
            with pytest.raises(UsageRefused, match="the output is the input"):
                publish(unchanged(opened.checkpoint), opened, tmp_path / name, overwrite=overwrite)
    assert source.read_bytes() == before


def test_leaves_nothing_when_verification_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OutputRefused("it differs")

    monkeypatch.setattr("remap.hdf5.output.require_description", refuse)
    with (
        open_checkpoint(save_weights(tmp_path / "in.h5")) as opened,
        pytest.raises(OutputRefused, match="it differs"),
    ):
        publish(unchanged(opened.checkpoint), opened, tmp_path / "out.h5", overwrite=False)
    assert _names(tmp_path) == ["in.h5"]


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _convert(source: Path, target: Path, *, overwrite: bool = False) -> None:
    with open_checkpoint(source) as opened:
        publish(unchanged(opened.checkpoint), opened, target, overwrite=overwrite)


def test_reports_progress_that_rises_to_the_end(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    with open_checkpoint(save_full(tmp_path / "in.h5")) as opened:
        publish(
            unchanged(opened.checkpoint),
            opened,
            tmp_path / "out.h5",
            overwrite=False,
            progress=lambda done, total: reports.append((done, total)),
        )
    assert reports[-1] == (108, 108)
    assert reports == sorted(reports)


def test_a_model_without_any_tensor_is_written_too(tmp_path: Path) -> None:
    _convert(save_weights(tmp_path / "in.h5", {"input_1": {}}), tmp_path / "out.h5")
    with open_checkpoint(tmp_path / "out.h5") as written:
        assert written.checkpoint.layers[0].weights == ()


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    for unnamed in (True, False):
        with (
            pytest.MonkeyPatch.context() as patch,
            open_checkpoint(save_weights(tmp_path / "in.h5")) as opened,
        ):
            if not unnamed:
                patch.delattr(os, "O_TMPFILE", raising=False)
            with pytest.raises(KeyboardInterrupt):
                publish(
                    unchanged(opened.checkpoint),
                    opened,
                    tmp_path / "out.h5",
                    overwrite=False,
                    progress=interrupt,
                )
        assert _names(tmp_path) == ["in.h5"]


def test_refuses_an_input_that_changes_meanwhile(tmp_path: Path) -> None:
    source = save_weights(tmp_path / "in.h5")

    def change(*_: int) -> None:
        os.utime(source, ns=(0, 0))

    with (
        open_checkpoint(source) as opened,
        pytest.raises(InputRefused, match="was changed while it was read"),
    ):
        publish(unchanged(opened.checkpoint), opened, tmp_path / "out.h5", overwrite=False, progress=change)
    assert _names(tmp_path) == ["in.h5"]


def test_refuses_a_directory_as_output(tmp_path: Path) -> None:
    with pytest.raises(OutputRefused, match="the output is a directory"):
        _convert(save_weights(tmp_path / "in.h5"), tmp_path, overwrite=True)


@pytest.mark.skipif(os.name != "posix", reason="this system has no permissions of this kind")
@pytest.mark.parametrize("unnamed", [True, False])
def test_a_file_that_is_replaced_leaves_its_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    source, target = save_weights(tmp_path / "in.h5"), tmp_path / "out.h5"
    for mode in (0o600, 0o664, 0o400):
        target.unlink(missing_ok=True)
        target.write_bytes(b"old")
        target.chmod(mode)
        _convert(source, target, overwrite=True)
        assert stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_refuses_to_replace_what_is_no_file(tmp_path: Path) -> None:
    source, target = save_weights(tmp_path / "in.h5"), tmp_path / "out.h5"
    os.mkfifo(target)
    for overwrite in (False, True):
        with pytest.raises(OutputRefused, match="the output is a device, pipe or socket"):
            _convert(source, target, overwrite=overwrite)
    assert stat.S_ISFIFO(target.stat().st_mode)


@pytest.mark.parametrize("name", ["missing/out.h5", "in.h5/out.h5"])
def test_refuses_a_directory_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputRefused, match="there is no such directory") as caught:
        _convert(save_weights(tmp_path / "in.h5"), tmp_path / name)
    assert caught.value.where == str((tmp_path / name).parent)


def test_refuses_a_name_that_no_system_takes(tmp_path: Path) -> None:
    for name in ("a\0b.h5", "x" * 300 + ".h5"):
        with pytest.raises(OutputRefused, match="the output cannot be written"):
            _convert(save_weights(tmp_path / "in.h5"), tmp_path / name)
    assert _names(tmp_path) == ["in.h5"]


def test_a_link_that_leads_nowhere_is_a_file_of_that_name(tmp_path: Path) -> None:
    source, target = save_weights(tmp_path / "in.h5"), tmp_path / "out.h5"
    target.symlink_to(tmp_path / "nowhere.h5")
    with pytest.raises(OutputRefused, match="already"):
        _convert(source, target)
    _convert(source, target, overwrite=True)
    assert target.is_file()
    assert not target.is_symlink()
    assert not (tmp_path / "nowhere.h5").exists()


@pytest.mark.parametrize("unnamed", [True, False])
def test_never_takes_the_place_of_a_file_that_appears_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    target = tmp_path / "out.h5"

    def appear(*_: int) -> None:
        target.write_bytes(b"precious")

    with (
        open_checkpoint(save_weights(tmp_path / "in.h5")) as opened,
        pytest.raises(OutputRefused, match="already"),
    ):
        publish(unchanged(opened.checkpoint), opened, target, overwrite=False, progress=appear)
    assert target.read_bytes() == b"precious"
    assert _names(tmp_path) == ["in.h5", "out.h5"]


class TestPoorSystems:
    """What other systems and file systems lack, the plainest calls make up for."""

    @pytest.fixture(autouse=True)
    def no_unnamed_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)

    def _check(self, tmp_path: Path) -> None:
        source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
        for overwrite in (False, True):
            _convert(source, target, overwrite=overwrite)
            with open_checkpoint(source) as opened, open_checkpoint(target) as written:
                assert written.checkpoint == opened.checkpoint
            assert _names(tmp_path) == ["in.h5", "out.h5"]

    def test_no_copying_inside_the_kernel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
        self._check(tmp_path)

    def test_no_reserving_of_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        self._check(tmp_path)

    def test_no_reserving_of_room_on_this_file_system(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
        self._check(tmp_path)

    def test_no_hard_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
        self._check(tmp_path)

    def test_no_hard_links_and_a_file_that_appears_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "out.h5"

        def refuse(*_: object, **__: object) -> None:
            target.write_bytes(b"precious")
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
        with pytest.raises(OutputRefused, match="already"):
            _convert(save_weights(tmp_path / "in.h5"), target)
        assert target.read_bytes() == b"precious"
        assert _names(tmp_path) == ["in.h5", "out.h5"]

    def test_no_directories_that_can_be_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
        self._check(tmp_path)


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="this system knows no unnamed files")
def test_without_proc_the_unpublished_file_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remap.hdf5.output.Path.exists", lambda _: False)
    _convert(save_weights(tmp_path / "in.h5"), tmp_path / "out.h5")
    assert _names(tmp_path) == ["in.h5", "out.h5"]


def _limited(directory: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Convert in a process that may write files of `limit` bytes."""
    script = (
        "import resource, sys; sys.path.insert(0, sys.argv[4])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "from tests.test_publish import _convert\n"
        "from pathlib import Path\n"
        "try: _convert(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, directory / "in.h5", directory / "out.h5", str(limit), ROOT],
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_limit_on_the_size_of_files_is_met_before_the_first_byte(tmp_path: Path) -> None:
    save_full(tmp_path / "in.h5")
    assert _limited(tmp_path, 100).stdout.startswith(
        "OutputRefused the output cannot be written: File too large"
    )
    assert _names(tmp_path) == ["in.h5"]
    assert _limited(tmp_path, 1 << 20).stdout == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a disk that is small enough to be full")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", directory], check=False)
    if made.returncode != 0:
        pytest.skip("this system lets not even root mount a disk")
    yield directory
    subprocess.run(["umount", directory], check=True)


def test_a_full_disk_is_met_before_the_first_byte(tmp_path: Path, small_disk: Path) -> None:
    layers = {"layer": {"w:0": np.ones(1 << 17, "<f4")}}
    source = save_weights(tmp_path / "in.h5", layers)
    reports: list[int] = []
    with open_checkpoint(source) as opened, pytest.raises(OutputRefused, match="the disk is full"):
        publish(
            unchanged(opened.checkpoint),
            opened,
            small_disk / "out.h5",
            overwrite=False,
            progress=lambda done, _: reports.append(done),
        )
    assert reports == []
    assert _names(small_disk) == []
    assert shutil.disk_usage(small_disk).used == 0


def test_a_file_of_holes_that_claims_a_terabyte_finds_no_room(tmp_path: Path, small_disk: Path) -> None:
    source = save_weights(tmp_path / "in.h5", {"layer": {}})
    with h5py.File(source, "r+") as file:
        del file["layer"].attrs["weight_names"]
        file["layer"].attrs["weight_names"] = np.array([b"w:0"])
        options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        options.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        options.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((1 << 38,))
        h5py.h5d.create(file["layer"].id, b"w:0", h5py.h5t.IEEE_F32LE, space, options)
    with pytest.raises(OutputRefused, match="the disk is full"):
        _convert(source, small_disk / "out.h5")
    assert _names(small_disk) == []
