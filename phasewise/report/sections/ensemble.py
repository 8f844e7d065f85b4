"""The seeds of the final configuration as one network, scored by the study's end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phasewise.analysis.statistics.frame import is_number
from phasewise.analysis.statistics.intervals import CONFIDENCE, Interval
from phasewise.report.view import StudyView
from phasewise.study.ensemble import read_ensemble

NOTE = (
    "The ensemble averages what the networks of all seeds predict (predict.py and evaluate.py take "
    "them as checkpoint=[a,b,c]); its interval is over items alone, for there is one ensemble."
)


def ensemble_figures(study: StudyView) -> tuple[str, dict[str, tuple[float, Interval | None]]]:
    """What it is called, and each main metric on test data with its interval over items.

    Returns:
        No metrics where there is none, or one of other runs than the report's.
    """
    final, name = study.final, "ensemble"
    if study.test is None or final is None or study.test.plan.name == "":
        return name, {}
    directory = study.result.directory / study.test.plan.name
    found = read_ensemble(directory, final.records)
    if found is None or len(final.records) < 2:
        return name, {}
    name = f"ensemble of {len(final.records)} seeds"
    confidence = (found.get("bootstrap") or {}).get("confidence")
    figures = {
        str(key): (float(one["value"]), _interval(one) if confidence == CONFIDENCE else None)
        for key, one in found["figures"].items()
        if key.count("/") == 1 and is_number(one.get("value"))
    }
    return name, figures


def _interval(one: Mapping[str, Any]) -> Interval | None:
    ends = [float(one[end]) for end in ("low", "high") if is_number(one.get(end))]
    return (ends[0], ends[1]) if len(ends) == 2 else None
