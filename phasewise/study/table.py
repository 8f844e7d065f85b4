"""The table of a sweep: one row per trial, from the records alone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override

from phasewise.records.record import RunRecord, read_record
from phasewise.storage import write_whole
from phasewise.study.journal import Candidate
from phasewise.study.naming import parse_overrides
from phasewise.study.results import UNSET, as_setting
from phasewise.study.saved_config import SavedConfig

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT_DIGITS = 4
"""Of metrics on the terminal; the CSV file is not rounded."""

UNFINISHED = "unfinished"
"""Shown as the status of a trial that left no record; no file holds it."""

REFUSED = "refused"
"""The same for a candidate that cannot run with what the phase started from."""

INFEASIBLE = "infeasible"
"""The same for a completed run of a candidate that violates a requirement."""


def mark_infeasible(record: RunRecord, candidate: Candidate) -> RunRecord:
    """As a table shows it: the run of a candidate that may not win, with what it violates."""
    if record.status != "completed" or not candidate.infeasible:
        return record
    return replace(record, status=INFEASIBLE, error="; ".join(candidate.infeasible))


LEFT_OUT = "not begun"
"""The same for a trial whose time was up before it began, see `phasewise.study.hours`."""


def placeholder_record(directory: str | Path, overrides: Sequence[str] = ()) -> RunRecord:
    """What stands in a table for a trial that left no record."""
    return RunRecord(
        directory=Path(directory),
        task="",
        fingerprint="",
        overrides=list(overrides),
        seed=None,
        objective={},
        status=UNFINISHED,
    )


def sweep_table(
    trials: Sequence[RunRecord | str | Path], first: Sequence[str] = ()
) -> pd.DataFrame:
    """One row per trial in the order given, indexed by the name of its directory.

    Columns: the overridden keys that differ between trials (all of them if none does), ``status``
    unless all completed, ``violates`` where one is infeasible, the objective at its best epoch
    under the metric's name and ``epoch``, the other metrics of that epoch, ``parameters`` where
    recorded, ``seconds``. Where trials have different objectives, the value stands under
    ``objective``.

    ``table.attrs`` tells `format_table` what is what: ``objective`` (its column), ``mode``
    (``None`` if the trials have no common one), ``metrics`` (the columns to round), ``first`` (as
    given) and ``completed`` (a bool per row).

    Args:
        trials: records, or run directories.
        first: metrics that stand before the others where they are recorded.
    """
    import pandas as pd

    records = [
        trial if isinstance(trial, RunRecord) else read_record(trial) or placeholder_record(trial)
        for trial in trials
    ]
    goals = {(r.objective["metric"], r.objective["mode"]) for r in records if r.objective}
    metric, mode = next(iter(goals)) if len(goals) == 1 else ("objective", None)
    recorded = dict.fromkeys(key for record in records for key in record.best if key != metric)
    others = dict.fromkeys([*(key for key in first if key in recorded), *recorded])
    completed = [record.status == "completed" for record in records]

    columns: dict[str, pd.Series] = {
        key: pd.Series(values, dtype=object) for key, values in _swept(records).items()
    }
    if not all(completed):
        columns["status"] = pd.Series([record.outcome for record in records], dtype=object)
    if any(record.status == INFEASIBLE for record in records):
        bad = [record.error if record.status == INFEASIBLE else None for record in records]
        columns["violates"] = pd.Series(bad, dtype=object)
    columns[metric] = pd.Series([r.objective.get("value") for r in records], dtype=float)
    epochs = pd.Series([r.objective.get("epoch") for r in records], dtype="Int64")
    if epochs.notna().any():  # other applications may have none
        columns["epoch"] = epochs
    for key in others:
        columns[key] = pd.Series([record.best.get(key) for record in records], dtype=float)
    parameters = pd.Series([r.cost.get("parameters") for r in records], dtype="Int64")
    if parameters.notna().any():
        columns["parameters"] = parameters
    columns["seconds"] = pd.Series([r.cost.get("seconds") for r in records], dtype=float)

    table = pd.DataFrame(columns)
    table.index = pd.Index([record.directory.name for record in records], name="trial")
    table.attrs = {
        "objective": metric,
        "mode": mode,
        "metrics": [metric, *others],
        "first": list(first),
        "completed": completed,
    }
    return table


def trial_labels(records: Sequence[RunRecord]) -> list[str]:
    """What tells each trial from the others, e.g. ``optimizer.lr=0.01 seed=1``."""
    columns = _swept(records)
    return [
        " ".join(f"{key}={values[row]}" for key, values in columns.items()) or record.directory.name
        for row, record in enumerate(records)
    ]


def best_row(table: pd.DataFrame) -> int | None:
    """Position of the completed trial with the best objective; the first one on a tie.

    ``None`` if no completed trial has a finite value, or the trials have different objectives.
    """
    sign = {"max": 1.0, "min": -1.0}.get(table.attrs["mode"])
    if sign is None:
        return None
    best, best_value = None, -math.inf
    values = table[table.attrs["objective"]]
    for row, (value, completed) in enumerate(zip(values, table.attrs["completed"], strict=True)):
        if completed and math.isfinite(value) and sign * value > best_value:
            best, best_value = row, sign * value
    return best


def format_table(
    table: pd.DataFrame, width: int | None = None, marked: Collection[int] | None = None
) -> str:
    """Plain text in which ``*`` marks some trials.

    Of the metrics besides the objectives as many are shown as fit, and what an infeasible trial
    violates if it fits; the CSV file has all, and the parts of a metric (``val/IoU/circle``,
    ``train/loss/detection``).

    Args:
        table: from `sweep_table`.
        width: characters of a line, the terminal's if ``None``; if not even the settings, the
            objective and the cost fit, they continue below, with the marks repeated.
        marked: rows by position, the best one if ``None``.
    """
    metrics, width = table.attrs["metrics"], width or shutil.get_terminal_size().columns
    others = [key for key in metrics if key != table.attrs["objective"]]
    cells = table.drop(columns=[key for key in others if key.count("/") > 1]).astype(object)
    for position, column in enumerate(cells.columns):
        form = _form(column, metrics)
        cells.isetitem(position, [_cell(value, form) for value in table[column]])
    kept = table.attrs["first"]
    dropped = ["violates", *reversed([key for key in others if key not in kept])]
    for column in (key for key in dropped if key in cells):
        if _width(cells) > width:
            cells = cells.drop(columns=column)
    chosen = [best_row(table)] if marked is None else marked
    cells.index = ["*" if row in chosen else "" for row in range(len(cells))]
    return cells.to_string(line_width=width)


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write the table unrounded, each row after the name of its trial's directory.

    Raises:
        StorageError: its disk is full or fails.
    """
    write_whole(Path(path), table.to_csv())


