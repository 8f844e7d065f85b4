"""Results that no learning is needed for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from phasewise.analysis.audit.case import (
    Case,
    Finding,
    TrialRun,
    compares,
    count,
    metric_value,
    of_phase,
)
from phasewise.records.baselines import trivial
from phasewise.records.notes import Limit
from phasewise.study.results import PhaseResult

MARGIN = 0.02
"""Of the way from a trivial predictor's score to a perfect one: less than that above it is what a
lucky threshold or a bit of texture gives, without any object found."""

NO_BETTER = (
    "no better than a predictor that learns nothing, or less than "
    f"{100 * MARGIN:g} % of the way from it to perfection"
)

SAME = 0.02
"""Relative difference up to which a score is said to equal a property of the data."""

COLLAPSED = 0.01
"""A class whose score is below that is never found."""

ACCURACY_TO_SCORE = 10.0
"""The majority predictor of C classes has a mean IoU of its accuracy / C. A score of less than a
tenth of the accuracy is what it reaches with ten classes or more."""

LEAST_ACCURACY = 0.5
"""Below that, accuracy is no sign of a majority class."""

LEAST_PARTS = 3
"""With two classes, one of them alone is a plausible result of an early epoch."""

TRUTH = "/truth/"
"""In the name of metrics that describe the data instead of a prediction."""


def no_better_than_trivial(case: Case) -> Iterator[Finding]:
    """A result that a trivial predictor reaches on the same data, or that is hardly above it."""
    for phase in case.compared:
        lines, bad = [], set()
        for one in _completed(case, phase):
            rival = _rival(one)
            if rival is not None:
                lines.append(rival)
                bad.add(id(one.candidate))
        if not lines:
            continue
        winner = case.winner(phase)
        chosen = winner is not None and id(phase.candidates[winner]) in bad
        are = "is" if len(lines) == 1 else "are"
        among = ", the chosen configuration among them" if chosen else ""
        yield Finding(
            "no_better_than_trivial",
            "error" if chosen else "warning",
            f"{of_phase(phase)}{count(len(lines), 'trial')} {are} {NO_BETTER}{among}",
            tuple(lines),
            "treat these as failures, not as results; train longer, lower the learning rate, or "
            "weigh rare classes more where there are any (loss)",
            phase.plan.name,
        )


def trivial_on_test(case: Case) -> Iterator[Finding]:
    """A final configuration that a trivial predictor reaches on test data."""
    for phase in case.study.phases:
        if compares(phase) or not phase.candidates:
            continue
        final, lines = phase.candidates[0], []
        for one in _completed(case, phase):
            metric = "test/" + one.record.objective["metric"].partition("/")[2]
            if one.candidate is final:
                lines.append(_baseline(one, metric, metric_value(one.record.test or {}, metric)))
        beaten = [line for line in lines if line is not None]
        if beaten:
            yield Finding(
                "trivial_on_test",
                "error",
                f"on test data the final configuration is, in {len(beaten)} of "
                f"{count(len(lines), 'run')}, {NO_BETTER}",
                tuple(beaten),
                "treat this as a failure, not as a result: validation data and test data differ, "
                "or are too few",
            )


def _baseline(one: TrialRun, metric: str, value: float) -> str | None:
    """The strongest trivial predictor, in words, if a value does not beat it."""
    sign = 1.0 if one.record.objective["mode"] == "max" else -1.0
    known = {
        name: score
        for name, scores in trivial(one.record.baselines).items()
        if math.isfinite(score := metric_value(scores, metric))
    }
    if not known or not math.isfinite(value):
        return None
    name = max(known, key=lambda name: sign * known[name])
    best = known[name]
    # a score ends at 1, a loss or error at 0
    margin = MARGIN * (max(1 - best, 0.0) if sign > 0 else abs(best))
    if sign * (value - best) > margin:
        return None
    return f"{one.name}: {metric} {value:.4g}, {name} {best:.4g}"


def _rival(one: TrialRun) -> str | None:
    """What a trial does not beat, in words; ``None`` if it beats everything trivial."""
    metric, mode = one.record.objective["metric"], one.record.objective["mode"]
    value, best = one.trial.value, one.record.best
    if math.isnan(value):
        return None
    if (beaten := _baseline(one, metric, value)) is not None:
        return beaten
    known = any(metric in scores for scores in trivial(one.record.baselines).values())
    for name, truth in best.items():
        if TRUTH in name and truth and not known and abs(value - truth) <= SAME * abs(truth):
            return f"{one.name}: {metric} {value:.4g} equals {name} {truth:.4g}"
    reason = _majority(one) or _single_class(one)
    return f"{one.name}: {reason}" if mode == "max" and reason is not None else None


def _majority(one: TrialRun) -> str | None:
    """A high accuracy with a score that many classes would lift: the majority class everywhere."""
    metric, value = one.record.objective["metric"], one.trial.value
    for name, accuracy in one.record.best.items():
        if name.startswith("val/") and name.endswith("_acc") and name != metric:
            sure = accuracy is not None and accuracy >= LEAST_ACCURACY
            if sure and value < accuracy / ACCURACY_TO_SCORE:
                return f"{metric} {value:.4g} with {name} {accuracy:.4g}: the majority class"
    return None


def _single_class(one: TrialRun) -> str | None:
    """A mean over classes of which only one is ever found."""
    metric = one.record.objective["metric"]
    split, _, name = metric.rpartition("/")
    prefix = f"{split}/{name.removeprefix('m')}/"  # val/mIoU is the mean of val/IoU/<class>
    scores = {
        key.removeprefix(prefix): score
        for key, score in one.record.best.items()
        if key.startswith(prefix) and score is not None
    }
    found = [part for part, score in scores.items() if score >= COLLAPSED]
    if len(scores) < LEAST_PARTS or len(found) > 1:
        return None
    what = f"only {found[0]}" if found else "nothing"
    return f"{metric} {one.trial.value:.4g}: of {len(scores)} classes {what} is found"


def no_baselines(case: Case) -> Iterator[Finding]:
    """Completed trials without the metrics of trivial predictors beside theirs."""
    without = [one.name for one in case.completed if not one.record.baselines]
    if without:
        yield Finding(
            "no_baselines",
            "warning",
            f"{len(without)} of {len(case.completed)} completed trials have no baselines: it "
            "cannot be told whether they learned anything",
            tuple(without),
            "have runs write what trivial predictors score: a task by its `baselines` (see "
            "phasewise.training.module.TaskModule), others by phasewise.records.Recorder",
        )


def below_limit(case: Case) -> Iterator[Finding]:
    """A metric below the least value that the task itself names."""
    lines: dict[Limit, list[str]] = {}
    for one in case.completed:
        for limit in one.record.notes.limits:
            value = metric_value(one.record.best, limit.metric)
            if value < limit.least:
                lines.setdefault(limit, []).append(f"{one.name}: {limit.metric} {value:.3g}")
    for limit, evidence in lines.items():
        yield Finding(
            "below_limit",
            "warning",
            f"in {count(len(evidence), 'trial')} {limit.meaning}",
            tuple(evidence),
            limit.advice,
        )


def _completed(case: Case, phase: PhaseResult) -> Iterator[TrialRun]:
    return (one for one in case.of(phase) if one.record.status == "completed")


CHECKS = (no_better_than_trivial, trivial_on_test, no_baselines, below_limit)
