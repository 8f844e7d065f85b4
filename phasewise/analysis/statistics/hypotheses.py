"""Answers to the hypotheses that a study's file states: yes, no or cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from phasewise.analysis.statistics.change import answer_change
from phasewise.analysis.statistics.frame import trial_frame
from phasewise.analysis.statistics.intervals import holm
from phasewise.analysis.statistics.pairs import Comparison, compare
from phasewise.analysis.statistics.power import ALPHA, TWO_FIRST
from phasewise.analysis.statistics.question import CannotTell, Question, Verdict, listed
from phasewise.study.results import Setting, StudyResult

UNKNOWN: Verdict = "cannot be told"


@dataclass(frozen=True)
class Answer:
    """To one hypothesis.

    Attributes:
        claim: as stated.
        verdict: the answer.
        evidence: what it rests on, in words.
        needs: what would tell, where it cannot be told and something would.
        table: ``mean``, ``std`` and ``count`` of the measure by value of the key; ``None`` where
            there is nothing to show.
    """

    claim: str
    verdict: Verdict
    evidence: str
    needs: str = ""
    table: pd.DataFrame | None = None


def answer_hypotheses(study: StudyResult) -> list[Answer]:
    """One per hypothesis of the journal, in its order; see `phasewise.study.hypotheses.Hypothesis`.

    Two values of a key are compared over trials that differ in nothing else (same phase, other
    settings and seed): the differences of such pairs are tested against 0 by a paired t-test,
    Holm-corrected for all comparisons of the hypothesis; without pairs, as in a random sample of a
    grid, all trials of one value are tested against all of the other by Welch's t-test. *Yes* or
    *no* needs p <= .05; *cannot be told* is the answer where differences are within noise, where
    there is one pair or trial only, or where a value never finished; `Answer.needs` estimates what
    it takes. A value at which most runs diverged, and none completed, is worst.

    Of an effect (``effect_of``) the changes of pairs are compared in the same way, of a spread
    (``spread_over``) the distances of the cells from their median, paired over cells.
    """
    frame = trial_frame(study)
    return [_answer(stated, frame, study) for stated in study.plan.hypotheses]


def _answer(stated: Any, frame: pd.DataFrame, study: StudyResult) -> Answer:
    claim = str(stated.get("claim", "")) if isinstance(stated, Mapping) else str(stated)
    table = None
    try:
        if isinstance(stated, Mapping) and stated.get("against") is not None:
            return Answer(claim, *answer_change(stated, frame, study))
        question = Question(stated, frame, study)
        table = question.table
        verdict, evidence = _order(question) if question.form == "order" else _best(question)
    except CannotTell as reason:
        return Answer(claim, UNKNOWN, str(reason), reason.needs, table)
    return Answer(claim, verdict, evidence, "", table)


def _best(question: Question) -> tuple[Verdict, str]:
    """Whether the mean that is asked for is at one of the named values."""
    key = question.key
    question.require([value for value in question.values if not question.diverged(value)])
    scored = question.scored(question.values)
    inside = [value for value in scored if value in question.named]
    outside = [value for value in scored if value not in question.named]
    if not inside:
        missing = [value for value in question.named if value not in question.values]
        what = "was never tried" if missing else "diverged"
        raise CannotTell(f"{key}={listed(missing or question.named)} {what}")
    if not outside:
        raise CannotTell("no other value has a result")
    top, rival = question.top(inside), question.top(outside)
    first, second = (top, rival) if question.top([top, rival]) == top else (rival, top)
    found = _compare(question, first, second)
    rivals = [value for value in scored if (value in inside) != (first in inside)]
    p = min(1.0, found.p * len(rivals))  # the best of so many was chosen
    mean = question.table["mean"]
    text = (
        f"{_named(question)} is {question.form} at {key}={first} (mean {mean[first]:.4g}), against "
        f"{second} ({mean[second]:.4g}); {found.text}, p = {p:.2g}"
    )
    if not p <= ALPHA:
        needs = _needs(question, found, ALPHA / len(rivals))
        raise CannotTell(f"{text}: within noise", needs)
    return ("yes" if first in inside else "no"), text


def _order(question: Question) -> tuple[Verdict, str]:
    """Whether means rise from each named value to the next."""
    named, key = question.named, question.key
    if len(named) < 2:
        raise CannotTell("an order needs two values")
    question.require(named)
    scored = question.scored(named)
    if len(scored) < len(named):
        lost = [value for value in named if value not in scored]
        raise CannotTell(f"runs at {key}={listed(lost)} diverged")
    steps = [_compare(question, b, a) for a, b in pairwise(named)]
    corrected = holm([step.p for step in steps])
    mean = question.table["mean"]
    means = ", ".join(f"{value}: {mean[value]:.4g}" for value in named)
    found = "; ".join(
        f"{a} to {b}: {step.difference:+.3g}, p = {p:.2g} ({step.text})"
        for (a, b), step, p in zip(pairwise(named), steps, corrected, strict=True)
    )
    text = f"mean {_named(question)} by {key}: {means}. {found}"
    clear = [p <= ALPHA for p in corrected]
    if any(c and step.difference < 0 for c, step in zip(clear, steps, strict=True)):
        return "no", text
    if all(clear):
        return "yes", text
    weakest = max(zip(corrected, steps, strict=True), key=lambda pair: pair[0])[1]
    raise CannotTell(f"{text}: within noise", _needs(question, weakest, ALPHA / len(steps)))


def _compare(question: Question, a: Setting, b: Setting) -> Comparison:
    is_sample = question.is_sample
    found = compare(question.rows, question.key, question.others, a, b, is_sample=is_sample)
    if found is None:
        counts = [int(question.table["count"][value]) for value in (a, b)]
        one = "trial" if question.is_single_trials else "cell"
        by = f"{counts[0]} and {counts[1]} {one}s" if max(counts) > 1 else f"one {one} each"
        raise CannotTell(
            f"{question.key}={a} and {b} are compared by {by}, without another seed or setting "
            "that would show the noise",
            TWO_FIRST if question.seeds < 2 else "",
        )
    if question.loose and not found.differences:
        raise CannotTell(f"{question.measure.name} cannot be compared: {question.loose}")
    return found


def _needs(question: Question, found: Comparison, alpha: float) -> str:
    """Spreads are of settings: more seeds do not add to them."""
    if question.is_spread:
        return "more settings: a spread is one of cells, whatever the seeds"
    return found.needs(question.seeds, alpha)


def _named(question: Question) -> str:
    note = question.measure.note
    return f"{question.name} ({note})" if note else question.name
