"""``steps.csv``: losses of single training steps, where a run was asked to keep them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from phasewise.errors import unwritable
from phasewise.storage import write_whole

if TYPE_CHECKING:
    import pandas as pd

FILE = "steps.csv"
COUNTS = ("step", "epoch")
"""Its first columns: optimizer steps so far, and passes over the training split (2.5: half of the
third one is done). The others are losses."""


def append_steps(directory: Path, names: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """Add steps to a run's file.

    Args:
        directory: of the run.
        names: of the values, without `COUNTS`; the same at each call.
        rows: step, epoch and the values of each.

    Raises:
        StorageError: the disk is full or fails.
        UserError: it cannot be written for another reason.
    """
    path = directory / FILE
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if not path.exists():
        writer.writerow([*COUNTS, *names])
    writer.writerows(rows)
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            file.write(text.getvalue())
    except OSError as error:
        raise unwritable(path, error) from error


def cut_steps(directory: Path, step: int) -> None:
    """Forget what came after a step: a resumed run does it again.

    Args:
        directory: of the run.
        step: the last one that is kept; 0: the file is removed.
    """
    path = directory / FILE
    if not path.exists():
        return
    if step == 0:
        path.unlink()
        return
    head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and int(line.partition(",")[0]) <= step]
    if len(kept) < len(lines):
        write_whole(path, "".join([head, *kept]))


def read_steps(directory: Path) -> pd.DataFrame | None:
    """What a run has kept: a row per step; None without the file, or if it cannot be read.

    A last line that is cut off is left out.
    """
    import pandas as pd

    try:
        content = (directory / FILE).read_bytes()
        found = pd.read_csv(io.BytesIO(content[: content.rfind(b"\n") + 1]))
    except (OSError, ValueError):  # ValueError: what pandas cannot parse
        return None
    if found.empty or [*found.columns[:2]] != [*COUNTS]:
        return None
    return found.apply(pd.to_numeric, errors="coerce")
