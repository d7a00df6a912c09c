"""Every harmful file is refused, for the right reason, at the right place, and points at no other file."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from remap.errors import InputRefused
from remap.hdf5.reader import open_checkpoint
from tests.attack.corpus import ATTACKS, BASES, Attack, base, make_canary
from tests.attack.watch import opened_in

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

LINUX = sys.platform == "linux"


@pytest.fixture(scope="session")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("attack") / "canary"
    make_canary(directory)
    return directory


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_refuses(attack: Attack, tmp_path: Path, canary: Path) -> None:
    target = tmp_path / "harm.h5"
    attack.make(target, canary)
    watch: AbstractContextManager[list[bytes]] = opened_in(canary) if LINUX else nullcontext([])
    with watch as opened, pytest.raises(InputRefused) as caught:
        open_checkpoint(target)
    assert not opened
    assert re.search(attack.what, caught.value.what)
    assert attack.place in caught.value.where
    assert str(target) in caught.value.where
    assert caught.value.hint
    assert str(caught.value).isprintable()


@pytest.mark.skipif(not LINUX, reason="only Linux tells who opens files")
def test_a_file_that_is_opened_is_seen(canary: Path) -> None:
    with opened_in(canary) as opened:
        (canary / "raw.bin").read_bytes()
    assert b"raw.bin" in opened[0]


@pytest.mark.parametrize("name", BASES)
def test_accepts_what_the_attacks_were_made_from(name: str, tmp_path: Path) -> None:
    target = tmp_path / "real.h5"
    target.write_bytes(base(name))
    with open_checkpoint(target) as opened:
        assert opened.checkpoint.weighted
