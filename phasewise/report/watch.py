"""Writes a report again whenever its study has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from phasewise.errors import UserError, say
from phasewise.project import JOURNAL
from phasewise.records.history import FILE
from phasewise.records.record import RECORD

PAUSE = 3.0
"""Seconds between two looks."""

REFRESH = 10
"""Seconds after which a browser loads the page anew."""

WATCHED = frozenset({JOURNAL, RECORD, FILE})
NOT_WATCHED = frozenset({"checkpoints", "figures", "tables", ".hydra"})

Stamps = dict[str, tuple[int, int]]


def watch(directories: Sequence[Path], write: Callable[[], None], pause: float = PAUSE) -> None:
    """Call ``write`` now and after every change, until Ctrl-C.

    A study that is not there yet is waited for.

    Args:
        directories: of the studies.
        write: makes the report.
        pause: seconds between two looks.
    """
    before: Stamps | None = None
    reported = ""
    try:
        while True:
            now = stamps(directories)
            if now != before:
                try:
                    write()
                    before = now
                except UserError as error:  # no run yet
                    if str(error) != reported:
                        reported = str(error)
                        say(f"{reported}\nwaiting for it; Ctrl-C ends")
            time.sleep(pause)
    except KeyboardInterrupt:
        return


def stamps(directories: Sequence[Path]) -> Stamps:
    """Time and size of every file that a report is made from."""
    found = {}
    for path in (path for directory in directories for path in _files(directory)):
        try:
            state = path.stat()
        except OSError:  # replaced just now
            continue
        found[str(path)] = state.st_mtime_ns, state.st_size
    return found


def _files(directory: Path) -> Iterator[Path]:
    for folder, inside, names in os.walk(directory):
        inside[:] = [name for name in inside if name not in NOT_WATCHED]
        yield from (Path(folder, name) for name in names if name in WATCHED)
