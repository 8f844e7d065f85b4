"""What a configuration must satisfy to be chosen: ``require: ["cost.parameters <= 5e6"]``."""

from __future__ import annotations

import logging
import math
import operator
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from phasewise.config.help import did_you_mean, nearest
from phasewise.records.record import RunRecord
from phasewise.study.journal import Phase
from phasewise.study.results import objective_value
from phasewise.study.selection import told_apart

OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
COST = "cost."
COSTS = (
    *("parameters", "trained_parameters", "checkpoint_mb", "receptive_field"),
    *("seconds", "seconds_per_epoch", "epochs", "images_per_second", "peak_memory_mb"),
)
"""What our own runs record of their cost."""

log = logging.getLogger(__name__)

_FORM = re.compile(r"\s*([^\s<>=!]+)\s*([<>=!]+)\s*(\S+)\s*")
_LARGE = 1e4


@dataclass(frozen=True)
class Requirement:
    """``name`` is a metric at the best epoch, or what a run costs: ``cost.parameters``."""

    name: str
    operator: str
    bound: float
    text: str

    def holds(self, value: float) -> bool:
        """For NaN it does not."""
        return bool(OPERATORS[self.operator](value, self.bound))


def parse_requirement(text: str) -> Requirement:
    """``NAME OPERATOR NUMBER``.

    Raises:
        ValueError: what is wrong, in words.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("must be NAME OPERATOR NUMBER, e.g. cost.parameters <= 5e6")
    name, sign, number = found.groups()
    if sign not in OPERATORS:
        raise ValueError(f"{sign} is not one of {', '.join(OPERATORS)}")
    bound = _finite(number)
    if bound is None:
        turned = "; the name comes first" if _finite(name) is not None else ""
        raise ValueError(f"{number} is no finite number{turned}")
    return Requirement(name, sign, bound, f"{name} {sign} {number}")


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def violations(require: Sequence[str], records: Iterable[RunRecord]) -> list[str]:
    """The requirements that a configuration does not satisfy, each with its value.

    It is judged as it is compared: by the mean over its completed seeds. What none of them has
    recorded, or is undefined in all, cannot be satisfied.

    Args:
        require: as `parse_requirement` reads them.
        records: of its runs; without a completed one there is nothing to judge.
    """
    completed = [record for record in records if record.status == "completed"]
    found = []
    for one in map(parse_requirement, require if completed else ()):
        values = [value for it in completed if math.isfinite(value := value_of(one.name, it))]
        mean = fmean(values) if values else math.nan
        if not one.holds(mean):
            found.append(f"{one.text} ({_shown(mean, one.bound)})")
    return found


def value_of(name: str, record: RunRecord) -> float:
    """What a requirement is about, of one run; NaN where it has none."""
    if name == record.objective.get("metric"):
        return objective_value(record)
    in_cost = name.startswith(COST)
    value = record.cost.get(name.removeprefix(COST)) if in_cost else record.best.get(name)
    return math.nan if value is None else float(value)


def _shown(value: float, bound: float) -> str:
    if math.isnan(value):
        return "not recorded"
    if abs(value) >= _LARGE:
        return f"is {value:,.0f}" if round(value) != bound else f"is {value:,.10g}"
    return f"is {told_apart(value, bound)[0]}"


def unknown_name(name: str, metrics: Collection[str]) -> str:
    """What is wrong with the name of a requirement, by the metrics that runs have; empty if none.

    Parts of a metric, ``val/IoU/cat``, depend on the data: nobody knows them beforehand.
    """
    if name.startswith(COST):
        own = name.removeprefix(COST)
        near = nearest(own, COSTS)
        there = f"did you mean {COST}{near}?" if near else f"there are {', '.join(COSTS)}"
        return "" if own in COSTS else f"no such cost; {there}"
    if name in metrics or name.count("/") > 1:
        return ""
    if name.startswith("test/"):
        return "test data choose nothing; must be a metric of val/"
    return f"no such metric{_choices(name, [*metrics, f'{COST}parameters'])}"


def _choices(name: str, options: Sequence[str]) -> str:
    return did_you_mean(name, options) or f"; there are {', '.join(options)}"


class NameCheck:
    """Tells, once each, which names that decide a completed run has not recorded.

    Where a task of somebody's own logs what it likes, the first trial is the first to know.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def note(self, record: RunRecord | None, phase: Phase) -> None:
        """A run of a phase has ended."""
        if record is None or record.status != "completed":
            return
        costs = [f"{COST}{key}" for key in record.cost]
        there = [*dict.fromkeys([str(record.objective["metric"]), *record.best]), *costs]
        names = [one["metric"] for one in phase.objectives[1:]]
        names += [parse_requirement(text).name for text in phase.require]
        for name in names:
            if name not in there and name not in self._told:
                self._told.add(name)
                text = f"{name}: {record.directory.name} has not recorded it"
                log.warning("%s%s", text, _choices(name, there))
