"""A finished run in a few lines: its metrics beside those of trivial predictors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phasewise.records.record import RunRecord
from phasewise.text import align, format_metric


def summary_text(record: RunRecord) -> str:
    """The main metrics as a table: best epoch, last epoch, test, and each trivial predictor."""
    columns: dict[str, Mapping[str, Any]] = {
        _best_title(record): record.best,
        "last epoch": record.last,
        **({"test": _as_val(record.test)} if record.test is not None else {}),
        **record.baselines,
    }
    rows = [key for key in record.best or record.last if key.startswith("val/")]
    rows = [key for key in rows if key.count("/") == 1]
    rows.sort(key=lambda key: (key != record.objective["metric"], key == "val/loss", key))
    titles = ["", *columns]
    lines = [titles]
    for row in rows:
        name = row + (" (objective)" if row == record.objective["metric"] else "")
        lines.append([name, *(format_metric(values.get(row)) for values in columns.values())])
    cost = record.cost
    end = f"{cost['epochs']} epochs in {cost['seconds']:.0f} s"
    if in_vain := cost.get("epochs_without_gain"):
        metric = record.objective["metric"]
        end += f"; stopped early: the last {in_vain} brought no gain in {metric}"
    return f"\n{align(lines)}\n{end}"


def _best_title(record: RunRecord) -> str:
    epoch = record.objective["epoch"]
    return "best epoch" if epoch is None else f"best epoch ({epoch})"


def _as_val(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("test/", "val/", 1): value for key, value in scores.items()}
