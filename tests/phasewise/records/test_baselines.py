from __future__ import annotations

from phasewise.records.baselines import rivals


def test_what_is_perfect_is_nothing_to_beat() -> None:
    assert rivals({"otsu": 1, "perfect_mask": 2, "majority": 3}) == {"otsu": 1, "majority": 3}
