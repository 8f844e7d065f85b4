"""Axes and colours that one value far off does not spoil."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from phasewise.report.figures.style import FAINT
from phasewise.report.text import number

FAR = 10.0
"""A group of values is far off if it lies so many times farther from the median of all than the
others do in their median; where the axis may be logarithmic also, in decades, `FAR_IN_DECADES`
times, for values of many magnitudes lie side by side there."""
FAR_IN_DECADES = 3.0

DECADES = 2.0
"""Positive values that span as many are drawn on a logarithmic axis."""

MARGIN = 0.05
"""Of an axis beyond its values, as a share of their range."""


@dataclass(frozen=True)
class Limits:
    """What an axis shows.

    Attributes:
        low, high: its ends.
        log: whether it is logarithmic.
        outside: indices of the groups that leave it.
        count: of all groups.
        farthest: the value farthest outside; NaN without one.
    """

    low: float
    high: float
    log: bool = False
    outside: tuple[int, ...] = ()
    count: int = 0
    farthest: float = np.nan

    @property
    def note(self) -> str:
        """What a figure must say where not everything is inside.

        A group may be several lines, or one dot: it has no name here.
        """
        gone = len(self.outside)
        if not gone:
            return ""
        leave = "leaves" if gone == 1 else "leave"
        return f"{gone} of {self.count} {leave} this panel, to {number(self.farthest)}"


def robust_limits(
    groups: Sequence[Sequence[float]],
    *,
    may_be_log: bool,
    whole: bool = True,
    kept: Collection[int] = (),
    only_above: bool = False,
) -> Limits | None:
    """Limits for groups of values (a run's epochs, a cell).

    Args:
        groups: finite values of each; empty ones do not count.
        may_be_log: whether values that span `DECADES` and are all above 0 get a logarithmic axis.
        whole: whether fractions, all within 0..1, are shown as a whole.
        kept: indices of groups that stay inside in any case.
        only_above: whether the axis is never cut off at its lower end.

    Returns:
        None without any value.
    """
    found = {i: np.asarray(values, float) for i, values in enumerate(groups) if len(values)}
    if not found:
        return None
    pooled = np.concatenate(list(found.values()))
    fractions = pooled.min() >= 0 and pooled.max() <= 1
    outside = set() if whole and fractions else _far_off(found, FAR)
    if outside and may_be_log and pooled.min() > 0:
        outside &= _far_off({i: np.log10(values) for i, values in found.items()}, FAR_IN_DECADES)
    outside -= {*kept}
    inside = np.concatenate([values for i, values in found.items() if i not in outside])
    if only_above:
        outside = {i for i in outside if found[i].max() > inside.max()}
        inside = np.concatenate([inside, pooled[pooled < inside.max()]])
    low, high = float(inside.min()), float(inside.max())
    log = may_be_log and low > 0 and high >= low * 10**DECADES
    if log:
        factor = (high / low) ** MARGIN
        low, high = low / factor, high * factor
    else:
        if low == high == 0:  # mostly a metric that never rose, and those are fractions
            high = 1.0
        margin = MARGIN * (high - low) or 0.05 * abs(high)
        low, high = low - margin, high + margin
    farthest = np.nan
    if outside:
        gone = np.concatenate([found[i] for i in outside])
        farthest = float(gone[np.argmax(np.abs(gone - np.median(inside)))])
    return Limits(low, high, log, tuple(sorted(outside)), len(found), farthest)


def _far_off(found: dict[int, np.ndarray], times: float) -> set[int]:
    """Less than half of the groups, but of two one."""
    middle = np.median(np.concatenate(list(found.values())))
    away = {i: float(np.abs(values - middle).max()) for i, values in found.items()}
    if len(away) < 2:
        return set()
    usual = {i: float(np.median([away[j] for j in away if j != i])) for i in away}
    far = {i for i in away if away[i] > times * usual[i] > 0}
    return far if 2 * len(far) < len(found) or len(found) == 2 else set()


def possible_range(scores: Sequence[float], *, spread: bool = False) -> tuple[float, float]:
    """Between which values means of such scores lie: 0 and 1 where all are fractions.

    Args:
        scores: finite or NaN.
        spread: whether they are standard deviations, which are never below 0.
    """
    known = [score for score in scores if np.isfinite(score)]
    if known and min(known) >= 0 and max(known) <= 1 and not spread:
        return 0.0, 1.0
    return (0.0 if spread else -np.inf), np.inf


def whisker(mean: float, error: float, ends: tuple[float, float]) -> tuple[float, float]:
    """How far an error bar goes down and up without leaving ``ends``; NaN where it is unknown."""
    if np.isnan(error):
        return error, error
    return min(error, mean - ends[0]), min(error, ends[1] - mean)


def limit_axis(ax: Axes, limits: Limits | None) -> None:
    """Give a vertical axis its limits, with a note about what leaves it."""
    if limits is None:
        return
    if limits.log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")  # the default is a formula
        ax.yaxis.set_minor_formatter("")
    ax.set_ylim(limits.low, limits.high)
    if limits.note:
        ax.set_title(limits.note, loc="left", fontsize=6, color=FAINT)
