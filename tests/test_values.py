"""JSON of a file is read once, refused where no Keras writes it, and given out typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from remap import InputRefused
from remap.typed_json import Config, Value, read_json


def config_of(text: str) -> Config:
    return read_json(text, where="model.json").object()


def test_a_refusal_names_the_file_and_the_json_path() -> None:
    text = '{"config": {"layers": [{"config": {"units": "3"}}], "odd key": 1}}'
    config = config_of(text).object("config")
    (layer,) = config.objects("layers")
    with pytest.raises(InputRefused) as caught:
        layer.object("config").integer("units")
    assert caught.value.where == "model.json, $.config.layers[0].config.units"
    assert config.value("odd key").where == 'model.json, $.config["odd key"]'


@pytest.mark.parametrize("text", ['"3"', "3.0", "true", "null", "[3]", "{}", "0", "11"])
def test_an_integer_out_of_bounds_or_of_another_type_is_refused(text: str) -> None:
    with pytest.raises(InputRefused, match="integer"):
        config_of(f'{{"units": {text}}}').integer("units", at_least=1, at_most=10)


@pytest.mark.parametrize("text", ['"3"', "NaN", "Infinity", "-1e999", "true", "null", "-1", "1.5"])
def test_a_number_out_of_bounds_or_not_finite_is_refused(text: str) -> None:
    with pytest.raises(InputRefused, match="number"):
        config_of(f'{{"rate": {text}}}').number("rate", at_least=0, at_most=1)


READS: dict[str, Callable[[Config], object]] = {
    "true": lambda config: config.flag("key"),
    '"same"': lambda config: config.choice("key", {"same", "valid"}),
    '"name"': lambda config: config.text("key"),
    '"a_name"': lambda config: config.name("key"),
    "[3, 4]": lambda config: config.integers("key", length=2, at_least=1),
    '["a", "b"]': lambda config: config.texts("key"),
    "[null, 5]": lambda config: config.shape("key"),
    "2.5": lambda config: config.number("key"),
    "7": lambda config: config.integer("key"),
}


@pytest.mark.parametrize("text", READS)
def test_values_of_the_right_type_are_given(text: str) -> None:
    found = READS[text](config_of(f'{{"key": {text}}}'))
    assert found == (tuple(json.loads(text)) if text.startswith("[") else json.loads(text))


@pytest.mark.parametrize("text", READS)
@pytest.mark.parametrize("other", ['{"a": 1}', '"odd"', "[[1]]", "null", "[true]", "-0.5"])
def test_values_of_another_type_are_refused(text: str, other: str) -> None:
    if (text, other) in {('"name"', '"odd"'), ('"a_name"', '"odd"'), ("2.5", "-0.5")}:
        return
    with pytest.raises(InputRefused, match=r"was expected and .* was found"):
        READS[text](config_of(f'{{"key": {other}}}'))


def test_a_name_that_cannot_be_printed_is_refused() -> None:
    for name in (r"\u0000", r"\u001b[2J", r"\u202e", r"\n"):
        with pytest.raises(InputRefused, match="can be printed was expected"):
            config_of(f'{{"name": "{name}"}}').name("name")


def test_an_absent_key_is_refused_unless_the_caller_says_what_its_absence_means() -> None:
    config = config_of('{"there": null}')
    with pytest.raises(InputRefused, match='"units" is not there'):
        config.integer("units")
    with pytest.raises(InputRefused, match='"units" is not there'):
        config.value("units")
    assert config.integer("units", default=1) == 1
    assert config.optional_text("units") is None
    assert config.optional_text("there") is None
    with pytest.raises(InputRefused, match="null was found"):
        config.integer("there", default=1)
    assert (config.has("there"), config.given("there"), config.has("units")) == (True, False, False)


def test_tuples_and_arrays_are_lists_however_keras_wrote_them() -> None:
    for text in ('{"class_name": "__tuple__", "items": [1, 2]}', '{"type": "ndarray", "value": [1, 2]}'):
        assert config_of(f'{{"size": {text}}}').integers("size") == (1, 2)
    assert config_of('{"size": {"class_name": "TensorShape", "items": null}}').shape("size") == ()
    with pytest.raises(InputRefused, match="a list was expected"):
        config_of('{"size": {"items": [1]}}').shape("size")


def test_one_integer_stands_for_several_only_where_the_caller_allows_it() -> None:
    config = config_of('{"size": 3}')
    assert config.integers("size", length=2, repeat=True) == (3, 3)
    with pytest.raises(InputRefused, match="a list"):
        config.integers("size", length=2)
    with pytest.raises(InputRefused, match="a list of 2 integers"):
        config_of('{"size": [1, 2, 3]}').integers("size", length=2, repeat=True)


def test_a_list_longer_than_allowed_is_refused() -> None:
    with pytest.raises(InputRefused, match="at most 2 items"):
        config_of('{"key": [1, 2, 3]}').values("key", at_most=2)


def test_keras_objects_have_a_class_and_a_config() -> None:
    config = config_of(
        '{"cells": [{"class_name": "LSTMCell", "config": {"units": 2}}], "cell": {"config": {}}}'
    )
    (cell,) = config.keras_objects("cells")
    assert (cell.class_name, cell.config.integer("units")) == ("LSTMCell", 2)
    with pytest.raises(InputRefused, match='"class_name" is not there'):
        config.keras_object("cell")


def test_json_goes_out_as_it_came_in() -> None:
    text = '{"b": [1, 2.5, NaN, {"a": null}], "a": "é"}'
    config = config_of(text)
    assert json.dumps(config.json(), ensure_ascii=False) == text
    assert config.keys() == ("b", "a")
    assert [key for key, _ in config.items()] == ["b", "a"]
    assert config.without("b").json() == {"a": "é"}


def test_values_are_equal_where_their_json_is_wherever_they_stand() -> None:
    one, other = config_of('{"a": {"x": 1}, "b": {"x": 1}}').value("a"), read_json('{"x": 1}', where="other")
    assert one == other
    assert one.object() == other.object()
    assert repr(one) == 'Value({"x": 1})'
    assert repr(one.object()) == 'Config({"x": 1})'


def test_of_keys_that_occur_twice_the_last_counts_as_in_keras() -> None:
    assert config_of('{"units": 1, "units": 2}').integer("units") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9" * 101, "integer of 101 digits"),
        ("[" + "9" * 5000 + "]", "integer of 5,000 digits"),
        ("[" * 201 + "]" * 201, "nested 201 levels deep"),
        (r'["\ud800"]', "not Unicode"),
        (r'{"\uDFFF": 1}', "not Unicode"),
        ('["\ud800"]', "not Unicode"),
        ('{"a": 1', "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_json_that_no_keras_writes_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputRefused, match=re.escape(said)):
        read_json(text, where="model.json")


def test_a_very_long_text_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remap.typed_json._LONGEST_TEXT", 10)
    with pytest.raises(InputRefused, match="11 characters long"):
        read_json("[1,2,3,4,5]", where="model.json")


@pytest.mark.parametrize("inside", ["[" * 300, '\\"[' * 300, "\\\\", '\\\\\\"' + "{" * 300])
def test_brackets_in_text_do_not_count_as_nesting(inside: str) -> None:
    text = f'["{inside}", 1]'
    assert read_json(text, where="model.json").json() == json.loads(text)


def test_pairs_of_surrogates_are_read_as_the_character_they_mean() -> None:
    assert read_json(r'"\ud83d\ude00"', where="model.json").text() == "\N{GRINNING FACE}"


@pytest.mark.parametrize("piece", ['"', '\\"', "\\", '["', '[\\"', "[1,", '{"a":'])
def test_hostile_text_is_refused_without_a_search_from_every_quote(piece: str) -> None:
    """A check that began anew at each quote would not end with text of this length."""
    with pytest.raises(InputRefused):
        read_json(piece * 200_000, where="model.json")


def test_every_kind_of_value_is_named() -> None:
    values = read_json('[{}, [], "", 1, 1.5, true, null]', where="model.json").values()
    kinds = [value.kind for value in values]
    assert kinds == ["object", "list", "text", "integer", "number", "flag", "null"]


def test_refusing_a_value_or_an_object_says_where_it_stands() -> None:
    config = config_of('{"a": 1}')
    for one in (config, Value(1, config.value("a")._place)):
        with pytest.raises(InputRefused, match=r"odd; at model.json, \$.*; do this"):
            one.refuse("odd", hint="do this")