def _width(cells: pd.DataFrame) -> int:
    """Characters of a line: the mark, and each column after a space."""
    widest = [max([len(column), *map(len, cells[column])]) for column in cells.columns]
    return 1 + sum(widest) + len(widest)


def _form(column: str, metrics: Sequence[str]) -> str:
    """The format specification of a column's numbers."""
    if column in metrics:
        return f"#.{SIGNIFICANT_DIGITS}g"
    return {"seconds": ".1f", "parameters": ","}.get(column, "")


def _cell(value: Any, form: str) -> str:
    import pandas as pd

    return "-" if pd.isna(value) else format(value, form)


def _swept(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The values of the keys that differ between trials; of all keys if none does.

    What a trial's overrides do not name is what Hydra saved beside it.
    """
    rows = [
        {override.key_or_group: _value(override) for override in parse_overrides(record.overrides)}
        for record in records
    ]
    keys = dict.fromkeys(key for row in rows for key in row)
    for row, record in zip(rows, records, strict=True):
        if unnamed := [key for key in keys if key not in row]:
            saved = SavedConfig(record.directory)
            values = {key: saved.get(key, UNSET) for key in unnamed}
            row |= {key: as_setting(value) for key, value in values.items() if value is not UNSET}
    columns = {key: [row.get(key) for row in rows] for key in keys}
    varying = {key: column for key, column in columns.items() if len(set(map(repr, column))) > 1}
    return varying or columns


def _value(override: Override) -> Any:
    """A number as a number, anything else as its text in Hydra's grammar."""
    value = override.value()
    if override.is_delete():
        return "(removed)"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value
    text = override.get_value_element_as_str()
    return text.lower() if isinstance(value, bool) else text
