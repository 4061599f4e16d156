"""Stored records from anybody: a value of the asked type, or one sentence of the asked class. Nothing else."""

import contextlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import ConfigError, DataError, WeightsError
from saccade.files import convert, parse_json, parse_yaml, read_json


@dataclass
class Inner:
    rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5


@dataclass
class Record:
    name: str
    count: int = 0
    inner: Inner = field(default_factory=Inner)
    options: dict[str, Any] = field(default_factory=dict)


def test_a_record_comes_back_typed():
    found = parse_json('{"name": "a", "inner": {"rate": 1}, "unknown": 3}', Record, where="x")
    assert found == Record("a", inner=Inner(1))
    assert parse_yaml("name: a\ncount: 3", Record, where="x") == Record("a", 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested"),
        ("[" * 500 + "]" * 500, "nested"),
        ('{"name": ' + "1" * 5000 + "}", "not valid JSON"),
        ('{"name": 3}', "field name: expected str, got int"),
        ("{}", "name"),
        ('{"name": "a", "inner": {"rate": 2}}', "field inner.rate"),
        ('{"name": "a", "count": 1.5}', "field count"),
        ("[]", "expected object, got array"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_what_is_wrong_is_one_sentence(text, words):
    with pytest.raises(WeightsError, match=words) as caught:
        parse_json(text, Record, where="card", error=WeightsError)
    assert str(caught.value).startswith("card: ")
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused_where_asked():
    assert parse_json("[NaN]", where="x") != [0]
    for text in ("[NaN]", '{"a": [1e999]}'):
        with pytest.raises(DataError, match="finite"):
            parse_json(text, where="x", finite=True)


def test_yaml_that_grows_by_aliases_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(DataError, match="values"):
        parse_yaml("\n".join(lines), where="x")
    with pytest.raises(DataError, match="nested"):
        parse_yaml("&a [*a]", where="x")
    with pytest.raises(DataError, match="YAML"):
        parse_yaml("!!python/object/apply:os.system [ls]", where="x")


def test_only_regular_files_are_read(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.json")
    for path, words in (
        (tmp_path / "pipe.json", "regular"),
        (tmp_path, "folder"),
        (tmp_path / "no", "cannot"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_json(path, error=ConfigError)
    (tmp_path / "big.json").write_text(json.dumps("x" * 1000))
    with pytest.raises(DataError, match="larger"):
        read_json(tmp_path / "big.json", max_bytes=100)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=200), st.text('[]{}",:0123456789eE.-&*!|> \n\tabnulltrefs', max_size=200))
)
def test_any_bytes_give_a_value_or_a_sentence(data):
    for parse in (parse_json, parse_yaml):
        sentence = "fine"
        try:
            parse(data, Record, where="x")
        except DataError as error:
            sentence = str(error)
        assert "\n" not in sentence


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_value_converts_or_is_refused(value):
    with contextlib.suppress(DataError):
        assert isinstance(convert(value, Record, where="x"), Record)
