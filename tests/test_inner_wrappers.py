"""A model with multi-GPU wrappers inside becomes the one built on their templates; what only looks like one is kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from remap import NothingToExtract, Undecided
from remap.architecture import Layer, parse_model
from remap.assignment.reference import Request, reference_from_json
from remap.checkpoint import Checkpoint, LayerGroup
from remap.conversion_plan import Plan
from remap.errors import RemapError
from remap.inner_wrappers import on_templates
from remap.inspection import inspection_of
from remap.planning import compose, compose_for_keras3
from remap.recognize import recognize
from tests.paper import dense, entry, group, parallel, sliced, stack

Entry = dict[str, Any]

CORE = stack(dense("dense_1", batch_input_shape=[None, 2]), dense("dense_2"), name="core")
WEIGHTS = ("dense_1/kernel", "dense_1/bias", "dense_2/kernel", "dense_2/bias")


def around(part: Entry, *more: Entry, call: int = 1, name: str = "whole") -> Entry:
    """Put a nested model between an input and a Dense layer."""
    inner = {**part, "inbound_nodes": [[["x", 0, 0, {}]]]}
    head = dense("head")
    head["inbound_nodes"] = [[[part["name"], call, 0, {}]]]
    layers = [entry("x", "InputLayer", batch_input_shape=[None, 2]), inner, *more, head]
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["head", 0, 0]]}
    return {"class_name": "Model", "config": {"name": name, "layers": layers, **ends}}


def saved(whole: Entry, nested: str = "parallel", **attributes: str) -> Checkpoint:
    """Save such a model."""
    layers = (group("x"), group(nested, *WEIGHTS), group("head", "head/kernel", "head/bias"))
    return Checkpoint(root="/", layers=layers, model_config=json.dumps(whole), **attributes)  # type: ignore[arg-type]


def config(plan: Plan) -> Entry:
    assert plan.model_config is not None
    found: Entry = json.loads(plan.model_config)
    return found


def read(whole: Entry) -> Layer:
    return parse_model(json.dumps(whole), where="paper")


def test_a_template_stands_where_its_wrapper_stood() -> None:
    whole = around(parallel(CORE, name="parallel"))
    plan = compose(saved(whole, training_config='{"loss": "mse"}'), Request())
    assert config(plan) == around(CORE)
    assert [layer.name for layer in plan.layers] == ["x", "core", "head"]
    assert [weight.name for weight in plan.layers[1].weights] == [f"{name}:0" for name in WEIGHTS]
    assert (plan.template, plan.training_config, plan.settled_by) == (
        "whole",
        '{"loss": "mse"}',
        "architecture",
    )
    assert any("'parallel' of 2 replicas" in note and "'core'" in note for note in plan.notes)


def test_the_calls_of_a_template_are_counted_as_its_wrapper_counts_them() -> None:
    """Newer releases count the calls of some models from 0."""
    wrapper = parallel(CORE, name="parallel")
    wrapper["config"]["layers"][-1]["inbound_nodes"] = [[["core", 0, 0, {}], ["core", 1, 0, {}]]]
    assert config(compose(saved(around(wrapper)), Request())) == around(CORE, call=0)


def test_a_model_that_ends_with_a_wrapper_names_its_losses_by_the_template() -> None:
    whole = around(parallel(CORE, name="parallel"))
    whole["config"]["layers"].pop()
    whole["config"]["output_layers"] = [["parallel", 1, 0]]
    layers = (group("x"), group("parallel", *WEIGHTS))
    checkpoint = Checkpoint(
        root="/",
        layers=layers,
        model_config=json.dumps(whole),
        training_config='{"loss": {"parallel": "mse"}}',
    )
    plan = compose(checkpoint, Request())
    assert config(plan)["config"]["output_layers"] == [["core", 1, 0]]
    assert plan.training_config == '{"loss": {"core": "mse"}}'


def test_a_wrapper_of_a_wrapper_and_one_in_a_nested_model_are_found() -> None:
    deep = stack(parallel(CORE, name="one"), dense("dense_3"), name="deep")
    twice = parallel(parallel(deep, name="once", parts=3), name="parallel")
    built, found = on_templates(read(around(twice)))
    assert built.entry == around(stack(CORE, dense("dense_3"), name="deep"))
    assert [(one.path, one.template, one.replicas) for one in found] == [
        (("parallel",), ("deep",), 6),
        (("parallel", "once", "deep", "one"), ("deep", "core"), 2),
    ]


def test_the_input_of_a_stack_is_named_after_the_template() -> None:
    """tf.keras 2.2 and later write the InputLayer that they made for the first layer."""
    feed = {"class_name": "InputLayer", "config": {"name": "parallel_input", "batch_input_shape": [None, 2]}}
    built, _ = on_templates(read(stack(feed, parallel(CORE, name="parallel"), dense("head"))))
    assert [layer.name for layer in built.children or ()] == ["core_input", "core", "head"]


def test_a_model_without_wrappers_is_left_as_it_is() -> None:
    model = read(around(CORE))
    assert on_templates(model) == (model, ())
    assert on_templates(model)[0] is model


def test_a_model_for_each_time_step_may_be_a_wrapper() -> None:
    def each(inner: Entry) -> Entry:
        return entry("each", "TimeDistributed", layer=inner)

    wrapper = {key: value for key, value in parallel(CORE, name="parallel").items() if key != "name"}
    core = {key: value for key, value in CORE.items() if key != "name"}
    built, found = on_templates(read(around(each(wrapper))))
    assert built.entry == around(each(core))
    assert [(one.path, one.template) for one in found] == [(("each",), ("each",))]


@pytest.mark.parametrize("submodel", ["core", "parallel"])
def test_a_template_is_extracted_alone_by_its_name_or_that_of_its_wrapper(submodel: str) -> None:
    plan = compose(saved(around(parallel(CORE, name="parallel"))), Request(submodel=submodel))
    assert plan.template == "core"
    assert [layer.name for layer in plan.layers] == ["dense_1", "dense_2"]


def test_inspection_shows_the_template_in_its_wrapper() -> None:
    checkpoint = saved(around(parallel(stack(CORE, dense("dense_3"), name="outer"), name="parallel")))
    found = inspection_of(checkpoint, source="multi.h5", size=0)
    assert (found.kind, found.template, found.settled_by) == ("multi-gpu-inside", None, "architecture")
    assert [layer.name for layer in found.layers] == ["x", "outer", "head"]
    assert "multi-gpu" in found.layers[1].flags
    assert found.submodels == ("outer", "outer/core")
    assert [(one.path, one.template, one.replicas) for one in found.wrappers] == [
        (("parallel",), ("outer",), 2)
    ]


# Weights files: only the names of a reference model tell.


def reference(whole: Entry) -> Request:
    return Request(like=reference_from_json(json.dumps(whole), where="model.json"))


@pytest.mark.parametrize("like", [around(CORE), around(parallel(CORE, name="parallel"))])
def test_a_weights_file_gets_the_names_of_the_reference_model(like: Entry) -> None:
    checkpoint = saved(around(CORE))
    weights = Checkpoint(root="/", layers=saved(around(CORE)).layers)
    assert checkpoint.layers == weights.layers
    plan = compose(weights, reference(like))
    assert [layer.name for layer in plan.layers] == ["x", "core", "head"]
    assert plan.model_config is None
    assert any("parallel is core" in note for note in plan.notes)


def test_a_weights_file_with_the_names_of_the_reference_model_is_a_single_model() -> None:
    weights = Checkpoint(root="/", layers=saved(around(CORE), "core").layers)
    with pytest.raises(NothingToExtract):
        compose(weights, reference(around(CORE)))


def test_a_weights_file_in_which_another_layer_has_another_name_is_not_renamed() -> None:
    layers = saved(around(CORE)).layers
    weights = Checkpoint(root="/", layers=(*layers[:2], LayerGroup(name="tail", weights=layers[2].weights)))
    with pytest.raises(Undecided):
        compose(weights, reference(around(CORE)))


def test_nested_models_that_change_places_are_not_renamed() -> None:
    def two(first: str, second: str) -> tuple[Entry, Checkpoint]:
        more = {
            **stack(dense("dense_1"), dense("dense_2"), name=second),
            "inbound_nodes": [[["x", 0, 0, {}]]],
        }
        layers = (group("x"), group(first, *WEIGHTS), group(second, *WEIGHTS), group("head", "head/kernel"))
        return around({**CORE, "config": {**CORE["config"], "name": first}, "name": first}, more), Checkpoint(
            root="/", layers=layers
        )

    whole, _ = two("encoder", "decoder")
    _, other = two("decoder", "encoder")
    with pytest.raises(RemapError):
        compose(other, reference(whole))


# What has the structure of a wrapper, and may compute something else than its template.


def _layers(wrapper: Entry) -> list[Entry]:
    layers: list[Entry] = wrapper["config"]["layers"]
    return layers


def own_function(wrapper: Entry) -> None:
    _layers(wrapper)[1]["config"]["function"] = ["4wEAAAAB", None, None]


def function_by_name(wrapper: Entry) -> None:
    _layers(wrapper)[1]["config"] |= {"function": "get_slice", "function_type": "function"}


def no_text(wrapper: Entry) -> None:
    _layers(wrapper)[1]["config"]["function"] = [{"class_name": "__tuple__", "items": []}]


def no_arguments(wrapper: Entry) -> None:
    del _layers(wrapper)[1]["config"]["arguments"]


def more_arguments(wrapper: Entry) -> None:
    _layers(wrapper)[1]["config"]["arguments"]["axis"] = 1


def other_parts(wrapper: Entry) -> None:
    _layers(wrapper)[1]["config"]["arguments"]["parts"] = 3


def the_same_part(wrapper: Entry) -> None:
    _layers(wrapper)[1]["config"]["arguments"]["i"] = 1


def a_part_that_is_no_number(wrapper: Entry) -> None:
    _layers(wrapper)[1]["config"]["arguments"]["i"] = "0"


def parts_change_places(wrapper: Entry) -> None:
    for number, part in ((1, 1), (2, 0)):
        _layers(wrapper)[number]["config"]["arguments"]["i"] = part


def results_change_places(wrapper: Entry) -> None:
    _layers(wrapper)[-1]["inbound_nodes"][0].reverse()


def another_layer_between(wrapper: Entry) -> None:
    layers = _layers(wrapper)
    layers.insert(3, entry("more", "Activation", [["lambda_1"]], activation="relu"))
    layers[4]["inbound_nodes"][1] = [["more", 0, 0, {}]]


def a_layer_beside(wrapper: Entry) -> None:
    _layers(wrapper).insert(3, entry("beside", "Activation", [["in"]], activation="relu"))


def called_with_an_argument(wrapper: Entry) -> None:
    _layers(wrapper)[3]["inbound_nodes"][0][0][3] = {"training": False}


def inputs_of_another_shape(wrapper: Entry) -> None:
    _layers(wrapper)[0]["config"]["batch_input_shape"] = [None, 4]


def two_outputs_of_one(wrapper: Entry) -> None:
    wrapper["config"]["output_layers"] *= 2


def another_result_of_the_model(wrapper: Entry) -> None:
    for tensor in _layers(wrapper)[-1]["inbound_nodes"][0]:
        tensor[2] = 1


def custom_class(wrapper: Entry) -> None:
    wrapper["class_name"] = "MyParallelModel"


def frozen_as_a_whole(wrapper: Entry) -> None:
    wrapper["config"]["trainable"] = False


def named_like_the_head(wrapper: Entry) -> None:
    layers = _layers(wrapper)
    layers[3]["name"] = layers[3]["config"]["name"] = "head"
    for tensor in layers[4]["inbound_nodes"][0]:
        tensor[0] = "head"


NEAR_MISSES = [
    own_function, function_by_name, no_text, no_arguments, more_arguments, other_parts, the_same_part,
    a_part_that_is_no_number, parts_change_places, results_change_places, another_layer_between, a_layer_beside,
    called_with_an_argument, inputs_of_another_shape, two_outputs_of_one, another_result_of_the_model, custom_class,
    frozen_as_a_whole, named_like_the_head,
]  # fmt: skip


@pytest.mark.parametrize("change", NEAR_MISSES)
def test_what_may_be_no_wrapper_is_not_replaced(change: Callable[[Entry], None]) -> None:
    wrapper = copy.deepcopy(parallel(CORE, name="parallel"))
    change(wrapper)
    whole = around(wrapper)
    model = read(whole)
    built, found = on_templates(model)
    assert built is model
    assert [bool(one.doubt) for one in found] == [True]
    with pytest.raises(Undecided, match="has the structure of a multi-GPU wrapper, but") as caught:
        compose(saved(whole), Request())
    assert [remedy.value for remedy in caught.value.remedies] == ["parallel"]
    assert recognize(saved(whole), model).kind == "single"
    try:
        plan = compose_for_keras3(saved(whole), Request())
    except RemapError:
        return
    assert plan.architecture is not None
    assert "parallel" in [layer.name for layer in plan.architecture.children or ()]
    assert any("'parallel' was kept as it is" in note for note in plan.notes)


def test_one_that_may_be_no_wrapper_keeps_the_others_from_being_replaced() -> None:
    doubtful = copy.deepcopy(parallel(stack(dense("dense_3"), name="second"), name="other"))
    own_function(doubtful)
    doubtful["inbound_nodes"] = [[["x", 0, 0, {}]]]
    whole = around(parallel(CORE, name="parallel"), doubtful)
    with pytest.raises(Undecided, match="'other' has the structure"):
        compose(saved(whole), Request())


def test_two_wrappers_of_one_template_in_one_model_are_kept() -> None:
    """Built on the template, the model would call one layer twice."""
    second = {**parallel(CORE, name="second"), "inbound_nodes": [[["x", 0, 0, {}]]]}
    with pytest.raises(Undecided, match="the name of another layer"):
        compose(saved(around(parallel(CORE, name="parallel"), second)), Request())


def test_a_wrapper_of_which_an_output_is_not_used_as_it_is_called_is_kept() -> None:
    whole = around(parallel(CORE, name="parallel"))
    whole["config"]["layers"][1]["inbound_nodes"] *= 2
    with pytest.raises(Undecided, match="are called on other outputs"):
        compose(saved(whole), Request())


def test_a_wrapper_in_an_argument_of_a_custom_layer_is_kept() -> None:
    custom = entry("parallel", "MyLayer", layer=parallel(CORE, name="inner"))
    model = read(around(custom))
    built, found = on_templates(model)
    assert built is model
    assert [(one.path, bool(one.doubt)) for one in found] == [(("parallel",), True)]


def test_a_template_with_what_may_be_a_wrapper_inside_is_extracted_as_it_was_saved() -> None:
    doubtful = copy.deepcopy(parallel(CORE, name="doubtful"))
    own_function(doubtful)
    template = stack(doubtful, dense("dense_3"), name="template")
    root = {key: value for key, value in parallel(template, name="root").items() if key != "name"}
    names = ("in", "lambda_0", "lambda_1", "template", "merged")
    weights = (*WEIGHTS, "dense_3/kernel", "dense_3/bias")
    layers = tuple(group(name, *(weights if name == "template" else ())) for name in names)
    plan = compose(Checkpoint(root="/", layers=layers, model_config=json.dumps(root)), Request())
    assert config(plan)["config"] == template["config"]
    assert any("'template/doubtful' was kept" in note for note in plan.notes)


def test_a_slice_of_the_second_input_is_no_slice_of_the_first() -> None:
    wrapper = copy.deepcopy(parallel(CORE, name="parallel"))
    _layers(wrapper)[1:3] = [sliced("lambda_0", "in", 0, 2), sliced("lambda_1", "other", 1, 2)]
    _layers(wrapper).insert(0, entry("other", "InputLayer", batch_input_shape=[None, 2]))
    whole = around(wrapper)
    assert on_templates(read(whole)) == (read(whole), ())
    with pytest.raises(NothingToExtract):
        compose(saved(whole), Request())


def test_a_stack_that_ends_with_a_wrapper_names_its_losses_by_the_template() -> None:
    whole = stack(dense("dense_0"), parallel(CORE, name="parallel"), name="whole")
    layers = (group("dense_0", "dense_0/kernel", "dense_0/bias"), group("parallel", *WEIGHTS))
    state = '{"loss": {"parallel": "mse"}, "metrics": ["mae"]}'
    checkpoint = Checkpoint(root="/", layers=layers, model_config=json.dumps(whole), training_config=state)
    plan = compose(checkpoint, Request())
    assert json.loads(plan.training_config or "") == {"loss": {"core": "mse"}, "metrics": ["mae"]}
