"""Answers to the hypotheses that a study's file states: yes, no or cannot be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import pandas as pd

from phasewise.analysis.statistics.frame import all_keys, in_order, trial_frame, typed
from phasewise.analysis.statistics.intervals import holm, paired_p
from phasewise.study.results import Setting, StudyResult, as_setting

ALPHA = 0.05
"""A difference with a larger p-value counts as noise."""

Verdict = Literal["yes", "no", "cannot be told"]
UNKNOWN: Verdict = "cannot be told"

LOWER_IS_BETTER = frozenset(
    {
        *("stability", "gap", "epochs_to_best"),
        *("seconds", "seconds_per_epoch", "peak_memory_mb", "parameters", "epochs"),
    }
)
"""Measures of which less is better; of metrics those whose name has ``loss`` or ``error`` in it."""


@dataclass(frozen=True)
class Answer:
    """To one hypothesis.

    Attributes:
        claim: as stated.
        verdict: the answer.
        evidence: what it rests on, in words.
        table: ``mean``, ``std`` and ``count`` of the measure by value of the key; ``None`` where
            there is nothing to show.
    """

    claim: str
    verdict: Verdict
    evidence: str
    table: pd.DataFrame | None = None


class _CannotTell(Exception):
    """The evidence says why."""


def answer_hypotheses(study: StudyResult) -> list[Answer]:
    """One per hypothesis of the journal, in its order.

    A hypothesis is a mapping of ``claim`` (text), ``key`` (a swept key), ``measure``
    (``objective``, another measure of `trial_frame` or a metric), optionally ``phase`` (name), and
    either

    - ``best: [values]``: the best mean of the measure is at one of these values, or
    - ``order: [a, b, c]``: its means rise strictly from the first of these values to the last.

    Two values are compared over trials that differ in nothing else (same phase, other settings and
    seed): the differences of such pairs are tested against 0 by a paired t-test, Holm-corrected for
    all comparisons of the hypothesis; without pairs, as in a random sample of a grid, all trials of
    one value are tested against all of the other by Welch's t-test. *Yes* or *no* needs p <= .05;
    *cannot be told* is the answer where differences are within noise, where there is one pair or
    trial only, or where a value never finished. A value at which most runs diverged, and none
    completed, is worst.
    """
    frame = trial_frame(study)
    return [_answer(stated, frame, study) for stated in study.plan.hypotheses]


def _answer(stated: Any, frame: pd.DataFrame, study: StudyResult) -> Answer:
    claim = str(stated.get("claim", "")) if isinstance(stated, Mapping) else str(stated)
    try:
        question = _Question(stated, frame, study)
    except _CannotTell as reason:
        return Answer(claim, UNKNOWN, str(reason))
    try:
        verdict, evidence = question.best() if question.named_best else question.order()
    except _CannotTell as reason:
        return Answer(claim, UNKNOWN, str(reason), question.table)
    return Answer(claim, verdict, evidence, question.table)


class _Question:
    """A hypothesis with the trials that answer it."""

    def __init__(self, stated: Any, frame: pd.DataFrame, study: StudyResult) -> None:
        if not isinstance(stated, Mapping) or not isinstance(stated.get("key"), str):
            raise _CannotTell("the hypothesis names no key")
        self.key: str = stated["key"]
        self.named_best = bool(stated.get("best"))
        named = stated.get("best") or stated.get("order")
        if not isinstance(named, list):
            raise _CannotTell("the hypothesis names neither best nor order")
        self.named: list[Setting] = [typed(value) for value in named]
        phases = _phases(study, self.key, stated.get("phase"))
        measure = str(stated.get("measure") or "objective")
        self.measure = "value" if measure == "objective" else measure
        self.measure_name = study.plan.objective["metric"] if measure == "objective" else measure
        if self.measure not in frame:
            raise _CannotTell(f"no trial has {self.measure_name}")
        self.lower = _lower_is_better(self.measure, self.measure_name, study)
        self.frame = frame[frame["phase"].isin(phases)]
        self.others = [key for key in all_keys(study) if key != self.key]
        own = [study.phases[number] for number in phases]
        declared = [typed(v) for phase in own for v in phase.plan.declared.get(self.key, [])]
        tried = [phase.setting(one, self.key) for phase in own for one in phase.candidates]
        self.values = in_order([*declared, *tried])
        groups = self.frame.groupby(self.key, sort=False)[self.measure]
        table = groups.agg(["mean", "std", "count"]).reindex(self.values)
        self.table = table.fillna({"count": 0})

    def best(self) -> tuple[Verdict, str]:
        """Whether the best mean is at one of the named values."""
        self._require([value for value in self.values if not self._diverged(value)])
        scored = self._scored(self.values)
        inside = [value for value in scored if value in self.named]
        outside = [value for value in scored if value not in self.named]
        if not inside:
            missing = [value for value in self.named if value not in self.values]
            what = "was never tried" if missing else "diverged"
            raise _CannotTell(f"{_listed(missing or self.named)} {what}")
        if not outside:
            raise _CannotTell("no other value has a result")
        top, rival = self._top(inside), self._top(outside)
        first, second = (top, rival) if self._top([top, rival]) == top else (rival, top)
        comparison = _compare(self.frame, self, first, second)
        rivals = [value for value in scored if (value in inside) != (first in inside)]
        p = min(1.0, comparison.p * len(rivals))  # the best of so many was chosen
        mean = self.table["mean"]
        text = (
            f"{self.measure_name} is best at {self.key}={first} (mean {mean[first]:.4g}), against "
            f"{second} ({mean[second]:.4g}); {comparison.text}, p = {p:.2g}"
        )
        if not p <= ALPHA:
            raise _CannotTell(f"{text}: within noise")
        return ("yes" if first in inside else "no"), text

    def order(self) -> tuple[Verdict, str]:
        """Whether means rise from each named value to the next."""
        if len(self.named) < 2:
            raise _CannotTell("an order needs two values")
        self._require(self.named)
        scored = self._scored(self.named)
        if len(scored) < len(self.named):
            lost = [value for value in self.named if value not in scored]
            raise _CannotTell(f"runs at {self.key}={_listed(lost)} diverged")
        steps = [_compare(self.frame, self, b, a) for a, b in pairwise(self.named)]
        corrected = holm([step.p for step in steps])
        mean = self.table["mean"]
        means = ", ".join(f"{value}: {mean[value]:.4g}" for value in self.named)
        found = "; ".join(
            f"{a} to {b}: {step.difference:+.3g}, p = {p:.2g} ({step.text})"
            for (a, b), step, p in zip(pairwise(self.named), steps, corrected, strict=True)
        )
        text = f"mean {self.measure_name} by {self.key}: {means}. {found}"
        clear = [p <= ALPHA for p in corrected]
        if any(c and step.difference < 0 for c, step in zip(clear, steps, strict=True)):
            return "no", text
        if all(clear):
            return "yes", text
        raise _CannotTell(f"{text}: within noise")

    def _top(self, values: Sequence[Setting]) -> Setting:
        mean = self.table["mean"]
        return (min if self.lower else max)(values, key=lambda value: mean[value])

    def _require(self, values: Sequence[Setting]) -> None:
        never = [value for value in values if value not in self._scored(values)]
        untried = [value for value in never if value not in self.values]
        if untried:
            raise _CannotTell(f"{self.key}={_listed(untried)} was never tried")
        if lost := [value for value in never if not self._diverged(value)]:
            raise _CannotTell(f"no run at {self.key}={_listed(lost)} finished with a result")

    def _scored(self, values: Sequence[Setting]) -> list[Setting]:
        count = self.table["count"]
        return [value for value in values if value in count.index and count[value] > 0]

    def _diverged(self, value: Setting) -> bool:
        status = self.frame.loc[self.frame[self.key] == value, "status"]
        return bool((status == "diverged").mean() > 0.5 and not (status == "completed").any())


@dataclass(frozen=True)
class _Comparison:
    """Of the measure at one value with that at another: mean difference, p-value, how."""

    difference: float
    p: float
    text: str


def _compare(frame: pd.DataFrame, question: _Question, a: Setting, b: Setting) -> _Comparison:
    from scipy import stats

    key, measure = question.key, question.measure
    rows = frame[frame[key].isin([a, b])].dropna(subset=[measure])
    match = ["phase", "seed", *question.others]
    wide = rows.pivot_table(index=match, columns=key, values=measure, aggfunc="mean", sort=False)
    pairs = (wide[a] - wide[b]).dropna() if a in wide and b in wide else pd.Series(dtype=float)
    if len(pairs) > 1:
        text = f"{len(pairs)} pairs that differ in nothing else"
        return _Comparison(float(pairs.mean()), paired_p(list(pairs)), text)
    first, second = (rows.loc[rows[key] == value, measure] for value in (a, b))
    if min(len(first), len(second)) < 2:
        raise _CannotTell(
            f"{key}={a} and {b} are compared by {len(first)} and {len(second)} trials, without "
            "another seed or setting that would show the noise"
        )
    p = float(stats.ttest_ind(first, second, equal_var=False).pvalue)
    text = f"{len(first)} against {len(second)} trials that also differ in other settings"
    return _Comparison(float(first.mean() - second.mean()), 1.0 if math.isnan(p) else p, text)


def _phases(study: StudyResult, key: str, name: Any) -> list[int]:
    compared = [
        (number, phase)
        for number, phase in enumerate(study.phases)
        if phase.plan.kind in ("grid", "combinations") and key in phase.keys
    ]
    if not compared:
        raise _CannotTell(f"no phase varies {key}")
    found = [number for number, phase in compared if name in (None, phase.plan.name)]
    if not found:
        raise _CannotTell(f"phase {name} does not vary {key}")
    return found


def _lower_is_better(measure: str, name: str, study: StudyResult) -> bool:
    if name == study.plan.objective["metric"]:
        return study.plan.objective["mode"] == "min"
    return measure in LOWER_IS_BETTER or "loss" in measure or "error" in measure


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(as_setting(value)) for value in values)
