"""What a report need not say twice, and in which order it says the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typing_extensions import TypeIs

from phasewise.analysis.audit import audit
from phasewise.analysis.statistics.effects import phase_effects
from phasewise.records.history import Row
from phasewise.records.notes import Diagram, Notes
from phasewise.records.record import RunRecord
from phasewise.report.content import Column, Figure, Table, Text
from phasewise.report.document import breakable
from phasewise.report.figures.diagrams import overlaid
from phasewise.report.figures.front import trade_off
from phasewise.report.figures.heatmap import Measure, heatmaps
from phasewise.report.figures.scatter import Point, scatter
from phasewise.report.figures.style import PALETTE, Colours
from phasewise.report.layout import parts_on_paper
from phasewise.report.sections.appendix import all_runs
from phasewise.report.sections.audit import few
from phasewise.report.sections.final import final_blocks
from phasewise.report.sections.glance import glance_section
from phasewise.report.sections.levels import levels_section
from phasewise.report.sections.overall import behaviour_section, importance_section
from phasewise.report.sections.phases import phase_section
from phasewise.report.sections.recommendations import recommendations
from phasewise.report.sections.significance import significance_section
from phasewise.report.sections.summary import facts
from phasewise.report.sections.top import top_figure
from phasewise.report.sections.trade_off import trade_off_blocks
from phasewise.report.sections.values import heat_maps, means_table
from phasewise.report.view import StudyView
from phasewise.study.read import read_study
from phasewise.study.results import CandidateResult
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, noise, read_grid


def written(directory: Path, study: Synthetic) -> StudyView:
    study.write(directory)
    return StudyView(read_study(directory))


def test_scores_stand_in_the_order_of_what_matters(tmp_path: Path) -> None:
    def more(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.headline = ["pixel_acc", "mAP"]
        record.best |= {"val/mAP": 0.1, "val/pixel_acc": 0.9, "val/auc": 0.5, "val/zeta": 0.2}

    study = written(tmp_path, Synthetic(edit=more))
    (table,) = (one for one in final_blocks(study) if isinstance(one, Table))
    names = [row[0] for row in table.rows]
    first = ["val/mIoU", "val/pixel_acc", "val/mAP", "val/loss"]
    assert names == [*first, "val/auc", "val/zeta"]


@pytest.mark.parametrize("folds", [True, False])
def test_intervals_over_folds_are_not_of_the_same_items(tmp_path: Path, folds: bool) -> None:
    def held(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.data["hashes"] = {"val": f"of fold {record.seed}" if folds else "of all"}

    blocks = final_blocks(written(tmp_path, Synthetic(edit=held)))
    said = " ".join(one.text for one in blocks if isinstance(one, Text))
    assert ("for other seeds and items" in said) == folds
    assert ("other seeds and the same items" in said) != folds


@pytest.mark.parametrize(("seeds", "shown"), [([0, 1], True), ([0], False)])
def test_spread_over_settings_only_where_it_is_another_number(
    tmp_path: Path, seeds: list[int], shown: bool
) -> None:
    study = StudyView(read_grid(tmp_path, seeds=seeds))
    table = means_table(study.phases[0], study.frame)
    assert ("std over settings" in [one.title for one in table.columns]) == shown
    assert ("std over settings" in table.caption) == shown


def test_a_single_configuration_of_each_value_has_no_spread_over_settings(tmp_path: Path) -> None:
    study = written(tmp_path, Synthetic({"lr": CLEAN["lr"]}))
    table = means_table(study.phases[0], study.frame)
    assert "std over settings" not in [one.title for one in table.columns]


def test_best_epochs_that_are_the_last_are_a_sentence(tmp_path: Path) -> None:
    def end(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.last = dict(record.best)
        record.last["val/mIoU"] = record.objective["value"]

    study = written(tmp_path, Synthetic({"lr": CLEAN["lr"]}, edit=end))
    (one,) = top_figure(study.phases[0], Colours(study.swept))
    assert isinstance(one, Text)
    assert one.text.endswith("of all configurations, the last is as good.")


def test_phases_with_the_same_curves_share_a_figure(tmp_path: Path) -> None:
    def drawn(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        label = f"rate {settings.get('optimizer.lr', 1e-3)}"
        record.notes = Notes(diagrams=(Diagram("curves", label, "C.", {"x": [0, 1], "y": [0, 1]}),))

    words = "optimizer.lr=1e-4,1e-3 "
    phases = {"one": words + "a=1,2", "two": words + "b=1,2", "three": "optimizer.lr=1e-3,1e-2"}
    study = written(tmp_path, Synthetic(phases, lambda settings, seed: 0.5, edit=drawn))
    section = behaviour_section(study, Colours(study.swept))
    assert section is not None
    figures = [one for one in section.blocks if isinstance(one, Figure)]
    assert figures[0].name == "curves_1_one"
    captions = [one.caption for one in figures]
    assert captions[0] == "Phase 1: one (and the same in Phase 2: two). C."
    assert len(captions) == 2 and captions[1].startswith("Phase 3: three")


def test_numbers_of_neighbours_on_a_front_are_one_text() -> None:
    xs = [1.0, 0.999, 0.998, 0.9, 0.0]
    points = [Point(x, 1 - x, "#0072B2") for x in xs]
    figure = trade_off(points, range(5), ("a", "b"), (1.0, 1.0), {})
    assert [text.get_text() for text in figure.axes[0].texts] == ["1-3", "4", "5"]


def test_a_spread_of_decades_has_a_logarithmic_axis_without_formulas() -> None:
    points = [Point(x, 0.5, "#0072B2") for x in (0.5, 3.0, 350_000.0)]
    (ax,) = scatter(points, "x", "y", []).axes
    assert ax.get_xscale() == "log"
    grid = np.array([[1e-5, 1e-2], [1e-3, 0.5]])
    measure = Measure("std", [grid], "lowest")
    figure = heatmaps([measure], [""], ("x", ["0.0001", "0.0005"]), ("y", ["1", "2"]))
    figure.draw_without_rendering()
    texts = [tick.get_text() for ax in figure.axes for tick in ax.get_yticklabels()]
    assert "0.1" in texts and not [one for one in texts if "$" in one]
    assert figure.axes[0].get_xticklabels()[0].get_rotation() == 60  # six characters below a cell


TIED = "optimizer.lr=1e-4,1e-3"


def tied_study(directory: Path) -> StudyView:
    """Two configurations that differ in three keys, with three seeds; before them a grid."""
    phases = {"grid": "optimizer.lr=1e-4,1e-3 model.norm=a,b", "final": TIED}

    def score(settings: Settings, seed: int) -> float:
        better = settings.get("optimizer.lr", 1e-3) == 1e-3
        return 0.5 + 0.1 * better + 0.001 * noise(settings, seed)

    plan = Synthetic(phases, score, seeds=[0, 1, 2]).write(directory)
    for one, size in zip(plan.phases[1].candidates, (8, 16), strict=False):
        one.overrides += [f"data.batch_size={size}", f"model.activation={'ab'[size > 8]}"]
    plan.write()
    return StudyView(read_study(directory))


def test_keys_that_change_together_are_told_once(tmp_path: Path) -> None:
    study = tied_study(tmp_path)
    grid, final = study.phases
    assert grid.own_keys == grid.keys and not grid.tied
    assert final.own_keys == ["optimizer.lr"]
    assert final.tied == dict.fromkeys(["data.batch_size", "model.activation"], "optimizer.lr")
    frame = study.frame_of(final)
    assert {row[0] for row in means_table(final, frame).rows} == {"optimizer.lr"}
    assert levels_section(final, frame, Colours(study.swept)) is None
    section = significance_section(final, frame)
    assert section is not None
    tables = {one.name: one.rows for one in section.blocks if isinstance(one, Table)}
    pairwise, seeds = tables["pairwise_2_final"], tables["seeds_2_final"]
    assert len(pairwise) == 1 and pairwise[0][5] == pytest.approx(seeds[0][3])  # the same test
    told = [one.text for one in phase_section(study, final, Colours({})).blocks if is_note(one)]
    assert told[0].startswith("Together with optimizer.lr change data.batch_size, model.activation")
    impact = importance_section(study, Colours(study.swept))
    assert impact is not None and isinstance(impact.blocks[0], Table)
    names = [str(row[1]) for row in impact.blocks[0].rows if row[2] == "final"]
    assert names == ["optimizer.lr (with data.batch_size, model.activation)"]


def is_note(block: object) -> TypeIs[Text]:
    return isinstance(block, Text) and block.tone == "note"


def test_a_key_that_another_decides_has_no_effect_of_its_own(tmp_path: Path) -> None:
    """Two architectures with small batches, one with large ones: the batch goes with them."""
    plan = Synthetic({"": "model.architecture=a,b,c"}, lambda settings, seed: 0.5).write(tmp_path)
    for one, size in zip(plan.phases[0].candidates, (8, 8, 16), strict=True):
        one.overrides.insert(0, f"data.batch_size={size}")
    plan.write()
    (phase,) = read_study(tmp_path).phases
    assert phase.keys == ["data.batch_size", "model.architecture"]
    assert phase.own_keys == ["model.architecture"]


def test_one_configuration_is_compared_with_nothing(tmp_path: Path) -> None:
    study = written(tmp_path, Synthetic({"lr": CLEAN["lr"], "longer": "optimizer.lr=1e-3"}))
    longer = study.phases[1]
    assert len(longer.candidates) == 1
    section = phase_section(study, longer, Colours({}))
    verdict, table, *_ = section.blocks
    assert isinstance(verdict, Text) and "nothing is compared" in verdict.text
    assert isinstance(table, Table) and table.caption.startswith("The configuration of")
    assert not [one.title for one in table.columns if "difference" in one.title]
    assert [part.title for part in section.parts] == ["Training"]
    names = {getattr(one, "name", "") for one in section.parts[0].blocks}
    assert not {name for name in names if "efficiency" in name}
    advice = recommendations(study)
    assert advice is not None and advice.rows[1][5] == "nothing else was tried"


def test_phases_with_other_seeds_are_named(tmp_path: Path) -> None:
    study = written(tmp_path, Synthetic())
    assert dict(facts(study))["seeds"] == "0, 1, 2"
    study.plan.seeds = [0]
    assert dict(facts(study))["seeds"] == "0; 0, 1, 2 in lr, activation"


def test_a_final_configuration_beside_the_front_is_not_said_to_be_marked(tmp_path: Path) -> None:
    def more(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        best = settings["optimizer.lr"] == 1e-3
        record.headline, record.best["val/mAP"] = ["mAP"], 0.1 + 0.5 * (not best)

    study = written(tmp_path, Synthetic({"lr": CLEAN["lr"]}, edit=more))
    _, table = trade_off_blocks(study, Colours(study.swept))
    assert isinstance(table, Table) and "best" in table.marks
    assert table.caption.endswith("marked: the final one.")
    study.phases[0].plan.winner = 0  # within noise, say: the incumbent stayed, and is not the best
    _, table = trade_off_blocks(study, Colours(study.swept))
    assert isinstance(table, Table) and "best" not in table.marks
    assert table.caption.endswith("the final one is not among them.")


AROUND = {
    "optimizer.lr": {1e-4: -0.1, 1e-2: -0.2},
    "model.norm": {"b": 0.05},
    "data.batch_size": {16: -0.3, 32: 0.01},
}
"""What each value does to the score of the centre."""


def one_at_a_time(directory: Path, seeds: list[int]) -> StudyView:
    """Each value in place of the centre's."""
    centre = {"optimizer.lr": 1e-3, "model.norm": "a", "data.batch_size": 8}

    def score(settings: Settings, seed: int) -> float:
        shifts = [AROUND[key].get(value, 0.0) for key, value in settings.items() if key in AROUND]
        return 0.5 + sum(shifts) + 0.001 * noise(settings, seed)

    words = "optimizer.lr=1e-3,1e-4,1e-2 model.norm=a,b data.batch_size=8,16,32"
    Synthetic({"": words}, score, defaults=dict(centre), seeds=seeds).write(directory)
    study = read_study(directory)
    (phase,) = study.phases
    phase.candidates[:] = [
        one
        for one in phase.candidates
        if sum(phase.setting(one, key) != value for key, value in centre.items()) < 2
    ]
    phase.plan.candidates[:] = [one.plan for one in phase.candidates]
    phase.plan.incumbent = phase.plan.winner = None
    return StudyView(study)


