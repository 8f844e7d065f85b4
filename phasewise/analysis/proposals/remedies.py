"""What the audit's rules on validation and fine-tuning call for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phasewise.analysis.audit import Finding
from phasewise.analysis.proposals.edges import as_word
from phasewise.analysis.proposals.known import Known, words_of
from phasewise.analysis.proposals.proposal import CanRun, Cell, Proposal
from phasewise.analysis.statistics.frame import is_number
from phasewise.analysis.validation import had_weights

SATURATED, WORSE_THAN_START = "saturated", "worse_than_start"

HARDER = ("data.validation=recordings", "data.validation=cameras", "data.validation=groups")
"""Splits that are harder, the first of which that a task's data can have is taken."""

INTERPOLATION = "finetuning.interpolate=[0.25,0.5,0.75,1]"
"""Shares of the fine-tuned weights among which validation chooses (Wortsman et al. 2022)."""

SLOWER = (3, 10)
"""By which the learning rate is divided beside that."""

FINALISTS = 3


def _of_validation(known: Known, found: Sequence[Finding], rule: str) -> Finding | None:
    """What a rule found in a phase that compares: nothing is proposed by what test data show."""
    names = [phase.plan.name for phase in known.case.compared]
    return next((one for one in found if one.rule == rule and one.phase in names), None)


def validation(known: Known, found: Sequence[Finding], can_run: CanRun) -> Iterator[Proposal]:
    """The last candidates once more, judged by a split that can tell them apart."""
    finding = _of_validation(known, found, SATURATED)
    now = f"data.validation={known.saved('data.validation')}"
    if finding is None or now in HARDER:
        return
    setting = next((it for it in HARDER if can_run((it,))), None)
    rows = [row for row in range(len(known.phase.candidates)) if row != known.index]
    rivals = [words_of(known.phase, row, known.index) for row in rows]
    cells: tuple[Cell, ...] = tuple(it for it in rivals if it is not None)[:FINALISTS]
    if setting is not None and cells:
        reason = f"{finding.text}: the candidates once more, judged with {setting}"
        yield Proposal("validation", "judged_anew", cells, reason, settings=(setting,))


def fine_tuning(known: Known, found: Sequence[Finding]) -> Iterator[Proposal]:
    """Weights between those before and after training, and smaller steps away from the first."""
    finding = _of_validation(known, found, WORSE_THAN_START)
    if finding is None or not had_weights(known.run.saved):
        return
    cells: list[Cell] = [(INTERPOLATION,)]
    rate = known.setting("optimizer.lr")
    if is_number(rate):
        words = [f"optimizer.lr={as_word(float(f'{float(rate) / by:.4g}'))}" for by in SLOWER]
        cells += [(INTERPOLATION, word) for word in words]
    reason = f"{finding.text}: weights between those before training and after it, smaller rates"
    yield Proposal("fine_tuning", "interpolated", tuple(cells), reason)
