"""What each phase recommends, recomputed from the records."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import pytest
from scipy import stats

from phasewise.records.record import RunRecord
from phasewise.report.report import write_report
from tests.phasewise.study.synthetic import Row, Settings, Synthetic


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "tables" / "recommendations.csv").open() as file:
        return {row["phase"]: row for row in csv.DictReader(file)}


def values(study: Path, activation: str) -> list[float]:
    files = sorted(study.glob(f"**/*activation={activation},*/record.json"))
    return [json.loads(file.read_text())["objective"]["value"] for file in files]


def rate_values(study: Path) -> list[float]:
    """Of the winner of the phase before, which is the incumbent and not run again."""
    files = sorted(study.glob("lr/optimizer.lr=0.001,*/record.json"))
    return [json.loads(file.read_text())["objective"]["value"] for file in files]


def test_gains_and_p_values_equal_the_records(study: Path, report: Path) -> None:
    found = rows(report)
    assert found["lr"]["evidence"] == "nothing tried is better"
    assert found["lr"]["gain"] == found["lr"]["instead of"] == ""
    row = found["activation"]
    assert (row["recommended"], row["instead of"]) == ("activation=gelu", "activation=relu")
    after, others = values(study, "gelu"), values(study, "leaky_relu")
    before = values(study, "relu") or rate_values(study)
    gain = statistics.mean(after) - statistics.mean(before)
    assert float(row["gain"]) == pytest.approx(gain)
    assert float(row["in %"]) == pytest.approx(100 * gain / statistics.mean(before))
    own, other = (stats.ttest_rel(after, values).pvalue for values in (before, others))
    p_holm = min(1.0, 2 * own) if own <= other else max(2 * other, own)
    assert row["evidence"] == f"p = {p_holm:.2g}"


@pytest.mark.usefixtures("undrawn")
def test_one_seed_and_less_is_better(tmp_path: Path) -> None:
    def edit(record: RunRecord, history: list[Row], settings: Settings) -> None:
        record.best |= {"train/loss": 0.25, "val/loss": 0.75}
        record.cost |= {"parameters": 1500, "trained_parameters": 500, "epochs": 12}

    Synthetic(edit=edit, seeds=[0], mode="min", metric="val/error").write(tmp_path)
    text = write_report(tmp_path).with_name("report.md").read_text()
    row = rows(tmp_path)["lr"]
    assert float(row["gain"]) == pytest.approx(0.2, abs=0.01)  # 0.4 at 1e-4 instead of 0.6
    assert "| +0.2" in text  # as its percentage
    assert row["evidence"] == "one seed: it cannot be told from luck"
    assert (row["of"], float(row["val - train loss"])) == ("12", 0.5)
    assert "whether more or less is. Losses are those of the best epoch" in text
    assert "- final network: 1,500 parameters, 500 trained\n" in text
    runs = len([*tmp_path.rglob("record.json")])
    assert f"- epochs of all runs: {12 * runs}\n" in text
    assert "- device: cpu\n" in text
