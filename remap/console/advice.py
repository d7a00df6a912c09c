"""What to do next, as commands and lines of Python that can be pasted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from remap.console.text import Line, command, wrapped
from remap.errors import OutputRefused, RemapError, UsageRefused
from remap.hdf5.identify import show
from remap.results import Inspection

__all__ = ["advice_lines", "commands_in", "failure_json", "failure_lines", "load_lines", "output_name"]

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
    if inspection.settled_by is not None:
        yield Line("To get the single model:")
        yield Line("  ", (command(*words), "cyan"))
        return
    yield from wrapped(f"Still open: {show(inspection.question)}", "yellow", width, rest="  ")
    yield from wrapped(
        "Its layers are shown as the names of their weights group them, in the order of the file.", "", width
    )
    yield Line("To get the single model:")
    if any(remedy.option == "plain" for remedy in inspection.remedies):
        yield Line("  ", (command(*words, "--plain"), "cyan"))
        yield Line("      if nothing was frozen and no model is inside the model; otherwise")
    yield Line("  ", (command(*words, "--like", "model.json"), "cyan"))
    yield Line("      with model.json written by the code of the single model, on any machine:")
    yield Line("      ", (DESCRIBE, "cyan"))


def load_lines(target: str, content: str, *, custom_objects: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Give the line of Python by which Keras loads a file, and what Keras 3 needs besides; text and style."""
    if content == "full model":
        objects = ", ".join(f"{show(repr(name))}: ..." for name in custom_objects)
        needed = f", custom_objects={{{objects}}}" if objects else ""
        yield f"model = keras.models.load_model({show(repr(target))}{needed})", "cyan"
        if needed:
            yield "(the file opens only with these functions and classes)", "dim"
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


def _options(error: RemapError) -> str:
    """Name the options of a refusal."""
    values = ("" if remedy.value is True else f" {remedy.value}" for remedy in error.remedies)
    flags = (f"--{remedy.option.replace('_', '-')}" for remedy in error.remedies)
    return " ".join((error.hint, *map("".join, zip(flags, values, strict=True))))


def failure_lines(error: RemapError, invocation: Sequence[str]) -> Iterator[Line]:
    """Say what, where, and what to do, each on one line however long; then commands, ready to paste.

    `invocation` is the command that was refused: its name, the file, its options.
    """
    yield Line(("Error: ", "bold red"), (show(error.what), "red"))
    if error.where:
        yield Line(("   in: ", "bold"), show(_place(error, invocation)))
    if error.hint:
        hint = error.hint.replace("h5remap inspect FILE", command("inspect", invocation[1]))
        yield Line(("  try: ", "bold"), show(hint))
    for line in commands_in(_options(error), invocation):
        yield Line("       ", (line, "cyan"))


def _place(error: RemapError, invocation: Sequence[str]) -> str:
    """Name the file as well where an error knows only the place in it."""
    files = [invocation[1], *(word for word in invocation[2:] if not word.startswith("-"))]
    inside = not isinstance(error, UsageRefused | OutputRefused)
    return (
        f"{error.where} in {files[0]}"
        if inside and not any(show(word) in show(error.where) for word in files)
        else error.where
    )


def failure_json(error: RemapError, invocation: Sequence[str]) -> dict[str, Any]:
    """Give a refusal as a JSON document; its `version` rises when a field changes its meaning."""
    return {
        "format": "h5remap-error",
        "version": 1,
        "kind": re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower(),
        "exit_code": error.exit_code,
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
        "commands": commands_in(_options(error), invocation),
    }
