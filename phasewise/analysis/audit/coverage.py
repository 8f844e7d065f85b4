"""What was meant to run and did not, or hardly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import median

from phasewise.analysis.audit.case import Case, Finding, TrialRun, count, of_phase
from phasewise.study.results import PhaseResult, typed

MANY = 4
"""So many finished runs at its other values make a single run at one value stand out."""

REMOVED = "(removed)"
"""Declared where a candidate takes a key out of the config."""

FAILED = ("failed", "out_of_memory", "diverged")


def never_finished(case: Case) -> Iterator[Finding]:
    """A declared value without a single finished trial."""
    for phase in case.compared:
        if not case.is_over(phase):
            continue
        for key, declared in phase.plan.declared.items():
            finished = {phase.setting(one, key) for one in phase.candidates if one.has_outcome}
            lost = [t for t in declared if typed(t) not in finished and t != REMOVED]
            if lost:
                yield Finding(
                    "never_finished",
                    "warning",
                    f"{of_phase(phase)}{key} = {', '.join(lost)} is in the search space, but no "
                    "trial of it finished: nothing is known about it",
                    tuple(_fate(case, phase, key, text) for text in lost),
                    "name it among the limits of the study, or run it (for memory, a smaller batch "
                    "with trainer.accumulate_grad_batches)",
                    phase.plan.name,
                )


def _fate(case: Case, phase: PhaseResult, key: str, text: str) -> str:
    own = [one for one in phase.candidates if phase.setting(one, key) == typed(text)]
    if not own:
        return f"{key}={text}: not drawn from the grid"
    if refused := [one.refused for one in (c.plan for c in own) if one.refused]:
        return f"{key}={text}: refused ({refused[0]})"
    trials = [trial for one in own for trial in one.trials]
    states = Counter("no record" if t.record is None else t.record.status for t in trials)
    return f"{key}={text}: " + ", ".join(f"{count} {state}" for state, count in states.items())


def hardly_ran(case: Case) -> Iterator[Finding]:
    """A value with a single finished trial while others have many."""
    for phase in case.compared:
        if phase.plan.kind in ("rerun", "search") or not case.is_over(phase):
            continue
        if phase.centre is not None:  # one key at a time: each value is to run once
            continue
        for key, declared in phase.plan.declared.items():
            if key in phase.tied:  # it goes with another one
                continue
            counts = dict.fromkeys(map(typed, declared), 0)  # not what only the incumbent has
            for one in phase.candidates:
                if (value := phase.setting(one, key)) in counts:
                    counts[value] += len(one.values)
            for value, runs in counts.items():
                others = [n for other, n in counts.items() if other != value and n]
                if runs == 1 and others and median(others) >= MANY:
                    rest = ", ".join(f"{v}: {n}" for v, n in counts.items() if v != value)
                    yield Finding(
                        "hardly_ran",
                        "warning",
                        f"{of_phase(phase)}{key}={value} has a single finished trial, other values "
                        "have many: it had no fair chance",
                        (f"{key}={value}: 1", rest),
                        "run it as often as the others before anything is concluded about it",
                        phase.plan.name,
                    )


def failed(case: Case) -> Iterator[Finding]:
    """Trials that failed, ran out of memory or diverged."""
    broken = [one for one in case.ran if one.record.status in FAILED]
    if broken:
        states = Counter(one.record.status for one in broken)
        counts = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in states.items())
        yield Finding(
            "failed",
            "warning",
            f"{len(broken)} of {_planned(case)} trials have no result: {counts}",
            tuple(f"{one.name}: {one.record.status}, {_reason(one)}" for one in broken),
            "run.log in their directories has the traceback; study.retry_failed=true runs them "
            "again",
        )


def unfinished(case: Case) -> Iterator[Finding]:
    """Trials that were to run and have not ended, though the study has."""
    names: dict[str, str] = {}
    for phase in case.compared:
        if case.is_over(phase):
            for candidate in (one for one in phase.candidates if one.plan.epochs is None):
                for trial in candidate.trials:
                    state = "no record" if trial.record is None else trial.record.status
                    if state in ("no record", "running", "interrupted"):
                        names[str(trial.directory)] = f"{trial.directory.name}: {state}"
    if names:
        yield Finding(
            "unfinished",
            "warning",
            f"{len(names)} of {_planned(case)} trials never ended",
            tuple(names.values()),
            "the same command continues the study",
        )


def undefined(case: Case) -> Iterator[Finding]:
    """Completed trials whose objective is undefined: they take no part in the selection."""
    empty = [one.name for one in case.completed if one.trial.value != one.trial.value]
    if empty:
        yield Finding(
            "undefined",
            "warning",
            f"{count(len(empty), 'completed trial')} without a defined objective",
            tuple(empty),
            "objective.metric chooses another one, or validation data need what it measures",
        )


def scaled_down(case: Case) -> Iterator[Finding]:
    """A study at a reduced budget: it shows that everything runs, not what is best."""
    if case.plan.budget != "full":
        yield Finding(
            "scaled_down",
            "note",
            f"the study ran at budget={case.plan.budget}",
            (),
            "budget=full for figures to rely on",
        )


def _planned(case: Case) -> int:
    return len({trial.directory for _, _, trial in case.plan.trials()})


def _reason(one: TrialRun) -> str:
    lines = (one.record.error or "no reason recorded").strip().splitlines()
    return lines[0] if lines else "no reason recorded"


CHECKS = (never_finished, hardly_ran, failed, unfinished, undefined, scaled_down)
