"""What the command line offers: arguments and options that several commands have, and the examples in help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, NewType

import typer

__all__ = [
    "CHECK_EXAMPLES",
    "COMPARE_EXAMPLES",
    "EXAMPLES",
    "EXTRACT_EXAMPLES",
    "INSPECT_EXAMPLES",
    "UNQUOTED",
    "File",
    "Html",
    "Json",
    "KerasFiles",
    "exclude_option",
    "file_argument",
    "files_argument",
    "include_option",
    "jobs_option",
    "like_option",
    "recursive_option",
    "svg_option",
]

# In help, a paragraph that begins with a backspace is not wrapped.
EXAMPLES = """\b
Examples:
  h5remap inspect multi_gpu.h5
  h5remap extract multi_gpu.h5 -o single.h5
  h5remap extract weights.h5 -o single.h5 --like model.json
  h5remap check single.h5 --like model.json
  h5remap compare multi_gpu.h5 single.keras

\b
Exit codes:
  0    done
  1    a bug in h5remap
  2    wrong usage
  3    the input is refused; check: Keras would not load it;
       compare: the files differ
  4    undecided: --like, --plain or --submodel has to tell;
       check: custom layers decide; compare: nothing tells
       which tensors belong together
  5    already a single model
  6    the output exists already or cannot be written
  130  interrupted by Ctrl-C
  141  the program that reads the output has ended"""
INSPECT_EXAMPLES = """\b
Examples:
  h5remap inspect multi_gpu.h5 --depth 1
  h5remap inspect multi_gpu.h5 --layer 'block1_*' --stats"""
EXTRACT_EXAMPLES = """\b
Examples:
  h5remap extract multi_gpu.h5 -o single.keras
  h5remap extract weights.h5 -o single.h5 --like model.json
  h5remap extract weights.h5 -o single.h5 --like mobilenet_v2,alpha=0.5,classes=7

The extension of OUT chooses the format: .h5 for Keras 2, tf_keras and load_weights
of Keras 3; .keras and .weights.h5 for Keras 3."""
CHECK_EXAMPLES = """\b
Examples:
  h5remap check single.h5 --like model.json
  h5remap check single.keras
  h5remap check model.weights.h5 --like single.keras --json"""
COMPARE_EXAMPLES = """\b
Examples:
  h5remap compare multi_gpu.h5 single.keras
  h5remap compare epoch1.h5 epoch2.h5 --stats --svg moved.svg"""

# A file or a URL, of which a Path would drop a slash; completed by shells as a file. Nothing here is to be `readable`: an
# output need not be, and of an input the library says it in its own words.
File = NewType("File", str)
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout instead.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="OUT", readable=False, help="Write the view as a web page, too."),
]


def file_argument(metavar: str, text: str) -> Any:
    """Declare a file to read, with its help."""
    return typer.Argument(metavar=metavar, show_default=False, path_type=str, readable=False, help=text)


def files_argument(text: str) -> Any:
    """Declare files to read."""
    return file_argument("FILE...", text)


KerasFiles = Annotated[
    list[File],
    files_argument(
        "A .h5, .keras or .weights.h5 file of Keras, or its URL; several, or with -r directories."
    ),
]


UNQUOTED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}")
"""What no shell evaluates, splits or has to quote: shells treat what they are given to complete by rules of their own."""


def _models_to_load(incomplete: str) -> list[str]:
    """Complete a network of `keras.applications`, or a file beside it.

    Where no network is called so, nothing is offered: shells then complete files.
    """
    from remap.stock.network import spellings

    networks = spellings(incomplete)
    if not networks:
        return []
    try:
        files = [path.name + "/" * path.is_dir() for path in Path().iterdir()]
    except OSError:
        files = []
    beside = [name for name in sorted(files) if name.startswith(incomplete) and UNQUOTED.fullmatch(name)]
    return [*networks, *beside]


def like_option(text: str) -> Any:
    """Declare `--like`."""
    return typer.Option(
        "--like", metavar="FILE", path_type=str, readable=False, autocompletion=_models_to_load, help=text
    )


def svg_option(more: str = "") -> Any:
    """Declare `--svg`; `more` follows its help."""
    return typer.Option(
        "--svg", metavar="OUT", readable=False, help=f"Write the view as an SVG picture, too{more}."
    )


def recursive_option(verb: str) -> Any:
    """Declare `--recursive` of a command that does this to files."""
    return typer.Option("--recursive", "-r", help=f"{verb} the files below directories, too.")


def include_option(verb: str) -> Any:
    """Declare `--include`."""
    return typer.Option("--include", metavar="GLOB", help=f"Of many files, {verb} those of a name like this.")


def exclude_option() -> Any:
    """Declare `--exclude`."""
    return typer.Option(
        "--exclude", metavar="GLOB", help="Of many files, leave out those of a name like this."
    )


def jobs_option(verb: str) -> Any:
    """Declare `--jobs`."""
    return typer.Option("--jobs", min=1, metavar="N", help=f"{verb} N of many files at a time.")