def test_of_keys_varied_one_at_a_time_each_is_told_at_the_centre_of_the_others(
    tmp_path: Path,
) -> None:
    study = one_at_a_time(tmp_path, [0, 1])
    (phase,) = study.phases
    assert len(phase.candidates) == 6 and phase.result.centre is not None
    table = means_table(phase, study.frame)
    found = {(row[0], row[1]): row for row in table.rows}
    assert {row[-1] for row in table.rows} == {2}  # trials: the seeds of one configuration
    for key, shifts in AROUND.items():
        for value, shift in shifts.items():
            assert found[key, value][2] == pytest.approx(0.5 + shift, abs=0.002)
    assert found["data.batch_size", 8][2] == pytest.approx(0.5, abs=0.002)
    assert "one at a time" in table.caption
    effects = phase_effects(study.result).set_index("key")
    assert effects.loc["data.batch_size", "range"] == pytest.approx(0.31, abs=0.004)
    assert effects.loc["data.batch_size", "best"] == 32
    assert levels_section(phase, study.frame, Colours(study.swept)) is None
    assert heat_maps(phase, study.frame) == []


def test_one_trial_of_each_value_has_no_spread(tmp_path: Path) -> None:
    study = one_at_a_time(tmp_path, [0])
    table = means_table(study.phases[0], study.frame)
    assert [one.title for one in table.columns] == ["key", "value", "mean", "trials"]
    assert "Student" not in table.caption


