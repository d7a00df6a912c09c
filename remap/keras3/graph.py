"""The connections of the layers in a functional model, and the order in which Keras 3 lists the layers.

Old files list the tensors of a call one by one, and count the calls of a nested model from 1, since building the
model was call 0 (`Container.get_config`, `Network.get_config`). Keras 3 (`serialize_node` and `get_config` in
keras/src/models/functional.py) writes the arguments of a call in their structure and counts calls from 0, except
in a functional model's `output_layers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from remap.architecture import Layer
from remap.errors import InputRefused, RemapError, Remedy, Undecided
from remap.keras3.operations import operation_of
from remap.typed_json import Json, Value

__all__ = ["Call", "Graph", "Tensor", "broken_graph", "layer_order", "makes_mask", "read_graph"]

Tensor = tuple[str, int, int]
"""(layer, which of its calls, which of the call's outputs)."""
Call = tuple[Tensor, ...]
"""The tensors that one call of a layer takes; none for an input."""

# How many operations Keras 3 may need to compute a mask; the number depends on its version.
_DELAYS = range(1, 9)
_MOST_OUTPUTS = 1_000_000

_Node = tuple[str, int]


def broken_graph(what: str, *, where: str) -> InputRefused:
    """Refuse connections that are not all there.

    Args:
        what: What is missing.
        where: The model or the place in the file.
    """
    weights = Remedy(
        option="target", value=".h5", when="the weights suffice: load_weights needs no connections"
    )
    return InputRefused(
        what,
        where=where,
        hint="old Keras writes such connections when layers are renamed after their model was built",
        remedies=(weights,),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The connections of a model's layers under their names in Keras 3.

    Attributes:
        place: The model, for messages.
        calls: For each layer, the tensors that each of its calls takes.
        nodes: The same as `inbound_nodes` in config.json.
        in_order: The calls (layer, number of the call) in topological order.
        inputs: The input tensors of the model.
        outputs: The output tensors of the model.
        models: The layers that are functional models.
        masking: The layers that make a mask.
    """

    place: str
    calls: Mapping[str, tuple[Call, ...]]
    nodes: Mapping[str, list[dict[str, Json]]]
    in_order: tuple[tuple[str, int], ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    models: frozenset[str]
    masking: frozenset[str]

    def order(self, kinds: Mapping[str, str]) -> tuple[list[str], tuple[RemapError, ...]]:
        """List the layers in the order of Keras 3.

        The operations by which Keras 3 computes a mask count as layers for this order, and how many there are
        depends on its version. That matters for layers before the one that makes the mask.

        Args:
            kinds: The classes of the layers that have weights; the order of others does not matter.

        Returns:
            The names, and a problem where the order depends on the version of Keras 3.
        """
        order = layer_order(self.calls, self.inputs, self.outputs)
        for steps in _DELAYS if self.masking else ():
            delayed = layer_order(
                self.calls, self.inputs, self.outputs, delays=dict.fromkeys(self.masking, steps)
            )
            if _by_kind(delayed, kinds) != _by_kind(order, kinds):
                problem = Undecided(
                    "the order of layers of one class depends on the version of Keras 3, since a mask is computed "
                    "from the output of one of them",
                    where=self.place,
                )
                return order, (problem,)
        return order, ()

    def ends(self, tensors: Sequence[Tensor]) -> list[Json]:
        """Write `input_layers` or `output_layers`."""
        ends = [[name, call + (name in self.models), tensor] for name, call, tensor in tensors]
        return ends[0] if len(ends) == 1 else ends


def read_graph(model: Layer, names: Sequence[str], before: Sequence[dict[str, Json] | None]) -> Graph:
    """Read the connections of a functional model.

    Args:
        model: The model.
        names: The names of its layers in Keras 3.
        before: For each layer, the entry of a layer that has to be inserted before it, or None.

    Raises:
        InputRefused: A connection leads to nothing or in a circle, or is not in a form of Keras 2 or tf.keras.
    """
    place = f"model {model.name!r}"
    children = model.children or ()
    reader = _Reader(model, dict(zip((child.name for child in children), names, strict=True)))
    calls: dict[str, tuple[Call, ...]] = {}
    nodes: dict[str, list[dict[str, Json]]] = {}
    for child, name, extra in zip(children, names, before, strict=True):
        read = [reader.call(child, call) for call in child.calls]
        if extra is not None:
            front = extra["config"]["name"]
            calls[front] = tuple(tensors for tensors, _ in read)
            nodes[front] = [node for _, node in read]
            read = [
                (((front, number, 0),), _node([_written((front, number, 0))], {}))
                for number in range(len(read))
            ]
        calls[name] = tuple(tensors for tensors, _ in read) or ((),)
        nodes[name] = [node for _, node in read]
    return Graph(
        place=place,
        calls=calls,
        nodes=nodes,
        in_order=tuple(_in_order(calls, place)),
        inputs=tuple(reader.tensor(*end) for end in model.inputs),
        outputs=tuple(reader.tensor(*end) for end in model.outputs),
        models=frozenset(
            name
            for child, name in zip(children, names, strict=True)
            if child.children is not None and not child.sequential
        ),
        masking=frozenset(
            name for child, name in zip(children, names, strict=True) if any(map(makes_mask, child.walk()))
        ),
    )


def _in_order(calls: Mapping[str, Sequence[Call]], place: str) -> list[tuple[str, int]]:
    """List the calls of layers, each after those that it takes a tensor of."""
    needs = {
        (name, call): {(above, number) for above, number, _ in taken}
        for name, listed in calls.items()
        for call, taken in enumerate(listed)
    }
    waiting = {node: len(above) for node, above in needs.items()}
    leads_to: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for node, above in needs.items():
        for one in above:
            leads_to.setdefault(one, []).append(node)
    order = [node for node, number in waiting.items() if not number]
    for node in order:
        for following in leads_to.get(node, ()):
            waiting[following] -= 1
            if not waiting[following]:
                order.append(following)
    if len(order) < len(needs):
        raise InputRefused("the layers are connected in a circle", where=place)
    return order


def makes_mask(layer: Layer) -> bool:
    """Tell whether a layer makes a mask of its input; a custom class may if it has an argument for that."""
    config, declared = layer.config, layer.declared
    if declared is not None and declared.masks is not None:
        return declared.makes_mask(config)
    asks = config.given("mask_zero") and not config.holds("mask_zero", False)
    return layer.children is None and (asks or config.given("mask_value"))


class _Reader:
    def __init__(self, model: Layer, renamed: Mapping[str, str]) -> None:
        self._place = f"model {model.name!r}"
        self._renamed = renamed
        # Old Keras does not write the calls of a layer that was renamed after its model was built.
        self._counts = {
            child.name: 1 if child.is_input else len(child.nodes) for child in model.children or ()
        }
        used: dict[str, set[int]] = {}
        for name, call, _ in _references(model):
            used.setdefault(name, set()).add(call)
        self._first = {
            child.name: self._first_call(child, used.get(child.name, set()))
            for child in model.children or ()
            if child.children is not None
        }

    def call(self, layer: Layer, stored: Value) -> tuple[Call, dict[str, Json]]:
        """Read a call: the tensors that it takes, and the call in the form of Keras 3.

        tf.keras from 2.2 writes a call on a dictionary of tensors as an object; the order is that of sorted keys.
        """
        keys = sorted(stored.object().keys()) if stored.kind == "object" else []
        items = [stored.object().value(key) for key in keys] if keys else stored.values()
        taken = [_tensor_in(item) for item in items]
        tensors = [self.tensor(*one) for one in taken if one is not None]
        if not tensors or len(tensors) < len(taken):
            raise broken_graph(
                f"a call of layer {layer.name!r} in a form that neither Keras 2 nor tf.keras writes",
                where=stored.where,
            )
        more: list[Tensor] = []
        first = items[0].values()
        given = first[3].object() if len(first) > 3 and first[3].kind != "null" else None
        keywords = {
            key: self._argument(value, more)
            for key, value in (() if given is None else given.items())
            if value.kind != "null"
        }
        if "constants" in keywords:
            raise InputRefused(
                f"constants given to layer {layer.name!r}, which Keras 3 does not take", where=self._place
            )
        positional: list[Json] = [_written(tensor) for tensor in tensors]
        operation = operation_of(layer)
        if operation is not None:
            arguments = operation.arguments(positional)
            if arguments is None:
                raise broken_graph(
                    f"layer {layer.name!r} is called on {len(tensors)} tensors", where=stored.where
                )
            positional = arguments
        elif keys:
            positional = [dict(zip(keys, positional, strict=True))]
        elif layer.declared is not None and layer.declared.takes_state and len(positional) > 1:
            keywords["initial_state"] = positional[1:]
            positional = positional[:1]
        elif (layer.declared is not None and layer.declared.takes_list) or len(positional) > 1:
            positional = [positional]
        known = set(tensors)
        return (*tensors, *(tensor for tensor in more if tensor not in known)), _node(positional, keywords)

    def tensor(self, name: str, call: int, index: int) -> Tensor:
        """Find a tensor by its new name and the number of its call from 0."""
        if name not in self._counts:
            raise broken_graph(f"a connection to layer {name!r}, which is not there", where=self._place)
        call -= self._first.get(name, 0)
        if not 0 <= index <= _MOST_OUTPUTS:
            raise InputRefused(
                f"a connection to output {index} of layer {name!r}, which is not there", where=self._place
            )
        if not 0 <= call < self._counts[name]:
            raise broken_graph(
                f"a connection to call {call} of layer {name!r}, which is not there", where=self._place
            )
        return self._renamed[name], call, index

    def _argument(self, value: Value, found: list[Tensor]) -> Json:
        """Write a keyword argument, and collect the tensors in it."""
        named = _tensor_in(value)
        if named is not None and named[0] in self._counts:
            tensor = self.tensor(*named)
            found.append(tensor)
            return _written(tensor)
        if value.kind == "list":
            return [self._argument(item, found) for item in value.values()]
        return value.json()

    def _first_call(self, model: Layer, used: set[int]) -> int:
        """Tell whether the calls of a nested model are counted from 1 or from 0, as every call is used."""
        count = len(model.nodes)
        if count in used and 0 not in used:
            return 1
        if 0 in used and count not in used:
            return 0
        raise broken_graph(
            f"the calls of {model.name!r} are counted neither from 0 nor from 1", where=self._place
        )


def _by_kind(order: Sequence[str], kinds: Mapping[str, str]) -> dict[str, list[str]]:
    listed: dict[str, list[str]] = {}
    for name in order:
        if name in kinds:
            listed.setdefault(kinds[name], []).append(name)
    return listed


def _references(model: Layer) -> Iterator[Tensor]:
    yield from model.outputs
    for child in model.children or ():
        for node in child.nodes:
            yield from node


def _tensor_in(value: Value) -> tuple[str, int, int] | None:
    """Read a tensor as old Keras writes it: layer, call, output, and perhaps keyword arguments."""
    if value.kind != "list":
        return None
    parts = value.values()
    if len(parts) not in {3, 4} or [part.kind for part in parts[:3]] != ["text", "integer", "integer"]:
        return None
    return parts[0].text(), parts[1].integer(), parts[2].integer()


def _written(tensor: Tensor) -> dict[str, Json]:
    """Write a tensor; Keras 3 takes its shape and dtype from the layer and does not read them here."""
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [], "dtype": "float32", "keras_history": list(tensor)},
    }


def _node(positional: list[Json], keywords: Mapping[str, Json]) -> dict[str, Json]:
    return {"args": positional, "kwargs": dict(keywords)}


@dataclass(slots=True)
class _Visit:
    node: _Node
    pending: Iterator[_Node]


def layer_order(
    calls: Mapping[str, Sequence[Call]],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    delays: Mapping[str, int] | None = None,
) -> list[str]:
    """List the layers in the order of `map_graph` in keras/src/ops/function.py.

    Layers with the most calls between them and the outputs come first; layers of equal depth are in the order in
    which a depth-first search from the outputs finds them. Layers from which no output depends are left out, except
    inputs.

    Args:
        calls: For each layer, the tensors that each of its calls takes.
        inputs: The input tensors of the model.
        outputs: The output tensors of the model.
        delays: For some layers, how many operations have to be counted between the layer and its inputs.
    """
    delays = delays or {}
    nodes, met = _walk(calls, outputs)
    node_depth: dict[_Node, int] = {}
    depth: dict[str, int] = {}
    for node in reversed(nodes):
        deep = max(node_depth.get(node, 0), depth.get(node[0], 0))
        node_depth[node] = depth[node[0]] = deep
        further = deep + 1 + delays.get(node[0], 0)
        for parent in _parents(calls, node):
            node_depth[parent] = max(further, node_depth.get(parent, 0))
    for name, _, _ in inputs:
        if name not in depth:
            depth[name], met[name] = 0, -1
    return sorted(depth, key=lambda name: (-depth[name], met[name]))


def _walk(
    calls: Mapping[str, Sequence[Call]], outputs: Sequence[Tensor]
) -> tuple[list[_Node], dict[str, int]]:
    """Search from the outputs: give the calls in topological order, and the position at which each layer was found."""
    done: set[_Node] = set()
    ordered: list[_Node] = []
    met: dict[str, int] = {}
    for name, call, _ in outputs:
        stack: list[_Visit] = []
        _enter((name, call), calls, stack, done, met)
        while stack:
            following = next(stack[-1].pending, None)
            if following is None:
                ordered.append(stack.pop().node)
            else:
                _enter(following, calls, stack, done, met)
    return ordered, met


def _enter(
    node: _Node,
    calls: Mapping[str, Sequence[Call]],
    stack: list[_Visit],
    done: set[_Node],
    met: dict[str, int],
) -> None:
    if node in done:
        return
    done.add(node)
    met.setdefault(node[0], len(met))
    stack.append(_Visit(node, _parents(calls, node)))


def _parents(calls: Mapping[str, Sequence[Call]], node: _Node) -> Iterator[_Node]:
    name, call = node
    return ((above, number) for above, number, _ in calls[name][call])
