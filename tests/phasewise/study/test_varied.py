from __future__ import annotations

from pathlib import Path

from phasewise.study.journal import Candidate, Journal, Phase
from phasewise.study.varied import varied_keys


def phase(*lines: str, seeds: int = 1) -> Phase:
    candidates = [Candidate([*line.split()]) for line in lines]
    return Phase("p", "grid", {}, [*range(seeds)], candidates=candidates)


def keys(*phases: Phase) -> list[str]:
    return varied_keys(Journal(Path(), "s", "t", [], {}, [0], phases=[*phases]))


def test_keys_whose_values_differ_within_a_phase() -> None:
    same = phase("a=1 b=2 c=[x,y]", "a=1 b=3 c=[x,y]")
    absent = phase("", "d=1")
    assert keys(same, absent, phase("b=1", "b=1")) == ["b", "d"]
    assert keys(phase("a=1", "a=2"), phase("e=0", seeds=2)) == ["a", "seed"]
