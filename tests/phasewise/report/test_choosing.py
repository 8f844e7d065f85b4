"""What a report says of several objectives and constraints."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from phasewise.analysis.audit import audit
from phasewise.analysis.statistics.intervals import compare_with
from phasewise.records.record import RunRecord, read_record
from phasewise.report.report import write_report
from phasewise.study.decision import decide
from phasewise.study.journal import load_journal
from phasewise.study.read import read_study
from tests.phasewise.study.synthetic import Row, Settings, Synthetic

pytestmark = pytest.mark.usefixtures("undrawn")

BOTH = [{"metric": f"val/{name}", "mode": "max"} for name in ("mIoU", "mAP")]
RATES = {"lr": "optimizer.lr=1e-4,1e-3,1e-2"}


def with_boxes(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    """The mAP is best with the largest rate, where the network is largest too."""
    rate = settings.get("optimizer.lr", 1e-3)
    for scores in (record.best, record.last):
        scores["val/mAP"] = {1e-4: 0.2, 1e-3: 0.30, 1e-2: 0.42}[rate] + 0.001 * (record.seed or 0)
    record.cost["parameters"] = {1e-4: 10, 1e-3: 20, 1e-2: 90}[rate]
    record.headline = ["mIoU", "pixel_acc"]


def made(place: Path, choose: Any, require: tuple[str, ...] = (), **settings: Any) -> Path:
    """A study whose first phase chose so; mIoU .4, .6 and .5."""
    Synthetic(phases=RATES, edit=with_boxes, **settings).write(place)
    plan = load_journal(place)
    (phase,) = plan.phases
    phase.objectives, phase.choose, phase.require = BOTH, choose, [*require]
    read = [
        {trial.seed: read_record(place / trial.directory) for trial in one.trials}
        for one in phase.candidates
    ]
    decide(phase, [{s: r for s, r in each.items() if r is not None} for each in read])
    plan.write()
    return write_report(place).parent


def rows(report: Path) -> list[dict[str, str]]:
    with (report / "tables/phase_1_lr.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def test_a_front_stands_in_the_table_and_in_a_figure(tmp_path: Path) -> None:
    report = made(tmp_path / "study", {"pareto": {}})
    found = {row["optimizer.lr"]: row for row in rows(report)}
    first = ["val/mIoU mean", "val/mIoU std", "val/mAP mean", "val/mAP std"]
    assert list(rows(report)[0])[1:5] == first
    assert "on the Pareto front" in found["0.001"]["verdict"]
    assert "on the Pareto front" in found["0.01"]["verdict"]
    assert "on the Pareto front" not in found["0.0001"]["verdict"]
    text = (report / "report.md").read_text()
    assert "objectives: val/mIoU, highest is best; val/mAP, highest is best" in text
    assert "chosen by: the knee of the Pareto front of val/mIoU and val/mAP" in text
    assert "2 of a Pareto front of 2 lie as far out: the incumbent is one of them" in text
    assert "figures/front_1_lr.png" in text
    assert [one for one in audit(read_study(report)) if one.rule == "within_noise"] == []


def test_weights_rank_and_are_tested(tmp_path: Path) -> None:
    report = made(tmp_path / "study", {"weighted": {"val/mIoU": 1, "val/mAP": 4}})
    order = rows(report)
    assert [row["optimizer.lr"] for row in order] == ["0.01", "0.001", "0.0001"]
    assert float(order[0]["weighted"]) == pytest.approx(
        (float(order[0]["val/mIoU mean"]) + 4 * float(order[0]["val/mAP mean"])) / 5
    )
    assert order[0]["verdict"].startswith("best, adopted")
    (phase,) = read_study(report).phases
    table = compare_with(phase, 2).table
    assert table is not None
    gain = float(order[0]["weighted"]) - float(order[1]["weighted"])
    assert table.set_index("candidate").loc[1, "difference"] == pytest.approx(gain)
    with (report / "tables/recommendations.csv").open(newline="") as file:
        (recommended,) = csv.DictReader(file)
    assert float(recommended["gain"]) == pytest.approx(gain)
    assert "figures/front_1_lr.png" not in (report / "report.md").read_text()


def test_what_may_not_win_is_told_and_is_not_the_best(tmp_path: Path) -> None:
    report = made(
        tmp_path / "study",
        {"guarded": {"val/mAP": 0.01}},
        ("cost.parameters <= 50",),
    )
    order = rows(report)
    assert [row["optimizer.lr"] for row in order] == ["0.001", "0.01", "0.0001"]
    assert order[2]["verdict"] == "falls too far: val/mAP 0.201 against 0.301 of the incumbent"
    assert order[1]["verdict"] == "infeasible: cost.parameters <= 50 (is 90)"
    text = (report / "report.md").read_text()
    assert "required: cost.parameters" in text
    assert "Chosen by val/mIoU, where val/mAP falls by at most 0.01" in text
    assert "- lr=0.01 is infeasible: cost.parameters" in text
    assert "- lr=0.0001 falls too far: val/mAP 0.201 against 0.301" in text


def test_an_older_study_has_one_objective(tmp_path: Path) -> None:
    place = tmp_path / "study"
    Synthetic(phases=RATES).write(place)
    text = (write_report(place).parent / "report.md").read_text()
    assert "objective: val/mIoU, highest is best" in text
    assert "Chosen by" not in text
    assert "equired" not in text


def test_the_incumbent_is_not_counted_among_what_was_drawn(tmp_path: Path) -> None:
    Synthetic(phases=RATES).write(tmp_path)
    plan = load_journal(tmp_path)
    (phase,) = plan.phases
    phase.sampled_from = 9
    plan.write()
    assert "3 of 9 configurations, drawn at random." in write_report(tmp_path).read_text()
    phase.candidates[0].overrides = []
    plan.write()
    text = write_report(tmp_path).read_text()
    assert "2 of 9 configurations, drawn at random, and the incumbent." in text
