"""Where the runs of a study lie below its directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from phasewise.errors import Problem
from phasewise.project import JOURNAL
from phasewise.records.record import RECORD
from phasewise.study.saved_config import HYDRA_FOLDER

NOT_PHASES = frozenset({"superseded", "tables", "figures"})
"""Folders of a study that hold no phase."""


def is_run(directory: Path) -> bool:
    """Whether a directory is a run's."""
    return os.path.lexists(directory / RECORD) or (directory / HYDRA_FOLDER).is_dir()


def run_folders(directory: Path, problems: list[Problem]) -> Iterator[tuple[Path, str]]:
    """Run directories in a study's and in its phases' folders, each with its phase's name."""
    for folder in _folders(directory, directory, problems):
        if is_run(folder):
            yield folder, ""
        elif folder.name not in NOT_PHASES:
            if (folder / JOURNAL).exists():
                problems.append(Problem(folder.name, "a study or sweep of its own; left out"))
                continue
            inside = _folders(folder, directory, problems)
            yield from ((one, folder.name) for one in inside if is_run(one))


def _folders(parent: Path, root: Path, problems: list[Problem]) -> Iterator[Path]:
    """The folders in a folder; one that is empty, or cannot be opened, is a problem."""
    name = parent.relative_to(root).as_posix()
    try:
        entries = sorted(parent.iterdir())
    except OSError as error:
        problems.append(Problem(name, f"cannot be read ({error.strerror or error})"))
        return
    if not entries:
        problems.append(Problem(name, "an empty directory"))
    for entry in entries:
        try:
            if entry.is_dir() and not entry.name.startswith("."):
                (entry / RECORD).exists()  # raises where the folder cannot be looked into
                yield entry
        except OSError as error:
            reason = f"cannot be read ({error.strerror or error})"
            problems.append(Problem(entry.relative_to(root).as_posix(), reason))