def test_a_grid_has_no_centre(tmp_path: Path) -> None:
    study = read_grid(tmp_path)
    assert study.phases[0].centre is None


def test_one_line_too_many_is_shown_in_place_of_its_number() -> None:
    assert few(["a"] * 6) == ["a"] * 6
    assert few(["a"] * 7)[-1].startswith("and 2 more")


def test_columns_that_name_rows_share_a_page_with_numbers() -> None:
    columns = [*(Column(f"group.long_key_{n}") for n in range(6)), *[Column("x", "number")] * 12]
    rows = [["a" * 14] * 6 + ["0.1234 ± 0.1234"] * 12] * 2
    parts = parts_on_paper(columns, rows, 500)
    assert len(parts) > 1 and min(part.size for part in parts) >= 7
    shown = {i for part in parts for i in part.columns}
    assert shown == {*range(18)}  # nothing is lost
    assert all(0 in part.columns for part in parts)


def test_a_document_breaks_long_words_where_a_page_does() -> None:
    assert breakable("model.architecture=attention_unet a/b") == (
        "model.\u200barchitecture=\u200battention_unet a/b"
    )


def test_a_narrow_logarithmic_panel_has_numbers_and_no_formulas() -> None:
    diagram = Diagram("d", "a", "C.", {"x": [0.0, 1.0], "y": [0.4, 6.0]}, log=("y",))
    figure = overlaid([diagram], PALETTE)
    figure.draw_without_rendering()
    ticks = [*figure.axes[0].yaxis.get_major_ticks(), *figure.axes[0].yaxis.get_minor_ticks()]
    texts = [tick.label1.get_text() for tick in ticks]
    assert any(texts) and not [one for one in texts if "$" in one]


