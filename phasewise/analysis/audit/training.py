"""What the histories of trials say about how they trained."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from phasewise.analysis.audit.case import Case, Finding, TrialRun, count, of_phase, sign_of
from phasewise.records.record import RunRecord
from phasewise.study.results import CandidateResult, PhaseResult, Setting

LAST_DROP = 0.1
"""Share of its best value that a run may lose until its last epoch; the ordinary jitter of a
validation score is a few percent."""

FEW_EPOCHS = 5
"""Fewer epochs than that leave the statistics of batch norms and the learning rate's schedule
unsettled; the order of configurations may still turn round."""

SEED = "seed"
KEEP = "objective.keep"


def dead_knob(case: Case) -> Iterator[Finding]:
    """Different values of a key with identical metrics, to the last digit: it has no effect."""
    for phase in case.compared:
        signatures = [
            (one, signature) for one in case.of(phase) if (signature := _signature(one)) is not None
        ]
        for key in [*phase.keys, SEED]:
            groups = _identical(phase, key, signatures)
            if not groups:
                continue
            values = list(dict.fromkeys(v for group in groups for v, _ in group))
            lines = tuple(" = ".join(name for _, name in group) for group in groups)
            everything = len(values) == len({_value(phase, one, key) for one, _ in signatures})
            yield Finding(
                "dead_knob",
                "error" if everything else "warning",
                f"{of_phase(phase)}{key} = {', '.join(map(str, values))} give identical metrics to "
                "the last digit: the setting had no effect",
                lines,
                "check that the key is wired, that other settings do not switch it off, and that a "
                "limit is reached at all",
                phase.plan.name,
            )


def _identical(
    phase: PhaseResult, key: str, signatures: Sequence[tuple[TrialRun, Any]]
) -> list[list[tuple[Setting, str]]]:
    """Groups of trials that differ in a key alone and have the same metrics."""
    others = [other for other in [*phase.keys, SEED] if other != key]
    buckets: dict[Any, dict[str, Setting]] = defaultdict(dict)
    for one, signature in signatures:
        place = tuple(_value(phase, one, other) for other in others)
        buckets[place, signature][one.name] = _value(phase, one, key)
    same = [names for names in buckets.values() if len(set(names.values())) > 1]
    return [[(value, name) for name, value in names.items()] for names in same]


def _value(phase: PhaseResult, one: TrialRun, key: str) -> Setting:
    return one.trial.seed if key == SEED else phase.setting(one.candidate, key)


def _signature(one: TrialRun) -> frozenset[tuple[str, float]] | None:
    """All metrics of the best and last epoch; ``None`` if they are all 0 or 1, which is chance."""
    record = one.record
    if record.status != "completed":
        return None
    pairs = [*record.best.items(), *(("last " + k, v) for k, v in record.last.items())]
    found = [(key, value) for key, value in pairs if value is not None and "/truth/" not in key]
    return frozenset(found) if any(value not in (0, 1) for _, value in found) else None


def not_the_best_epoch(case: Case) -> Iterator[Finding]:
    """An objective that is not the best one of the run's own history."""
    lines = []
    for one in case.completed:
        objective, rows = one.record.objective, one.trial.history()
        metric, sign = objective["metric"], 1 if objective["mode"] == "max" else -1
        values = [row[metric] for row in rows if math.isfinite(row.get(metric, math.nan))]
        value = objective["value"]
        if not values or value is None:
            continue
        best = max(values, key=lambda v: sign * v)
        if math.isclose(value, best, rel_tol=1e-6, abs_tol=1e-12) or _keeps_last(one):
            continue
        where = " (the last epoch's)" if math.isclose(value, values[-1], rel_tol=1e-6) else ""
        lines.append(f"{one.name}: {metric} {value:.4g}{where}, best epoch {best:.4g}")
    if lines:
        yield Finding(
            "not_the_best_epoch",
            "error",
            f"{count(len(lines), 'trial')} judged by another epoch than the best one",
            tuple(lines),
            "judge every trial by its best epoch on validation data (objective.keep=best)",
        )


def _keeps_last(one: TrialRun) -> bool:
    """Whether the last epoch counts by intention."""
    words = one.settings.get(KEEP) or one.trial.saved.get(KEEP)
    return words == "last" or f"{KEEP}=last" in one.record.overrides


def last_below_best(case: Case) -> Iterator[Finding]:
    """A chosen configuration that lost much of its best score until its last epoch."""
    for phase, index in case.winners():
        candidate, lines = phase.candidates[index], []
        for name, best, last in _best_and_last(case, phase, candidate):
            drop = sign_of(phase) * (best - last) / abs(best) if best else 0.0
            if drop > LAST_DROP:
                lines.append(f"{name}: best {best:.4g}, last {last:.4g} ({100 * drop:.0f} % worse)")
        if lines:
            yield Finding(
                "last_below_best",
                "note",
                f"{of_phase(phase)}{phase.label(candidate)} ends far below its best epoch",
                tuple(lines),
                "use the best checkpoint; early_stopping.patience, a smaller optimizer.lr or more "
                "regularisation keep it from falling",
                phase.plan.name,
            )


def _best_and_last(
    case: Case, phase: PhaseResult, candidate: CandidateResult
) -> Iterator[tuple[str, float, float]]:
    for one in case.of(phase):
        if one.candidate is candidate and math.isfinite(one.trial.value):
            last = one.record.last.get(one.record.objective["metric"])
            if last is not None:
                yield one.name, one.trial.value, float(last)


def still_improving(case: Case) -> Iterator[Finding]:
    """A chosen configuration that was best at its last epoch: more epochs may be better."""
    for phase, index in case.winners():
        candidate = phase.candidates[index]
        runs = [one for one in case.of(phase) if one.candidate is candidate]
        scored = [one for one in runs if math.isfinite(one.trial.value)]
        late = [one for one in scored if ended_best(one.record)]
        if 2 * len(late) > len(scored):
            yield Finding(
                "still_improving",
                "note",
                f"{of_phase(phase)}{phase.label(candidate)} is best at its last epoch in "
                f"{len(late)} of {len(scored)} runs",
                tuple(f"{one.name}: epoch {one.record.objective['epoch']}" for one in late),
                "a larger trainer.max_epochs, for all that it is compared with",
                phase.plan.name,
            )


def ended_best(record: RunRecord) -> bool:
    """Whether a run was best at the last of several epochs."""
    epochs, epoch = record.cost.get("epochs"), record.objective["epoch"]
    return epochs is not None and epochs > 1 and epoch == epochs


def few_epochs(case: Case) -> Iterator[Finding]:
    """A choice made after very few epochs."""
    for phase, index in case.winners():
        candidate = phase.candidates[index]
        runs = [one for one in case.of(phase) if one.candidate is candidate]
        counts = [one.record.cost.get("epochs") for one in runs]
        known = [count for count in counts if count is not None]
        if known and max(known) < FEW_EPOCHS:
            yield Finding(
                "few_epochs",
                "note",
                f"{of_phase(phase)}{phase.label(candidate)} was chosen after "
                f"{count(max(known), 'epoch')}",
                tuple(one.name for one in runs),
                f"at least {FEW_EPOCHS} epochs (trainer.max_epochs), or a rerun of the best few",
                phase.plan.name,
            )


CHECKS = (dead_knob, not_the_best_epoch, last_below_best, still_improving, few_epochs)
