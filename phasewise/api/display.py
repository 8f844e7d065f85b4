"""A loaded study as a terminal and a notebook show it."""

from __future__ import annotations

import math
from html import escape

import pandas as pd

from phasewise.api.best import BestConfiguration
from phasewise.text import format_metric

SHOWN = 10
"""So many trials are shown, the best ones; the tables have all."""

PHASES = ["phase", "candidates", "trials", "winner", "verdict", "value", "status"]


def as_text(head: str, phases: pd.DataFrame, best: BestConfiguration | None) -> str:
    """A line about the study, a table of its phases, and what it came to."""
    return "\n".join([head, _rounded(phases[PHASES]).to_string(index=False), *_best(best)])


def as_html(
    head: str, phases: pd.DataFrame, best: BestConfiguration | None, trials: pd.DataFrame
) -> str:
    """The same in HTML, with its best trials."""
    lines = "".join(f"<p><code>{escape(line)}</code></p>" for line in _best(best))
    leading = _leading(phases, trials)
    caption = f"<p>{min(SHOWN, len(leading))} of {len(trials)} trials, best first</p>"
    return (
        f"<p><b>{escape(head)}</b></p>"
        f"{_rounded(phases[PHASES]).to_html(index=False)}{lines}{caption}"
        f"{_rounded(leading.head(SHOWN)).to_html(index=False)}"
    )


def _best(best: BestConfiguration | None) -> list[str]:
    if best is None:
        return ["no phase has decided yet"]
    words = " ".join(best.overrides) or "the defaults"
    seeds = f" (mean of {len(best.values)} seeds)" if len(best.values) > 1 else ""
    tests = [f"{name} {format_metric(value)}" for name, value in best.test.items()]
    lines = [f"best: {best.metric} {format_metric(best.value)}{seeds} with {words}"]
    return [*lines, *(["test: " + ", ".join(tests)] if tests else [])]


def _leading(phases: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that compare, with what tells them apart, each once; those of each phase by its
    objective, later phases first."""
    trials = trials.drop_duplicates("directory")
    modes = dict(zip(phases["phase"], phases["mode"], strict=True))
    numbers = {name: row for row, name in enumerate(modes)}
    trials = trials[trials["phase"].isin(modes)]
    signs = [1 if modes[name] == "max" else -1 for name in trials["phase"]]
    order = pd.DataFrame(
        {"phase": trials["phase"].map(numbers), "score": trials["value"] * signs}
    ).sort_values(["phase", "score"], ascending=False, na_position="last", kind="stable")
    columns = [*trials.columns[: trials.columns.get_loc("epoch") + 1], "cost.seconds"]
    return trials.loc[order.index, [name for name in columns if name in trials]]


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Four significant digits, and a dash for what is missing."""
    found = frame.astype(object)
    for name in found:
        found[name] = [_cell(value) for value in frame[name]]
    return found


def _cell(value: object) -> object:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else value
