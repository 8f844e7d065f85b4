"""Whether validation can tell one network from another: what the records of runs show of that.

The audit asks it of the candidates of a study (`phasewise.analysis.audit.validation`); of a single
run, `run_remarks` is what its end message says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from phasewise.records.baselines import BEFORE
from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.study.measures import is_lower_better
from phasewise.study.override_checks import FOLDS
from phasewise.study.saved_config import SavedConfig

CEILING = 0.995
"""Where a score that ends at 1 is called full: what is left to win is less than .5 %."""

LEAST_FULL = 2
"""A single epoch at the ceiling has not been chosen among equals."""

LEAST_JUMPS = 3
"""Of less differences between successive epochs a median says nothing."""

JUMPS = 0.05
"""Share of its best value by which a single run's validation may jump unremarked; the ordinary
jitter of a score is a few percent."""

WIDE = 0.1
"""Share of a single run's objective that its interval may reach to either side unremarked."""

ROUNDING = 1e-6
"""Relative; metrics are float32 in a history and float64 among the baselines."""

LOST = 0.02
"""Share of its score before training that a metric beside the objective may lose unremarked."""

NORMAL_95 = 1.96
"""Of a normal distribution 95 % lie within so many standard deviations."""

# What to do, by rule, in the words that one types.
HARDER = "data.validation=... holds out whole groups, cameras or recordings"
GENTLER = "a smaller optimizer.lr, fewer epochs or finetuning.interpolate=0.5 keep more of it"
LONGER = "more epochs or another optimizer.lr"
CALMER = "a smaller optimizer.lr, scheduler=cosine or finetuning.ema=0.99 calm it"
MORE_ITEMS = f"more validation data, or cross-validation: {FOLDS}"

_ALIKE = re.compile(r"\d+ of \d+ images of \w+ look like one of \w+ \(.+?\)(?=, \d+ of |: |$)")
"""How `phasewise.data.look_alikes` words that images of two splits look alike."""


class Full(NamedTuple):
    """Epochs of a run whose objective is at its ceiling: how many, of how many, from which on."""

    full: int
    epochs: int
    first: int

    @property
    def most(self) -> bool:
        """Whether they are so many that the best epoch is one of equals."""
        return self.full >= LEAST_FULL and 2 * self.full >= self.epochs

    def __str__(self) -> str:
        return f"in {self.full} of {self.epochs} epochs, from epoch {self.first} on"


def is_full(values: Sequence[float], mode: str) -> bool:
    """Whether a metric can be told to end at 1 (more is better, and all its values lie from 0 to 1)
    and the mean of these values is at that ceiling, see `CEILING`."""
    bounded = mode == "max" and all(0 <= value <= 1 for value in values)
    return bool(values) and bounded and fmean(values) >= CEILING


def full_epochs(rows: Sequence[Row], objective: Mapping[str, Any]) -> Full | None:
    """The epochs in which the objective is at its ceiling; None if it never is, or has none."""
    values = _by_epoch(rows, objective["metric"])
    if objective["mode"] != "max" or not all(0 <= value <= 1 for value in values.values()):
        return None
    full = [epoch for epoch, value in values.items() if value >= CEILING]
    return Full(len(full), len(values), full[0]) if full else None


