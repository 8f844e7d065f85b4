from __future__ import annotations

import itertools
import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from phasewise.study.naming import MAX_LENGTH, trial_name


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (
            ["optimizer.lr=1e-3", "model.activation=gelu"],
            "model.activation=gelu,optimizer.lr=0.001",
        ),
        (
            ["optimizer.lr=0.001", "model.activation='gelu'"],
            "model.activation=gelu,optimizer.lr=0.001",
        ),
        ([], "default"),
        (["data=voc"], "data=voc"),
        (["test=True"], "test=true"),
        (["early_stopping.patience=null"], "early_stopping.patience=null"),
        (["data.augment=[flip, erase]"], "data.augment=(flip,erase)"),
        (["data.augment=[]"], "data.augment=()"),
        (["data.augment=[flip,{erase:{p: .5}}]"], "data.augment=(flip,{erase={p=0.5}})"),
        (["a={y:1,x:2}"], "a={x=2,y=1}"),
        (["seed=-1"], "seed=-1"),
        (["optimizer.lr=1"], "optimizer.lr=1"),
        (["optimizer.lr=1.0"], "optimizer.lr=1.0"),
        (["+a.b=1", "~c"], "+a.b=1,~c"),
        (["db@src=x"], "db@src=x"),
    ],
)
def test_readable_names(overrides: list[str], name: str) -> None:
    assert trial_name(overrides) == name


def test_what_a_file_system_dislikes_is_replaced_and_hashed() -> None:
    names = [
        trial_name([f"model.pretrained={path}"])
        for path in ("/weights/a.pt", "weights/a.pt", r"'C:\weights\a.pt'", "'weights a.pt'")
    ]
    assert re.fullmatch(r"model\.pretrained=_weights_a\.pt~[0-9a-f]{10}", names[0])
    assert len(set(names)) == 4


VALUES = [
    *(
        "1",
        "'1'",
        "1.0",
        "'1.0'",
        "01",
        "1e-5",
        "'1e-05'",
        "true",
        "'true'",
        "null",
        "'null'",
        "''",
    ),
    *("a", "'a,b'", "[a,b]", "['a,b']", "[[a],b]", "[[a,b]]", "[]", "['']", "'[]'", "'()'", "{}"),
    *("'{}'", "{a:b}", "['a=b']", "[{a:b}]", "a/b", "a:b", "a_b", "'a b'", "'a  b'", "a-b", "inf"),
    *("'inf'", "'a~0123456789'", "'é'", "'è'", "{1:2}", "{1.0:2}", "${x}", "a\\,b", "'.'", "'a*'"),
    *("x" * 200, "x" * 201, "[" + ",".join(map(str, range(99))) + "]"),
]


def parsed(overrides: list[str]) -> str:
    return repr(
        [
            (o.get_key_element(), o.value_type is None, o.value())
            for o in OverridesParser.create().parse_overrides(overrides)
        ]
    )


def test_different_parsed_overrides_never_share_a_name() -> None:
    lists = [[f"k={value}"] for value in VALUES]
    lists += [[f"k={a}", f"l={b}"] for a, b in itertools.product(VALUES, VALUES[::5])]
    lists += [
        ["k='1,l=2'"],
        ["k=1", "l=2"],
        ["~k"],
        ["~k=null"],
        ["+k=1"],
        ["++k=1"],
        ["k/x=a"],
    ]
    lists += [["k.x=a"], ["k_x=a"], ["k=1", "++k=2"], ["++k=2", "k=1"], []]
    names: dict[str, str] = {}
    for overrides in lists:
        meaning = parsed(overrides)
        name = trial_name(overrides)
        assert names.setdefault(name, meaning) == meaning, name
        assert len(name) <= MAX_LENGTH
        assert name.isascii()
        assert not re.search(r"""[/\\:*?"'<>|\s\[\]$;&#%]""", name)
    assert len(names) == len({parsed(overrides) for overrides in lists})


def test_the_order_of_keys_does_not_count() -> None:
    overrides = ["b.long=" + "x" * 150, "a=1", "c=[1]"]
    assert len({trial_name(order) for order in itertools.permutations(overrides)}) == 1


def test_a_cut_name_begins_with_what_varies() -> None:
    overrides = ["a.long=" + "x" * 150, "b=1", "optimizer.lr=0.1", "seed=1"]
    name = trial_name(overrides, {"optimizer.lr", "seed"})
    assert name.startswith("optimizer.lr=0.1,seed=1,a.long=xxx")
    assert name[-11:] == trial_name(overrides)[-11:]
    assert len(name) == MAX_LENGTH
    assert trial_name(["a=1", "b=2"], {"b"}) == "a=1,b=2"


def test_sweeps_and_nonsense_are_refused() -> None:
    with pytest.raises(ValueError, match="a sweep"):
        trial_name(["seed=0,1"])
    with pytest.raises(ValueError, match="a sweep"):
        trial_name(["data=glob(*)"])
    with pytest.raises(OverrideParseException):
        trial_name(["seed"])
