"""Whose a directory is: one study or sweep, which another one does not go into."""

from __future__ import annotations

from phasewise.errors import UserError
from phasewise.records.record import RECORD, read_record
from phasewise.study.journal import Journal

SHOWN = 120
"""So many characters of a sweep's words are named."""


def check_owner(journal: Journal, old: Journal | None) -> str | None:
    """Refuse a directory that belongs to another study or sweep.

    Args:
        journal: what is planned now.
        old: the journal that is there.

    Returns:
        What is to be told about finished trials that an extended sweep no longer has.

    Raises:
        UserError: the journal is that of another study or budget, or of a sweep that has no trial
            in common with this one.
    """
    if old is None or not old.phases:
        return None
    if not is_sweep(journal):
        if is_sweep(old) or (old.name, old.budget) != (journal.name, journal.budget):
            raise _refusal(journal, old)
        return None
    if not is_sweep(old):
        raise _refusal(journal, old)
    places = {trial.directory for _, _, trial in journal.trials()}
    prints = {trial.fingerprint for _, _, trial in journal.trials()}
    before = [trial for _, _, trial in old.trials()]
    others = [
        it.directory for it in before if it.directory not in places and it.fingerprint not in prints
    ]
    if len(others) == len(before) and any(
        (journal.directory / it / RECORD).exists() for it in others
    ):
        raise _refusal(journal, old)
    records = [read_record(journal.directory / it) for it in others]
    done = sum(record is not None and record.is_final for record in records)
    if not done:
        return None
    return f"finished trials of an earlier call that are not in this sweep: {done}; they stay"


def is_sweep(journal: Journal) -> bool:
    """Whether it is of a plain ``-m``, whose only phase has no name."""
    return not journal.phases[0].name


def _refusal(journal: Journal, old: Journal) -> UserError:
    return UserError(
        f"{journal.directory}: belongs to {_called(old)}, and this is {_called(journal)}\n"
        "hydra.sweep.dir=DIR chooses another place"
    )


def _called(journal: Journal) -> str:
    if is_sweep(journal):
        words = [word for word in journal.command if not word.startswith("study.")]
        text = " ".join(words)
        return f"the sweep -m {text[:SHOWN]}{' ...' * (len(text) > SHOWN)}"
    return f"the study {journal.name} with budget={journal.budget}"
