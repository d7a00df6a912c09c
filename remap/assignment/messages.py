"""What Keras says where weights in its HDF5 format do not load, release by release."""

from __future__ import annotations

from collections.abc import Iterator

from remap.assignment.loading import FileLayer, Loading, ModelLayer
from remap.layers.weights import Shape, Slot

__all__ = ["messages", "misfits"]


def messages(loading: Loading, *, by_name: bool) -> tuple[str, ...]:
    """Give the messages of Keras up to 2.6, of Keras since 2.7 and, if it differs, of Keras 3.

    Each reports only what it finds first: by order all but Keras 3 count the weights of every layer before they compare a
    shape.
    """
    if loading.complaint:
        saved = sum(1 for step in loading.steps if step.saved is not None)
        expected = sum(1 for step in loading.steps if step.expected is not None)
        today = (
            "Layer count mismatch when loading weights from file. "
            f"Model expected {expected} layers, found {saved} saved layers."
        )
        return loading.complaint, today
    refused = [
        (step.expected, step.saved, step.complaint)
        for step in loading.steps
        if step.expected and step.saved and step.complaint
    ]
    if not refused:
        return ()
    first = refused[0]
    earlier = first
    if not by_name:
        earlier = next((pair for pair in refused if _miscounted(*pair[:2]) or _transposed(*pair[:2])), first)
    old = "axes don't match array" if _transposed(*earlier[:2]) else earlier[2]
    pairs = (earlier,) if earlier is first else (earlier, first)
    return old, *(_words_since_2_7(*pair, by_name=by_name) for pair in pairs)


def _miscounted(want: ModelLayer, have: FileLayer) -> bool:
    return len(want.shapes or ()) != len(have.shapes)


def _transposed(want: ModelLayer, have: FileLayer) -> bool:
    """Tell whether Keras 2 would transpose something that is no kernel of a convolution.

    It does so before it compares shapes (`preprocess_weights_for_loading`).
    """
    return not _miscounted(want, have) and any(
        len(sides) == 4 != len(found) for sides, found in misfits(want, have)
    )


def _words_since_2_7(want: ModelLayer, have: FileLayer, complaint: str, *, by_name: bool) -> str:
    number = complaint.partition("#")[2].partition(" ")[0]
    if _miscounted(want, have):
        named = want.name if by_name else f"{want.name} in the current model, {have.name} in the save file"
        return (
            f"Weight count mismatch for layer #{number} (named {named}). Layer expects "
            f"{len(want.shapes or ())} weight(s). Received {len(have.shapes)} saved weight(s)"
        )
    sides, found = next(misfits(want, have))
    shown = ", ".join("?" if side is None else str(side) for side in sides)
    return (
        f"Shape mismatch in layer #{number} (named {want.name}). Weight expects shape "
        f"({shown}{',' if len(sides) == 1 else ''}). Received saved weight with shape {found}"
    )


def misfits(want: ModelLayer, have: FileLayer) -> Iterator[tuple[Shape, tuple[int, ...]]]:
    """List the shapes that a layer expects and that the file has, where they differ."""
    for sides, found in zip(want.shapes or (), have.shapes, strict=False):
        if sides is not None and not Slot("", sides).fits(found):
            yield sides, found
