"""Write one model's files in every format, under right names and wrong ones: `python -m tests.loader_files DIRECTORY`."""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from remap import extract
from tests.conftest import FIXTURES

__all__ = ["write_files"]


def write_files(origin: Path, folder: Path) -> None:
    """Write the files of a recorded case, its conversions, and copies with other names."""
    for name in ("multi.h5", "multi_weights.h5", "single.h5", "single_weights.h5", "single.json"):
        shutil.copy(origin / name, folder / name)
    extract(origin / "multi.h5", folder / "single.keras")
    extract(origin / "multi.h5", folder / "single.weights.h5")
    for right, wrong in (
        ("single_weights.h5", "old.weights.h5"),
        ("single_weights.h5", "old.keras"),
        ("single_weights.h5", "old.hdf"),
        ("single.h5", "full.bin"),
        ("single.weights.h5", "new.h5"),
        ("single.keras", "zip.h5"),
    ):
        shutil.copy(folder / right, folder / wrong)


def main(folder: Path) -> None:
    """Write the files of one case."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        with tarfile.open(FIXTURES / "keras-2.2.4" / "conv_bn.tar.xz") as archive:
            archive.extractall(temporary, filter="data")
        write_files(Path(temporary), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
