"""Answers to "so many percent less than before": trials against those of an earlier run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from phasewise.analysis.statistics.frame import trial_frame
from phasewise.analysis.statistics.intervals import paired_p
from phasewise.analysis.statistics.losses import BATCH_SIZE, GROUP, incomparable
from phasewise.analysis.statistics.power import ALPHA, TWO_FIRST, more_seeds, more_trials
from phasewise.analysis.statistics.question import CannotTell, Measure, Verdict, satisfying
from phasewise.config.help import flatten
from phasewise.errors import UserError
from phasewise.records.record import RECORD, RunRecord, read_record
from phasewise.study.journal import Candidate, Journal, Phase, Trial
from phasewise.study.read import read_study
from phasewise.study.results import StudyResult, read_phase
from phasewise.study.saved_config import MULTIRUN, SavedConfig, look_up, read_yaml


@dataclass(frozen=True)
class Side:
    """Trials of one configuration or several, and the study that they are of."""

    name: str
    rows: pd.DataFrame
    study: StudyResult

    def directories(self) -> list[Path]:
        """Of the runs."""
        return [self.study.directory / str(name) for name in self.rows["trial"]]

    def records(self) -> list[RunRecord]:
        """Of those that have one."""
        return [record for one in self.directories() if (record := read_record(one)) is not None]

    def values(self, measure: Measure) -> pd.Series:
        """The measure of the trials that have it, by seed.

        Raises:
            CannotTell: none has.
        """
        if measure.column not in self.rows:
            raise CannotTell(f"{self.name} has no {measure.name}")
        found = self.rows.set_index("seed")[measure.column].dropna()
        if found.empty:
            raise CannotTell(f"no run of {self.name} has {measure.name}")
        return found


def answer_change(
    stated: Mapping[str, Any], frame: pd.DataFrame, study: StudyResult
) -> tuple[Verdict, str, str, pd.DataFrame]:
    """Verdict, evidence, what would tell, and the measure on both sides.

    The measure a of the study's trials is held against b of the earlier ones, changed by the
    percentage p that the hypothesis names: a - (b + p/100 |b|) is tested against 0, paired over the
    seeds where both sides have one trial of each, else by Welch's t-test.

    Raises:
        CannotTell: why.
    """
    measure = Measure(stated, study, frame)
    here = select(stated, frame, study, "the final configuration")
    there = earlier(stated["against"], frame, study)
    if measure.column == "value" and there.study.plan.objective != study.plan.objective:
        raise CannotTell(f"{there.name} was judged by {there.study.plan.objective['metric']}")
    if measure.losses:
        reason = incomparable(
            differing(here, there), [*here.records(), *there.records()], measure.losses
        )
        if reason:
            measure.avoid(reason)
    a, b = here.values(measure), there.values(measure)
    percent = stated.get("at_most", stated.get("at_least"))
    wanted = b + float(percent) / 100 * b.abs()
    at_most = "at_most" in stated
    p, difference, needs, how = _test(a, wanted)
    change = 100 * (a.mean() - b.mean()) / abs(b.mean()) if b.mean() else math.nan
    note = f" ({measure.note})" if measure.note else ""
    text = (
        f"{measure.name}{note} of {here.name}: {a.mean():.4g}, of {there.name}: {b.mean():.4g}, "
        f"which is {change:+.3g} %; {how}, p = {p:.2g} that it is {float(percent):+g} %"
    )
    table = pd.DataFrame(
        {"mean": [s.mean() for s in (a, b)], "std": [s.std() for s in (a, b)]},
        index=pd.Index([here.name, there.name]),
    ).assign(count=[len(a), len(b)])
    if not p <= ALPHA:
        return "cannot be told", f"{text}: within noise", needs, table
    return ("yes" if (difference < 0) == at_most else "no"), text, "", table


def _test(a: pd.Series, wanted: pd.Series) -> tuple[float, float, str, str]:
    """p-value, mean difference, what would tell, and how it was tested."""
    from scipy import stats

    if a.index.is_unique and wanted.index.is_unique:
        pairs = (a - wanted).dropna()
        if len(pairs) > 1:
            how = f"{len(pairs)} seeds in pairs"
            return paired_p([*pairs]), pairs.mean(), more_seeds([*pairs], len(pairs)), how
    if min(len(a), len(wanted)) < 2:
        said = f"{len(a)} run{'' if len(a) == 1 else 's'} against {len(wanted)}"
        raise CannotTell(f"{said}, without another seed that would show the noise", TWO_FIRST)
    p = float(stats.ttest_ind(a, wanted, equal_var=False).pvalue)
    seeds = min(a.index.nunique(), wanted.index.nunique())
    needs = more_trials([*a], [*wanted], seeds)
    difference = a.mean() - wanted.mean()
    how = f"{len(a)} against {len(wanted)} runs"
    return (1.0 if math.isnan(p) else p), difference, needs, how


def select(spec: Mapping[str, Any], frame: pd.DataFrame, study: StudyResult, default: str) -> Side:
    """Trials with the values of ``where``, or the winner of ``phase`` (by default the last one).

    Raises:
        CannotTell: there is none.
    """
    name, where = spec.get("phase"), spec.get("where")
    compared = [(n, p) for n, p in enumerate(study.phases) if p.plan.kind != "test"]
    chosen = [(n, p) for n, p in compared if name in (None, p.plan.name)]
    if not chosen:
        raise CannotTell(f"there is no phase {name}")
    if where:
        rows = satisfying(frame[frame["phase"].isin([n for n, _ in chosen])], where)
        said = ", ".join(f"{key}={value}" for key, value in where.items())
        return Side(said, rows.drop_duplicates("trial"), study)
    if name is None and study.plan.last:
        chosen = [(n, p) for n, p in chosen if p.plan.name == study.plan.last]
    decided = [(n, p.plan.winner) for n, p in chosen if p.plan.winner is not None]
    if not decided:
        raise CannotTell("nothing has been decided yet")
    number, winner = decided[-1]
    rows = frame[(frame["phase"] == number) & (frame["candidate"] == winner)]
    return Side(f"the winner of phase {name}" if name else default, rows, study)


def earlier(against: Any, frame: pd.DataFrame, study: StudyResult) -> Side:
    """Trials of this study, or those of a directory: its one run, or its final configuration.

    A relative path starts where the study was started; where that tells nothing (it was copied from
    another machine, or ran in an earlier version), at a folder that it lies in, or else here.

    Raises:
        CannotTell: there is none.
    """
    if isinstance(against, Mapping):
        return select(against, frame, study, "")
    text = str(against)
    started = look_up(read_yaml(study.directory / MULTIRUN), "hydra.runtime.cwd")
    known = [Path(started)] if isinstance(started, str) else []
    folders = [*known, *study.directory.resolve().parents, Path()]
    places = [one / text for one in folders if (one / text).is_dir()]
    if not places:
        raise CannotTell(f"{text} is not there")
    try:
        other = one_run(places[0]) or read_study(places[0])
    except UserError as error:
        raise CannotTell(str(error).partition("\n")[0]) from None
    return select({}, trial_frame(other), other, text)


def one_run(directory: Path) -> StudyResult | None:
    """A single run as a study of one trial; ``None`` where there is no record."""
    record = read_record(directory) if (directory / RECORD).exists() else None
    if record is None:
        return None
    goal = {key: str(record.objective[key]) for key in ("metric", "mode")}
    trial = Trial(record.seed or 0, ".", record.identity)
    phase = Phase("", "grid", goal, [trial.seed], candidates=[Candidate([], [trial])], winner=0)
    plan = Journal(directory, "", record.task, [], goal, [trial.seed], phases=[phase])
    return StudyResult(plan, [read_phase(phase, directory)])


def differing(here: Side, there: Side) -> list[str]:
    """The keys that decide what a loss is, and have other values on the two sides."""
    found: list[dict[str, str]] = []
    for place in [*here.directories(), *there.directories()]:
        saved = SavedConfig(place)
        loss = flatten(dict(saved.config.get(GROUP, {})), GROUP)
        found.append({key: str(value) for key, value in loss.items()})
        found[-1][BATCH_SIZE] = str(saved.get(BATCH_SIZE))
    keys = dict.fromkeys(key for one in found for key in one)
    return [key for key in keys if len({one.get(key) for one in found}) > 1]
