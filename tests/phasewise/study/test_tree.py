"""Which phase builds on which."""

from __future__ import annotations

from itertools import combinations

import pytest

from phasewise.study.schema import PhaseConfig
from phasewise.study.tree import Tree, tree_of, tree_of_specs, wrong_sources

CHAIN = tree_of((name, None, False) for name in "abc")
BRANCHED = tree_of(
    [
        ("a", None, False),
        ("b", None, False),
        ("c", "a", False),
        ("d", None, False),
        ("e", "start", False),
        ("f", None, True),
        ("g", "b", True),
    ]
)


def test_without_from_each_phase_follows_the_one_before() -> None:
    assert CHAIN.parents == {"a": (), "b": ("a",), "c": ("b",)}
    assert CHAIN.is_chain
    assert CHAIN.leaves == ["c"]
    assert CHAIN.upstream("c") == ["a", "b"]
    assert [*CHAIN.steps(side_by_side=True)] == [["a"], ["b"], ["c"]]


def test_from_makes_branches_and_a_rerun_takes_from_all_of_them() -> None:
    assert BRANCHED.parents == {
        "a": (),
        "b": ("a",),
        "c": ("a",),
        "d": ("c",),
        "e": (),
        "f": ("b", "d", "e"),
        "g": ("b",),
    }
    assert not BRANCHED.is_chain
    assert BRANCHED.leaves == ["f", "g"]
    assert BRANCHED.upstream("d") == ["a", "c"]
    assert BRANCHED.upstream("f") == ["a", "b", "c", "d", "e"]
    assert BRANCHED.depths() == {"a": 0, "b": 1, "g": 2, "c": 1, "d": 2, "e": 0, "f": 1}


def test_a_rerun_in_a_chain_follows_the_phase_before() -> None:
    assert tree_of([("a", None, False), ("b", None, True)]).is_chain
    assert not tree_of([("a", None, False), ("b", "start", False)]).is_chain


@pytest.mark.parametrize("tree", [CHAIN, BRANCHED])
def test_steps_hold_each_phase_once_after_its_parents_and_apart_from_them(tree: Tree) -> None:
    steps = [*tree.steps(side_by_side=True)]
    assert sorted(name for step in steps for name in step) == sorted(tree.names)
    done: set[str] = set()
    for step in steps:
        assert all(done.issuperset(tree.parents[name]) for name in step)
        assert all(one not in tree.upstream(other) for one, other in combinations(step, 2))
        done.update(step)
    assert [*tree.steps(side_by_side=False)] == [[name] for name in tree.names]


def test_phases_side_by_side() -> None:
    assert [*BRANCHED.steps(side_by_side=True)] == [["a", "e"], ["b", "c"], ["d", "g"], ["f"]]


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ({"a": None, "b": "ab"}, "study.phases.b.from=ab: not one of start, a"),
        ({"rate": None, "b": "rat"}, "not one of start, rate; did you mean rate?"),
        ({"a": "b", "b": "a"}, "study.phases.a.from=b: comes after it"),
        ({"a": "a"}, "study.phases.a.from=a: is the phase itself"),
        ({"start": None, "b": "start"}, "is the start of the study, and a phase too"),
    ],
)
def test_what_no_phase_can_start_from(sources: dict[str, str | None], told: str) -> None:
    phases = {
        name: PhaseConfig.model_validate({"overrides": "seed=1"} | ({"from": one} if one else {}))
        for name, one in sources.items()
    }
    (problem,) = wrong_sources(phases)
    assert told in str(problem)


def test_what_is_well() -> None:
    phases = {
        "a": PhaseConfig(overrides=["seed=1"]),
        "b": PhaseConfig.model_validate({"overrides": "seed=1", "from": "start"}),
        "c": PhaseConfig.model_validate({"overrides": "seed=1", "from": "a"}),
    }
    assert not [*wrong_sources(phases)]
    assert tree_of_specs(phases).parents == {"a": (), "b": (), "c": ("a",)}
