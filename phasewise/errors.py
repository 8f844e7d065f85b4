"""What is told to a person: one clear message, no traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

SHOWN = 10
"""How many problems a message lists before it counts the rest."""


FAULTS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ESTALE")
    if hasattr(errno, name)
)
"""Error numbers of disks that are full or fail, and of folders that are no longer mounted."""

CONTINUES = "when that is mended, the same command continues"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one file (or key); ``file`` is empty where there is none."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}" if self.file else self.reason

    def as_dict(self) -> dict[str, str]:
        """The form in which ``record.json`` keeps it."""
        return asdict(self)


class UserError(Exception):
    """A mistake that the person at the keyboard can mend; the message says how.

    Args:
        head: what is wrong. With ``problems``, the first line without its count, about several:
            ``"samples cannot be used"``; of a single problem the first word loses its s. Without a
            head the problems stand alone.
        problems: the single mistakes; the message lists at most ten.
        advice: the last line, e.g. ``"data.on_bad=skip trains on the rest"``.
    """

    def __init__(self, head: str = "", problems: Iterable[Problem] = (), advice: str = "") -> None:
        self.head = head
        self.problems = tuple(problems)
        self.advice = advice
        super().__init__(head, self.problems, advice)  # which is what pickle keeps

    def __str__(self) -> str:
        lines = [self.head] if self.head else []
        indent = ""
        if self.head and self.problems:
            first, space, rest = self.head.partition(" ")
            noun = first.removesuffix("s") if len(self.problems) == 1 else first
            lines, indent = [f"{len(self.problems)} {noun}{space}{rest}:"], "  "
        lines += [f"{indent}{problem}" for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"{indent}... and {len(self.problems) - SHOWN} more")
        return "\n".join([*lines, self.advice] if self.advice else lines)


class StorageError(UserError):
    """A disk is full or fails: no fault of the run, which the same command continues."""

    exit_code = 1


class RunFailedError(Exception):
    """A run that ended early though nothing was typed wrong; the message says why, to a person."""


class DivergedError(RunFailedError):
    """The loss became NaN or infinite."""


class OutOfMemoryError(RunFailedError):
    """Neither the device nor the machine had the memory that was asked for."""


class BadSample(Exception):
    """A sample that cannot be used; collected, never shown alone."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.problem = Problem(file, reason)


OTHER_DIRECTORY = "hydra.run.dir=DIR (hydra.sweep.dir=DIR for a sweep) chooses another place"


def unwritable(path: Path, error: OSError, advice: str = OTHER_DIRECTORY) -> UserError:
    """What to do about a file that cannot be written."""
    full = error.errno in FAULTS
    return (StorageError if full else UserError)(
        f"{path} cannot be written: {error.strerror or error}\n{CONTINUES if full else advice}"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine has no more memory; libraries' own errors by their names
    (torch, CuPy), JAX's and TensorFlow's by their status."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return (
        bool(names & {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"})
        or str(error).startswith("RESOURCE_EXHAUSTED")
        or "can't allocate memory" in str(error)
    )


def say(text: str) -> None:
    """Prints; a reader that has seen enough (``--help | head``) is no error."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
