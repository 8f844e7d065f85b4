"""``metrics.csv``: one row per epoch, training and validation on the same row."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from phasewise.storage import write_whole

FILE = "metrics.csv"
COUNTS = ("epoch", "step")
Row = dict[str, float]


class History:
    """The epochs of a run, in memory and in ``metrics.csv``.

    A column that an epoch lacks (validation on every second epoch, say) is empty in its row. The
    file is replaced as a whole at each epoch, so that it is never seen half-written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self.rows: list[Row] = read_history(directory)

    def cut(self, epochs: int) -> None:
        """Keep the first ``epochs`` epochs: a resumed run does the later ones again."""
        self.rows = [row for row in self.rows if row["epoch"] <= epochs]

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch (``epoch`` counts from 1) and write the file.

        Raises:
            StorageError: its disk is full or fails.
        """
        self.rows.append(dict(row))
        columns = list(dict.fromkeys(key for r in self.rows for key in r))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(self.path, text.getvalue())

    def best_of(self, objective: Mapping[str, str]) -> Row | None:
        """The epoch whose weights a run with this ``objective`` section keeps, if it is defined."""
        if objective["keep"] == "last":
            return self.rows[-1] if self.rows and objective["metric"] in self.rows[-1] else None
        return self.best(objective["metric"], objective["mode"])

    def best(self, metric: str, mode: str) -> Row | None:
        """The first row with the best value of ``metric``; undefined values (NaN) never win."""
        rows = [row for row in self.rows if math.isfinite(row.get(metric, math.nan))]
        sign = 1 if mode == "max" else -1
        return max(rows, key=lambda row: sign * row[metric], default=None)


def read_history(directory: Path) -> list[Row]:
    """The rows of a run directory's ``metrics.csv``; none if there is no such file.

    Rows that are cut off or hold something else than numbers (a copy broke off, somebody edited
    the file) are left out.
    """
    path = directory / FILE
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    whole = text[: text.rfind("\n") + 1]  # a number that is cut off looks like another number
    columns, *lines = [*csv.reader(whole.splitlines())] or [[]]
    rows = []
    for cells in lines:
        # fewer or more cells than columns, or no number; no epoch, or an infinite one
        with suppress(ValueError, KeyError, OverflowError):
            row = {k: float(v) for k, v in zip(columns, cells, strict=True) if v != ""}
            counts = {key: int(row[key]) for key in COUNTS if key in row}  # as they were written
            rows.append({**row, **counts, "epoch": int(row["epoch"])})
    return rows
