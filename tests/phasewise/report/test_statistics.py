"""What a report says of differences, convergence and steadiness, against the records themselves."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from scipy import stats

from phasewise.records.notes import Notes
from phasewise.records.record import RunRecord
from phasewise.report.comparable import differing_losses
from phasewise.report.content import Figure, Table
from phasewise.report.figures.style import Colours
from phasewise.report.sections.convergence import convergence_table
from phasewise.report.sections.hypotheses import hypotheses_section
from phasewise.report.sections.last import last_table
from phasewise.report.sections.significance import significance_section
from phasewise.report.sections.training import behaviour_table, training_section
from phasewise.report.sections.trials import trials_table
from phasewise.report.sections.values import means_table, measures
from phasewise.report.view import StudyView
from phasewise.study.read import read_study
from tests.phasewise.study.synthetic import Row, Settings, Synthetic, noise, read_grid


def rows_of(table: Any) -> list[dict[str, Any]]:
    titles = [column.title for column in table.columns]
    return [dict(zip(titles, row, strict=True)) for row in table.rows]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("**/record.json"))]


def test_pairwise_tests_stand_in_the_report(study: Path, report: Path) -> None:
    with (report / "tables" / "pairwise_1_lr.csv").open() as file:
        found = [*csv.DictReader(file)]
    scores: dict[str, list[float]] = {}
    for record in records(study / "lr"):
        words = dict(word.split("=") for word in record["overrides"])
        lr = words.get("optimizer.lr", "0.001")
        scores.setdefault(str(float(lr)), []).append(record["objective"]["value"])
    assert len(found) == 3
    for row in found:
        one, other = (scores[str(float(row[side]))] for side in "ab")
        assert float(row["p"]) == pytest.approx(stats.ttest_rel(one, other).pvalue)
        assert float(row["a less b"]) == pytest.approx(
            statistics.mean(one) - statistics.mean(other)
        )
        assert row["pairs"] == "3" and abs(float(row["Cliff's delta"])) == 1


def uneven(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    """Epochs by seed; the second one stopped early."""
    record.cost |= {"epochs": 12 - 2 * (record.seed or 0), "seconds_per_epoch": 0.5 + record.seed}
    record.objective["epoch"] = 9 - (record.seed or 0)
    record.environment["device"] = "NVIDIA H200"


def test_convergence_against_the_records(tmp_path: Path) -> None:
    Synthetic(edit=uneven, seeds=[0, 1]).write(tmp_path)
    view = StudyView(read_study(tmp_path))
    table = convergence_table(view)
    assert table is not None
    rows = rows_of(table)
    assert [row["phase"] for row in rows] == ["lr", "activation"]
    first = rows[0]
    assert first["runs"] == 6
    best, total = [9, 8] * 3, [12, 10] * 3
    for title, values in (("best epoch", best), ("epochs", total)):
        expected = (statistics.mean(values), statistics.stdev(values))
        assert first[title] == pytest.approx(expected)
    assert first["stopped early [%]"] == 50
    assert first["best in the last epoch [%]"] == 0
    assert first["time to best"] == pytest.approx((9 * 0.5 + 8 * 1.5) / 2)
    runs = [one for one in records(tmp_path / "lr") if one["status"] == "completed"]
    drops = [
        100 * (one["objective"]["value"] - one["last"]["val/mIoU"]) / one["objective"]["value"]
        for one in runs
    ]
    expected = (statistics.mean(drops), statistics.stdev(drops))
    assert first["drop until the last epoch [%]"] == pytest.approx(expected)
    training = rows_of(behaviour_table(view.phases[0], view.frame_of(view.phases[0])))
    top = [one for one in runs if abs(one["objective"]["value"] - 0.6) < 0.01]
    per_hour = [one["objective"]["value"] / (6.0 / 3600) for one in top]
    title = "val/mIoU per hour of NVIDIA H200"
    assert training[0][title] == pytest.approx(statistics.mean(per_hour))
    assert training[0]["time to best"] == pytest.approx((9 * 0.5 + 8 * 1.5) / 2)


def test_a_loss_by_the_hour_says_nothing(tmp_path: Path) -> None:
    Synthetic(metric="val/loss", mode="min").write(tmp_path)
    view = StudyView(read_study(tmp_path))
    table = behaviour_table(view.phases[0], view.frame_of(view.phases[0]))
    assert not [one.title for one in table.columns if "per hour" in one.title]


def test_intervals_and_robustness_by_value(tmp_path: Path) -> None:
    study = StudyView(read_grid(tmp_path, seeds=[0, 1]))
    (phase,) = study.phases
    frame = study.frame_of(phase)
    (row,) = [r for r in rows_of(means_table(phase, frame)) if r["value"] == "unet"]
    own = frame[frame["model.architecture"] == "unet"]["value"]
    low, high = stats.t.interval(0.95, 17, own.mean(), stats.sem(own))
    assert row["95 % CI"] == pytest.approx((low, high))
    cells = [statistics.mean(own.iloc[i : i + 2]) for i in range(0, 18, 2)]
    assert row["std over settings"] == pytest.approx(statistics.stdev(cells))


def shaken(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    for row in rows:
        row["val/loss"] = 0.5 + (row["epoch"] % 2) / settings["data.batch_size"]
        row["val/loss"] += 0.01 * noise(settings, int(row["epoch"]))


def test_variance_is_analysed_of_steadiness_and_epochs_too(tmp_path: Path) -> None:
    study = StudyView(read_grid(tmp_path, edit=shaken))
    (phase,) = study.phases
    section = significance_section(phase, study.frame_of(phase))
    assert section is not None
    tables = {getattr(one, "name", ""): one for one in section.blocks}
    assert "of val/mIoU" in tables["anova_1_sweep"].caption
    assert "of std of val/loss" in tables["anova_steadiness_1_sweep"].caption
    steady = {row["term"]: row for row in rows_of(tables["anova_steadiness_1_sweep"])}
    assert steady["data.batch_size"]["p"] < 1e-6 < steady["optimizer.lr"]["p"]
    assert "anova_epochs_to_best_1_sweep" not in tables  # all were best in the same epoch


@pytest.mark.parametrize(
    ("words", "notes", "said"),
    [
        ("loss.name=dice,focal", Notes(), "loss.name differs: not the same loss"),
        (
            "data.batch_size=8,16",
            Notes(batch_losses=("val/loss",)),
            "val/loss of the same weights depends on data.batch_size",
        ),
        ("data.batch_size=8,16", Notes(), ""),
        ("optimizer.lr=1e-3,1e-4", Notes(batch_losses=("val/loss",)), ""),
    ],
)
def test_losses_that_are_not_of_one_kind_are_not_compared(
    tmp_path: Path, words: str, notes: Notes, said: str
) -> None:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.notes = notes

    def score(settings: Settings, seed: int) -> float:
        return 0.5 + 0.01 * noise(settings, seed)

    Synthetic(phases={"x": words}, score=score, defaults={}, edit=edit, test=True).write(tmp_path)
    view = StudyView(read_study(tmp_path))
    (phase,) = view.phases
    table = behaviour_table(phase, view.frame_of(phase))
    titles = [column.title for column in table.columns]
    assert ("do not compare" in trials_table(phase).caption) == bool(said)
    apart = differing_losses(view, [phase.candidates[0], phase.candidates[1]])
    assert apart == said and differing_losses(view, phase.candidates[:1]) == ""
    steady = "std of val/mIoU" if said else "std of val/loss"
    assert steady in titles and "val - train loss" in titles
    assert ("of both, less is better" in table.caption) == (not said)
    assert said in table.caption
    assert next(iter(measures(phase).values()))[0] == steady
    training = training_section(phase, view.frame_of(phase), Colours(view.swept))
    assert training is not None
    (found,) = [one for one in training.blocks if getattr(one, "name", "") == "stability_1_x"]
    assert isinstance(found, Figure) and said in found.caption


def test_values_that_a_claim_leaves_out_have_no_row(tmp_path: Path) -> None:
    lr = "optimizer.lr"
    claim = {"claim": "x", "key": lr, "phase": "lr", "where": {lr: [1e-4, 1e-3]}, "best": [1e-3]}
    Synthetic(journal={"hypotheses": [claim]}).write(tmp_path)
    section = hypotheses_section(StudyView(read_study(tmp_path)))
    assert section is not None
    rows = rows_of(section.blocks[-1])
    assert sorted(row["value"] for row in rows) == [1e-4, 1e-3]
    assert all(row["n"] > 0 for row in rows)


def convergence(directory: Path, **more: Any) -> Figure:
    """Best epoch against score, of a phase of three rates and three seeds."""
    Synthetic({"lr": "optimizer.lr=1e-4,1e-3,1e-2"}, **more).write(directory)
    view = StudyView(read_study(directory))
    section = training_section(view.phases[0], view.frame, Colours(view.swept))
    assert section is not None
    figures = [one for one in section.blocks if isinstance(one, Figure)]
    return next(one for one in figures if one.name == "convergence_1_lr")


def test_best_epoch_against_score_is_filled_by_all_epochs_and_outlined_by_key(
    tmp_path: Path,
) -> None:
    figure = convergence(tmp_path / "uneven", edit=uneven)
    assert "fillings stand for the epochs that it ran, outlines for optimizer.lr" in figure.caption
    ax, bar = figure.draw().axes
    assert bar.get_ylabel() == "epochs in all" and ax.get_xlabel() == "best epoch"
    found: dict[tuple[int, float], tuple[float, str]] = {}
    for dots in ax.collections:
        if dots.get_array() is not None:
            assert dots.get_clim() == (8, 12)
            outline = to_hex(dots.get_edgecolor()[0])
            places = zip(dots.get_offsets().tolist(), dots.get_array(), strict=True)
            found |= {(round(x), round(y, 9)): (n, outline) for (x, y), n in places}
    colours: dict[str, set[str]] = {}
    for record in records(tmp_path / "uneven"):
        goal = record["objective"]
        epochs, outline = found.pop((goal["epoch"], round(goal["value"], 9)))
        assert epochs == record["cost"]["epochs"]
        colours.setdefault(outline, set()).add(record["overrides"][0])
    assert not found and all(len(own) == 1 for own in colours.values()) and len(colours) == 3

    def same(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.objective["epoch"] = 9 - (record.seed or 0)

    plain = convergence(tmp_path / "even", edit=same)
    assert plain.caption.endswith("; all ran 12 epochs.") and len(plain.draw().axes) == 1


def test_all_metrics_at_the_last_epoch_equal_the_records(tmp_path: Path) -> None:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.headline = ["mIoU", "mAP"]
        record.best["val/mAP"], record.last["val/mAP"] = 0.5, 0.4 + 0.01 * (record.seed or 0)

    Synthetic({"lr": "optimizer.lr=1e-4,1e-3"}, edit=edit).write(tmp_path)
    view = StudyView(read_study(tmp_path))
    (table,) = last_table(view.phases[0])
    assert isinstance(table, Table)
    found = {row["optimizer.lr"]: row for row in rows_of(table)}
    for lr in (1e-4, 1e-3):
        own = [
            r
            for r in records(tmp_path)
            if f"optimizer.lr={lr:g}" in map(plain_word, r["overrides"])
        ]
        assert len(own) == 3
        for name in ("val/mIoU", "val/mAP", "train/loss", "val/loss"):
            mean = statistics.fmean(record["last"][name] for record in own)
            assert found[lr][name] == pytest.approx(mean, rel=1e-12)

    assert "Losses do not compare" not in table.caption

    words = {"loss": "loss.name=dice,focal"}
    Synthetic(words, score=lambda s, i: 0.5, defaults={}).write(tmp_path / "loss")
    (table,) = last_table(StudyView(read_study(tmp_path / "loss")).phases[0])
    assert isinstance(table, Table) and "loss.name differs" in table.caption

    def kept(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.last["val/mIoU"] = record.objective["value"]

    Synthetic({"lr": "optimizer.lr=1e-4,1e-3"}, edit=kept).write(tmp_path / "kept")
    assert last_table(StudyView(read_study(tmp_path / "kept")).phases[0]) == []


def plain_word(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key}={float(value):g}"
