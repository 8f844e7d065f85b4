"""What an evaluation leaves: ``evaluation.json``, ``items.csv``, figures, and a table to read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from phasewise.analysis.bootstrap import Interval
from phasewise.analysis.items import Floats, Items
from phasewise.figures import written
from phasewise.records.record import to_json
from phasewise.storage import write_whole
from phasewise.text import align, csv_text, format_metric
from phasewise.training.module import Scores

INDEX, ITEMS, FIGURES = "evaluation.json", "items.csv", "figures"
RESAMPLES = "resamples.csv"
ADVICE = "output=DIR chooses another place"


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
        columns = [[_cell(value.item()) for value in column] for column in items.scores.values()]
        files = [names[row] for row in items.rows]
        self._write(ITEMS, csv_text([["file", *items.scores], *zip(files, *columns, strict=True)]))

    def resamples(self, samples: Mapping[str, Floats]) -> None:
        """A line per resample: the metrics in it; empty where one is undefined."""
        columns = [[_cell(value.item()) for value in column] for column in samples.values()]
        self._write(RESAMPLES, csv_text([samples, *zip(*columns, strict=True)]))

    def figures(self, figures: Mapping[str, Figure]) -> None:
        """Pictures by name."""
        with written(ADVICE) as write:
            for name, figure in figures.items():
                write(figure, self.folder / FIGURES / f"{name}.png")

    def index(self, content: Mapping[str, Any]) -> None:
        """``evaluation.json``, last: where it lies, all else does too."""
        text = json.dumps(to_json(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        self._write(INDEX, text)

    def _write(self, name: str, text: str) -> None:
        write_whole(self.folder / name, text, ADVICE)


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def table(
    metrics: Scores,
    bounds: Mapping[str, Interval],
    baselines: Mapping[str, Scores],
    first: Sequence[str],
    confidence: float,
) -> str:
    """The main metrics: value, interval, and each trivial predictor.

    Args:
        metrics: by full name; those of single classes are left out.
        bounds: by full name.
        baselines: by the predictor's name.
        first: names, without the split, that come first.
        confidence: of the intervals.
    """
    rows = [name for name in metrics if name.count("/") == 1]
    rows.sort(key=lambda name: (name.partition("/")[2] not in first, name.endswith("/loss")))
    lines = [["", "value", *([f"{100 * confidence:g} % interval"] if bounds else []), *baselines]]
    for name in rows:
        interval = [f"{bounds[name].low:.4f}..{bounds[name].high:.4f}"] if name in bounds else ["-"]
        values = [format_metric(scores.get(name)) for scores in baselines.values()]
        lines.append([name, format_metric(metrics[name]), *(interval if bounds else []), *values])
    return align(lines)
