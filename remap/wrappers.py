"""Multi-GPU wrappers: which models have the structure of one, and which were certainly made by `multi_gpu_model`.

`multi_gpu_model` (keras/utils/multi_gpu_utils.py, training_utils.py before Keras 2.1.6) calls the template once per GPU,
each time on slices of the same inputs, and concatenates the results along the batch axis. People also built the same by
hand. The structure of the graph identifies a wrapper; the names of its layers do not.

To extract a template, its structure suffices: the user asks for the model inside. To put a template in the place of its
wrapper in another model, the two have to compute the same, so every slice must be one that Keras itself made.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Mapping
from dataclasses import replace

from remap.architecture import Layer, input_of, owned_weights
from remap.layers import is_model_class
from remap.layers.weights import OwnedWeights
from remap.typed_json import Config, Value

__all__ = ["doubt_about", "first_call", "unwrap"]

# A wrapper slices one input for each tensor that it passes to the template; by hand a few may be joined before.
_MOST_ORIGINS = 64
# What the byte code of the function that slices says of itself: its name, and the files of Keras that define it.
_FUNCTION = b"get_slice"
_FILES = (b"keras/utils/multi_gpu_utils.py", b"keras/utils/training_utils.py")


def unwrap(model: Layer) -> tuple[Layer, int] | None:
    """Give the template of a multi-GPU wrapper and the number of its replicas, or None for any other model.

    A wrapper has one layer that is a model. It is called at least twice, each time on tensors that layers without weights
    compute from the same inputs. Every output joins the results of all calls along the batch axis.
    """
    layers = {layer.name: layer for layer in model.children or ()}
    inner = [layer for layer in layers.values() if layer.children is not None]
    others = [layer for layer in layers.values() if layer.children is None]
    if len(inner) != 1 or not all(owned_weights(layer) in (None, OwnedWeights()) for layer in others):
        return None
    template = inner[0]
    calls = template.nodes
    if len(calls) < 2:
        return None
    origins = _origins((name for call in calls for name, _, _ in call), layers, template.name)
    inputs_of = [[origins[name] for name, _, _ in call] for call in calls]
    if any(None in call or call != inputs_of[0] for call in inputs_of):
        return None
    if any(layers[name].is_input for call in calls for name, _, _ in call if name in layers):
        return None
    for name in {name for name, _, _ in model.outputs}:
        merge = layers.get(name)
        if merge is None or not _joins_batches(merge, template, len(calls)):
            return None
    feeds = [layer for layer in others if layer.is_input]
    if template.sequential and len(feeds) == 1:
        template = replace(template, feed=feeds[0])
    return (template, len(calls)) if model.outputs else None


def _origins(
    names: Iterable[str], layers: dict[str, Layer], template: str
) -> dict[str, frozenset[str] | None]:
    """Find the inputs that layers depend on, following the graph backwards through each layer once.

    The answer for a layer is None if it depends on the template, on a missing layer, on itself, or on more inputs than
    the tensors of a wrapper do.
    """
    known: dict[str, frozenset[str] | None] = {template: None}
    entered: set[str] = set()
    pending = list(names)
    while pending:
        name = pending[-1]
        if name in known:
            pending.pop()
            continue
        if name not in layers:
            known[name] = None
            continue
        sources = {source for node in layers[name].nodes for source, _, _ in node}
        unknown = [source for source in sources if source not in known]
        if unknown and name not in entered:
            entered.add(name)
            pending.extend(unknown)
        else:
            known[name] = _joined(sources, known) if sources else frozenset((name,))
    return known


def _joined(sources: Iterable[str], known: Mapping[str, frozenset[str] | None]) -> frozenset[str] | None:
    joined: frozenset[str] = frozenset()
    for source in sources:
        origins = known.get(source)
        if origins is None:
            return None
        joined = joined | origins if joined else origins
        if len(joined) > _MOST_ORIGINS:
            return None
    return joined


def _joins_batches(merge: Layer, template: Layer, replicas: int) -> bool:
    """Tell whether a layer concatenates one output of all replicas along the batch axis."""
    along = merge.declared.joins_along(merge.config) if merge.declared is not None else None
    if along != 0 or len(merge.nodes) != 1:
        return False
    joined = merge.nodes[0]
    return {name for name, _, _ in joined} == {template.name} and len({node for _, node, _ in joined}) == len(
        joined
    ) == replicas


def first_call(wrapper: Layer, template: Layer) -> int:
    """Give the number of a template's first call as the nodes of its wrapper count it.

    Keras numbers the calls of a layer from 0. Those of a model start at 1 in most releases: the model's own graph
    counts as its first node.
    """
    merges = [layer for layer in wrapper.children or () if layer is not template]
    return min(
        (node for layer in merges for call in layer.nodes for name, node, _ in call if name == template.name),
        default=0,
    )


def doubt_about(wrapper: Layer, template: Layer) -> str:
    """Say why a model with the structure of a wrapper may compute something else than its template, "" if it does not.

    Args:
        wrapper: A model for which `unwrap` finds a template.
        template: The template.
    """
    if not is_model_class(wrapper.class_name) or not wrapper.trainable:
        return "its class or its trainable flag is not that of a model which multi_gpu_model made"
    layers = {layer.name: layer for layer in wrapper.children or ()}
    feeds = [layers[name] for name, _, _ in wrapper.inputs if name in layers]
    merges = [layers[name] for name, _, _ in wrapper.outputs]
    known = {layer.name for layer in (*feeds, *merges, template)}
    slices = [layer for layer in layers.values() if layer.name not in known]
    parts = len(template.nodes)
    found = {layer.name: _slice(layer, parts) for layer in slices}
    strange = next((name for name, slice_ in found.items() if slice_ is None), None)
    if strange is not None:
        return f"its layer {strange!r} is not known to be a slice of the batch"
    wanted = [[(feed.name, part) for feed in feeds] for part in range(parts)]
    passed = [[found.get(name) for name, _, _ in call] for call in template.nodes]
    if passed != wanted or not all(map(_without_arguments, (*slices, *merges, template))):
        return "its model is not called on each part of each input in order"
    first = first_call(wrapper, template)
    joined = [
        [(template.name, first + part, number) for part in range(parts)] for number in range(len(merges))
    ]
    ends = {(node, tensor) for _, node, tensor in (*wrapper.inputs, *wrapper.outputs)}
    if (
        [list(merge.nodes[0]) for merge in merges] != joined
        or _outputs(template) != len(merges)
        or ends != {(0, 0)}
    ):
        return "its outputs are not those of its model in order"
    if not _same_inputs(feeds, template):
        return "its inputs have other shapes than those of its model"
    return ""


def _slice(layer: Layer, parts: int) -> tuple[str, int] | None:
    """Give the input and the number of a slice that Keras made; None for any other layer."""
    config = layer.config
    if layer.declared is None or not layer.declared.calls_function or len(layer.nodes) != 1:
        return None
    if len(layer.nodes[0]) != 1 or not config.given("arguments") or not _is_slice_function(config):
        return None
    arguments = config.object("arguments")
    if set(arguments.keys()) != {"i", "parts"} or not arguments.holds("parts", parts):
        return None
    ((name, node, tensor),) = layer.nodes[0]
    part = arguments.integer("i", default=-1) if arguments.value("i").kind == "integer" else -1
    return (name, part) if (node, tensor) == (0, 0) else None


def _is_slice_function(config: Config) -> bool:
    """Tell whether the function of a Lambda layer is the one in `multi_gpu_model`, without running it."""
    if not config.holds("function_type", "lambda") or config.value("function").kind != "list":
        return False
    code = next(iter(config.values("function")), None)
    if code is None or code.kind != "text":
        return False
    compiled = _decoded(code.text()).replace(b"\\", b"/")
    return _FUNCTION in compiled and any(name in compiled for name in _FILES)


def _decoded(text: str) -> bytes:
    """Decode byte code: base64 since Keras 2.1, before that the bytes as characters."""
    try:
        return binascii.a2b_base64(text.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        return text.encode("latin-1", "ignore")


def _without_arguments(layer: Layer) -> bool:
    """Tell whether a layer is called on tensors only, in the form in which the Kerases with `multi_gpu_model` write it."""
    return all(
        _is_plain(tensor) for call in layer.calls if call.kind == "list" for tensor in call.values()
    ) and all(call.kind == "list" for call in layer.calls)


def _is_plain(tensor: Value) -> bool:
    if tensor.kind != "list":
        return False
    parts = tensor.values()
    return len(parts) == 3 or (len(parts) == 4 and parts[3].kind == "object" and not parts[3].object().keys())


def _outputs(template: Layer) -> int:
    return 1 if template.sequential else len(template.outputs)


def _same_inputs(feeds: Iterable[Layer], template: Layer) -> bool:
    """Tell whether a wrapper's inputs are like the template's, as far as the config of a Sequential tells them."""
    shapes = [_shape(feed) for feed in feeds]
    if template.sequential:
        own = _shape(template)
        return len(shapes) == 1 and own in (None, shapes[0])
    layers = {layer.name: layer for layer in template.children or ()}
    return [_shape(layers[name]) if name in layers else None for name, _, _ in template.inputs] == shapes


def _shape(layer: Layer) -> list[object] | None:
    found = input_of(layer)
    return None if found is None else list(found[0])
