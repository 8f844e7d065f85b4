"""What a study says before anything runs: its plan, and what was found of earlier calls."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from phasewise.config.previous import OLDER
from phasewise.errors import say
from phasewise.records.record import RunRecord, environment, read_record
from phasewise.study.console import plan_text
from phasewise.study.journal import Journal, Trial, read_journal
from phasewise.study.launching import has_ended
from phasewise.study.plan import Stage
from phasewise.study.reuse import RunIndex
from phasewise.study.saved_config import SavedConfig
from phasewise.study.weights import Policy, Room


def print_plan(
    journal: Journal,
    stages: Sequence[Stage],
    index: RunIndex,
    notes: Sequence[str],
    keeps: Policy | None = None,
) -> None:
    """What will run, and what was found of an earlier call."""
    found = {}
    for trial in [*(it for _, _, it in journal.trials()), *_asked_before(journal)]:
        record = read_record(journal.directory / trial.directory)
        if record is None or not record.is_of(trial.fingerprint):
            record = index.find(trial.fingerprint)
        if record is not None and has_ended(record):
            found[trial.directory] = record
    say(plan_text(journal, len(found)))
    for line in data_notes(journal, found.values()):
        say(line)
    for stage in stages:
        where = f"{stage.phase.name}: " if stage.phase.name else ""
        for note in stage.notes:
            say(f"note: {where}{note}")
    for note in notes:
        say(f"note: {note}")
    commits = {str(record.environment.get("git")) for record in found.values() if record.was_tried}
    now = str(environment().get("git"))
    if commits and commits != {now}:
        say(
            f"note: the code has changed: {', '.join(sorted(commits))} computed what is done, "
            f"now it is {now}; hydra.sweep.dir=DIR begins anew elsewhere"
        )
    if keeps is not None and (room := room_note(journal, found.keys(), index, keeps)):
        say(room)
    failed = sum(record.status not in ("completed", "paused") for record in found.values())
    if failed:
        say(f"note: not run again because they failed: {failed}; study.retry_failed=true does so")


def _asked_before(journal: Journal) -> Iterator[Trial]:
    """What an earlier call has asked for, which is asked for again."""
    searches = [phase.name for phase in journal.phases if phase.search is not None]
    old = read_journal(journal.directory) if searches else None
    for phase, _, trial in old.trials() if old is not None else ():
        if phase.name in searches and phase.search is not None:
            yield trial


def room_note(
    journal: Journal, done: Collection[str], index: RunIndex, keeps: Policy
) -> str | None:
    """How much room is needed, by the size of runs that are there; the first one tells it else."""
    left = [
        sum(trial.directory not in done for one in phase.candidates for trial in one.trials)
        + phase.planned_trials
        - sum(len(one.trials) for one in phase.candidates)
        for phase in journal.phases
        if phase.kind != "test"
    ]
    if not any(left):
        return None
    text, short = Room(journal, keeps, index.records()).line([count for count in left if count])
    return f"note: {text}" if short else text


def data_notes(journal: Journal, found: Collection[RunRecord]) -> Iterator[str]:
    """What is done, and its data moved meanwhile, or are not known by their content."""
    if any(record.data and "hash" not in record.data for record in found):
        yield OLDER
    now = {str(data.get("root")) for data in journal.data.values()}
    old = read_journal(journal.directory) if found else None
    before = {str(data.get("root")) for data in old.data.values()} if old is not None else now
    if before != now:  # of runs that were set aside the last call's data are not
        before = {str(SavedConfig(run.directory).get("data.root")) for run in found if run.data}
    if moved := before - now:
        yield f"note: data.root={', '.join(now)} holds the same data as {', '.join(moved)} did"
