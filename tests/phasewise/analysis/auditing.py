"""What the tests of the audit do again and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from phasewise.analysis.audit import Finding, audit
from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.study.journal import Journal
from phasewise.study.read import read_study
from phasewise.study.results import settings_of
from tests.phasewise.study.synthetic import Edit, Settings, Synthetic

LR, BATCH = "optimizer.lr", "data.batch_size"


def audited(directory: Path, study: Synthetic | None = None) -> list[Finding]:
    (study or Synthetic(test=True)).write(directory)
    return audit(read_study(directory))


def rules(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings]


def only(findings: list[Finding], rule: str) -> Finding:
    """The one finding there is."""
    assert rules(findings) == [rule]
    return findings[0]


def replan(directory: Path, change: Callable[[Journal], None]) -> list[Finding]:
    """The audit after the journal of a clean study was changed."""
    plan = Synthetic(test=True).write(directory)
    change(plan)
    plan.write()
    return audit(read_study(directory))


def halved(directory: Path) -> Path:
    """A clean study whose first phase stopped its lowest learning rate after two epochs."""

    def pause(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        if settings[LR] == 1e-4:
            del rows[2:]
            record.status, record.best, record.last = "paused", {}, {}
            record.objective |= {"value": None, "epoch": None}
            record.cost["epochs"] = 2

    plan = Synthetic(test=True, edit=pause).write(directory)
    phase = plan.phases[0]
    for candidate in phase.candidates:
        if settings_of(candidate.overrides)[LR] == 1e-4:
            candidate.epochs = 2
    phase.epochs_saved = 30
    plan.write()
    return directory


def edit_some(condition: Callable[[Settings, RunRecord], bool], change: Edit) -> Edit:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        if condition(settings, record):
            change(record, rows, settings)

    return edit
