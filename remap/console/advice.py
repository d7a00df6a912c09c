"""What to do next, as commands and lines of Python that can be pasted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from remap.console.invocation import Invocation
from remap.console.text import Line, labelled, wrapped
from remap.errors import OutputRefused, RemapError, Remedy, UsageRefused
from remap.hdf5.identify import show
from remap.results import Inspection
from remap.urls import base_name, remote

__all__ = ["advice_lines", "failure_json", "failure_lines", "load_lines", "output_name", "remedy_lines"]

_INDENT = "  "


def advice_lines(inspection: Inspection, *, width: int | None) -> Iterator[Line]:
    """Say what to do with a file that was inspected."""
    for note in inspection.notes:
        yield from wrapped(f"Note: {show(note)}", "yellow", width, rest="      ")
    if inspection.kind == "empty":
        yield Line("It holds no weights: there is nothing to load or to extract.")
    elif inspection.kind == "single":
        yield Line("Already a single model; load it as it is:")
        yield from _load(inspection, width)
    elif inspection.kind == "several":
        yield Line("To load the file as a whole:")
        yield from _load(inspection, width)
        yield Line("To extract one of the models:")
        for model in inspection.models:
            yield _command(_extraction(inspection.source, submodel=model.name))
    else:
        yield from _extract(inspection, width)
    yield from _nested(inspection)


def _nested(inspection: Inspection) -> Iterator[Line]:
    """Say how to extract a model inside another alone, for the first of them."""
    shown = (
        {model.name for model in inspection.models} if inspection.kind in ("multi-gpu", "several") else set()
    )
    paths = [path for path in inspection.submodels if path not in shown]
    if not paths or inspection.content == "weights":
        return
    which = f"one of the {len(paths):,} nested models" if len(paths) > 1 else "a nested model"
    yield Line(f"To extract {which} alone:")
    yield _command(_extraction(inspection.source, submodel=paths[0]))


def _load(inspection: Inspection, width: int | None) -> Iterator[Line]:
    lines = load_lines(
        inspection.source,
        inspection.content,
        custom_objects=inspection.custom_objects,
        obstacle=inspection.keras3_obstacle,
    )
    for text, style in lines:
        yield from wrapped(text, style, width if style != "cyan" else None, first=_INDENT, rest=_INDENT)
    formats = [remedy for remedy in inspection.remedies if remedy.option == "target"]
    conversion = Invocation(
        command="extract",
        source=inspection.source,
        options=(("target", PurePath(inspection.source).name),),
    )
    yield from remedy_lines(formats, conversion, width, indent=_INDENT)


def _extract(inspection: Inspection, width: int | None) -> Iterator[Line]:
    extraction = _extraction(inspection.source)
    if inspection.settled_by is None:
        yield from wrapped(f"Undecided: {show(inspection.question)}", "yellow", width, rest=_INDENT)
        if inspection.hint:
            yield from wrapped(show(inspection.hint), "", width)
        yield from wrapped(
            "The tree shows groups of weights with a common name, in the order of the file.", "", width
        )
    inside = inspection.kind == "multi-gpu-inside"
    yield Line(f"To extract the {'model without its wrappers' if inside else 'single model'}:")
    if inspection.settled_by is not None:
        yield _command(extraction)
    if inspection.keras3_obstacle:
        note = f"For Keras 3, which cannot open that .h5 file because of {show(inspection.keras3_obstacle)}:"
        yield from wrapped(note, "", width)
    yield from remedy_lines(inspection.remedies, extraction, width, indent=_INDENT)


def _extraction(source: str, *, submodel: str | None = None) -> Invocation:
    extraction = Invocation(
        command="extract", source=source, options=(("target", output_name(submodel or source)),)
    )
    return (
        extraction if submodel is None else extraction.with_remedy(Remedy(option="submodel", value=submodel))
    )


def _command(invocation: Invocation) -> Line:
    return Line(_INDENT, (invocation.line, "cyan"))


def load_lines(
    target: str,
    content: str,
    *,
    custom_objects: Sequence[str] = (),
    obstacle: str = "",
) -> Iterator[tuple[str, str]]:
    """Give the line of Python by which Keras loads a file, and what to know about it; text and style.

    Args:
        target: The file.
        content: ``full model`` or ``weights``.
        custom_objects: The names that `load_model` has to be given.
        obstacle: Why Keras 3 cannot open the file.
    """
    if remote(target) is not None:
        target = base_name(target)
        yield "(of the file when it was downloaded)", "dim"
    if content != "full model":
        yield f"model.load_weights({show(repr(target))})", "cyan"
        return
    objects = ", ".join(f"{show(repr(name))}: ..." for name in custom_objects)
    needed = f", custom_objects={{{objects}}}" if objects else ""
    yield f"model = keras.models.load_model({show(repr(target))}{needed})", "cyan"
    if needed:
        yield "(the file opens only with these functions and classes)", "dim"
    if obstacle:
        yield f"(not in Keras 3, because of {show(obstacle)})", "yellow"
    elif not target.endswith(".keras"):
        yield "(in Keras 3 with compile=False)", "dim"


def output_name(source: str) -> str:
    """Suggest what to call the single model of a file or of a layer."""
    name = PurePath(source).name if remote(source) is None else base_name(source)
    stem = re.sub(r"(\.weights)?\.(h5|hdf5|keras|hdf)$", "", name, flags=re.IGNORECASE)
    plain = re.sub(r"[^\w.-]+", "_", stem).strip("._-")
    return f"{plain or 'model'}_single.h5"


def remedy_lines(
    remedies: Sequence[Remedy], invocation: Invocation, width: int | None, *, indent: str
) -> Iterator[Line]:
    """Write each remedy as a whole command, with its condition and the code to run first."""
    for remedy in remedies:
        if not invocation.accepts(remedy):
            continue
        helped = invocation.with_remedy(remedy)
        if helped == invocation and not remedy.code:
            continue
        yield Line(indent, (helped.line, "cyan"))
        if remedy.when:
            yield from _remark(f"if {show(remedy.when)}", width, indent)
        if remedy.code:
            yield from _remark(
                "after this in Python, where the model can be built, on any machine:", width, indent
            )
            yield Line(indent, _INDENT, (show(remedy.code), "cyan"))


def _remark(text: str, width: int | None, indent: str) -> Iterator[Line]:
    start = indent + _INDENT
    yield from wrapped(text, "", width, first=start, rest=start)


def failure_lines(error: RemapError, invocation: Invocation, *, width: int | None) -> Iterator[Line]:
    """Say what is wrong, where, and what to do; then commands, ready to paste.

    Args:
        error: The refusal.
        invocation: The command that was refused.
        width: Columns to fit into; file names, commands and code are not broken.
    """
    yield from labelled("Error: ", show(error.what), width, label_style="bold red", style="red")
    if error.where:
        yield from labelled("   in: ", show(_place(error, invocation)), width, label_style="bold")
    label = "  try: "
    if error.hint:
        yield from labelled(label, show(error.hint), width, label_style="bold")
        label = "   or: "
    for remedy in error.remedies:
        lines = list(remedy_lines([remedy], invocation, width, indent=" " * len(label)))
        if lines:
            yield Line((label, "bold"), *lines[0].spans[1:])
            yield from lines[1:]
            label = "   or: "


def _place(error: RemapError, invocation: Invocation) -> str:
    """Name the file as well where an error knows only the place in it."""
    inside = not isinstance(error, UsageRefused | OutputRefused)
    if not inside or any(show(name) in show(error.where) for name in invocation.files):
        return error.where
    return invocation.source if error.where == "/" else f"{error.where} in {invocation.source}"


def failure_json(error: RemapError, invocation: Invocation) -> dict[str, Any]:
    """Give a refusal as a JSON document; its `version` rises when a field changes its meaning."""
    return {
        "format": "h5remap-error",
        "version": 1,
        "kind": re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower(),
        "exit_code": error.exit_code,
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
        "remedies": [
            remedy.to_json()
            | {"command": invocation.with_remedy(remedy).line if invocation.accepts(remedy) else None}
            for remedy in error.remedies
        ],
    }
