"""Classes and functions that config.json names and Keras 3 does not have: what `custom_objects` must give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, count
from typing import Any

from remap.keras3.objects import BUILT_IN_NAMES
from remap.layers import CATALOGUE
from remap.typed_json import Json

__all__ = ["custom_object_names", "name_lambda_functions"]

_MOST_NAMES = 3


def custom_object_names(model: Mapping[str, Any]) -> tuple[str, ...]:
    """List the keys that `custom_objects` must have for `load_model`, in the order of config.json.

    Args:
        model: What config.json holds.
    """
    found: dict[str, None] = {}
    for item in _walk(model):
        if "module" in item and item["module"] is None:
            key = item.get("config") if item.get("class_name") == "function" else item.get("registered_name")
            if isinstance(key, str):
                found[key] = None
    return tuple(found)


def name_lambda_functions(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the functions of all Lambda layers different names for `custom_objects`.

    A function is called what its layer wrote, unless that is the name of another layer's function or a text
    elsewhere in config.json: Keras 3 may look up any text there in `custom_objects`, an activation for one.

    Args:
        model: What config.json holds. The functions' names in it are replaced.

    Returns:
        One note for each Lambda layer: where it stands, what it takes, and the argument for `load_model`.
    """
    found = list(_lambdas(model, _Position()))
    if not found:
        return ()
    layers = [layer for layer, _ in found]
    taken = _texts(model, {id(layer["function"]) for layer in layers}) | BUILT_IN_NAMES
    notes = []
    for layer, position in found:
        wanted = layer["function"]["config"]
        candidates = chain([wanted, f"{wanted}_function"], (f"{wanted}_function_{i}" for i in count(1)))
        name = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(name)
        layer["function"]["config"] = name
        notes.append(
            f"layer {layer['name']!r} (Lambda){position}: its function is not in the file; write it again as a "
            f"function of {_signature(layer['arguments'])}, and give it to load_model as "
            f"custom_objects={{{name!r}: ...}}"
        )
    return tuple(notes)


class _Neighbors:
    """The layers before and after each layer of a model, found once they are asked for."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    @cached_property
    def listed(self) -> list[tuple[list[str], list[str]]]:
        """Give the names before and after each layer, in the order of layers."""
        layers = self._config["layers"]
        return list(_connections(layers) if "input_layers" in self._config else _chain(layers))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Position:
    """Where a layer stands: the models and wrappers that hold it, its number in the innermost model, and its neighbors."""

    inside: tuple[str, ...] = ()
    number: int = 0
    neighbors: _Neighbors | None = None

    def __str__(self) -> str:
        before, after = self.neighbors.listed[self.number] if self.neighbors is not None else ([], [])
        parts = [f"after {_listed(before)}"] if before else []
        if after:
            parts.append(f"before {_listed(after)}")
        if len(self.inside) > 1:  # the first is the whole model
            parts.append("inside " + " / ".join(map(repr, self.inside[1:])))
        return "".join(f", {part}" for part in parts)


def _listed(names: Sequence[str]) -> str:
    shown = [repr(name) for name in names[:_MOST_NAMES]]
    if len(names) > _MOST_NAMES:
        shown.append(f"{len(names) - _MOST_NAMES} more")
    return " and ".join(shown)


def _signature(arguments: Mapping[str, Json]) -> str:
    shown = ", ".join(["inputs", *arguments])
    return f"({shown})"


def _lambdas(entry: Mapping[str, Any], position: _Position) -> Iterator[tuple[dict[str, Any], _Position]]:
    """Find the configs of Lambda layers in a model, in models inside it and in wrappers."""
    if not entry["module"]:
        return  # of the user's own: what its config holds is not known
    config = entry["config"]
    inside = (*position.inside, config["name"])
    declared = CATALOGUE.get(entry["class_name"])
    if declared is not None and declared.calls_function:
        yield config, position
    elif "layers" in config:
        neighbors = _Neighbors(config)
        for number, child in enumerate(config["layers"]):
            yield from _lambdas(child, _Position(inside=inside, number=number, neighbors=neighbors))
    elif isinstance(config.get("layer"), dict):
        yield from _lambdas(config["layer"], replace(position, inside=inside))


def _chain(layers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[list[str], list[str]]]:
    """Give the layers before and after each layer of a Sequential; a custom class need not have a name in its config."""
    names = [layer["config"].get("name", layer["class_name"]) for layer in layers]
    for place in range(len(names)):
        yield names[max(place - 1, 0) : place], names[place + 1 : place + 2]


def _connections(layers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[list[str], list[str]]]:
    """Give the layers before and after each layer of a functional model."""
    before: dict[str, dict[str, None]] = {layer["name"]: {} for layer in layers}
    after: dict[str, dict[str, None]] = {layer["name"]: {} for layer in layers}
    for layer in layers:
        for item in _walk(layer["inbound_nodes"]):
            if item.get("class_name") == "__keras_tensor__":
                above = item["config"]["keras_history"][0]
                before[layer["name"]][above] = None
                after[above][layer["name"]] = None
    for layer in layers:
        yield list(before[layer["name"]]), list(after[layer["name"]])


def _texts(model: Mapping[str, Any], functions: set[int]) -> set[str]:
    """Collect the texts of config.json that Keras 3 may look up in `custom_objects`.

    These are all but the names of layers, and the functions of Lambda layers (dictionaries, by their `id`).
    """
    found: set[str] = set()
    pending: list[Any] = [model]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            found.add(item)
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict) and id(item) not in functions and "keras_history" not in item:
            names: tuple[str, ...] = ("name",) if "class_name" in item else ()
            described = item.get("config") if "class_name" in item else None
            if isinstance(described, dict):
                own = {"name", "input_layers", "output_layers"} if "layers" in described else {"name"}
                pending.append({key: value for key, value in described.items() if key not in own})
                names = ("name", "config")
            pending.extend(value for key, value in item.items() if key not in names)
    return found


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in a part of JSON, itself among them."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(reversed(item.values()))
        elif isinstance(item, list):
            pending.extend(reversed(item))
