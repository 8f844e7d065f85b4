"""A hypothesis with the trials that answer it: which ones, and what is compared of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from phasewise.analysis.statistics.frame import all_keys, in_order
from phasewise.analysis.statistics.losses import incomparable, losses_of
from phasewise.study.hypotheses import several
from phasewise.study.measures import OBJECTIVE, is_lower_better
from phasewise.study.results import PhaseResult, Setting, StudyResult, as_setting, typed

Verdict = Literal["yes", "no", "cannot be told"]

STEADY = "objective_std"
"""What stands for ``stability`` where losses cannot be compared."""


class CannotTell(Exception):
    """The evidence says why; ``needs`` what would tell."""

    def __init__(self, evidence: str, needs: str = "") -> None:
        super().__init__(evidence)
        self.needs = needs


class Measure:
    """What is measured of each trial.

    Attributes:
        column: of `phasewise.analysis.statistics.frame.trial_frame`.
        name: in words.
        lower: whether less is better.
        note: why it is another one than was asked for.
    """

    def __init__(self, stated: Mapping[str, Any], study: StudyResult, frame: pd.DataFrame) -> None:
        asked = str(stated.get("measure") or OBJECTIVE)
        goal = study.plan.objective
        self.column = "value" if asked == OBJECTIVE else asked
        self.name = goal["metric"] if self.column == "value" else asked
        goals = [goal, *(one for phase in study.phases for one in phase.plan.objectives)]
        modes = {one["metric"]: one["mode"] for one in goals}
        known = modes.get(self.name)
        self.lower = is_lower_better(asked) if known is None else known == "min"
        self.note = ""
        if self.column not in frame:
            raise CannotTell(f"no trial has {self.name}")

    @property
    def losses(self) -> tuple[str, ...]:
        """That it is computed from."""
        return losses_of(self.name)

    def avoid(self, reason: str) -> None:
        """Measure steadiness without losses, for a reason.

        Raises:
            CannotTell: nothing else measures the same.
        """
        if self.column != "stability":
            raise CannotTell(f"{self.name} cannot be compared: {reason}")
        self.column, self.name, self.note = STEADY, f"{STEADY} instead of stability", reason


class Question:
    """A hypothesis that compares the values of a key.

    Attributes:
        key, named: the key and the values that the hypothesis names.
        form: ``best``, ``highest``, ``lowest`` or ``order``.
        rows: what is compared, a row per trial or, of spreads and effects, per cell, with a column
            ``y``.
        table: ``mean``, ``std`` and ``count`` of it by value, over settings that all values have.
        name: of what is compared.
        seeds: how many there are.
        is_single_trials, is_spread: whether trials are compared, or spreads over cells.
        is_sample: whether settings were drawn at random.
        loose: why trials may only be compared in pairs; empty if it does not matter.
    """

    def __init__(self, stated: Any, frame: pd.DataFrame, study: StudyResult) -> None:
        if not isinstance(stated, Mapping) or not isinstance(stated.get("key"), str):
            raise CannotTell("the hypothesis names no key")
        self.key: str = stated["key"]
        forms = ("best", "highest", "lowest", "order")
        self.form = next((form for form in forms if stated.get(form)), "")
        if not isinstance(stated.get(self.form), list):
            raise CannotTell(f"the hypothesis names none of {', '.join(forms)}")
        self.named: list[Setting] = [typed(value) for value in stated[self.form]]
        self.measure = Measure(stated, study, frame)
        effect: Mapping[str, Any] = stated.get("effect_of") or {}
        over: list[str] = list(stated.get("spread_over") or [])
        self.keys = all_keys(study)
        self.others = [key for key in self.keys if key != self.key]
        compared = [self.key, *effect, *over]
        phases = compared_in(study, compared, stated.get("phase"))
        self.where: Mapping[str, Any] = stated.get("where") or {}
        self.frame = satisfying(frame[frame["phase"].isin(phases)], self.where, compared)
        self.loose = self._comparable(study, phases, compared)
        self._leave_out_uncrossed([study.phases[number] for number in phases])
        # one value, one name: of 0 and 0.0, what the trials have
        self.named = [next((v for v in self.values if v == one), one) for one in self.named]
        self.seeds = int(self.frame["seed"].nunique())
        self.name = self.measure.name
        rows = self.frame.assign(y=self.frame[self.measure.column])
        self.is_single_trials, self.is_spread = not (effect or over), bool(over)
        if effect:
            rows = self._effects(rows, *next(iter(effect.items())))
        elif over:
            rows = self._spreads(rows, over)
        self.rows = rows
        groups = self._balanced(rows).groupby(self.key, sort=False)["y"]
        table = groups.agg(["mean", "std", "count"]).reindex(pd.Index(self.values, dtype=object))
        self.table = table.fillna({"count": 0})
        self.is_sample = any(study.phases[n].plan.sampled_from is not None for n in phases)

    @property
    def lower(self) -> bool:
        """Whether the value that is asked for has the lowest mean."""
        better = self.is_spread or self.measure.lower
        return {"highest": False, "lowest": True}.get(self.form, better)

    def _comparable(self, study: StudyResult, phases: Sequence[int], keys: Sequence[str]) -> str:
        if not self.measure.losses:
            return ""
        records = [
            trial.record
            for number in phases
            for one in study.phases[number].candidates
            for trial in one.trials
            if trial.record is not None
        ]
        if reason := incomparable(keys, records, self.measure.losses):
            self.measure.avoid(reason)
            return ""
        varied = [key for key in self.others if self.frame[key].nunique() > 1]
        return incomparable(varied, records, self.measure.losses)

    def _leave_out_uncrossed(self, own: Sequence[PhaseResult]) -> None:
        """Set ``values``: those that the phases declare, and others (the incumbent's) only if they
        ran with all the settings and seeds that the declared ones have in common."""
        declared = [typed(v) for phase in own for v in phase.plan.declared.get(self.key, [])]
        if self.key in self.where:  # a condition on it leaves the others out
            asked = [typed(v) for v in several(self.where[self.key])]
            declared = [value for value in declared if value in asked]
        self.values = in_order([*declared, *self.frame[self.key]])
        if not declared:
            return
        known = self.frame.dropna(subset=[self.measure.column])
        cells = {
            value: set(map(tuple, rows[["phase", "seed", *self.others]].to_numpy().tolist()))
            for value, rows in known.groupby(self.key, sort=False)
        }
        shared = [cells[value] for value in declared if value in cells]
        common = set.intersection(*shared) if shared else set()
        kept = [*declared, *self.named]
        self.values = [v for v in self.values if v in kept or common <= cells.get(v, set())]
        self.frame = self.frame[self.frame[self.key].isin(self.values)]

    def _balanced(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows at settings and seeds that all values have: where a value was tried with others
        that are worse, or one failed at some, means of all rows would not be fair. All rows where
        there are no such settings."""
        known = rows.dropna(subset=["y"])
        counts = known.groupby(["phase", "seed", *self.others], sort=False)[self.key]
        shared = counts.transform("nunique") == known[self.key].nunique()
        return known[shared] if shared.any() else known

    def _effects(self, rows: pd.DataFrame, other: str, pair: Sequence[Any]) -> pd.DataFrame:
        """How much the measure changes from one value of another key to a second one."""
        start, end = map(typed, pair)
        match = ["phase", "seed", *(key for key in self.keys if key != other)]
        wide = rows.dropna(subset=["y"]).pivot_table(
            index=match, columns=other, values="y", aggfunc="mean", sort=False
        )
        for value in (start, end):
            if value not in wide:
                raise CannotTell(f"no run at {other}={value} finished with a result")
        self.name = f"change of {self.name} from {other}={start} to {end}"
        self.others = [key for key in self.others if key != other]
        return (wide[end] - wide[start]).dropna().rename("y").reset_index()

    def _spreads(self, rows: pd.DataFrame, over: Sequence[str]) -> pd.DataFrame:
        """How far the mean of each cell is from the median over some keys (Brown and Forsythe 1974:
        a robust measure of spread), over the cells that all values of the key have."""
        cell = ["phase", *self.keys]
        means = rows.groupby(cell, sort=False)["y"].mean().dropna().reset_index()
        match = ["phase", *self.others]
        shared = means.groupby(match, sort=False)[self.key].transform("nunique")
        means = means[shared == means[self.key].nunique()]
        fixed = ["phase", self.key, *(key for key in self.others if key not in over)]
        # of two cells both are as far from their median: one of them, the same for all values
        means = means.sort_values([*over], key=lambda column: column.astype(str), kind="stable")
        groups = means.groupby(fixed, sort=False)["y"]
        centre, twice = groups.transform("median"), groups.transform("size") == 2
        repeats = twice & (groups.cumcount() == 1)
        self.name = f"distance of {self.name} from its median over {', '.join(over)}"
        return means.assign(y=(means["y"] - centre).abs(), seed=0)[~repeats]

    def scored(self, values: Sequence[Setting]) -> list[Setting]:
        """Those with a result."""
        count = self.table["count"]
        return [value for value in values if value in count.index and count[value] > 0]

    def require(self, values: Sequence[Setting]) -> None:
        """That each has a result, or diverged.

        Raises:
            CannotTell: one was not tried, or did not finish.
        """
        never = [value for value in values if value not in self.scored(values)]
        untried = [value for value in never if value not in self.values]
        if untried:
            raise CannotTell(f"{self.key}={listed(untried)} was never tried")
        if lost := [value for value in never if not self.diverged(value)]:
            raise CannotTell(f"no run at {self.key}={listed(lost)} finished with a result")

    def diverged(self, value: Setting) -> bool:
        """Whether most runs at a value did, and none completed."""
        status = self.frame.loc[self.frame[self.key] == value, "status"]
        return bool((status == "diverged").mean() > 0.5 and not (status == "completed").any())

    def top(self, values: Sequence[Setting]) -> Setting:
        """The value with the mean that is asked for."""
        mean = self.table["mean"]
        return (min if self.lower else max)(values, key=lambda value: mean[value])


def satisfying(
    frame: pd.DataFrame, where: Mapping[str, Any], compared: Sequence[str] = ()
) -> pd.DataFrame:
    """The trials that have the values of a condition.

    Raises:
        CannotTell: there is none.
    """
    for key, value in where.items():
        if key not in frame:
            raise CannotTell(f"no phase varies {key}")
        if key in compared and len(several(value)) < 2:
            raise CannotTell(f"{key} is compared, and has one value")
        frame = frame[frame[key].isin([typed(one) for one in several(value)])]
    if frame.empty:
        said = ", ".join(f"{key}={listed(several(value))}" for key, value in where.items())
        raise CannotTell(f"there is no trial with {said}" if where else "there is no trial")
    return frame


def compared_in(study: StudyResult, keys: Sequence[str], name: Any) -> list[int]:
    """The phases that vary all these keys.

    Raises:
        CannotTell: there is none.
    """
    kinds = ("grid", "combinations") if name is None else ("grid", "combinations", "rerun")
    compared = [
        (number, phase)
        for number, phase in enumerate(study.phases)
        if phase.plan.kind in kinds and all(key in phase.keys for key in keys)
    ]
    said = " and ".join(keys)
    if not compared:
        raise CannotTell(f"no phase varies {said}")
    found = [number for number, phase in compared if name in (None, phase.plan.name)]
    if not found:
        raise CannotTell(f"phase {name} does not vary {said}")
    return found


def listed(values: Sequence[Any]) -> str:
    """Values in a sentence."""
    return ", ".join(str(as_setting(value)) for value in values)