def jump(rows: Sequence[Row], metric: str) -> float:
    """By how much a metric typically jumps from one epoch to the next near the end of a run.

    The median absolute difference between successive values over the last half of the epochs, their
    mean difference taken off: a steady rise or fall is no jump.

    Returns:
        NaN with less than `LEAST_JUMPS` differences.
    """
    values = [*_by_epoch(rows, metric).values()]
    late = values[len(values) // 2 :]
    steps = [after - before for before, after in pairwise(late)]
    if len(steps) < LEAST_JUMPS:
        return math.nan
    trend = fmean(steps)
    return median(abs(step - trend) for step in steps)


def _by_epoch(rows: Sequence[Row], metric: str) -> dict[int, float]:
    """The values of a metric that are defined, by epoch."""
    found = {int(row["epoch"]): row.get(metric, math.nan) for row in rows}
    return {epoch: value for epoch, value in found.items() if math.isfinite(value)}


class Loss(NamedTuple):
    """A metric that training has not bettered: after it, and before."""

    metric: str
    trained: float
    before: float

    def __str__(self) -> str:
        return f"{self.metric} {self.trained:.4g}, before training {self.before:.4g}"


def losses_of_training(records: Sequence[RunRecord], split: str) -> list[Loss]:
    """What the network before training does no worse than the trained one, in means over runs.

    The objective's metric first, unless both are as good as can be; then those that tables show
    first, where they have lost more than `LOST`.

    Args:
        records: of one configuration.
        split: ``val``, by the best epoch; ``test``.
    """
    goal, mode = records[0].objective["metric"].partition("/")[2], records[0].objective["mode"]
    found = []
    for name in dict.fromkeys([goal, *records[0].headline]):
        metric = f"{split}/{name}"
        pairs = [
            (float(trained), float(before))
            for record in records
            if (trained := _scores(record, split).get(metric)) is not None
            and (before := record.baselines.get(BEFORE, {}).get(metric)) is not None
        ]
        if not pairs:
            continue
        trained, before = (fmean(column) for column in zip(*pairs, strict=True))
        lower = mode == "min" if name == goal else is_lower_better(name)
        lost = trained - before if lower else before - trained
        if name != goal:
            worse = lost > LOST * abs(before)
        elif is_full([before], mode):
            worse = lost > ROUNDING * abs(before)
        else:
            worse = lost >= -ROUNDING * abs(before)  # nothing learnt is no gain, also from 0 to 0
        if worse:
            found.append(Loss(metric, trained, before))
    return found


def had_weights(saved: SavedConfig) -> bool:
    """Whether a network began with weights that came, as far as its config tells: only such weights
    can be kept."""
    return not saved.config or bool(saved.get("model.pretrained") or saved.get("init_from"))


def _scores(record: RunRecord, split: str) -> Mapping[str, Any]:
    return record.best if split == "val" else record.test or {}


class Half(NamedTuple):
    """A 95 % interval over items reaches so far to either side; of so many items."""

    width: float
    items: int
    unit: str
    paired: bool = False


def half_width(record: RunRecord) -> Half | None:
    """Of a run's objective; None where its record does not tell."""
    values = _resampled(record)
    if values is None:
        return None
    about = record.resampled
    return Half(NORMAL_95 * float(np.nanstd(values)), about["count"], about["unit"])


def half_width_between(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> Half | None:
    """Of the mean difference of the objective between two configurations.

    A normal interval by the bootstrap's standard deviation (Efron & Tibshirani 1993, "An
    Introduction to the Bootstrap", section 13.3). Where both runs of a pair were judged by the same
    items, a resample holds the same ones for both, and what is resampled is their difference; else
    the two are taken as independent, which is wider. Pairs with other items, as folds have, are
    independent of each other.

    Args:
        pairs: runs of both, of one seed each.

    Returns:
        None where a record does not tell.
    """
    same: dict[tuple[Any, ...], list[npt.NDArray[np.float64]]] = {}
    apart: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
    for one, other in pairs:
        ours, theirs = _resampled(one), _resampled(other)
        if ours is None or theirs is None:
            return None
        items = _items(one)
        if items is not None and items == _items(other):
            same.setdefault(items, []).append(ours - theirs)
        else:
            apart.append((ours, theirs))
    sums = [np.sum(each, axis=0) for each in (*same.values(), *zip(*apart, strict=True))]
    spread = math.sqrt(sum(float(np.nanvar(each)) for each in sums)) / len(pairs)
    about = pairs[0][0].resampled
    count = sum(items[1] for items in same) if same and not apart else about["count"]
    return Half(NORMAL_95 * spread, count, about["unit"], paired=not apart)


def _resampled(record: RunRecord) -> npt.NDArray[np.float64] | None:
    """Of the objective; one that is undefined in nearly all resamples has no spread."""
    about = record.resampled
    if about.get("metric") != record.objective["metric"] or not about.get("values"):
        return None
    values = np.array([math.nan if it is None else it for it in about["values"]], np.float64)
    return values if np.isfinite(values).sum() > len(values) / 2 else None


def _items(record: RunRecord) -> tuple[Any, ...] | None:
    """What the items of validation are, how many, and how often resampled; None if unknown."""
    held = (record.data.get("hashes") or {}).get("val")
    return (
        None if held is None else (held, record.resampled["count"], len(record.resampled["values"]))
    )


def look_alikes_of(data: Mapping[str, Any]) -> list[str]:
    """What the reading of the data has found of images that are nearly the same in two splits."""
    remarks = data.get("warnings")
    reasons = [
        str(it.get("reason"))
        for it in (remarks if isinstance(remarks, list) else [])
        if isinstance(it, dict)
    ]
    return [found for reason in reasons for found in _ALIKE.findall(reason)]


def run_remarks(record: RunRecord, rows: Sequence[Row]) -> Iterator[str]:
    """What keeps the figures of a single completed run from meaning what they seem to, a line each.

    Args:
        record: of it.
        rows: its history.
    """
    objective = record.objective
    metric, value = objective["metric"], objective["value"]
    if (full := full_epochs(rows, objective)) is not None and full.most:
        yield (
            f"saturated: {metric} is at its ceiling ({CEILING:g} or more) {full}: it cannot choose "
            f"the best of them; {HARDER}, or another objective.metric"
        )
    for split in ("val", "test"):
        if lost := losses_of_training([record], split):
            advice = GENTLER if had_weights(SavedConfig(record.directory)) else LONGER
            yield f"worse_than_start: {'; '.join(map(str, lost))}: {advice}"
    if value is None:
        return
    if (size := jump(rows, metric)) > JUMPS * abs(value):
        yield (
            f"unstable: {metric} jumps by {size:.2g} between epochs (median of the last half): "
            f"the best epoch is partly luck; {CALMER}"
        )
    half = half_width(record)
    if half is not None and half.width > WIDE * abs(value):
        yield (
            f"too_few_items: over the {half.items} {half.unit} of validation, {metric} is "
            f"{value:.3g} +- {half.width:.2g} (95 %); {MORE_ITEMS}"
        )
    for found in look_alikes_of(record.data):
        yield f"split_leaks: {found}: figures on copies are too good"
