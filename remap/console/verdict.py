"""What `check` shows: a table of layers and Keras's own words."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from remap.checking import Check
from remap.console.words import count, shape
from remap.hdf5.identify import show
from remap.keras.loading import LoadedLayer, Loading

__all__ = ["check_lines"]


def check_lines(check: Check) -> Iterator[Text]:
    """Lay out a check: the verdict, the layers in the order of loading, by name in short, warnings."""
    if check.loads:
        pairs = sum(1 for step in check.by_order.steps if step.saved and step.expected)
        yield Text(f"Loads: load_weights takes all {count(pairs, 'layer')}", style="bold green")
    else:
        yield Text(f"Does not load: {show(_complaint(check.by_order))}", style="bold red")
    yield Text("")
    yield from _table(check.by_order)
    yield Text("")
    yield _by_name(check.by_name)
    for warning in check.warnings:
        yield Text(f"Warning: {show(warning)}", style="yellow")


def _complaint(loading: Loading) -> str:
    return loading.complaint or next(step.complaint for step in loading.steps if step.complaint)


def _by_name(loading: Loading) -> Text:
    pairs = sum(1 for step in loading.steps if step.saved and step.expected)
    wanted = sum(1 for step in loading.steps if step.expected)
    if not loading.loads:
        return Text(f"With by_name=True it does not load: {show(_complaint(loading))}")
    if pairs < wanted:
        return Text(
            f"With by_name=True Keras loads {pairs:,} of {wanted:,} layers and passes over the rest silently"
        )
    return Text(f"With by_name=True it loads too: all {count(pairs, 'layer')}")


def _table(loading: Loading) -> Iterator[Text]:
    rows = [("model", "file", "weights", "")]
    rows += [_row(step) for step in loading.steps]
    columns = [max(cell_len(row[index]) for row in rows) for index in range(3)]
    for number, row in enumerate(rows):
        cells = [cell + " " * (columns[index] - cell_len(cell)) for index, cell in enumerate(row[:3])]
        line = Text("  ".join(cells), style="bold" if not number else "")
        line.append("  " + row[3], style="red" if row[3] not in ("", "ok") else "green")
        line.rstrip()
        yield line


def _row(step: LoadedLayer) -> tuple[str, str, str, str]:
    want, have = step.expected, step.saved
    shapes = have.shapes if have is not None else (want.shapes or ()) if want is not None else ()
    weights = " ".join("?" if dims is None else shape(dims) for dims in shapes)
    verdict = "ok"
    if step.complaint:
        verdict = "does not fit"
    elif have is None:
        verdict = "missing in the file"
    elif want is None:
        verdict = "extra in the file"
    return (show(want.name) if want else "", show(have.name) if have else "", weights, verdict)
