"""Reads the directory of a study or sweep, whatever state it is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hydra.errors import HydraException

from phasewise.errors import Problem, UserError
from phasewise.project import JOURNAL
from phasewise.records.history import FILE
from phasewise.records.lock import is_held
from phasewise.records.record import RECORD, load_record
from phasewise.study.folders import is_run, run_folders
from phasewise.study.journal import Journal, load_journal
from phasewise.study.rebuild import Run, rebuild
from phasewise.study.results import (
    PhaseResult,
    StudyResult,
    TrialResult,
    has_readable_overrides,
    read_phase,
    settings_of,
)


def read_study(directory: str | Path) -> StudyResult:
    """The journal with the records of all trials.

    Without a journal, or with a damaged one, the plan is rebuilt from the runs' own records:
    phases by folder, candidates by overrides. What cannot be read is left out and stands in
    ``problems``; it is never an error.

    Raises:
        UserError: no such directory, or one that holds no run, or is one.
    """
    directory = Path(directory)
    problems: list[Problem] = []
    _check_place(directory)
    plan = _journal(directory, problems)
    if plan is None:
        plan = _rebuilt(directory, problems)
    else:
        problems += _unplanned_runs(directory, plan)
    phases = [read_phase(phase, directory) for phase in plan.phases]
    problems += _check_trials(phases, directory)
    return StudyResult(plan, phases, problems)


def _check_place(directory: Path) -> None:
    try:
        if not directory.is_dir():
            what = "is a file" if directory.exists() else "does not exist"
            raise UserError(f"{directory}: {what}; give the directory of a study or sweep")
        next(directory.iterdir(), None)
        if is_run(directory) and not (directory / JOURNAL).exists():
            raise UserError(
                f"{directory}: is one run; give the directory of its sweep, which may be "
                f"{directory.resolve().parent}"
            )
    except OSError as error:
        raise UserError(f"{directory}: cannot be read ({error.strerror or error})") from error


def _journal(directory: Path, problems: list[Problem]) -> Journal | None:
    try:
        plan = load_journal(directory)
        _check_journal(plan)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError, HydraException) as error:
        reason = f"damaged ({str(error).partition(chr(10))[0]})"
        problems.append(Problem(JOURNAL, f"{reason}; the plan is rebuilt from the runs' records"))
        return None
    if plan.status == "running" and not is_held(directory):
        plan.status = "interrupted"  # killed, with no time to say so
    return plan


def _check_journal(plan: Journal) -> None:
    """What its types do not say.

    Raises:
        ValueError, HydraException: it cannot be used.
    """
    for phase in plan.phases:
        if phase.objective.get("mode") not in ("max", "min") or "metric" not in phase.objective:
            raise ValueError(f"phase {phase.name!r} has no objective")
        for overrides in (phase.base, *(one.overrides for one in phase.candidates)):
            settings_of(overrides)
        for index in (phase.incumbent, phase.winner):
            if index is not None and not 0 <= index < len(phase.candidates):
                raise ValueError(f"phase {phase.name!r} has no candidate {index}")


def _rebuilt(directory: Path, problems: list[Problem]) -> Journal:
    damaged = bool(problems)
    runs = [*run_folders(directory, problems)]
    plan = rebuild(directory, [Run.read(*found) for found in runs], problems)
    if plan is None:
        extra = f", and its {JOURNAL} is damaged" if damaged else ""
        cause = f" ({problems[-1]})" if runs or len(problems) > damaged else ""
        raise UserError(f"{directory}: holds no run of a study or sweep{extra}{cause}")
    if not damaged:
        missing = f"there is none; the plan is rebuilt from the records of {len(runs)} runs"
        problems.insert(0, Problem(JOURNAL, missing))
    return plan


def _unplanned_runs(directory: Path, plan: Journal) -> Iterator[Problem]:
    """Runs in the study's folders that its plan does not have."""
    planned = {trial.directory for _, _, trial in plan.trials()}
    own = {phase.name for phase in plan.phases}
    ignored: list[Problem] = []
    for place, phase in run_folders(directory, ignored):
        name = place.relative_to(directory).as_posix()
        if phase in own and name not in planned:
            yield Problem(name, "not in the study's plan; left out")


def _check_trials(phases: list[PhaseResult], directory: Path) -> Iterator[Problem]:
    """Take out of the trials what cannot be used, and say why; each directory once."""
    reported = set()
    for phase in phases:
        for trial in (trial for candidate in phase.candidates for trial in candidate.trials):
            for problem in _check_trial(trial, directory):
                if problem not in reported:
                    reported.add(problem)
                    yield problem


def _check_trial(trial: TrialResult, directory: Path) -> Iterator[Problem]:
    try:
        name = trial.directory.relative_to(directory).as_posix()
    except ValueError:
        name = str(trial.directory)
    record = trial.record
    if record is not None and not has_readable_overrides(record):
        trial.record = None
        yield Problem(name, f"{RECORD} has overrides that cannot be read")
    if record is None and (reason := _missing_reason(trial.directory)):
        yield Problem(name, f"{RECORD} {reason}")
    if trial.record is None or record is None:
        return
    epochs, rows = record.cost.get("epochs"), trial.history()
    if record.is_final and isinstance(epochs, int) and len(rows) != epochs:
        yield Problem(name, f"{FILE} has {len(rows)} whole rows of {epochs} epochs")


def _missing_reason(directory: Path) -> str:
    """Why a directory has no usable record; empty if it simply has none."""
    try:
        load_record(directory)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except ValueError as error:
        return f"is damaged ({error})"
    return "is of another configuration than planned"
