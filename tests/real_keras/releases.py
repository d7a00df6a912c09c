"""Compare what h5remap reads from files of Keras 3 with what each release of Keras 3 loads from them.

    python -m tests.real_keras.releases              # every release; writes the table in docs/compatibility.md
    python -m tests.real_keras.releases 3.0.5 3.5.0  # some; prints only

Each release saves models of its own, loads them again, and loads files that h5remap wrote and that the newest release
saved. The releases are installed below `.eras/`, all beside one JAX. Ends with 1 where a release loads something else
than h5remap reads.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from remap import RemapError, extract
from tests.conftest import FIXTURES, all_cases
from tests.real_keras.reading import weights_loaded, weights_read

__all__ = ["Outcome", "main", "outcome"]

# The last patch of each minor release.
RELEASES = (
    "3.0.5 3.1.1 3.2.1 3.3.3 3.4.1 3.5.0 3.6.0 3.7.0 3.8.0 3.9.2 3.10.0 3.11.3 3.12.4 3.13.2 3.14.1 3.15.1"
).split()
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".eras"
SCRIPT = Path(__file__).with_name("keras3_weights.py")
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- keras 3: begin -->", "<!-- keras 3: end -->"
# One version of JAX that the oldest and the newest release run with, and what Keras 3 needs.
NEEDED = (
    "jax==0.4.30 jaxlib==0.4.30 numpy<2 h5py absl-py rich namex optree ml_dtypes packaging dm-tree".split()
)
ERA = "keras-2.2.4"
# The code of their own layers and functions is not in a file.
CUSTOM = {"custom_both", "custom_odd_name", "scalar_weight", "own_lambda"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one release: files with what became of each.

    "" where h5remap reads what the release loads, the release's words where it does not save or load the file, and
    "other weights".
    """

    release: str
    own: dict[str, str]
    converted: dict[str, str]
    newest: dict[str, str]

    @property
    def wrong(self) -> list[str]:
        """List the files of which h5remap reads something else."""
        every = self.own | self.converted | self.newest
        return [name for name, told in every.items() if told == "other weights"]


def outcome(release: str, folder: Path, converted: list[Path], newest: list[Path]) -> Outcome:
    """Let a release save and load, and compare what it loads with what h5remap reads."""
    folder.mkdir()
    (folder / "converted.json").write_text(json.dumps([str(path) for path in (*converted, *newest)]))
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    environment["PYTHONPATH"] = str(installed(release))
    python = ENVIRONMENTS / "keras-3" / "bin" / "python"
    done = subprocess.run(
        [str(python), str(SCRIPT), str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{release}: {done.stderr[-2000:]}")
    refused: dict[str, str] = json.loads((folder / "refused.json").read_text())
    own = [path for path in sorted(folder.iterdir()) if path.name.endswith((".keras", ".weights.h5"))]
    others = [path for archive in converted for path in (archive, archive.with_suffix(".weights.h5"))]
    return Outcome(
        release=release,
        own={path.name: _compared(folder, path, refused) for path in own},
        converted={path.name: _compared(folder, path, refused) for path in others},
        newest={path.name: _compared(folder, path, refused) for path in newest},
    )


def _compared(folder: Path, path: Path, refused: dict[str, str]) -> str:
    words = refused.get(path.name)
    if words is not None:
        return words
    loaded = weights_loaded(folder, path)
    return "" if weights_read(path, loaded) == loaded else "other weights"


def installed(release: str) -> Path:
    """Install a release beside the others, once."""
    python = ENVIRONMENTS / "keras-3" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENTS / "keras-3")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *NEEDED], check=True)
    target = ENVIRONMENTS / f"keras-{release}"
    if not target.exists():
        install = ["-m", "pip", "install", "-q", "--no-deps", "--target", str(target), f"keras=={release}"]
        subprocess.run([str(python), *install], check=True)
    return target


def _converted(folder: Path) -> list[Path]:
    """Convert every recorded case of an era to both formats."""
    archives = []
    for name in [name for era, name in all_cases() if era == ERA and name not in CUSTOM]:
        with tarfile.open(FIXTURES / ERA / f"{name}.tar.xz") as archive:
            archive.extractall(folder / name, filter="data")
        target = folder / f"converted-{name}.keras"
        try:
            extract(folder / name / "multi.h5", target)
            extract(folder / name / "multi.h5", target.with_suffix(".weights.h5"))
        except RemapError:
            continue
        archives.append(target)
    return archives


def _row(found: Outcome) -> str:
    own, converted = found.own, found.converted
    columns = (
        own,
        {name: told for name, told in converted.items() if name.endswith(".keras")},
        {name: told for name, told in converted.items() if name.endswith(".weights.h5")},
        found.newest,
    )
    return f"| {found.release} | {' | '.join(map(_cell, columns))} |"


def _cell(files: dict[str, str]) -> str:
    loaded = [told for told in files.values() if told in ("", "other weights")]
    if loaded.count("") < len(loaded):
        return f"{loaded.count('')} of {len(loaded)}, **other weights**"
    return f"{len(loaded)} of {len(files)}" if files else "-"


_HEAD = """| Keras | its own files | converted `.keras` | converted `.weights.h5` | `.keras` of the newest release |
|---|---|---|---|---|"""


def _table(found: list[Outcome]) -> str:
    words: dict[str, dict[str, int]] = {}
    for one in found:
        for kind, files in (("its own", one.own), ("converted", one.converted), ("newest", one.newest)):
            for what, number in Counter(_short(told) for told in files.values() if told).items():
                words.setdefault(f"{kind}: `{what}`", {})[one.release] = number
    told = [f"- {what} ({_runs(numbers)})" for what, numbers in words.items()]
    return "\n".join(
        [_HEAD, *map(_row, found), "", "What the releases say of files that they do not load:", "", *told]
    )


def _runs(numbers: dict[str, int]) -> str:
    """Put releases with equal numbers of files that follow each other together."""
    runs: list[tuple[int, list[str]]] = []
    for release, number in numbers.items():
        follows = runs and RELEASES.index(release) == RELEASES.index(runs[-1][1][-1]) + 1
        if follows and runs[-1][0] == number:
            runs[-1][1].append(release)
        else:
            runs.append((number, [release]))
    return ", ".join(
        f"{number} in {names[0]}" + (f" to {names[-1]}" if names[1:] else "") for number, names in runs
    )


def _short(words: str) -> str:
    """Give the part of an error that does not name a file's own layers."""
    last = words.rpartition("Exception encountered: ")[2]
    plain = re.sub(r"\x1b\[[0-9;]*m|`", "", last.rpartition("message for object ")[2])
    return re.sub(r"'[^']*'|<[^>]*>|\d+", "…", " ".join(plain.split()))[:110].rstrip()


def main(releases: list[str]) -> int:
    """Go through releases, all of them without arguments; return the exit code."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "converted").mkdir()
        converted = _converted(folder / "converted")
        newest: list[Path] = []
        for release in [RELEASES[-1], *[one for one in releases or RELEASES if one != RELEASES[-1]]]:
            found.append(outcome(release, folder / release, converted, newest))
            print(_row(found[-1]), *found[-1].wrong, flush=True)  # noqa: T201 - a program
            if not newest:
                for path in sorted((folder / release).glob("*.keras")):
                    newest.append(folder / f"newest-{path.name}")
                    shutil.copy(path, newest[-1])
    if not releases:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        found = [*found[1:], found[0]]
        PAGE.write_text(f"{before}{BEGIN}\n{_table(found)}\n{END}{after}")
    return 1 if any(one.wrong for one in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
