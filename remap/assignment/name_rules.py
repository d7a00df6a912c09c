"""The rules by which the names of weights tell the layers that may own them.

Each rule gives for every weight of a list the layers that its name allows; no layer if the name does not tell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from remap.assignment.expected import ExpectedLayer
from remap.assignment.reading import Candidates, Problem
from remap.weight_names import family, layer_scope, runs, slotless, split_number

__all__ = [
    "by_counter",
    "by_inner_rank",
    "by_listed_name",
    "by_rank",
    "by_scope",
    "by_scope_or_suffix",
    "by_suffix",
]

_MOST_COUNTERS = 4
"""Counters that are split off a scope: no program builds a model so often that each time adds one."""


def by_listed_name(problem: Problem) -> Candidates:
    """Match the layer for which the reference file lists a weight of the same name."""
    owners: dict[str, set[int]] = defaultdict(set)
    for index, layer in enumerate(problem.layers):
        for name in layer.names:
            owners[slotless(name)].add(index)
    return tuple(frozenset(owners.get(name.partition(":")[0], ())) for name in problem.names)


def by_scope(problem: Problem) -> Candidates:
    """Match the layer whose name the scope has."""
    return _candidates(problem, lambda run, _: (run,))


def by_suffix(problem: Problem) -> Candidates:
    """Match the layer whose name is that of the scope without a counter.

    TensorFlow 1 adds a counter to a scope that is opened twice: after `cpu_relocation`, a second build or a second
    `load_model` in one session the weights of ``fc1`` are in ``fc1_1``, and those of another ``fc1`` in ``fc1_1_1``.
    """
    return _candidates(problem, _without_suffix)


def by_scope_or_suffix(problem: Problem) -> Candidates:
    """Match either: for a file of which only a part was built twice.

    Where the name of a layer is ``dense_1``, ``dense_4`` is not taken for a second ``dense``: another session numbers its
    automatic names on.
    """
    keys = {key for layer in problem.layers for key in layer.keys}
    named = (next((run for run in runs(path) if run in keys), None) for path in set(problem.scopes) if path)
    kins = {family(run)[0] for run in named if run is not None}
    return _candidates(
        problem, lambda run, known: (run, *(() if family(run)[0] in kins else _without_suffix(run, known)))
    )


def by_rank(problem: Problem) -> Candidates:
    """Match the layer that has the same rank among the automatic names of its class as the scope.

    ``dense_4, dense_5`` of one session are ``dense, dense_1`` of another (tf.keras starts without a number). A class of
    which one side has more layers than the other does not count. Nor does a custom class, of which other layers may have
    weights than in the file.
    """
    return _ranked(problem, [path.partition("/")[0] for path in problem.scopes], lambda key: key)


def by_inner_rank(problem: Problem) -> Candidates:
    """Match the layer of the same rank by the ends of scopes: ``tower/dense_4`` has the rank of ``dense_4``.

    Where two scopes have the same end, the ends do not tell.
    """
    scopes = [layer_scope(name) for name in problem.names]
    keys = {key for layer in problem.layers if not layer.custom for key in layer.keys}
    if any(len(set(map(_end, paths))) < len(paths) for paths in (set(scopes), keys)):
        return tuple(frozenset() for _ in scopes)
    return _ranked(problem, list(map(_end, scopes)), _end)


def by_counter(problem: Problem) -> Candidates:
    """Match the layer of the same rank among those of one name: ``fc`` and ``fc_1`` are ``fc`` of the first and second one.

    TensorFlow 1 counts a scope that is opened again, and a model is built before the one behind it. A whole model that is
    built again adds another counter to each scope: ``fc_1`` and ``fc_1_1``. A scope around all of them does not count:
    ``tower/fc`` and ``tower/fc_1``. A name that fewer or more layers have than scopes does not tell; nor does anything if
    no two layers have one name.
    """
    ours: dict[str, list[int]] = defaultdict(list)
    for index, layer in enumerate(problem.layers):
        for key in layer.keys:
            ours[key].append(index)
    twins: dict[tuple[str, str], list[tuple[tuple[int, ...], str]]] = defaultdict(list)
    for path in dict.fromkeys(problem.scopes):
        around = ""
        bare, counters = _counted(path, ours)
        if bare not in ours:
            around, _, end = path.rpartition("/")
            bare, counters = _counted(end, ours)
        if len(ours.get(bare, ())) > 1:
            twins[around, bare].append((counters, path))
    if not twins:
        return tuple(frozenset() for _ in problem.scopes)
    owners = {
        path: frozenset((owner,)) if len(counted) == len(ours[bare]) else frozenset()
        for (_, bare), counted in twins.items()
        for (_, path), owner in zip(sorted(counted), ours[bare], strict=False)
    }
    others = by_scope_or_suffix(problem)
    return tuple(owners.get(path, others[index]) for index, path in enumerate(problem.scopes))


def _counted(path: str, known: Collection[str]) -> tuple[str, tuple[int, ...]]:
    """Split the counters off a scope until a known name is left."""
    bare = path
    counters: tuple[int, ...] = ()
    for _ in range(_MOST_COUNTERS):
        shorter, number = ("", "") if bare in known else split_number(bare, "_")
        if not number:
            break
        bare, counters = shorter, (int(number), *counters)
    return bare, counters


def _end(path: str) -> str:
    return path.rpartition("/")[2]


def _ranked(problem: Problem, heads: Sequence[str], named: Callable[[str], str]) -> Candidates:
    theirs = _ranks({head for head in heads if head})
    ours = _ranks({named(key) for layer in problem.layers if not layer.custom for key in layer.keys})
    sizes: dict[str, int] = defaultdict(int)
    for kind, _ in ours.values():
        sizes[kind] += 1
    owners: dict[tuple[str, int], set[int]] = defaultdict(set)
    for index, layer in enumerate(problem.layers):
        for key in () if layer.custom else layer.keys:
            owners[ours[named(key)]].add(index)
    counts: dict[str, int] = defaultdict(int)
    for kind, _ in theirs.values():
        counts[kind] += 1
    return tuple(
        frozenset(owners.get(theirs[head], ()))
        if head and counts[theirs[head][0]] == sizes.get(theirs[head][0])
        else frozenset()
        for head in heads
    )


_Variants = Callable[[str, Collection[str]], Iterable[str]]
"""Gives the names that a part of a scope may stand for, of those that are known."""


def _candidates(problem: Problem, variants: _Variants) -> Candidates:
    owners: dict[str, set[int]] = defaultdict(set)
    for index, layer in enumerate(problem.layers):
        for key in layer.keys:
            owners[key].add(index)
    known: dict[str, frozenset[int]] = {}
    for path in problem.scopes:
        if path not in known:
            known[path] = _nearest(path, problem.layers, owners, variants)
    return tuple(known[path] for path in problem.scopes)


def _nearest(
    path: str,
    layers: Sequence[ExpectedLayer],
    owners: Mapping[str, set[int]],
    variants: _Variants,
) -> frozenset[int]:
    """Find the layers with the name of the likeliest part of the scope; of several, those inside a model that it names."""
    if not path:
        return frozenset()
    for run in runs(path):
        found = {index for variant in variants(run, owners) for index in owners.get(variant, ())}
        if found:
            parts = set(path.split("/"))
            placed = {index for index in found if parts & set(layers[index].path[:-1])}
            return frozenset(placed or found)
    return frozenset()


def _without_suffix(run: str, known: Collection[str]) -> tuple[str, ...]:
    """Give the known name that is left when counters are split off."""
    bare, number = split_number(run, "_")
    rest, _ = _counted(bare, known)
    return (rest,) if number and rest in known else ()


def _ranks(members: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Rank the automatic names of each class from 0 in the order of their numbers.

    Releases write one class's automatic name in several ways: ``conv_lst_m2d`` and ``conv_lstm2d``,
    ``batch_normalization_v1`` and ``batch_normalization``.
    """
    families: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for member in members:
        kind, number = family(member)
        families[kind.replace("_", "").removesuffix("v1")].append((number, member))
    return {
        member: (kind, rank)
        for kind, numbered in families.items()
        for rank, (_, member) in enumerate(sorted(numbered))
    }
