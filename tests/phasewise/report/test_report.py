"""Reports of whole directories; figures are recomputed from the files by other means."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from phasewise.errors import UserError
from phasewise.inference.evaluation.settings import EvaluationSettings
from phasewise.records.record import RunRecord
from phasewise.report.report import write_report
from tests.phasewise.analysis.auditing import halved
from tests.phasewise.study.synthetic import CLEAN, Row, Settings, Synthetic, clean_score, noise

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parents[3]


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open() as file:
        return [*csv.DictReader(file)]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("**/record.json"))]


def value_of(record: dict[str, Any], key: str) -> str:
    words = dict(word.split("=") for word in record["overrides"])
    return words.get(key, {"model.activation": "relu", "optimizer.lr": "0.001"}[key])


def recomputed(study: Path, phase: str, key: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in records(study / phase):
        found.setdefault(value_of(record, key), []).append(record["objective"]["value"])
    return found


def text_of(page: Path) -> str:
    """What a reader sees of an HTML page."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.read_text().partition("<main>")[2]))


def test_phase_table_equals_the_records(study: Path, report: Path) -> None:
    scores = recomputed(study, "lr", "optimizer.lr")
    rows = table(report, "phase_1_lr")
    assert len(rows) == 3
    assert float(rows[0]["optimizer.lr"]) == 1e-3  # best first
    before = statistics.mean(scores["0.001"])
    for row in rows:
        name = row["optimizer.lr"]
        mean = statistics.mean(scores[name])
        assert float(row["val/mIoU mean"]) == pytest.approx(mean, rel=1e-12)
        assert float(row["val/mIoU std"]) == pytest.approx(statistics.stdev(scores[name]), rel=1e-9)
        if name == "0.001":  # the incumbent
            assert row["difference"] == row["difference in %"] == ""
            assert row["verdict"] == "best, incumbent, kept"
            continue
        assert float(row["difference"]) == pytest.approx(mean - before, rel=1e-12)
        percent = 100 * (mean - before) / before
        assert float(row["difference in %"]) == pytest.approx(percent, rel=1e-12)
        assert float(row["runtime [s]"]) == 3 * 6.0
    assert rows[-1]["verdict"] == "worst"


