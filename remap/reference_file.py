"""Read a reference model from a file: JSON, a Keras .h5 or a .keras archive, recognized by its content."""

from __future__ import annotations

import codecs
import os
import re
from contextlib import closing
from typing import TYPE_CHECKING

from remap.assignment.reference import Reference, reference_from_checkpoint, reference_from_json
from remap.errors import InputRefused, Remedy
from remap.hdf5.identify import show
from remap.urls import masked, url_in
from remap.weight_names import split_number

if TYPE_CHECKING:
    from remap.assignment.class_order import ClassOrder
    from remap.hdf5.keras3_reader import OpenedKeras3
    from remap.hdf5.source import Source
    from remap.stock.choice import StockModel

__all__ = ["names_network", "read_reference", "reference_in"]

# The largest architecture known (NASNetLarge) takes 0.4 MB of JSON.
_LARGEST_JSON = 64 * 1024 * 1024
_HEAD = 4096  # bytes
# `to_yaml` of Keras up to TensorFlow 2.5: the keys of a model's description, in the order of the alphabet.
_YAML = re.compile(
    rb"(%[^\n]*\n|---\s*|#[^\n]*\n)*(backend|class_name|config|keras_version|!!python\S*)\s*[:{\n]"
)
# What Windows puts before text, and PowerShell before all that `>` writes.
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Where the weights of a layer stand in a weights file of Keras 3, if no nested model or custom layer is around them.
_INSIDE = re.compile(r"layers/[^/]+(/layer|/(forward|backward)_layer)*(/cell)?")
_KERAS = "give model.to_json(), a Keras .h5 or a .keras file of the single model"


def read_reference(path: str | os.PathLike[str]) -> Reference | StockModel | ClassOrder:
    """Read a reference model.

    Args:
        path: JSON of `model.to_json()`, a Keras .h5 file, a .keras archive or a weights file of Keras 3; where no such file
            is, the name of a network of `keras.applications` with its options.

    Returns:
        The reference model; or the network, of which the checkpoint decides which release's architecture it has; or the
        order of each class of layers, which may settle a checkpoint or not.

    Raises:
        InputRefused: If the file is missing, none of these or damaged, or cannot be read.
        Undecided: If it does not describe a single model.
        UsageRefused: If a network has no such options.
    """
    from remap.hdf5.source import Source

    name = os.fsdecode(path)
    if url_in(name) is None and not os.path.lexists(name):
        from remap.stock.choice import read_stock

        stock = read_stock(name)
        if stock is None:
            raise _missing(name)
        return stock
    with closing(Source.open(path)) as source:
        return reference_in(source, masked(name))


def reference_in(source: Source, name: str) -> Reference | ClassOrder:
    """Read a reference model from a file that is open; raises as `read_reference` does."""
    from remap.hdf5.identify import SIGNATURE
    from remap.hdf5.reader import read_source

    head = _bytes(source, min(source.size, _HEAD))
    if head.startswith(b"PK"):
        return reference_from_json(_archived(source), where=f"{name}, config.json")
    if _is_json(head):
        content = _bytes(source, min(source.size, _LARGEST_JSON + 1))
        return reference_from_json(_decoded(content, name), where=name)
    if _YAML.match(head):
        raise InputRefused(
            "the reference model is YAML, and JSON of the same model is needed",
            where=show(name),
            hint="write JSON with the Keras that wrote the YAML",
            remedies=(_from_yaml(name),),
        )
    try:
        checkpoint = read_source(source).checkpoint
    except InputRefused:
        from remap.hdf5.keras3_reader import is_keras3, read_keras3

        if not (head.startswith(SIGNATURE) and is_keras3(source)):
            raise
        with read_keras3(source) as opened:
            return _class_order(opened, show(name))
    return reference_from_checkpoint(checkpoint, where=name)


def _class_order(opened: OpenedKeras3, where: str) -> ClassOrder:
    """List the layers of a weights file of Keras 3.

    The weights of a recurrent layer are those of its cell, those of a TimeDistributed the wrapped layer's, and those of a
    Bidirectional belong to two recurrent layers. Layers with other objects inside are nested models or custom layers.

    Raises:
        Undecided: If there is such a layer.
    """
    from remap.assignment.class_order import ClassOrder, ToldLayer, order_not_told

    shapes: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for one in sorted(opened.weighted, key=lambda one: "backward_layer" in one.path):
        if not _INSIDE.fullmatch("/".join(one.path)):
            raise order_not_told(where)
        shapes.setdefault(one.path[:2], []).extend(variable.shape for variable in one.variables)
    names = {one.path: one.name for one in opened.objects}
    layers = (
        ToldLayer(kind=split_number(path[1], "_")[0], name=names.get(path), shapes=tuple(shapes[path]))
        for path in dict.fromkeys(one.path[:2] for one in opened.objects)
        if path in shapes
    )
    return ClassOrder(where=where, layers=tuple(layers))


def names_network(path: str | os.PathLike[str]) -> bool:
    """Tell whether what stands for a reference model is the name of a network, and not that of a file that is there."""
    if os.path.lexists(path):
        return False
    from remap.stock.network import parse  # not needed for a file that is there

    return parse(os.fsdecode(path)) is not None


def _missing(name: str) -> InputRefused:
    """Say how to write a reference model that is not there: under the name that was given if that tells a format."""
    written = name
    if name.endswith((".h5", ".hdf5")):
        write = f"model.save_weights({name!r})"
    elif name.endswith(".keras"):
        write = f"model.save({name!r})"
    else:
        written = name if name.endswith(".json") else "model.json"
        write = f"open({written!r}, 'w').write(model.to_json())"
    return InputRefused(
        "there is no such reference model",
        where=show(name),
        hint=f"check the path{_or_network(name)}",
        remedies=(Remedy(option="like", value=written, code=write),),
    )


def _or_network(name: str) -> str:
    """Name the networks of `keras.applications` that are called nearly so."""
    from remap.stock.network import near_names

    found = near_names(name)
    return f", or give a network of keras.applications by its name: {' or '.join(found)}" if found else ""


def _from_yaml(name: str) -> Remedy:
    code = f"keras.models.model_from_yaml(open({name!r}).read()).to_json()"
    return Remedy(option="like", value="model.json", code=f"open('model.json', 'w').write({code})")


def _bytes(source: Source, size: int) -> bytes:
    data = bytearray(size)
    source.read_into(memoryview(data), 0)
    return bytes(data)


def _is_json(head: bytes) -> bool:
    text = head.decode(_encoding(head), "replace").lstrip()
    return text.startswith(("{", "["))


def _encoding(data: bytes) -> str:
    return next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")


def _archived(source: Source) -> str:
    """Read the `config.json` of a .keras archive, and no other member."""
    from remap.hdf5.archive_reader import ArchiveReader  # imports what most reference models do not need

    with ArchiveReader(source, hint=_KERAS) as archive:
        content = archive.read("config.json", largest=_LARGEST_JSON)
    return _decoded(content, f"{source.name}, config.json")


def _too_large(where: str) -> InputRefused:
    return InputRefused("the JSON is larger than any model's", where=where)


def _decoded(data: bytes, where: str) -> str:
    if len(data) > _LARGEST_JSON:
        raise _too_large(where)
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        name = "UTF-16" if error.encoding.startswith("utf-16") else "UTF-8"
        raise InputRefused(f"the JSON is not {name} text", where=where) from None