@pytest.mark.parametrize("tied", [False, True])
def test_one_trial_of_a_value_is_no_finding_where_that_is_the_design(
    tmp_path: Path, tied: bool
) -> None:
    """A batch of 16 at one learning rate: in place of 8 there, or beside it."""
    words = "optimizer.lr=1e-5,1e-4,1e-3,1e-2,1e-1 data.batch_size=8,16"
    study = Synthetic({"": words}, lambda settings, seed: 0.5 + 0.01 * noise(settings, seed))
    study.seeds, study.defaults = [0], {}
    study.write(tmp_path)
    found = read_study(tmp_path)
    (phase,) = found.phases

    def is_tried(one: CandidateResult) -> bool:
        is_large = phase.setting(one, "data.batch_size") == 16
        is_last = phase.setting(one, "optimizer.lr") == 1e-1
        return is_large == is_last or (not tied and not is_large)

    phase.candidates[:] = filter(is_tried, phase.candidates)
    phase.plan.candidates[:] = [one.plan for one in phase.candidates]
    phase.plan.incumbent = phase.plan.winner = None
    assert bool(phase.tied) == tied and (phase.centre is None) == tied
    assert "hardly_ran" not in {one.rule for one in audit(found)}


def test_a_run_names_each_key_once_and_shared_runs_are_told(tmp_path: Path) -> None:
    Synthetic(CLEAN | {"again": "optimizer.lr=1e-4,1e-3"}, seeds=[0]).write(tmp_path)
    view = StudyView(read_study(tmp_path))
    words = [str(row[1]).split() for row in all_runs(view).rows if row[0] == "again"]
    assert words and all(len(it) == len({word.split("=")[0] for word in it}) for it in words)
    section = glance_section(view)
    assert section is not None
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert table.caption.endswith("A run that several phases share counts in each of them.")
    found = recommendations(view)
    assert found is not None and "p-values" not in found.caption
