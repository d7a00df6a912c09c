"""In which order Keras 3 lists the layers of a functional model: its files number the layers by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Call", "Tensor", "layer_order"]

Tensor = tuple[str, int, int]
"""(layer, which of its calls, which of the call's outputs)."""
Call = tuple[Tensor, ...]
"""The tensors that one call of a layer takes; none for an input."""

_Node = tuple[str, int]


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
    """List the layers as `map_graph` in keras/src/ops/function.py does.

    Deepest first, counted in calls between a layer and the outputs; layers of equal depth as a depth-first
    walk from the outputs meets them. `delays` says how many steps further from the outputs the inputs of a
    layer count than its calls show. Layers that lead to no output are left out, inputs excepted.
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
    """Walk from the outputs to the inputs: the calls, each after those it needs, and when each layer was met."""
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
