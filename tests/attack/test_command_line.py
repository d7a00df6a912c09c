"""What a person sees of a harmful file: exit code 3, the reason, and no output."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack.corpus import ATTACKS, Attack, base, make_canary, unpack
from tests.attack.trust import command, write_like, write_wrapper

ROOT = Path(__file__).resolve().parents[2]
# One of each kind, in turns at each place; `python -m tests.attack.trust attacks` tries them all.
SAMPLE = ATTACKS[::29]


@pytest.mark.parametrize("attack", SAMPLE, ids=lambda attack: attack.name)
def test_refuses_with_exit_code_3(attack: Attack, tmp_path: Path) -> None:
    make_canary(tmp_path / "canary")
    harm, out = tmp_path / "harm.h5", tmp_path / "out"
    out.mkdir()
    attack.make(harm, tmp_path / "canary")
    source: Path = harm
    like: list[str | Path] = []
    if attack.base == "weights":
        (tmp_path / "single.json").write_bytes(unpack("single.json"))
        like = ["--like", tmp_path / "single.json"]
    if attack.base == "like":
        source = tmp_path / "multi_weights.h5"
        source.write_bytes(base("weights"))
        like = ["--like", harm]
    done = subprocess.run(
        [sys.executable, "-m", "remap", "extract", source, "-o", out / "out.h5", *like],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    words = " ".join(done.stderr.split())
    assert done.returncode == 3, words
    assert re.search(attack.what, words)
    assert attack.place in words
    assert done.stdout == ""
    assert list(out.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak differs from system to system")
def test_memory_does_not_grow_with_the_tensors(tmp_path: Path) -> None:
    source = write_wrapper(tmp_path / "in.h5", tensors=16, size=16 << 20)
    like = write_like(tmp_path / "like.h5", tensors=16, size=16 << 20)
    ended = command("extract", source, "-o", tmp_path / "out.h5", "--like", like)
    assert ended.code == 0
    assert (tmp_path / "out.h5").stat().st_size > 256 << 20
    assert ended.memory < 64 << 20
