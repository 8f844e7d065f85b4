"""What a report leaves, counts as failed, and groups."""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from pathlib import Path

import pytest

from phasewise.analysis.audit import Finding, Severity
from phasewise.records.lock import locked
from phasewise.records.record import read_record
from phasewise.report.content import FindingBlock, Text
from phasewise.report.report import write_report
from phasewise.report.sections.audit import audit_section
from phasewise.study.results import objective_value
from tests.phasewise.report.test_report import table, text_of
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, clean_score

pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_report_removes_what_the_one_before_it_left_and_nothing_else(tmp_path: Path) -> None:
    broken = Synthetic({"lr": CLEAN["lr"]}, lambda s, i: "failed" if i else 0.5, seeds=[0, 1])
    broken.write(tmp_path)
    write_report(tmp_path)
    own = [tmp_path / "tables" / "notes.csv", tmp_path / "figures" / "mine.png"]
    for path in own:
        path.write_text("somebody else's")
    assert (tmp_path / "tables" / "failures.csv").is_file()
    assert (tmp_path / "figures" / "curves_1_lr.png").is_file()
    shutil.rmtree(tmp_path / "lr")
    Synthetic({"": CLEAN["lr"]}).write(tmp_path)
    write_report(tmp_path)
    left = {path.name for part in ("tables", "figures") for path in (tmp_path / part).iterdir()}
    assert not left & {"failures.csv", "failures.tex", "curves_1_lr.png", "phase_1_lr.csv"}
    assert {"runs.csv", "runs.tex", "curves_1_sweep.png", "phase_1_sweep.csv"} <= left
    assert all(path.is_file() for path in own)


def test_what_has_not_begun_is_no_failure(tmp_path: Path) -> None:
    """A study in the middle of its first phase, and the same one killed there."""

    def score(settings: Settings, seed: int) -> float | str:
        states = {1e-3: "running", 1e-2: "missing"}
        return states.get(settings["optimizer.lr"]) or clean_score(settings, seed)

    plan = Synthetic(score=score, seeds=[0]).write(tmp_path)
    shutil.rmtree(tmp_path / "activation")
    plan.status = plan.phases[0].status = "running"
    plan.phases[1].status = "pending"
    for phase in plan.phases:
        phase.winner = phase.verdict = None
    plan.write()
    with locked(tmp_path, wait=False):
        write_report(tmp_path)
    assert "did not complete" not in text_of(tmp_path / "report.html")
    assert not (tmp_path / "tables" / "failures.csv").exists()
    states = Counter(row["status"] for row in table(tmp_path, "runs"))
    assert states["running"] == 1 and states["completed"] == 1
    assert states.keys() == {"completed", "running", "not begun"}
    write_report(tmp_path)
    failed = {row["status"]: row["phase"] for row in table(tmp_path, "failures")}
    assert failed == {"unfinished": "lr", "no record": "lr"}  # nothing of the phase to come


def finding(rule: str, severity: Severity, phase: str | None, lines: int = 1) -> Finding:
    prefix = f"phase {phase}: " if phase else ""
    evidence = tuple(f"{phase} trial {index}" for index in range(lines))
    return Finding(rule, severity, f"{prefix}what {severity}", evidence, f"do {severity}", phase)


def test_a_winner_that_stays_is_one_row_of_the_audit() -> None:
    """The same trial in several phases; another grade of it stands by itself."""
    same = ("backbone/model.backbone=a,seed=0",)
    found = [
        Finding("few_epochs", "note", f"phase {phase}: {phase}=1 was chosen", same, "more", phase)
        for phase in ("loss", "lr", "dropout")
    ]
    found.append(Finding("few_epochs", "note", "phase last: b was chosen", ("b",), "more", "last"))
    _, entry = audit_section(found).blocks
    assert isinstance(entry, FindingBlock)
    assert [*entry.rows] == [
        ("loss, lr, dropout", "loss=1 was chosen", same[0]),
        ("last", "b was chosen", "b"),
    ]
    assert "(4 times)" in entry.title


