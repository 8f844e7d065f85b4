"""What is told to a person: one clear message, no traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SHOWN = 10
"""How many problems a message lists before it counts the rest."""


class UserError(Exception):
    """A mistake that the person at the keyboard can mend; the message says how."""


class StorageError(UserError):
    """A disk is full or fails: no fault of the run, which the same command continues."""

    exit_code = 1


FAULTS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ESTALE")
    if hasattr(errno, name)
)
"""Error numbers of disks that are full or fail, and of folders that are no longer mounted."""

CONTINUES = "when that is mended, the same command continues"


class RunFailedError(Exception):
    """A run that ended early though nothing was typed wrong; the message says why, to a person."""


class DivergedError(RunFailedError):
    """The loss became NaN or infinite."""


class OutOfMemoryError(RunFailedError):
    """Neither the device nor the machine had the memory that was asked for."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one file (or key)."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"

    def as_dict(self) -> dict[str, str]:
        """The form in which ``record.json`` keeps it."""
        return asdict(self)


class BadSample(Exception):
    """A sample that cannot be used; collected, never shown alone."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.problem = Problem(file, reason)


def collect(what: str, problems: Sequence[Problem], advice: str) -> UserError:
    """Several problems as one error: what is wrong, at most ten lines, what to do.

    Args:
        what: the first line without its count, about several, e.g. ``"samples cannot be used"``;
            of a single problem the first word loses its s.
        problems: at least one.
        advice: the last line, e.g. ``"data.on_bad=skip trains on the rest"``.
    """
    if len(problems) == 1:
        noun, space, rest = what.partition(" ")
        what = noun.removesuffix("s") + space + rest
    lines = [f"{len(problems)} {what}:"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN} more")
    return UserError("\n".join([*lines, advice]))


def unwritable(path: Path, error: OSError) -> UserError:
    """What to do about a file of a run that cannot be written."""
    full = error.errno in FAULTS
    advice = "hydra.run.dir=DIR (hydra.sweep.dir=DIR for a sweep) chooses another place"
    return (StorageError if full else UserError)(
        f"{path} cannot be written: {error.strerror or error}\n{CONTINUES if full else advice}"
    )


def say(text: str) -> None:
    """Prints; a reader that has seen enough (``--help | head``) is no error."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
