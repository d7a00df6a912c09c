"""What to do next, as commands and lines of Python that can be pasted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from remap.console.line import Line, wrapped
from remap.console.words import command
from remap.hdf5.identify import show
from remap.inspection import Inspection

__all__ = ["advice_lines", "commands_in", "load_lines", "output_name"]

DESCRIBE = "open('model.json', 'w').write(model.to_json())"

# Options that a hint may name, and the value to show for them where the hint has none of its own.
_OPTION = re.compile(r"--(like|plain|submodel|overwrite|weights-only)\b(?: ([\w./-]*\w))?")
_VALUES = {"like": "model.json", "submodel": "NAME"}


def advice_lines(inspection: Inspection, *, width: int | None) -> Iterator[Line]:
    """Say what to do with a file that was inspected."""
    for note in inspection.notes:
        yield from wrapped(f"Note: {show(note)}", "yellow", width, rest="      ")
    if inspection.kind == "empty":
        yield Line("There is nothing in it to load or to extract.")
    elif inspection.kind == "single":
        yield Line("Already a single model; load it as it is:")
        yield from (Line("  ", line) for line in load_lines(inspection.source, inspection.content))
    elif inspection.kind == "several":
        yield Line("To load the file as a whole:")
        yield from (Line("  ", line) for line in load_lines(inspection.source, inspection.content))
        yield Line("To take one of the models out of it:")
        for model in inspection.models:
            target = output_name(model.name)
            yield Line(
                "  ", (command("extract", inspection.source, "-o", target, "--submodel", model.name), "cyan")
            )
    else:
        yield from _extraction(inspection, width)


def _extraction(inspection: Inspection, width: int | None) -> Iterator[Line]:
    words = ("extract", inspection.source, "-o", output_name(inspection.source))
    if inspection.rung is not None:
        yield Line("To get the single model:")
        yield Line("  ", (command(*words), "cyan"))
        return
    yield from wrapped(f"Still open: {show(inspection.question)}", "yellow", width, rest="  ")
    yield from wrapped(
        "Its layers are shown as the names of their weights group them, in the order of the file.", "", width
    )
    yield Line("To get the single model:")
    if "--plain" in inspection.hint:
        yield Line("  ", (command(*words, "--plain"), "cyan"))
        yield Line("      if nothing was frozen and no model is inside the model; otherwise")
    yield Line("  ", (command(*words, "--like", "model.json"), "cyan"))
    yield Line("      with model.json written by the code of the single model, on any machine:")
    yield Line("      ", (DESCRIBE, "cyan"))


def load_lines(target: str, content: str) -> Iterator[tuple[str, str]]:
    """Give the line of Python by which Keras loads a file, and what Keras 3 needs besides; text and style."""
    if content == "full model":
        yield f"model = keras.models.load_model({show(repr(target))})", "cyan"
        if not target.endswith(".keras"):
            yield "(in Keras 3 with compile=False)", "dim"
    else:
        yield f"model.load_weights({show(repr(target))})", "cyan"


def output_name(source: str) -> str:
    """Suggest what to call the single model of a file or of a layer."""
    name = Path(source).name
    stem = re.sub(r"(\.weights)?\.(h5|hdf5|keras|hdf)$", "", name, flags=re.IGNORECASE)
    plain = re.sub(r"[^\w.-]+", "_", stem).strip("._-")
    return f"{plain or 'model'}_single.h5"


def commands_in(hint: str, invocation: Sequence[str]) -> list[str]:
    """Turn the options that a hint names into whole commands, made of the one that was refused."""
    found = []
    for option, value in _OPTION.findall(hint):
        if f"--{option}" in invocation:
            continue
        words = [f"--{option}"]
        if option in _VALUES:
            words.append(_VALUES[option] if value in ("", "FILE", "NAME") else value)
        found.append(command(*invocation, *words))
    return list(dict.fromkeys(found))
