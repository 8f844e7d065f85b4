"""The run that came out of a study or sweep, for whoever wants its network."""

from __future__ import annotations

from pathlib import Path

from phasewise.errors import UserError
from phasewise.project import JOURNAL
from phasewise.study.journal import Candidate, Phase, read_journal
from phasewise.study.results import CandidateResult, read_phase


def winning_run(directory: str | Path) -> Path | None:
    """The directory of the run with the final configuration of a study, or the best one of a sweep.

    Before the end it is the winner of the last phase that was decided. Of several seeds the one
    with the best objective counts.

    Args:
        directory: of the study or sweep.

    Returns:
        None where there is no study.

    Raises:
        UserError: nothing is decided yet, or its run is gone.
    """
    directory = Path(directory)
    journal = read_journal(directory)
    if journal is None:
        if (directory / JOURNAL).exists():
            raise UserError(f"{directory}: its {JOURNAL} is damaged; name one of its runs")
        return None
    tests = [phase for phase in journal.phases if phase.kind == "test"]
    phases = [*tests, *journal.latest_first()]
    for phase, candidate in (it for it in map(_chosen, phases) if it is not None):
        run = best_run(phase, candidate, directory)
        if run is not None:
            return run
    raise UserError(f"{directory}: no phase of this study has a winner yet; name one of its runs")


def _chosen(phase: Phase) -> tuple[Phase, Candidate] | None:
    """What a phase settled on; the first candidate of a test is the final configuration."""
    row = 0 if phase.kind == "test" else phase.winner
    return None if row is None or row >= len(phase.candidates) else (phase, phase.candidates[row])


def best_run(phase: Phase, candidate: Candidate, directory: Path) -> Path | None:
    """The best completed run of a phase's candidate; None if none has completed.

    Args:
        phase, candidate: of the journal of a study.
        directory: of that study.
    """
    result = read_phase(phase, directory).candidates[phase.candidates.index(candidate)]
    return _best(result, phase.objective["mode"])


def _best(candidate: CandidateResult, mode: str) -> Path | None:
    """The best completed run of a configuration; the first one where no objective is known."""
    sign = 1.0 if mode == "max" else -1.0
    values = candidate.values
    completed = [
        trial
        for trial in candidate.trials
        if trial.record is not None and trial.record.status == "completed"
    ]
    if not completed:
        return None
    return max(completed, key=lambda t: sign * values.get(t.seed, -sign * float("inf"))).directory
