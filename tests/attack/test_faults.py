"""Whatever the system does meanwhile, the output is whole or not there, and the error is ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remap.errors import InputRefused, OutputRefused
from remap.formats.description import FileDescription, Group
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from remap.output_tensors import constant
from tests.faults import KINDS, Faults
from tests.handmade import save_full, unchanged

MODES = [
    pytest.param(False, True, False, id="new"),
    pytest.param(True, True, False, id="overwrite"),
    pytest.param(False, False, False, id="new-named"),
    pytest.param(True, False, False, id="overwrite-named"),
    pytest.param(False, True, True, id="archive"),
]


def _convert(source: Path, target: Path, *, overwrite: bool, archive: bool) -> None:
    with open_checkpoint(source) as opened:
        file = unchanged(opened.checkpoint)
        if archive:
            computed = Group(path=("computed",), tensors=(("0", constant(0.5, "<f4")),))
            file = FileDescription(
                groups=(*file.groups, computed), members=(("config.json", b"{}"),), member="model.weights.h5"
            )
        publish(file, opened, target, overwrite=overwrite)


def spoil(
    directory: Path, faults: Faults, *, overwrite: bool, unnamed: bool, archive: bool = False
) -> tuple[BaseException | None, bytes]:
    """Convert under faults; give the error and the bytes that the output then has."""
    source, target = directory / "in.h5", directory / "out.h5"
    if not source.exists():
        save_full(source)
    target.unlink(missing_ok=True)
    if overwrite:
        target.write_bytes(b"what was there")
    caught: BaseException | None = None
    with pytest.MonkeyPatch.context() as patch:
        if not unnamed:
            patch.delattr(os, "O_TMPFILE", raising=False)
        faults.install(patch)
        try:
            _convert(source, target, overwrite=overwrite, archive=archive)
        except BaseException as error:
            caught = error
    return caught, target.read_bytes() if target.exists() else b""


@pytest.mark.parametrize("kind", [*KINDS, "short", "lie"])
@pytest.mark.parametrize(("overwrite", "unnamed", "archive"), MODES)
def test_every_call_that_fails(
    tmp_path: Path, kind: str, overwrite: bool, unnamed: bool, archive: bool
) -> None:
    if unnamed and not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system knows no unnamed files")
    whole = Faults()
    error, expected = spoil(tmp_path, whole, overwrite=overwrite, unnamed=unnamed, archive=archive)
    assert error is None
    before = b"what was there" if overwrite else b""
    for at in range(len(whole.log)):
        faults = Faults(at, kind)
        error, found = spoil(tmp_path, faults, overwrite=overwrite, unnamed=unnamed, archive=archive)
        assert faults.hit == whole.log[at]
        assert isinstance(error, InputRefused | OutputRefused | None), (at, faults.hit, error)
        assert found == (before if error else expected), (at, faults.hit, error)
        left = {path.name for path in tmp_path.iterdir()} - {"in.h5", "out.h5"}
        # The only call whose failure leaves something: the one that removes the unpublished file.
        assert not left or faults.hit == "unlink", (at, faults.hit, left)
        for name in left:
            (tmp_path / name).unlink()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that can be killed in the middle")
@pytest.mark.parametrize("kind", ["kill", "killed"])
@pytest.mark.parametrize(("overwrite", "unnamed", "archive"), MODES)
def test_every_call_at_which_it_can_be_killed(
    tmp_path: Path, kind: str, overwrite: bool, unnamed: bool, archive: bool
) -> None:
    mode = json.dumps({"overwrite": overwrite, "unnamed": unnamed, "archive": archive})
    # In a process of its own, which is small and has one thread: it is forked at every call.
    subprocess.run([sys.executable, "-m", __name__, str(tmp_path), kind, mode], check=True)


def kill_at_every_call(directory: Path, kind: str, *, overwrite: bool, unnamed: bool, archive: bool) -> None:
    """Convert in children that are killed, each at another call, and look at what is there then."""
    whole = Faults()
    _, expected = spoil(directory, whole, overwrite=overwrite, unnamed=unnamed, archive=archive)
    before = b"what was there" if overwrite else b""
    kills = 0
    for at, call in enumerate(whole.log):
        child = os.fork()
        if child == 0:
            spoil(directory, Faults(at, kind), overwrite=overwrite, unnamed=unnamed, archive=archive)
            os._exit(0)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        found = (directory / "out.h5").read_bytes() if (directory / "out.h5").exists() else b""
        assert found in (before, expected), (at, call)
        left = {path.name for path in directory.iterdir()} - {"in.h5", "out.h5"}
        assert len(left) <= 1
        # Unnamed files vanish with their process; replacing a file needs a name between two calls.
        assert not left or not unnamed or (overwrite and call in ("link", "close", "replace")), (at, call)
        for name in left:
            (directory / name).unlink()
    assert kills == len(whole.log)


if __name__ == "__main__":
    kill_at_every_call(Path(sys.argv[1]), sys.argv[2], **json.loads(sys.argv[3]))
