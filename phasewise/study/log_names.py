"""The logs of a study's trials in one folder, under names that somebody asks for."""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from phasewise.config.help import not_one_of
from phasewise.errors import unwritable
from phasewise.storage import write_whole
from phasewise.study.console import RUN_LOG
from phasewise.study.journal import Journal
from phasewise.study.naming import trial_name

LOGS = "logs"
"""The folder, in the study's."""

INDEX = "index.csv"
"""In it: which log is whose. What it lists, the study has written and may delete."""

ENDINGS = (".txt", ".log")

EXAMPLE = {"phase": 1, "phase_name": "rate", "trial": 2, "seed": 0, "values": "optimizer.lr=0.1"}
"""The fields of a name: number and name of the phase, number of the trial in it (both from 1), its
seed, and what the phase has set, as directories write it."""


def name_problem(pattern: str, *, several_phases: bool) -> str | None:
    """What is wrong with a pattern for names; None if nothing is.

    Args:
        pattern: in the grammar of `str.format`, with the fields of `EXAMPLE`.
        several_phases: the study has more than one, so that names must tell them apart.
    """
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
        for name in fields:
            if name not in EXAMPLE:
                return f"{{{name}}} is {not_one_of(name, EXAMPLE)}"
        text = pattern.format(**EXAMPLE)
    except (ValueError, KeyError, IndexError) as error:
        return f"no such pattern ({error}); an example is log_{{phase}}_{{trial:02d}}"
    if text.strip(".") != text or any(sign in text for sign in '/\\:*?"<>|\0\n'):
        return "must be a name of a file, without a folder"
    if "trial" not in fields and not {"values", "seed"} <= fields:
        return "trials would have one name: it needs {trial}, or {values} and {seed}"
    if several_phases and not fields & {"phase", "phase_name"}:
        return "phases would have one name: it needs {phase} or {phase_name}"
    return None


def write_logs(journal: Journal, pattern: str | None) -> None:
    """Copy the log of each trial that has one to ``logs/``, and delete what is out of date there.

    A trial that several phases share has a log in each. ``None`` for no logs.

    Raises:
        StorageError: the disk is full or fails.
        UserError: a file cannot be written or deleted.
    """
    folder = journal.directory / LOGS
    before = set(_listed(folder))
    rows = [*_rows(journal, pattern)] if pattern else []
    for row in rows:
        target, content = folder / row["log"], _log_of(journal.directory / row["directory"])
        with suppress(OSError):
            if target.read_bytes() == content:
                continue
        write_whole(target, content)
    if rows:
        file = io.StringIO()
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(folder / INDEX, file.getvalue())
    gone = before - {row["log"] for row in rows} | (set() if rows else {INDEX})
    try:
        for name in gone:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    if not rows:
        with suppress(OSError):  # it is not there, or holds what is somebody else's
            folder.rmdir()


def _rows(journal: Journal, pattern: str) -> Iterator[Mapping[str, Any]]:
    """What the index says of each trial that has a log."""
    for number, phase in enumerate(journal.phases, 1):
        trials = [(one, trial) for one in phase.candidates for trial in one.trials]
        for count, (candidate, trial) in enumerate(trials, 1):
            if not _log_of(journal.directory / trial.directory):
                continue
            values = {
                "phase": number,
                "phase_name": phase.name or "sweep",
                "trial": count,
                "seed": trial.seed,
                "values": trial_name(candidate.overrides),
            }
            name = pattern.format(**values)
            ending = "" if name.endswith(ENDINGS) else ENDINGS[0]
            yield {"log": name + ending, **values, "directory": trial.directory}


def _log_of(directory: Path) -> bytes:
    """What a trial has logged; nothing if it has not begun. Other applications have other names."""
    for path in (directory / RUN_LOG, *sorted(directory.glob("*.log"))):
        with suppress(OSError):
            return path.read_bytes()
    return b""


def _listed(folder: Path) -> Iterator[str]:
    """The logs of an earlier call; none of another folder."""
    try:
        with (folder / INDEX).open(encoding="utf-8", newline="") as file:
            names = [row.get("log") or "" for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return
    yield from (name for name in names if name and Path(name).name == name)
