"""Words in Hydra's sweep grammar as a space, against what Optuna draws from it."""

from __future__ import annotations

import math
import random

import pytest
from optuna import distributions

from phasewise.errors import UserError
from phasewise.study.naming import parse_override
from phasewise.study.space import Dimension, draw_value, read_space


def one(word: str) -> Dimension:
    (found,) = read_space([word]).dimensions
    return found


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("a=interval(0,0.5)", distributions.FloatDistribution(0.0, 0.5)),
        ("a=tag(log,interval(1e-5,1e-1))", distributions.FloatDistribution(1e-5, 0.1, log=True)),
        ("a=int(interval(1,8))", distributions.IntDistribution(1, 8)),
        ("a=tag(log,int(interval(1,64)))", distributions.IntDistribution(1, 64, log=True)),
        ("a=range(1,9)", distributions.IntDistribution(1, 8)),
        ("a=range(16,65,16)", distributions.IntDistribution(16, 64, step=16)),
        ("a=range(8,0,-2)", distributions.IntDistribution(2, 8, step=2)),
        ("a=range(0.1,0.5,0.1)", distributions.FloatDistribution(0.1, 0.4, step=0.1)),
        ("a=range(0,1,0.25)", distributions.FloatDistribution(0.0, 0.75, step=0.25)),
        ("a=b,c", distributions.CategoricalDistribution(["a=b", "a=c"])),
        ("a=choice(1,2,4)", distributions.CategoricalDistribution(["a=1", "a=2", "a=4"])),
        ("a=shuffle(1,2,3)", distributions.CategoricalDistribution(["a=1", "a=2", "a=3"])),
        ("a=shuffle(range(1,5))", distributions.IntDistribution(1, 4)),
        ("a=range(3,4)", distributions.CategoricalDistribution(["a=3"])),
        ("a=[1,2],[3]", distributions.CategoricalDistribution(["a=[1,2]", "a=[3]"])),
    ],
)
def test_what_words_mean(word: str, wanted: distributions.BaseDistribution) -> None:
    assert one(word).distribution() == wanted


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a=1"], "search: has nothing to search"),
        (["a=interval(2,1)"], "a=interval(2,1): an interval goes from a number to a larger one"),
        (["a=tag(log,interval(0,1))"], "a logarithmic interval begins above 0"),
        (["a=tag(lgo,interval(1,2))"], "a search knows no tag lgo; log is one"),
        (["a=tag(log,range(0.1,0.5,0.1))"], "log is for numbers of an interval, or whole ones"),
        (["a=tag(log,choice(1,2))"], "log is for numbers of an interval, or whole ones"),
        (["a=range(1,5,0)"], "the step of a range must not be 0"),
        (["a=range(5,1)"], "has no values"),
        (["a=interval(1,2"], "a=interval(1,2: "),
    ],
)
def test_what_describes_no_space(words: list[str], told: str) -> None:
    with pytest.raises(UserError) as stop:
        read_space(words)
    assert told in str(stop.value)
    assert len(str(stop.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("word", "value", "written"),
    [
        ("a=interval(0,0.5)", 0.123456789, "a=0.1235"),
        ("a=interval(100,101)", 100.123456, "a=100.123"),
        ("a=interval(0,1)", 0.00123456, "a=0.001"),
        ("a=tag(log,interval(1e-5,1e-1))", 3.14159e-5, "a=3.142e-05"),
        ("a=tag(log,interval(1e-5,1e-1))", 1.00001e-5, "a=1e-05"),
        ("a=tag(log,interval(1.00015e-5,1e-1))", 1.0002e-5, "a=1.00015e-05"),  # never outside
        ("a=int(interval(1,8))", 3, "a=3"),
        ("a=range(0,1,0.1)", 0.30000000000000004, "a=0.3"),
        ("++a=b,c", "++a=c", "++a=c"),
    ],
)
def test_a_value_has_one_form(word: str, value: float | str, written: str) -> None:
    found = one(word).word(value)
    assert found == written
    if not isinstance(value, str):  # and is read back as that number
        assert parse_override(found).value() == float(written.partition("=")[2])


@pytest.mark.parametrize(
    ("word", "given", "held"),
    [
        ("a=interval(0,0.5)", "a=0.25", 0.25),
        ("a=interval(0,0.5)", "a=0.51", None),
        ("a=interval(0,0.5)", "a=x", None),
        ("a=interval(0,1)", "a=true", None),
        ("a=int(interval(1,8))", "a=3", 3),
        ("a=int(interval(1,8))", "a=3.5", None),
        ("a=range(16,65,16)", "a=48", 48),
        ("a=range(16,65,16)", "a=40", None),
        ("a=range(0,1,0.1)", "a=0.7", 0.7),
        ("a=1e-3,1e-2", "a=0.001", "a=0.001"),
        ("a=b,c", "a=d", None),
        ("a=[flip],[flip,cutout]", "a=[flip,cutout]", "a=[flip,cutout]"),
    ],
)
def test_which_values_lie_in_it(word: str, given: str, held: object) -> None:
    assert one(word).holds(given) == held


@pytest.mark.parametrize(
    ("word", "limit", "share"),
    [
        ("a=interval(0,4)", 1, 1 / 4),
        ("a=range(0,4,0.5)", 1, 3 / 8),
        ("a=int(interval(1,8))", 2, 2 / 8),
        ("a=tag(log,interval(1e-5,1e-1))", 1e-4, 1 / 4),
        # each whole number has the stretch of which it is the nearest one
        ("a=tag(log,int(interval(1,64)))", 8, math.log(8.5 / 0.5) / math.log(64.5 / 0.5)),
    ],
)
def test_a_random_value_is_drawn_on_its_scale(word: str, limit: float, share: float) -> None:
    draw, dimension = random.Random(0), one(word)
    values = [float(draw_value(dimension, draw)) for _ in range(4000)]
    assert all(dimension.low <= value <= dimension.high for value in values)
    assert sum(value <= limit for value in values) / 4000 == pytest.approx(share, abs=0.03)


def test_how_many_there_are() -> None:
    words = ["a=b,c,d", "e=range(0,1,0.25)", "f=int(interval(1,8))", "g=1"]
    space = read_space(words)
    assert space.size == 3 * 4 * 8
    assert space.fixed == ["g=1"]
    assert space.declared == {"a": ["b", "c", "d"]}
    assert read_space([*words, "h=interval(0,1)"]).size == math.inf
