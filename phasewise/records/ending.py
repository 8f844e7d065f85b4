"""How a run ended, by the error that ended it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phasewise.errors import DivergedError, UserError, is_out_of_memory
from phasewise.records.schema import Status
from phasewise.storage import storage_error


def status_of(error: BaseException, directories: Sequence[Path] = ()) -> tuple[Status, str]:
    """The status, and the reason in a line or a few.

    Args:
        error: that left the loop.
        directories: where the run wrote, for what is said of a full disk.
    """
    text = f"{type(error).__name__}: {error}"
    if (full := storage_error(error, directories)) is not None:
        return "interrupted", str(full)
    if isinstance(error, UserError):
        return "failed", str(error)
    if isinstance(error, DivergedError):
        return "diverged", str(error)
    if is_out_of_memory(error):
        return "out_of_memory", text.splitlines()[0]
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted", "stopped from outside"
    return "failed", text
