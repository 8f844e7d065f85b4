"""What a run has cost, as its record and the constraints of studies name it."""

from __future__ import annotations

from pathlib import Path

from phasewise.study.constraints import COSTS
from phasewise.training.cost import measured_cost


def test_constraints_know_our_costs(tmp_path: Path) -> None:
    assert {*measured_cost(tmp_path, [], None, None), "seconds", "receptive_field"} == {*COSTS}