def with_metrics(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    """A second metric, that falls where the objective rises, and others; epochs differ by seed."""
    record.headline = ["F1", "mIoU", "rare", "AP"]
    record.cost["epochs"] = 12 + record.seed
    for place in (record.best, record.last):
        place |= {"val/F1": 1 - 0.9 * record.best["val/mIoU"] ** 2, "val/AP": 0.25 * record.seed}
        place["val/IoU/cat"] = 0.5


def means_of(study: Path, rate: str, part: str, name: str) -> float:
    """Of a number in the records of phase lr, over seeds."""
    own = [one for one in records(study / "lr") if value_of(one, "optimizer.lr") == rate]
    found = [one[part][name] for one in own]
    assert len(found) == 3
    return statistics.fmean(found)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_all_headline_metrics_of_a_phase_equal_the_records(tmp_path: Path, mode: str) -> None:
    Synthetic({"lr": CLEAN["lr"]}, mode=mode, edit=with_metrics).write(tmp_path)
    write_report(tmp_path)
    rows = table(tmp_path, "phase_1_lr")
    assert [name for name in rows[0] if name.startswith(("val/", "train/"))] == [
        *(f"val/{name} {what}" for name in ("mIoU", "F1", "AP") for what in ("mean", "std")),
        *("train/loss", "val/loss"),
    ]
    for row in rows:
        rate = row["optimizer.lr"]
        expected = {
            "val/mIoU mean": means_of(tmp_path, rate, "objective", "value"),
            "val/F1 mean": means_of(tmp_path, rate, "best", "val/F1"),
            "val/AP mean": 0.25,
            "val/AP std": 0.25,
            "train/loss": means_of(tmp_path, rate, "best", "train/loss"),
            "val/loss": means_of(tmp_path, rate, "best", "val/loss"),
            "best epoch": 9,
            "epochs": 13,
            "at the last epoch": means_of(tmp_path, rate, "last", "val/mIoU"),
        }
        drop = expected["val/mIoU mean"] - expected["at the last epoch"]
        expected["drop"] = drop if mode == "max" else -drop
        assert expected["drop"] > 0
        if rate != "0.001":  # the incumbent
            for name, ends in (("mIoU", _titles()), ("F1", _titles(", val/F1"))):
                before = means_of(tmp_path, "0.001", "best", f"val/{name}")
                gain = expected[f"val/{name} mean"] - before
                expected |= dict(zip(ends, (gain, 100 * gain / before), strict=True))
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(value, rel=1e-9), name
        assert (row["best epoch"], row["epochs"]) == ("9", "13")
    (line,) = re.findall(r"^\| 0\.01 .*$", (tmp_path / "report.md").read_text(), re.M)[:1]
    assert "| 9 | 13 |" in line
    assert {"incumbent", "worst"} <= {part for r in rows for part in r["verdict"].split(", ")}


def _titles(of: str = "") -> tuple[str, str]:
    return f"difference{of}", f"difference in %{of}"


def test_older_records_show_the_first_metrics_of_the_split(tmp_path: Path) -> None:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        with_metrics(record, rows, settings)
        record.best |= {"train/F1": 0.5, "val/nothing": None}
        record.headline = []

    Synthetic({"lr": CLEAN["lr"]}, seeds=[1], edit=edit).write(tmp_path)
    for file in tmp_path.glob("lr/*/record.json"):
        content = json.loads(file.read_text())
        del content["headline"]
        file.write_text(json.dumps(content))
    write_report(tmp_path)
    titles = list(table(tmp_path, "phase_1_lr")[0])
    assert titles[1:6] == ["val/mIoU", "val/AP", "val/F1", "train/loss", "val/loss"]
    assert "difference, val/AP" in titles and "status" not in titles


def test_pages_show_the_same_figures_with_four_digits(study: Path, report: Path) -> None:
    scores = recomputed(study, "lr", "optimizer.lr")
    gap = statistics.mean(scores["0.01"]) - statistics.mean(scores["0.001"])
    for text in (text_of(report / "report.html"), (report / "report.md").read_text()):
        assert f"{gap:+#.4g}" in text
        for values in scores.values():
            shown = f"{statistics.mean(values):#.4g} ± {statistics.stdev(values):#.4g}"
            assert shown in text
        assert text.count("4 significant digits") == 1


def test_means_by_value_equal_the_records(study: Path, report: Path) -> None:
    rows = {row["value"]: row for row in table(report, "values_2_activation")}
    scores = recomputed(study, "activation", "model.activation")
    scores["relu"] = recomputed(study, "lr", "optimizer.lr")["0.001"]  # ran there
    assert rows.keys() == scores.keys()
    for name, values in scores.items():
        assert float(rows[name]["mean"]) == pytest.approx(statistics.mean(values), rel=1e-12)
        assert float(rows[name]["best"]) == max(values)
        assert int(rows[name]["trials"]) == len(values) == 3


def test_final_scores_stand_beside_start_and_trivial_predictor(study: Path, report: Path) -> None:
    (row,) = table(report, "final")
    assert row["metric"] == "test/mIoU"
    tested = [record for record in records(study) if record["test"]]
    for title, name in (("final", "gelu"), ("starting", "relu")):
        own = [record for record in tested if value_of(record, "model.activation") == name]
        values = [record["test"]["test/mIoU"] for record in own]
        mean, std = statistics.mean(values), statistics.stdev(values)
        assert float(row[f"{title} configuration mean"]) == pytest.approx(mean)
        assert float(row[f"{title} configuration std"]) == pytest.approx(std)
        half = 4.302652729911275 * std / math.sqrt(3)  # t of 2 degrees of freedom, 95 %
        assert float(row[f"{title} configuration, 95 % CI low"]) == pytest.approx(mean - half)
        assert float(row[f"{title} configuration, 95 % CI high"]) == pytest.approx(mean + half)
    assert float(row["trivial: majority"]) == pytest.approx(0.2)


def test_the_network_before_training_is_that_of_the_final_configuration(tmp_path: Path) -> None:
    """Phases may have changed the network."""

    def untrained(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        known = {"gelu": 0.3, "relu": 0.1}.get(settings.get("model.activation", "relu"), 0.0)
        record.baselines["untrained"] = {"test/mIoU": known}

    Synthetic(edit=untrained, test=True).write(tmp_path)
    write_report(tmp_path)
    (row,) = table(tmp_path, "final")
    assert float(row["before training"]) == pytest.approx(0.3)
    summary = text_of(tmp_path / "report.html")
    assert "better than the network before training (0.3000)" in summary
    assert "best trivial predictor, untrained" not in summary


def test_one_seed_has_the_intervals_that_were_resampled(tmp_path: Path) -> None:
    Synthetic(phases={"lr": CLEAN["lr"]}, seeds=[0], test=True).write(tmp_path)
    write_report(tmp_path)
    assert "95 % CI" not in (tmp_path / "tables" / "final.csv").read_text()
    assert "computes intervals over the items" in text_of(tmp_path / "report.html")
    place = tmp_path / "lr" / "optimizer.lr=0.001,seed=0" / "evaluation" / "test"
    place.mkdir(parents=True)
    content = {
        "schema": 1,
        "difference_from_record": 1e-9,
        "bootstrap": {"confidence": 0.95},
        "figures": {"test/mIoU": {"value": 0.6, "low": 0.5, "high": 0.7}},
    }
    (place / "evaluation.json").write_text(json.dumps(content))
    write_report(tmp_path)
    (row,) = table(tmp_path, "final")
    ends = row["final configuration, 95 % CI low"], row["final configuration, 95 % CI high"]
    assert ends == ("0.5", "0.7")
    (place / "evaluation.json").write_text(json.dumps(content | {"difference_from_record": 0.1}))
    write_report(tmp_path)  # of other data
    assert "95 % CI" not in (tmp_path / "tables" / "final.csv").read_text()


def test_several_seeds_have_intervals_over_seeds_and_items_too(tmp_path: Path) -> None:
    Synthetic(phases={"lr": CLEAN["lr"]}, seeds=[0, 1, 2], test=True).write(tmp_path)
    write_report(tmp_path)
    command = re.search(
        r"python evaluate.py '?checkpoint=\[(.+?)\]'?", (tmp_path / "report.md").read_text()
    )
    assert command is not None
    runs = EvaluationSettings.parse([f"checkpoint=[{command[1]}]"])[0].checkpoint
    assert len(runs) == 3 and all((Path(run) / "record.json").exists() for run in runs)
    for seed, run in enumerate(runs):
        place = Path(run) / "evaluation" / "test"
        place.mkdir(parents=True)
        content = {
            "difference_from_record": 0.0,
            "bootstrap": {"confidence": 0.95},
            "data": {"split_hash": "a"},
            "figures": {"test/mIoU": {"value": 0.6}},
        }
        (place / "evaluation.json").write_text(json.dumps(content))
        values = [0.5 + 0.1 * seed + 0.001 * row for row in range(100)]
        lines = ["test/mIoU", *map(str, values)]
        (place / "resamples.csv").write_text("\n".join(lines) + "\n")
    write_report(tmp_path)
    (row,) = table(tmp_path, "final")
    name = "final configuration, 95 % CI over seeds and items"
    low, high = float(row[f"{name} low"]), float(row[f"{name} high"])
    assert 0.5 < low < 0.57 and 0.72 < high < 0.8  # one seed thrice has one chance in 27
    (place / "resamples.csv").unlink()
    write_report(tmp_path)
    assert "seeds and items" not in (tmp_path / "tables" / "final.csv").read_text()


def test_summary_says_what_is_best_and_how_to_get_it(study: Path, report: Path) -> None:
    settings = {row["key"]: row for row in table(report, "configuration")}
    assert (settings["optimizer.lr"]["best"], settings["optimizer.lr"]["start"]) == ("0.001",) * 2
    activation = settings["model.activation"]
    assert (activation["best"], activation["start"]) == ("gelu", "relu")
    assert activation["decided in"] == "activation"
    (command,) = re.findall(r"^    (python train.*)$", (report / "report.md").read_text(), re.M)
    words = shlex.split(command)
    assert words[:2] == ["python", "train.py"]
    assert {"optimizer.lr=0.001", "model.activation=gelu"} <= set(words)
    assert "hydra.mode=RUN" not in words  # not made by study=
    summary = text_of(report / "report.html")
    assert "The final configuration scores test/mIoU 0.64" in summary
    assert (
        "optimizer.lr mattered most of all keys, in phase lr: on average its best value, 0.001"
        in summary
    )


def test_a_trial_of_a_study_is_told_to_run_alone(tmp_path: Path) -> None:
    Synthetic(phases={"lr": CLEAN["lr"]}, seeds=[0], base=["study=toy"]).write(tmp_path)
    write_report(tmp_path)
    (command,) = re.findall(r"^    (python train.*)$", (tmp_path / "report.md").read_text(), re.M)
    assert command == "python train.py study=toy optimizer.lr=0.001 seed=0 hydra.mode=RUN"


def test_all_parts_are_there(report: Path) -> None:
    page = (report / "report.html").read_text()
    titles = re.findall(r"<h([23])>(.*?)</h\1>", page)
    assert [title for level, title in titles if level == "2"] == [
        *("Summary", "Audit", "Data", "Configuration", "Hypotheses"),
        *("Phases at a glance", "Phase 1: lr"),
        *("Phase 2: activation", "Predictions of the final configuration", "What mattered"),
        "Appendix",
    ]
    assert [title for level, title in titles if level == "3"] == [
        *("Values", "Training", "Tests") * 2,
        *("All runs", "Environment"),
    ]
    figures = {path.name for path in (report / "figures").iterdir()}
    for phase in ("1_lr", "2_activation"):
        kinds = ("curves", "values", "distributions", "stability")
        assert {f"{kind}_{phase}.png" for kind in kinds} <= figures
        assert {f"predictions_{phase}_{role}_best.jpg" for role in ("best", "worst")} <= figures
    assert {"final.png", "final_test_best.jpg"} <= figures
    runs = table(report, "runs")
    assert len(runs) == 15
    assert {row["status"] for row in runs} == {"completed"}
    answers = {row["hypothesis"]: row["answer"] for row in table(report, "hypotheses")}
    assert answers == {"gelu is best": "yes", "<b>rising</b> rates help": "no"}
    assert "<b>rising" not in page
    for name in ("phase_1_lr", "final", "runs"):
        assert r"\toprule" in (report / "tables" / f"{name}.tex").read_text()


def test_failures_keep_their_reason(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float | str:
        lr = settings["optimizer.lr"]
        states = {1e-4: "out_of_memory", 1e-2: "running", 1e-1: "missing"}
        return states.get(lr) or clean_score(settings, seed)

    words = "optimizer.lr=1e-4,1e-3,1e-2,1e-1"
    Synthetic(phases={"lr": words}, score=score, seeds=[0], journal={"status": "running"}).write(
        tmp_path
    )
    write_report(tmp_path)
    failed = {row["configuration"]: row for row in table(tmp_path, "failures")}
    assert {name: row["status"] for name, row in failed.items()} == {
        "lr=0.0001 seed=0": "out_of_memory",
        "lr=0.01 seed=0": "unfinished",
        "lr=0.1 seed=0": "no record",
    }
    assert failed["lr=0.0001 seed=0"]["reason"] == "the reason why it out_of_memory"
    text = text_of(tmp_path / "report.html")
    assert "Status of the study: interrupted; 1 of 1 phases are decided." in text
    assert "3 of 4 runs did not complete" in text


def test_what_halving_stopped_is_no_failure(tmp_path: Path) -> None:
    write_report(halved(tmp_path))
    text = text_of(tmp_path / "report.html")
    assert "3 stopped by halving" in text and "did not complete" not in text
    states = {row["optimizer.lr"]: row["status"] for row in table(tmp_path, "phase_1_lr")}
    assert re.fullmatch(r"stopped after 2 epochs at 0\.\d+", states["0.0001"])
    assert not (tmp_path / "tables" / "failures.csv").exists()


def test_a_study_without_any_result(tmp_path: Path) -> None:
    Synthetic(score=lambda settings, seed: "diverged", seeds=[0]).write(tmp_path)
    text = text_of(write_report(tmp_path))
    assert "No configuration has a result yet." in text
    assert "undecided" in text


def damage(study: Path) -> dict[str, str]:
    """One of each kind; the reason that the page must give, by directory."""
    runs = sorted(path.parent for path in study.glob("lr/*/record.json"))
    (runs[0] / "record.json").write_text('{"schema": 1, "status": "comp')
    content = json.loads((runs[1] / "record.json").read_text())
    (runs[1] / "record.json").write_text(json.dumps(content | {"schema": 99}))
    metrics = (runs[2] / "metrics.csv").read_text()
    (runs[2] / "metrics.csv").write_text(metrics[: len(metrics) // 2])
    (study / "lr" / "empty").mkdir()
    (study / "lr" / "notes").mkdir()
    (study / "lr" / "notes" / "list.txt").write_text("milk")
    reasons = ["damaged", "not 99", "whole rows"]
    return dict(zip([f"lr/{run.name}" for run in runs[:3]], reasons, strict=True))


def test_damaged_directories_cost_only_themselves(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    expected = damage(copy)
    write_report(copy)
    found = {row["file"]: row["reason"] for row in table(copy, "not_read")}
    for name, reason in expected.items():
        assert reason in found[name]
    assert len(table(copy, "runs")) == 15
    assert "Not read" in text_of(copy / "report.html")
    assert "could not be read" in text_of(copy / "report.html").partition("Audit")[0]


def test_a_damaged_journal_costs_only_the_plan(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    (copy / "study.json").write_text("{")
    write_report(copy)
    assert table(copy, "not_read")[0]["file"] == "study.json"
    assert len(table(copy, "phase_1_lr")) == 3


def test_negative_objectives_of_mode_max_are_ranked(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float:
        return {1e-4: -0.5, 1e-3: -0.2, 1e-2: -1.0}[settings["optimizer.lr"]]

    Synthetic({"lr": CLEAN["lr"]}, score, metric="val/R2").write(tmp_path)
    write_report(tmp_path)
    rows = table(tmp_path, "phase_1_lr")
    assert [row["optimizer.lr"] for row in rows] == ["0.001", "0.0001", "0.01"]
    assert "-0.2000" in text_of(tmp_path / "report.html")


def test_a_sweep_whose_objective_falls(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float:
        return 1.0 - clean_score(settings, seed)

    sweep = Synthetic(
        {"": CLEAN["lr"]}, score=score, seeds=[0], metric="val/loss", mode="min", epochs=1
    )
    sweep.write(tmp_path)
    text = text_of(write_report(tmp_path))
    rows = table(tmp_path, "phase_1_sweep")
    assert [float(row["optimizer.lr"]) for row in rows] == [1e-3, 1e-2, 1e-4]
    assert rows[0]["verdict"].startswith("best") and rows[-1]["verdict"] == "worst"
    assert "The sweep" in text and "lowest is best" in text
    assert not (tmp_path / "figures" / "efficiency_1_sweep.png").exists()


def test_numeric_keys_get_heat_maps_and_variance_is_analysed(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float:
        base = {0.1: 0.1, 0.2: 0.2, 0.3: 0.15}[settings["optimizer.lr"]]
        size = settings["data.batch_size"] / 100
        base += 0.02 * len(settings["model.norm"]) + 0.001 * noise(settings, seed)
        return base + size + 0.01 * seed

    words = "optimizer.lr=0.1,0.2,0.3 data.batch_size=2,4,8 model.norm=batch,group"
    Synthetic({"grid": words}, score=score, seeds=[0, 1], defaults={}).write(tmp_path)
    text = text_of(write_report(tmp_path))
    assert (tmp_path / "figures" / "heatmap_1_grid.png").is_file()
    terms = {row["term"]: row for row in table(tmp_path, "anova_1_grid")}
    assert {"optimizer.lr", "optimizer.lr x data.batch_size", "Residual"} <= terms.keys()
    assert float(terms["optimizer.lr"]["p"]) < 1e-6
    assert float(terms["model.norm"]["p"]) > 0.05
    assert "analysis of variance, type II, seeds as blocks" in text
    assert terms["seed (block)"]["df"] == "1"
    assert "in the phase's best" in table(tmp_path, "impact")[0]


def test_names_from_strangers_are_shown_and_not_run(tmp_path: Path) -> None:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.environment = {"<script>alert(1)</script>": "$x_1$ & 50 %"}

    values = "'<img src=x onerror=alert(1)>','a|b $_{\\\\input}$'"
    sweep = Synthetic(
        {"": f"model.name={values}"}, score=lambda s, _: 0.5 + len(s["model.name"]) / 100
    )
    words = f"model.name={values}"
    sweep.phases = {"": words}
    monkey = sweep._phase

    def phase(name: str, parts: list[str], base: list[str], plan: Any) -> Any:
        return monkey(name, [words], base, plan)  # the value has blanks

    sweep._phase = phase  # type: ignore[method-assign]
    sweep.edit = edit
    sweep.seeds = [0, 1]
    sweep.journal = {"name": "</title><script>alert(2)</script>"}
    sweep.write(tmp_path)
    page = write_report(tmp_path).read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_one_run_is_no_study(study: Path, tmp_path: Path) -> None:
    run = next(study.glob("lr/*/record.json")).parent
    with pytest.raises(UserError, match="is one run"):
        write_report(run, tmp_path)


def test_of_much_evidence_the_first_lines_and_a_count(tmp_path: Path) -> None:
    rates = ",".join(f"{lr}e-4" for lr in range(1, 13))
    sweep = Synthetic(
        {"": f"optimizer.lr={rates}"},
        lambda s, i: 0.5 if s["optimizer.lr"] < 3e-4 else "failed",
        {},
        seeds=[0, 1],
    )
    sweep.write(tmp_path)
    write_report(tmp_path)
    audit = (tmp_path / "report.md").read_text().partition("## Audit")[2].partition("\n## ")[0]
    (line,) = [line for line in audit.splitlines() if "and 15 more" in line]
    assert "record.json" in line and "tables/runs.csv" in line
    assert audit.count(": failed, the reason why") == 5
    assert len(table(tmp_path, "runs")) == 24
    assert "and 15 more" in text_of(tmp_path / "report.html")
