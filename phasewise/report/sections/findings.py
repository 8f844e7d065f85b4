"""The three sentences that a reader should take away, made from the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from math import isclose
from statistics import fmean
from typing import Any

from phasewise.analysis.audit import Finding
from phasewise.analysis.statistics.effects import phase_effects
from phasewise.analysis.statistics.intervals import compare_with
from phasewise.analysis.statistics.power import ALPHA
from phasewise.records.baselines import BEFORE, rivals
from phasewise.report.outcomes import failed_runs
from phasewise.report.sections.audit import counted
from phasewise.report.sections.final import (
    FINAL,
    START,
    compared,
    objective_on,
    references,
    scores,
    split_of,
)
from phasewise.report.text import listed, number, percent, plain
from phasewise.report.view import StudyView

MOST = 3
FLOAT32 = 1e-6
"""Metrics that are computed in it agree to this part of themselves, by whatever way."""


def top_findings(study: StudyView, audit: list[Finding]) -> list[str]:
    """At most `MOST`, the most important first."""
    sentences = [
        *_final(study),
        *_strongest(study),
        *_errors(audit),
        *_failures(study),
        *_noise(study),
        *_weakest(study),
    ]
    return sentences[:MOST]


def _final(study: StudyView) -> Iterator[str]:
    """The final configuration against the starting one and the best trivial predictor."""
    split = split_of(study)
    target = objective_on(study, split)
    found = {
        name: fmean(values[target])
        for name, one in compared(study).items()
        if target in (values := scores(one.records, split))
    }
    if FINAL not in found:
        return
    final = found[FINAL]
    sign = 1.0 if study.plan.objective["mode"] == "max" else -1.0
    text = f"The final configuration scores {target} {number(final)}"
    start = found.get(START)
    if start is not None:
        text += f", {_against(final, start, sign)} the starting one ({number(start)})"
    beside = {
        name: values[target]
        for name, values in rivals(references(compared(study), split)).items()
        if target in values
    }
    if (before := beside.pop(BEFORE, None)) is not None:
        text += f", {_against(final, before, sign)} the network before training ({number(before)})"
    if beside:
        best = max(beside, key=lambda name: sign * beside[name])
        text += f", {_against(final, beside[best], sign)} the best trivial predictor, {best} "
        text += f"({number(beside[best])})"
    yield f"{text}."


def _against(one: float, other: float, sign: float) -> str:
    gain = sign * (one - other)
    if isclose(one, other, rel_tol=FLOAT32):
        return "the same as"
    share = f" ({percent(100 * abs(gain / other), '')})" if other else ""
    return f"{number(abs(gain))}{share} {'better' if gain > 0 else 'worse'} than"


def _strongest(study: StudyView) -> Iterator[str]:
    effects = phase_effects(study.result)
    for row in effects.head(1).to_dict("records"):
        where = " of all keys" if len(effects) > 1 else ""
        where += f", in phase {row['phase']}" if row["phase"] else ""
        other = f"; the best configuration has {plain(row['in_best'])}"
        other = other if row["in_best"] != row["best"] else ""
        yield (
            f"{_key(row)} mattered most{where}: on average its best value, {plain(row['best'])}, "
            f"scores {number(float(row['range']))} better than its worst{other}."
        )


def _key(row: dict[Hashable, Any]) -> str:
    """With those that changed only together with it."""
    return f"{row['key']} together with {row['tied']}" if row["tied"] else str(row["key"])


def _weakest(study: StudyView) -> Iterator[str]:
    effects = phase_effects(study.result)
    for row in effects[1:].tail(1).to_dict("records"):
        yield (
            f"{_key(row)} mattered least: the means of its {row['values']} values differ by "
            f"{number(float(row['range']))}."
        )


def _errors(audit: list[Finding]) -> Iterator[str]:
    errors = [one for one in audit if one.severity == "error"]
    if errors:
        yield f"The audit found {counted(audit)}. The gravest: {errors[0].text}."


def _failures(study: StudyView) -> Iterator[str]:
    bad = [(one.label, status) for one, status in failed_runs(study)]
    if bad:
        counts = ", ".join(f"{n} {state}" for state, n in Counter(s for _, s in bad).items())
        names = listed(list(dict.fromkeys(label for label, _ in bad)), most=3)
        planned = sum(1 for _ in study.trials())
        yield f"{len(bad)} of {planned} runs did not complete ({counts}): {names}."


def _noise(study: StudyView) -> Iterator[str]:
    """Which adopted gains several seeds confirm."""
    clear, adopted = [], []
    for phase in study.phases:
        winner, before = phase.winner, phase.incumbent
        if winner is None or before is None or winner is before:
            continue
        found = compare_with(phase.result, winner.index).table
        if found is not None and before.index in list(found["candidate"]):
            adopted.append(phase.plan.name)
            p = found.set_index("candidate").loc[before.index, "p_holm"]
            clear += [phase.plan.name] if p <= ALPHA else []
    if adopted:
        names = f": {listed(clear)}" if clear else ""
        yield (
            f"{len(clear)} of {len(adopted)} adopted gains are beyond the noise of seeds{names}."
        )