def test_a_row_of_several_phases_names_its_configuration() -> None:
    """One phase had nothing else to choose, in a later one the same won against another."""
    texts = {"longer": "the only configuration was chosen", "before": "lr=1 was chosen"}
    found = [
        Finding("few_epochs", "note", f"phase {phase}: {text}", ("longer/seed=0",), "more", phase)
        for phase, text in texts.items()
    ]
    for order in (found, found[::-1]):
        _, entry = audit_section(order).blocks
        assert isinstance(entry, FindingBlock)
        (row,) = entry.rows
        assert row[1] == "lr=1 was chosen" and set(row[0].split(", ")) == {*texts}


def test_what_the_audit_found_is_counted_once_on_the_first_page(tmp_path: Path) -> None:
    Synthetic(seeds=[0]).write(tmp_path)
    text = write_report(tmp_path).with_name("report.md").read_text()
    first = text.partition("## Summary")[2].partition("## Audit")[0]
    counts = text.partition("rules were applied: ")[2].partition(".\n")[0]
    assert counts and first.count(counts) == 1


def test_the_audit_has_one_entry_per_rule() -> None:
    """As grave as its gravest finding, which also is how they are counted."""
    found = [
        finding("within_noise", "error", "lr", lines=2),
        finding("failed", "warning", None),
        finding("within_noise", "note", "head", lines=7),
    ]
    text, first, second = audit_section(found).blocks
    assert isinstance(text, Text) and text.text.endswith("rules were applied: 1 error, 1 warning.")
    assert isinstance(first, FindingBlock) and isinstance(second, FindingBlock)
    assert first.severity == "error" and "within the noise of seeds (2 times)" in first.title
    assert [*first.rows[:3]] == [
        ("lr", "what error", "lr trial 0"),
        ("", "", "lr trial 1"),
        ("head", "note: what note", "head trial 0"),
    ]
    assert len(first.rows) == 2 + 6 and "and 2 more" in first.rows[-1][2]
    assert first.advice == "do error; do note"
    assert (second.title, second.rows) == ("What warning", ())


def test_while_the_test_runs_the_winner_stands_with_its_validation_figures(tmp_path: Path) -> None:
    """Of six runs of the test none, then one, then all have completed."""
    folder, kept = tmp_path / "study", tmp_path / "tested"
    plan = Synthetic(test=True).write(folder)
    test = plan.phases[-1]
    trials = [trial for one in test.candidates for trial in one.trials]
    assert len(trials) == 6
    values = []
    for i, trial in enumerate(trials):
        own = folder / trial.directory
        shutil.copytree(own, kept / f"{i}")
        record = read_record(own)
        assert record is not None and record.test
        values.append(objective_value(record))
        record.test = None
        record.write()
        trial.directory = f"test/{i}"
    plan.status = test.status = "running"
    plan.write()

    def summary() -> str:
        with locked(folder, wait=False):
            text = write_report(folder).with_name("report.md").read_text()
        return text.partition("## Summary")[2].partition("## Audit")[0]

    begun = summary()
    assert "The test is running: 0 of 6 runs have completed. Until then" in begun
    assert "Scores on validation data" in begun and "Scores on test data" not in begun
    (row,) = (one for one in table(folder, "final") if one["metric"] == "val/mIoU")
    mean = statistics.fmean(values[:3])
    assert float(row["final configuration mean"]) == pytest.approx(mean, rel=1e-12)

    shutil.copytree(kept / "0", folder / "test" / "0")
    one = summary()
    assert "1 of 6 runs" in one and "Until then" not in one and "Scores on test data" in one

    shutil.copytree(kept, folder / "test", dirs_exist_ok=True)
    plan.status = test.status = "completed"
    plan.write()
    assert "The test" not in summary() and "Scores on test data" in summary()
