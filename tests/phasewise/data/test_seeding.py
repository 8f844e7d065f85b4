from __future__ import annotations

import subprocess
import sys

import pytest

from phasewise.data.seeding import derive
from tests.conftest import ROOT


def test_same_parts_give_the_same_seed() -> None:
    assert derive(1, "order", 2) == derive(1, "order", 2)


def test_it_does_not_depend_on_the_process() -> None:
    """Python's own `hash` would: a resumed run is another process."""
    code = "from phasewise.data.seeding import derive; print(derive(7, 'order', 3))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(found.stdout) == derive(7, "order", 3)


@pytest.mark.parametrize(
    ("one", "other"),
    [((0, 1), (1, 0)), ((0, 1), (0, 2)), ((0, 1), (0, 1, 0)), ((1, 23), (12, 3)), ((1,), ("1",))],
)
def test_every_part_and_its_place_counts(one: tuple, other: tuple) -> None:
    assert derive(*one) != derive(*other)


def test_seeds_fit_a_torch_generator_and_are_spread_evenly() -> None:
    seeds = [derive(0, epoch, step) for epoch in range(100) for step in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    share = sum(seed < 2**62 for seed in seeds) / len(seeds)
    assert share == pytest.approx(0.5, abs=0.02)  # four standard deviations
