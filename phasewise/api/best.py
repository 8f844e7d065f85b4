"""What a study came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from phasewise.api.tables import SWEEP
from phasewise.records.checkpoints import checkpoint_file
from phasewise.records.record import RunRecord
from phasewise.study.overrides import SEED, merge
from phasewise.study.results import CandidateResult, PhaseResult, StudyResult


@dataclass(frozen=True)
class BestConfiguration:
    """What a study came to: the winner of the last phase that decided.

    Attributes:
        overrides: of its runs, without the seed: what to type to train it again.
        value: its objective, the mean over seeds.
        directory: of the run of the seed that scored best; None where no run has completed.
        phase: that decided, and the ``metric`` and ``mode`` it went by.
        values: the objective by seed.
        checkpoint: its weights, where its record or its folder has any.
        test: the mean of each test metric over seeds; empty where the test split was not looked at.
    """

    overrides: list[str]
    value: float
    directory: Path | None
    phase: str
    metric: str
    mode: str
    checkpoint: Path | None = None
    values: Mapping[int, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)


def best_configuration(study: StudyResult) -> BestConfiguration | None:
    """The winner of the last phase that decided, of several last ones the chosen one's; None while
    none has."""
    of = {one.plan.name: one for one in study.phases}
    for phase in (of[plan.name] for plan in study.plan.latest_first()):
        row = phase.plan.winner
        if row is not None and row < len(phase.candidates):
            return _best(phase, phase.candidates[row], study.phases)
    return None


def _best(
    phase: PhaseResult, winner: CandidateResult, phases: Sequence[PhaseResult]
) -> BestConfiguration:
    values = winner.values
    metric, mode = phase.plan.objective["metric"], phase.plan.objective["mode"]
    words = merge(phase.plan.base, winner.plan.overrides)
    directory = checkpoint = None
    if values:
        sign = 1 if mode == "max" else -1
        seed = max(values, key=lambda seed: sign * values[seed])
        trial = next(one for one in winner.trials if one.seed == seed)
        directory = trial.directory
        if trial.record is not None:
            words = trial.record.overrides
            checkpoint = _checkpoint(trial.record)
    own = [word for word in words if not word.startswith(f"{SEED}=")]
    mean = fmean(values.values()) if values else float("nan")
    tested = [one.candidates[0] for one in phases if one.plan.kind == "test" and one.candidates]
    return BestConfiguration(
        own,
        mean,
        directory,
        phase.plan.name or SWEEP,
        metric,
        mode,
        checkpoint,
        values,
        _test_means(tested),
    )


def _checkpoint(record: RunRecord) -> Path | None:
    named = record.checkpoints.get("best") or record.checkpoints.get("last")
    file = record.directory / named if named else checkpoint_file(record.directory)
    return file if file.is_file() else None


def _test_means(tested: Sequence[CandidateResult]) -> dict[str, float]:
    scores = [
        trial.record.test
        for one in tested
        for trial in one.trials
        if trial.record is not None and trial.record.test
    ]
    names = dict.fromkeys(name for one in scores for name in one)
    found = {n: [one[n] for one in scores if one.get(n) is not None] for n in names}
    return {name: fmean(values) for name, values in found.items() if values}
