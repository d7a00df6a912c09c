"""What tests share: real checkpoints, unpacked once."""

from __future__ import annotations

import gc
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent.parent / "fixtures"
FIELD = FIXTURES / "field"
LAYER_ARCHIVES = {path.name.removesuffix(".txz"): path for path in sorted(FIXTURES.glob("layers/*.txz"))}


def pytest_collection_finish() -> None:
    """Keep what collecting tests made out of garbage collection, and out of what a forked child copies."""
    gc.collect()
    gc.freeze()


def all_cases() -> list[tuple[str, str]]:
    """List the era and name of every recorded case."""
    return sorted(
        (path.parent.name, path.name.removesuffix(".tar.xz")) for path in FIXTURES.glob("*/*.tar.xz")
    )


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Give the folder with the members of one recorded case."""
    root = tmp_path_factory.mktemp("cases")

    def unpack(era: str, name: str) -> Path:
        folder = root / era / name
        if not folder.exists():
            with tarfile.open(FIXTURES / era / f"{name}.tar.xz") as archive:
                for member in archive.getmembers():
                    content = archive.extractfile(member)
                    if content is not None:
                        target = folder / member.name
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(content.read())
        return folder

    return unpack


def field_cases() -> list[tuple[str, str]]:
    """List the era and name of every recorded model of a package or an example."""
    index = json.loads((FIELD / "cases.json").read_text())
    return sorted((era, name) for era, told in index.items() for name in told["cases"])


@pytest.fixture(scope="session")
def field(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Give the folder with the members of one such model; the archive of an era is unpacked once."""
    root = tmp_path_factory.mktemp("field")

    def unpack(era: str, name: str) -> Path:
        if not (root / era).exists():
            with tarfile.open(FIELD / f"{era}.txz") as archive:
                archive.extractall(root / era, filter="data")
        return root / era / name

    return unpack


def told(folder: Path) -> dict[str, object]:
    """Give what a case's meta.json says."""
    content = json.loads((folder / "meta.json").read_text())
    assert isinstance(content, dict)
    return content


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give for each era the folder with a full file for every built-in layer."""
    root = tmp_path_factory.mktemp("layers")
    for era, path in LAYER_ARCHIVES.items():
        with tarfile.open(path) as archive:
            archive.extractall(root / era, filter="data")
    return {era: root / era for era in LAYER_ARCHIVES}
