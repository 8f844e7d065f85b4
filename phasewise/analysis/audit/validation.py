"""Whether validation can tell the configurations of a study from each other, and from nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import NamedTuple

from phasewise.analysis.audit.case import (
    Case,
    Finding,
    compares,
    count,
    objective_mean,
    of_phase,
    sign_of,
)
from phasewise.analysis.validation import (
    CALMER,
    CEILING,
    GENTLER,
    HARDER,
    LONGER,
    MORE_ITEMS,
    Half,
    Loss,
    full_epochs,
    had_weights,
    half_width_between,
    is_full,
    jump,
    look_alikes_of,
    losses_of_training,
)
from phasewise.records.record import RunRecord
from phasewise.study.objectives import PARETO, WEIGHTED
from phasewise.study.results import CandidateResult, PhaseResult


def saturated(case: Case) -> Iterator[Finding]:
    """An objective at its ceiling for most configurations, or epochs: it cannot choose."""
    for phase in case.compared:
        results = [one for one in phase.candidates if one.values]
        mode = phase.plan.objective["mode"]
        full = [one for one in results if is_full([*one.values.values()], mode)]
        if len(results) == 1:
            full = [one for one in full if _most_epochs(phase, one)]
        if 2 * len(full) > len(results):
            yield Finding(
                "saturated",
                "warning",
                f"{of_phase(phase)}{phase.plan.objective['metric']} is at its ceiling ({CEILING:g} "
                f"or more) for {len(full)} of {count(len(results), 'configuration')}: it cannot "
                "choose between them",
                tuple(_filled(phase, one) for one in full),
                f"{HARDER}; more identities or images, or another objective.metric",
                phase.plan.name,
            )


def _most_epochs(phase: PhaseResult, candidate: CandidateResult) -> bool:
    found = [full_epochs(one.history(), phase.plan.objective) for one in candidate.trials]
    return all(full is not None and full.most for full in found)


def _filled(phase: PhaseResult, candidate: CandidateResult) -> str:
    found = (full_epochs(one.history(), phase.plan.objective) for one in candidate.trials)
    text = next((f", {full}" for full in found if full is not None), "")
    return f"{phase.label(candidate)}: {objective_mean(candidate):.4g}{text}"


def worse_than_start(case: Case) -> Iterator[Finding]:
    """A trained network that is no better than before training, in validation or in test."""
    for phase in case.study.phases:
        split = "val" if compares(phase) else "test"
        chosen = case.winner(phase) if compares(phase) else 0
        metric = f"{split}/{phase.plan.objective['metric'].partition('/')[2]}"
        lines, grave, weights = [], False, False
        for index, candidate in enumerate(phase.candidates):
            lost = _lost(candidate, split)
            beaten = any(one.metric == metric for one in lost)
            if beaten or (lost and index == chosen):
                grave |= beaten and index == chosen
                weights |= any(had_weights(one.saved) for one in candidate.trials)
                lines.append(f"{phase.label(candidate)}: {'; '.join(map(str, lost))}")
        if lines:
            among = ", the chosen one among them" if grave and compares(phase) else ""
            yield Finding(
                "worse_than_start",
                "error" if grave else "warning",
                f"{of_phase(phase)}{count(len(lines), 'configuration')} no better on {split} than "
                f"the network before training{among}",
                tuple(lines),
                GENTLER if weights else LONGER,
                phase.plan.name,
            )


def _lost(candidate: CandidateResult, split: str) -> list[Loss]:
    found = [one.record for one in candidate.trials if one.record is not None]
    records = [record for record in found if record.status == "completed"]
    return losses_of_training(records, split) if records else []


class _Rival(NamedTuple):
    """A candidate beside the winner: by how much it is behind, over the seeds that both have."""

    candidate: CandidateResult
    gap: float
    pairs: list[tuple[RunRecord, RunRecord]]


def _rivals(phase: PhaseResult, winner: int) -> list[_Rival]:
    """The others with a result of a seed that the winner has; none where the objective's own means
    do not choose."""
    if PARETO in phase.plan.choose or WEIGHTED in phase.plan.choose:
        return []
    best, found = _records(phase.candidates[winner]), []
    for index, one in enumerate(phase.candidates):
        own = _records(one)
        seeds = [seed for seed in best if seed in own]
        if index == winner or not seeds or one.plan.infeasible:
            continue
        pairs = [(best[seed], own[seed]) for seed in seeds]
        gap = fmean(a.objective["value"] - b.objective["value"] for a, b in pairs)
        found.append(_Rival(one, sign_of(phase) * gap, pairs))
    return sorted(found, key=lambda rival: rival.gap)


def _records(candidate: CandidateResult) -> dict[int, RunRecord]:
    """By seed, of the runs that have a value."""
    trials = [one for one in candidate.trials if math.isfinite(one.value)]
    return {one.seed: one.record for one in trials if one.record is not None}


def unstable(case: Case) -> Iterator[Finding]:
    """Validation that jumps between epochs by more than what separates the candidates."""
    for phase, index in case.winners():
        rivals = _rivals(phase, index)
        if not rivals:
            continue
        metric, winner = phase.plan.objective["metric"], phase.candidates[index]
        jumps = {
            f"{phase.label(one)}, seed {trial.seed}": size
            for one in (winner, rivals[0].candidate)
            for trial in one.trials
            if math.isfinite(trial.value) and math.isfinite(size := jump(trial.history(), metric))
        }
        apart = median(abs(rival.gap) for rival in rivals)
        if not jumps or not apart:  # equal to the last digit: a setting without effect
            continue
        typical, seeds = median(jumps.values()), len(rivals[0].pairs)
        if typical / math.sqrt(seeds) > apart:
            of_mean = (
                f", {typical / math.sqrt(seeds):.2g} in a mean of {seeds}" if seeds > 1 else ""
            )
            yield Finding(
                "unstable",
                "warning",
                f"{of_phase(phase)}{metric} jumps by {typical:.2g} between successive epochs"
                f"{of_mean}, more than the {apart:.2g} (median) by which others are behind "
                f"{phase.label(winner)}",
                tuple(f"{name}: jumps by {size:.2g}" for name, size in jumps.items()),
                f"{CALMER}; study.seeds=[0,1,2] or more average it out",
                phase.plan.name,
            )


def too_few_items(case: Case) -> Iterator[Finding]:
    """Too few validation items: their interval is wider than what separates the candidates."""
    for phase, index in case.winners():
        known = [
            (rival, half)
            for rival in _rivals(phase, index)
            if (half := half_width_between(rival.pairs)) is not None
        ]
        open_ = [(rival, half) for rival, half in known if half.width > abs(rival.gap)]
        if not open_ or 2 * len(open_) < len(known):
            continue
        halves = [half for _, half in open_]
        yield Finding(
            "too_few_items",
            "warning",
            f"{of_phase(phase)}{halves[0].items} {halves[0].unit} of validation do not tell "
            f"{phase.label(phase.candidates[index])} from {len(open_)} of "
            f"{count(len(known), 'other')}: the 95 % interval of the difference {_kind(halves)} "
            "holds 0",
            tuple(
                f"{phase.label(rival.candidate)}: {rival.gap:.3g} behind, ± {half.width:.2g}"
                for rival, half in open_
            ),
            f"{MORE_ITEMS}; or fewer candidates that differ more",
            phase.plan.name,
        )


def _kind(halves: Sequence[Half]) -> str:
    if all(half.paired for half in halves):
        return "over the same items, in pairs,"
    return "over items, which are not known to be the same and are not compared in pairs,"


def split_leaks(case: Case) -> Iterator[Finding]:
    """Near-duplicates across splits: what is measured on copies is too good."""
    found: dict[str, str] = {}
    for one in case.ran:
        for text in look_alikes_of(one.record.data):
            found.setdefault(text, one.name)
    if found:
        yield Finding(
            "split_leaks",
            "warning",
            f"images of different splits are nearly the same: {next(iter(found))}",
            tuple(f"{name}: {text}" for text, name in found.items()),
            "data.group_by=near keeps them together where names decide the split; else take them "
            "out of one of the lists",
        )


CHECKS = (saturated, worse_than_start, unstable, too_few_items, split_leaks)
