"""Write docs/side-by-side.md: what tools for HDF5 and Keras files open of the recorded checkpoints, and what they show.

    python benchmarks/viewers.py --h5glance PYTHON --h5diff PROGRAM

The tools are the KerasFileEditor of the Keras in this environment, h5glance in the environment of another PYTHON, and
the program h5diff of HDF5. A tool that is not given is left out. Times are processor seconds of whole processes, which
depend little on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from remap import RemapError, extract

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "side-by-side.md"
ERA = "keras-2.2.4"
CASE = "nested"
LINES = 14
EDITOR = """
import json, sys, keras
def opens(name):
    try:
        keras.saving.KerasFileEditor(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
if sys.argv[1] == "opens":
    print(json.dumps([opens(name) for name in json.load(sys.stdin)]))
elif sys.argv[1] == "view":
    keras.saving.KerasFileEditor(sys.argv[2]).summary()
else:  # the model of the first file, and the second file
    from pathlib import Path
    first, second = map(Path, sys.argv[2:])
    weights = first.name.endswith(".weights.h5")
    model = keras.saving.load_model(first.with_name("converted.keras") if weights else first, compile=False)
    if weights:
        model.load_weights(first)
    keras.saving.KerasFileEditor(str(second)).compare(model)
"""
GLANCE = """
import contextlib, io, json, sys
from h5glance.terminal import main
def opens(name):
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            main([name, "--no-pager"])
    except (Exception, SystemExit) as error:
        return told.getvalue().splitlines()[0].replace(name, "FILE") if told.getvalue() else str(error)
    return ""
print(json.dumps([opens(name) for name in json.load(sys.stdin)]))
"""
KINDS = {
    "multi-GPU `.h5`, full": "multi.h5",
    "multi-GPU `.h5`, weights": "multi_weights.h5",
    "single `.h5`, full": "single.h5",
    "single `.h5`, weights": "single_weights.h5",
    "`.keras`": "converted.keras",
    "`.weights.h5` of Keras 3": "converted.weights.h5",
}
PAIRS = (
    ("multi.h5", "single.h5", "one model in its wrapper and alone"),
    ("single.h5", "single_weights.h5", "one model with and without its architecture"),
    ("single.h5", "converted.keras", "one model before and after its conversion to Keras 3"),
    ("converted.keras", "converted.weights.h5", "one model in both formats of Keras 3"),
    ("converted.weights.h5", "changed.weights.h5", "one bit of one weight is another"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """How each tool opens many files, shows one, and compares two."""

    opens: dict[str, Callable[[list[str]], list[str]]]
    view: dict[str, Callable[[str], list[str]]]
    compare: dict[str, Callable[[str, str], list[str]]]


@dataclass(frozen=True, slots=True)
class Done:
    """What a process wrote, with which status it ended, and the processor seconds that it took."""

    text: str
    code: int
    seconds: float


def run(command: Sequence[str], rounds: int) -> Done:
    """Run a command several times."""
    quiet = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "100", "PAGER": "cat"}
    times = []
    for _ in range(rounds):
        before = _used()
        done = subprocess.run(
            command,
            env=os.environ | quiet,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        times.append(_used() - before)
    return Done(done.stdout, done.returncode, statistics.median(times))


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _asked(command: list[str], files: list[str]) -> list[str]:
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = subprocess.run(
        command, input=json.dumps(files), env=environment, capture_output=True, text=True, check=True
    )
    told: list[str] = json.loads(done.stdout.splitlines()[-1])
    return told


def _inspected(files: list[str]) -> list[str]:
    from remap import inspect

    def opens(name: str) -> str:
        try:
            inspect(name)
        except RemapError as error:
            return error.what
        return ""

    return [opens(name) for name in files]


def tools(glance: str | None, diff: str | None) -> Tools:
    """List the tools."""
    ours = [sys.executable, "-m", "remap"]
    editor = [sys.executable, "-c", EDITOR]
    found = Tools(
        opens={"h5remap": _inspected, "KerasFileEditor": lambda files: _asked([*editor, "opens"], files)},
        view={
            "h5remap": lambda name: [*ours, "inspect", name],
            "KerasFileEditor": lambda name: [*editor, "view", name],
        },
        compare={
            "h5remap": lambda one, other: [*ours, "compare", one, other],
            "KerasFileEditor": lambda one, other: [*editor, "compare", one, other],
        },
    )
    if glance is not None:
        found.opens["h5glance"] = lambda files: _asked([glance, "-c", GLANCE], files)
        found.view["h5glance"] = lambda name: [glance, "-m", "h5glance", "--no-pager", "--attrs", name]
    if diff is not None:
        found.compare["h5diff"] = lambda one, other: [diff, "-r", one, other]
    return found


def unpack(folder: Path) -> list[Path]:
    """Unpack the recorded cases of an era, and convert each to the formats of Keras 3."""
    cases = []
    for archive in sorted((ROOT / "fixtures" / ERA).glob("*.tar.xz")):
        case = folder / archive.name.removesuffix(".tar.xz")
        with tarfile.open(archive) as members:
            members.extractall(case, filter="data")
        for form in ("keras", "weights.h5"):
            with contextlib.suppress(RemapError):
                extract(case / "multi.h5", case / f"converted.{form}")
        cases.append(case)
    return cases


def opened(found: Tools, cases: list[Path]) -> list[str]:
    """Count the files that each tool opens."""
    lines = ["| file | " + " | ".join(found.opens) + " |", "|---" * (len(found.opens) + 1) + "|"]
    for kind, name in KINDS.items():
        files = [str(case / name) for case in cases if (case / name).exists()]
        cells = []
        for opens in found.opens.values():
            told = opens(files)
            words = next((one for one in told if one), "")
            cells.append(f"{told.count('')} of {len(files)}" + (f": {words[:90]}" if words else ""))
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return lines


def seen(found: Tools, case: Path, rounds: int) -> list[str]:
    """Show one file of each kind with each tool: the time, and the beginning of what it writes."""
    times = ["| file | " + " | ".join(found.view) + " |", "|---" * (len(found.view) + 1) + "|"]
    views = []
    for kind, name in KINDS.items():
        cells = []
        for tool, view in found.view.items():
            done = run(view(str(case / name)), rounds)
            cells.append(f"{done.seconds:.2f}" if not done.code else f"({done.seconds:.2f})")
            if not done.code and name in ("multi.h5", "converted.weights.h5"):
                views += [f"{tool}, {kind}:", "", "```text", *_beginning(done.text, case), "```", ""]
        times.append(f"| {kind} | " + " | ".join(cells) + " |")
    return [*times, "", "In parentheses: it refuses the file.", "", "## What one sees", "", *views]


def _beginning(text: str, case: Path) -> list[str]:
    lines = [line.rstrip().replace(f"{case}/", "")[:110] for line in text.strip().splitlines()]
    return [*lines[:LINES], *([f"... {len(lines) - LINES} more lines"] if len(lines) > LINES else [])]


def compared(found: Tools, case: Path, rounds: int) -> list[str]:
    """Compare pairs of files with each tool: what it says, and the time."""
    lines = ["| files | " + " | ".join(found.compare) + " |", "|---" * (len(found.compare) + 1) + "|"]
    for one, other, what in PAIRS:
        cells = []
        for compare in found.compare.values():
            done = run(compare(str(case / one), str(case / other)), rounds)
            cells.append(f"{_verdict(done, case)} ({done.seconds:.2f} s, status {done.code})")
        lines.append(f"| {what}: `{one}`, `{other}` | " + " | ".join(cells) + " |")
    return lines


def _verdict(done: Done, case: Path) -> str:
    """Give the line that says the most: the last of a traceback and of a report of KerasFileEditor, else the first."""
    lines = [line.strip() for line in done.text.replace(f"{case}/", "").splitlines() if line.strip()]
    if not lines:
        return "says nothing"
    last = "Traceback" in done.text or lines[0].startswith("Keras model file")
    line = lines[-1] if last else lines[0]
    return "`" + line.replace("|", "").replace("`", "'")[:100] + "`"


def main() -> None:
    """Ask all tools and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--h5glance", metavar="PYTHON")
    parser.add_argument("--h5diff", metavar="PROGRAM")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = tools(options.h5glance, options.h5diff)
    with tempfile.TemporaryDirectory() as temporary:
        cases = unpack(Path(temporary))
        (case,) = [case for case in cases if case.name == CASE]
        changed = case / "changed.weights.h5"
        shutil.copy(case / "converted.weights.h5", changed)
        with h5py.File(changed, "r+") as file:
            values = file["layers/dense/vars/0"][...]
            values.view("u4")[0, 0] ^= 1
            file["layers/dense/vars/0"][...] = values
        count = opened(found, cases)
        views, pairs = (show(found, case, options.rounds) for show in (seen, compared))
    PAGE.write_text(
        "\n".join(
            [
                *f"""# h5remap beside other tools

Written by `python benchmarks/viewers.py` with the recorded checkpoints of {ERA} and their conversions.
`keras.saving.KerasFileEditor` of Keras 3.15 is made for the formats of Keras 3, h5glance 0.9 and h5diff of HDF5 1.10 for
HDF5 of any origin.

## What each opens

""".splitlines(),
                *count,
                *f"""
h5glance shows an HDF5 file as it is: groups, datasets and attributes. It does not know models, and a `.keras` archive is a
zip file. h5diff has no view.

## How long it takes

Processor seconds of a whole process for the case `{CASE}`; runs of each: {options.rounds}, of which this is the median.

""".splitlines(),
                *views,
                *"""## Comparing two files

h5diff compares what has one path in both files. KerasFileEditor compares a file, here the second, with a model that Keras 3
has loaded, here from the first. h5remap undoes what a conversion does to numbers, and matches layers as Keras would.

""".splitlines(),
                *pairs,
                "",
            ]
        )
    )


if __name__ == "__main__":
    main()
