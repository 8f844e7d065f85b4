"""What an evaluation leaves: ``evaluation.json``, ``items.csv``, figures, and a table to read."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from phasewise.analysis.bootstrap import Interval
from phasewise.analysis.items import Floats, Items
from phasewise.errors import UserError
from phasewise.figures import written
from phasewise.training.module import Scores

INDEX, ITEMS, FIGURES = "evaluation.json", "items.csv", "figures"
RESAMPLES = "resamples.csv"


class EvaluationOutput:
    """Writes into a folder.

    Args:
        folder: made where it is missing.

    Raises:
        UserError: from all methods, if something cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def items(self, items: Items, names: Sequence[str]) -> None:
        """A line per item: the file, and its scores; empty where it has none."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / ITEMS).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["file", *items.scores])
                for i, row in enumerate(items.rows):
                    values = [_cell(column[i].item()) for column in items.scores.values()]
                    writer.writerow([names[row], *values])
        except OSError as error:
            raise self._unwritable(error) from error

    def resamples(self, samples: Mapping[str, Floats]) -> None:
        """A line per resample: the figures in it; empty where one is undefined."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / RESAMPLES).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(samples)
                for values in zip(*samples.values(), strict=True):
                    writer.writerow([_cell(value.item()) for value in values])
        except OSError as error:
            raise self._unwritable(error) from error

    def figures(self, figures: Mapping[str, Figure]) -> None:
        """Pictures by name."""
        try:
            (self.folder / FIGURES).mkdir(parents=True, exist_ok=True)
            with written() as write:
                for name, figure in figures.items():
                    write(figure, self.folder / FIGURES / f"{name}.png")
        except OSError as error:
            raise self._unwritable(error) from error

    def index(self, content: Mapping[str, Any]) -> None:
        """``evaluation.json``, last and in one step: where it lies, all else does too."""
        text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        draft = self.folder / f".{INDEX}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, encoding="utf-8")
            draft.replace(self.folder / INDEX)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        reason = error.strerror or error
        return UserError(f"{self.folder} cannot be written: {reason}\noutput=DIR is another place")


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def _plain(value: Any) -> Any:
    """NaN as null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(
    figures: Scores,
    bounds: Mapping[str, Interval],
    baselines: Mapping[str, Scores],
    first: Sequence[str],
    confidence: float,
) -> str:
    """The main figures: value, interval, and each trivial predictor.

    Args:
        figures: by full name; those of single classes are left out.
        bounds: by full name.
        baselines: by the predictor's name.
        first: names, without the split, that come first.
        confidence: of the intervals.
    """
    rows = [name for name in figures if name.count("/") == 1]
    rows.sort(key=lambda name: (name.partition("/")[2] not in first, name.endswith("/loss")))
    lines = [["", "value", *([f"{100 * confidence:g} % interval"] if bounds else []), *baselines]]
    for name in rows:
        interval = [f"{bounds[name].low:.4f}..{bounds[name].high:.4f}"] if name in bounds else ["-"]
        values = [_number(scores.get(name)) for scores in baselines.values()]
        lines.append([name, _number(figures[name]), *(interval if bounds else []), *values])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
