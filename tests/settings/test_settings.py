"""Settings: made from mappings, text and Python, and held to their annotations."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import yaml

from saccade.errors import ConfigError
from saccade.files import within
from saccade.settings import assign, check, dump, leaves, make, read_flags, read_groups


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, within(0, below=1)] = 0.5
    names: tuple[str, ...] = ("a",)


@dataclass
class Outer:
    shape: Literal["cosine", "step"] = "cosine"
    count: Annotated[int, within(1, 8)] | None = None
    loud: bool = False
    rate: Annotated[float, within(above=0)] = 1.0
    width: Annotated[int, within(32, 10**9, multiple_of=4)] = 96
    inner: Inner = field(default_factory=Inner)


def test_nested_values_become_the_declared_types():
    made = make(Outer, {"count": 3, "rate": 2, "inner": {"names": ["x", "y"]}}, "f.yaml")
    assert made == Outer(count=3, rate=2.0, inner=Inner(names=("x", "y")))
    assert type(made.rate) is float
    assert make(Outer, None, "f.yaml") == Outer()
    assert make(Outer, made, "f.yaml") is made
    assert make(Outer, yaml.safe_load(dump(made)), "again") == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shap": "step"}, r"f.yaml has no setting 'shap'; did you mean 'shape'"),
        ({"inner": {"nmes": []}}, r"f.yaml.inner has no setting 'nmes'; did you mean 'names'"),
        ({"inner": 3}, r"f.yaml.inner should be a mapping of settings, not 3"),
        ({"shape": "steps"}, r"f.yaml.shape is 'steps'; did you mean 'step'"),
        ({"count": 9}, r"f.yaml.count is 9 but should be between 1 and 8; leave it out to have it chosen"),
        ({"count": 1.5}, r"f.yaml.count should be a whole number, not 1.5"),
        ({"count": True}, r"f.yaml.count should be a whole number, not True"),
        ({"loud": 1}, r"f.yaml.loud should be true or false, not 1"),
        ({"rate": 0}, r"f.yaml.rate is 0 but should be above 0"),
        ({"rate": float("nan")}, r"f.yaml.rate is nan but should be above 0"),
        ({"rate": float("inf")}, r"f.yaml.rate is inf but should be above 0"),
        ({"inner": {"share": 1.0}}, r"f.yaml.inner.share is 1 but should be at least 0 and below 1"),
        ({"width": 98}, r"f.yaml.width is 98 but should be between 32 and 1000000000 and a multiple of 4"),
        ({"width": 10**9 + 4}, r"f.yaml.width is 1000000004 but should be"),
        ([], r"f.yaml should be a mapping of settings, not \[\]"),
    ],
)
def test_what_cannot_be_right_is_one_sentence(values, message):
    with pytest.raises(ConfigError, match=message):
        make(Outer, values, "f.yaml")


def test_the_ends_of_a_range_belong_to_it_or_not_as_declared():
    assert make(Outer, {"count": 1}, "").count == 1
    assert make(Outer, {"count": 8}, "").count == 8
    assert make(Outer, {"width": 32}, "").width == 32
    assert make(Inner, {"share": 0}, "").share == 0.0


def test_values_changed_later_are_held_too():
    config = Outer()
    config.count = 0
    with pytest.raises(ConfigError, match="count is 0"):
        check(config)
    config.count, config.rate = None, "2"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ConfigError, match="rate should be a number, not '2'"):
        check(config)


def test_flags_are_text_that_is_read_as_the_declared_type():
    config = Outer()
    for name, text in {"count": "auto", "rate": "1e-3", "loud": "true", "shape": "step"}.items():
        assign(config, name, text)
    assert list(leaves(config))[:4] == [("shape", "step"), ("count", None), ("loud", True), ("rate", 1e-3)]
    found = read_groups(["--o.rate", "3", "--i.names=a,b", "--o.loud"], {"o": Outer, "i": Inner})
    assert found == {"o": {"rate": 3.0, "loud": True}, "i": {"names": ("a", "b")}}


def test_an_unknown_flag_is_compared_with_those_of_its_command_only():
    with pytest.raises(ConfigError, match=r"unknown flag --sedd; did you mean 'seed'"):
        read_flags(["--sedd", "3"], ["label.dt"], ["seed", "dry_run"])
    with pytest.raises(ConfigError, match=r"unknown flag --weight; choose from dry-run, label.dt$"):
        read_flags(["--weight", "3"], ["label.dt"], ["dry_run"])
