"""Where the best value of a number is at the end of all that were tried: values beyond it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from phasewise.analysis.audit.choices import LEAST_VALUES
from phasewise.analysis.proposals.known import Known, numbers
from phasewise.analysis.proposals.proposal import Proposal, last_name
from phasewise.analysis.statistics.frame import EPOCHS_KEY, is_number
from phasewise.study.results import typed
from phasewise.study.space import Dimension

MORE = 2
"""So many values are proposed beyond an end."""

LEAST_RATIO, MOST_RATIO = 1.25, 10.0
"""Between two of them. A smaller one hardly leaves the end, a larger one may leap over the best."""

NO_NEIGHBOUR = 2.0
"""The ratio where the next value is 0 or has another sign."""


def edges(known: Known, fixed: Collection[str] = ()) -> Iterator[Proposal]:
    """A phase for each number whose best value is the smallest or the largest of all tried, but for
    those that never mattered: whose best is anywhere."""
    for key in known.keys:
        if key in fixed:
            continue
        chosen = known.setting(key)
        if key == EPOCHS_KEY or not is_number(chosen) or chosen == 0:
            continue
        tried = numbers(known.tried(key))
        side = _side(known, key, float(chosen), tried)
        if not side:
            continue
        space = _searched(known, key)
        ends = tried if space is None else numbers([*tried, space.low, space.high])
        values = beyond(ends, side)
        name = last_name(key)
        where = "largest" if side > 0 else "smallest"
        yield Proposal(
            "edge",
            f"{name}_beyond",
            tuple((f"{key}={as_word(value)}",) for value in values),
            f"the best {key}, {as_word(chosen)}, is the {where} of all that were tried "
            f"({as_word(ends[0])} to {as_word(ends[-1])}): a better one may lie beyond",
        )


def _side(known: Known, key: str, chosen: float, tried: Sequence[float]) -> int:
    """1 at the largest, -1 at the smallest, 0 in between, or where too few were tried to tell.

    A search hardly asks for the end itself; what comes near it counts.
    """
    space = _searched(known, key)
    if space is not None and space.low <= chosen <= space.high:
        return {"smallest": -1, "largest": 1}.get(space.end_near(chosen), 0)
    declared = [
        typed(value) for phase in known.varied(key) for value in phase.plan.declared.get(key, [])
    ]
    if len(numbers([*tried, *declared])) < LEAST_VALUES or len(tried) < 2:
        return 0
    return 1 if chosen == tried[-1] else -1 if chosen == tried[0] else 0


def _searched(known: Known, key: str) -> Dimension | None:
    """The interval of a key that was searched, if nothing beyond it has run since."""
    for phase in known.varied(key):
        for one in phase.plan.search.space if phase.plan.search is not None else []:
            tried = numbers(known.tried(key))
            if one.name == key and one.kind != "choice":
                return one if one.low <= tried[0] and tried[-1] <= one.high else None
    return None


def beyond(values: Sequence[float], side: int) -> list[float]:
    """`MORE` values beyond an end, at the ratio of the last two there.

    Within 0 and 1, from one half up, it is the distance to 1 that shrinks, so that rates stay
    rates. Whole numbers stay whole, and multiples of what all of them are multiples of.

    Args:
        values: ascending, at least two.
        side: 1 for the upper end, -1 for the lower one.
    """
    ordered = list(values) if side > 0 else list(values)[::-1]
    end, neighbour = ordered[-1], ordered[-2]
    if all(isinstance(value, int) for value in values):
        return _whole([int(value) for value in values], end, neighbour, side)
    if side > 0 and 0.5 <= end < 1 and all(0 <= value < 1 for value in values):
        return [_rounded(1 - value) for value in _scaled(1 - end, 1 - neighbour)]
    return [_rounded(value) for value in _scaled(end, neighbour)]


def _scaled(end: float, neighbour: float) -> list[float]:
    if neighbour == 0 or (end < 0) != (neighbour < 0):
        ratio = NO_NEIGHBOUR
    else:
        ratio = end / neighbour
        away = min(max(ratio, 1 / ratio, LEAST_RATIO), MOST_RATIO)
        ratio = away if ratio > 1 else 1 / away
    return [end * ratio**step for step in range(1, MORE + 1)]


def _whole(values: Sequence[int], end: float, neighbour: float, side: int) -> list[float]:
    unit = math.gcd(*values)
    found: list[float] = []
    last = round(end)
    for value in _scaled(end, neighbour):
        multiple = round(value / unit) * unit
        last = max(multiple, last + unit) if side > 0 else min(multiple, last - unit)
        if last > 0 or end <= 0:
            found.append(last)
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def as_word(value: object) -> str:
    """A number as one types it: fractions have a point or an exponent, whole numbers none."""
    return repr(value) if is_number(value) else str(value)
