"""Hypotheses with conditions, about interactions, spreads, and against earlier runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from phasewise.analysis.statistics.frame import trial_frame
from phasewise.analysis.statistics.hypotheses import Answer, answer_hypotheses
from phasewise.analysis.statistics.power import TWO_FIRST
from phasewise.records.history import Row
from phasewise.records.notes import Notes
from phasewise.records.record import RunRecord
from phasewise.study.read import read_study
from phasewise.study.saved_config import MULTIRUN
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, noise, read_grid

LR, BATCH, NET = "optimizer.lr", "data.batch_size", "model.architecture"


def crossed(settings: Settings, seed: int) -> float:
    """The U-Net wants 5e-4 and is hurt by small batches, the others want 1e-3 and are not."""
    lr, batch, is_unet = settings[LR], settings[BATCH], settings[NET] == "unet"
    score = 0.5 + {1e-4: -0.3, 5e-4: 0.05 if is_unet else -0.05, 1e-3: 0.0}[lr]
    score += {8: -0.1, 16: -0.05, 32: 0.0}[batch] * is_unet
    return score + 0.002 * noise(settings, seed)


def ask(directory: Path, stated: Settings, score: Any = crossed, **more: Any) -> Answer:
    study = read_grid(directory, score, journal={"hypotheses": [{"claim": "x"} | stated]}, **more)
    (answer,) = answer_hypotheses(study)
    return answer


@pytest.mark.parametrize(
    ("stated", "verdict", "evidence"),
    [
        ({"key": LR, "best": [5e-4], "where": {NET: "unet"}}, "yes", "3 pairs"),
        ({"key": LR, "best": [5e-4], "where": {NET: "attention_unet"}}, "no", "0.001"),
        (
            {"key": LR, "best": [1e-3], "where": {NET: ["attention_unet", "attention_resunet"]}},
            *("yes", "6 pairs"),
        ),
        ({"key": LR, "best": [5e-4], "where": {NET: "unet", BATCH: [8]}}, "cannot be told", "1 "),
        ({"key": LR, "best": [5e-4], "where": {BATCH: 64}}, "cannot be told", "batch_size=64"),
        ({"key": LR, "best": [5e-4], "where": {"x": 64}}, "cannot be told", "no phase varies x"),
        ({"key": LR, "best": [5e-4], "where": {LR: 5e-4}}, "cannot be told", "is compared"),
        # values that a condition leaves out are not missed
        ({"key": LR, "best": [1e-3], "where": {LR: [1e-4, 1e-3]}}, "yes", "against 0.0001"),
        (
            {"key": BATCH, "highest": [32], "where": {NET: "unet"}},
            "yes",
            "highest at data.batch_size=32",
        ),
        (
            {"key": BATCH, "lowest": [32], "where": {NET: "unet"}},
            "no",
            "lowest at data.batch_size=8",
        ),
        # interactions
        (
            {"key": NET, "effect_of": {BATCH: [8, 32]}, "highest": ["unet"]},
            "yes",
            "change of val/m",
        ),
        ({"key": NET, "effect_of": {BATCH: [8, 32]}, "best": ["attention_unet"]}, "no", "8 to 32"),
        (
            {"key": NET, "effect_of": {BATCH: [8, 64]}, "best": ["unet"]},
            *("cannot be told", "no run at data.batch_size=64"),
        ),
        ({"key": NET, "effect_of": {"x": [8, 64]}, "best": ["unet"]}, "cannot be told", "varies"),
        # spreads over settings
        ({"key": NET, "spread_over": [BATCH], "highest": ["unet"]}, "yes", "from its median over"),
        ({"key": NET, "spread_over": [BATCH], "best": ["unet"]}, "no", "9 pairs"),
        (
            {"key": NET, "spread_over": [LR], "best": ["attention_unet"]},
            *("cannot be told", "within noise"),
        ),
    ],
)
def test_conditions_interactions_and_spreads(
    tmp_path: Path, stated: Settings, verdict: str, evidence: str
) -> None:
    found = ask(tmp_path, stated)
    assert (found.verdict, evidence in found.evidence) == (verdict, True), found.evidence


def test_an_effect_against_plain_python(tmp_path: Path) -> None:
    stated = {"key": NET, "effect_of": {BATCH: [8, 32]}, "highest": ["unet"]}
    answer = ask(tmp_path, stated)

    def effects(net: str) -> list[float]:
        cells = [{LR: lr, NET: net} for lr in (1e-4, 5e-4, 1e-3)]
        order = (LR, BATCH, NET)  # noise depends on the order of the settings
        scores = [
            [crossed({k: (cell | {BATCH: batch})[k] for k in order}, 0) for batch in (8, 32)]
            for cell in cells
        ]
        return [large - small for small, large in scores]

    assert answer.table is not None
    assert answer.table.loc["unet", "mean"] == pytest.approx(sum(effects("unet")) / 3)
    second = answer.table["mean"].drop("unet").idxmax()
    p = 2 * stats.ttest_rel(effects("unet"), effects(str(second))).pvalue  # two rivals
    assert f"p = {p:.2g}" in answer.evidence


def test_a_spread_against_plain_python(tmp_path: Path) -> None:
    stated = {"key": NET, "spread_over": [BATCH, LR], "highest": ["unet"]}
    study = read_grid(tmp_path, crossed, journal={"hypotheses": [{"claim": "x"} | stated]})
    (answer,) = answer_hypotheses(study)
    frame = trial_frame(study)
    distances = {}
    for net, rows in frame.groupby(NET):
        cells = rows.sort_values([BATCH, LR], key=lambda column: column.astype(float))["value"]
        distances[net] = (cells - cells.median()).abs().to_numpy()
    assert answer.table is not None
    for net, values in distances.items():
        assert answer.table.loc[net, "mean"] == pytest.approx(values.mean())
    second = max(set(distances) - {"unet"}, key=lambda net: distances[net].mean())
    p = min(1.0, 2 * stats.ttest_rel(distances["unet"], distances[second]).pvalue)
    assert f"p = {p:.2g}" in answer.evidence


def test_a_rerun_is_asked_where_it_is_named(tmp_path: Path) -> None:
    """Each network at its own best rate: no pairs, but seeds."""
    stated = {"claim": "x", "key": NET, "best": ["unet"]}
    words = {"grid": f"{LR}=5e-4,1e-3 {NET}=unet,attention_unet {BATCH}=32"}
    study = read_grid(
        tmp_path,
        crossed,
        phases=words,
        seeds=[0, 1, 2],
        journal={"hypotheses": [stated, stated | {"phase": "grid"}]},
    )
    phase = study.phases[0]
    phase.plan.kind, phase.plan.declared = "rerun", {}
    best = [("unet", 5e-4), ("attention_unet", 1e-3)]
    phase.candidates = [c for c in phase.candidates if (c.settings[NET], c.settings[LR]) in best]
    alone, named = answer_hypotheses(study)
    assert alone.evidence == "no phase varies model.architecture"
    assert named.verdict == "yes" and "3 against 3 trials" in named.evidence


def test_two_cells_are_one_distance(tmp_path: Path) -> None:
    """Both are as far from their median: no pair of independent distances, whose p would be 0."""
    words = {"": f"{LR}=1e-4,1e-3 {BATCH}=8,32 {NET}=unet,attention_unet"}
    stated = {"key": NET, "spread_over": [BATCH], "highest": ["unet"]}
    one = ask(tmp_path / "one", stated | {"where": {LR: 1e-3}}, phases=words, seeds=[0, 1])
    assert one.verdict == "cannot be told" and "one cell each" in one.evidence
    assert "2 pairs" in ask(tmp_path / "two", stated, phases=words, seeds=[0, 1]).evidence


def test_what_would_tell(tmp_path: Path) -> None:
    def even(settings: Settings, seed: int) -> float:
        return 0.5 + 0.01 * (settings[LR] == 1e-3) + 0.05 * noise(settings, seed)

    stated = {"key": LR, "best": [1e-3]}
    words = {"": f"{LR}=1e-4,1e-3 {BATCH}=8 {NET}=unet"}
    one = ask(tmp_path / "one", stated, even, phases=words)
    assert (one.verdict, one.needs) == ("cannot be told", TWO_FIRST)
    three = ask(tmp_path / "three", stated, even, phases=words, seeds=[0, 1, 2])
    assert three.verdict == "cannot be told" and "more seed" in three.needs
    grid = ask(tmp_path / "grid", {"key": NET, "best": ["unet"], "where": {LR: 1e-4}}, even)
    assert (grid.verdict, grid.needs) == ("cannot be told", TWO_FIRST)
    clear = ask(tmp_path / "clear", {"key": LR, "best": [5e-4, 1e-3]}, seeds=[0, 1, 2])
    assert (clear.verdict, clear.needs) == ("yes", "")


def shaken(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    """The validation loss moves as much as the learning rate is large."""
    for row in rows:
        row["val/loss"] = 0.5 + (row["epoch"] % 2) * settings[LR] + 1e-7 * row["train/loss"]


STEADY: dict[str, Any] = {
    "phases": CLEAN,
    "defaults": {LR: 1e-3, "model.activation": "relu"},
    "seeds": [0, 1, 2],
    "edit": shaken,
}


@pytest.mark.parametrize(
    ("stated", "verdict", "evidence"),
    [
        # the final configuration has a learning rate of 1e-3, a tenth of 1e-2
        ({"against": {"where": {LR: 1e-2}}, "at_most": -50}, "yes", "which is -90 %"),
        ({"against": {"where": {LR: 1e-2}}, "at_most": -95}, "no", "3 seeds in pairs"),
        ({"against": {"where": {LR: 1e-4}}, "at_least": 500}, "yes", "which is +9"),
        ({"against": {"phase": "lr"}, "at_most": -50}, "no", "the winner of phase lr"),
        (
            {"phase": "lr", "against": {"phase": "rate"}, "at_most": 0},
            "cannot be told",
            "phase rate",
        ),
        ({"against": "nowhere", "at_most": 0}, "cannot be told", "nowhere is not there"),
        ({"against": {"where": {LR: 5}}, "at_most": 0}, "cannot be told", "no trial with"),
    ],
)
def test_a_change_within_the_study(
    tmp_path: Path, stated: Settings, verdict: str, evidence: str
) -> None:
    answer = ask(tmp_path, {"measure": "stability"} | stated, score=clean, **STEADY)
    assert (answer.verdict, evidence in answer.evidence) == (verdict, True), answer.evidence


def clean(settings: Settings, seed: int) -> float:
    return {1e-4: 0.4, 1e-3: 0.6, 1e-2: 0.5}[settings.get(LR, 1e-3)] + 0.001 * seed


def test_a_change_against_an_earlier_study_and_one_run(tmp_path: Path) -> None:
    before = tmp_path / "outputs" / "before"
    Synthetic(
        phases={"": f"{LR}=1e-2"}, score=lambda s, i: 0.3 + 0.001 * i, defaults={}, edit=shaken
    ).write(before)
    stated = {"measure": "stability", "against": "outputs/before", "at_most": -50}
    # a relative path is looked for above the study
    answer = ask(tmp_path / "outputs" / "study", stated, score=clean, **STEADY)
    assert answer.verdict == "yes" and "3 seeds in pairs" in answer.evidence, answer.evidence
    assert answer.table is not None and answer.table.loc["outputs/before", "count"] == 3
    run = next(path.parent for path in before.rglob("record.json"))
    answer = ask(tmp_path / "other", stated | {"against": str(run)}, score=clean, **STEADY)
    assert answer.verdict == "cannot be told" and answer.needs == TWO_FIRST
    assert "3 runs against 1" in answer.evidence


def test_a_relative_directory_starts_where_the_study_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study lies elsewhere, and where the report is written is another run of that name."""
    for place, score in (("started", 0.3), ("here", 0.9)):
        Synthetic(
            phases={"": f"{LR}=1e-2"}, score=lambda s, i, mean=score: mean + 0.001 * i, defaults={}
        ).write(tmp_path / place / "runs" / "before")
    study = tmp_path / "elsewhere"
    study.mkdir()
    cwd = {"hydra": {"runtime": {"cwd": str(tmp_path / "started")}}}
    (study / MULTIRUN).write_text(yaml.safe_dump(cwd))
    monkeypatch.chdir(tmp_path / "here")
    stated = {"against": "runs/before", "at_least": 50}
    answer = ask(study, stated, score=clean, **STEADY)
    assert answer.verdict == "yes" and "of runs/before: 0.301" in answer.evidence, answer.evidence
    (study / MULTIRUN).write_text("copied from a machine that has no such folder")
    answer = ask(study, stated, score=clean, **STEADY)
    assert answer.verdict == "no" and "of runs/before: 0.901" in answer.evidence, answer.evidence


def test_losses_of_different_kinds_are_not_compared(tmp_path: Path) -> None:
    words = {"": "loss.name=dice,focal data.batch_size=8,16"}

    def score(settings: Settings, seed: int) -> float:
        return 0.5 + 0.01 * seed + 0.05 * (settings["loss.name"] == "dice")

    for measure, verdict in (("val/loss", "cannot be told"), ("gap", "cannot be told")):
        stated = {"key": "loss.name", "measure": measure, "best": ["dice"]}
        answer = ask(tmp_path / measure[-3:], stated, score, phases=words, seeds=[0, 1, 2])
        assert answer.verdict == verdict and "not the same loss" in answer.evidence
    stated = {"key": "loss.name", "measure": "stability", "highest": ["dice"]}
    answer = ask(tmp_path / "steady", stated, score, phases=words, seeds=[0, 1, 2])
    assert "objective_std instead of stability (loss.name differs" in answer.evidence
    # within one loss they are compared, pair by pair
    within = {"key": "data.batch_size", "measure": "val/loss", "best": [8]}
    answer = ask(tmp_path / "pairs", within, score, phases=words, seeds=[0, 1, 2])
    assert "6 pairs that differ in nothing else" in answer.evidence


def test_losses_that_depend_on_the_batch_are_not_compared(tmp_path: Path) -> None:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.notes = Notes(batch_losses=("val/loss",))

    stated = {"key": BATCH, "measure": "stability", "order": [32, 16, 8]}
    answer = ask(tmp_path / "notes", stated, edit=edit)
    assert "val/loss of the same weights depends on data.batch_size" in answer.evidence
    assert "objective_std" not in ask(tmp_path / "none", stated).evidence
    assert read_study(tmp_path / "notes").phases[0].candidates[0].trials[0].record is not None


def test_one_value_at_a_time_is_judged_beside_the_same_settings(tmp_path: Path) -> None:
    """A phase of combinations around a winner: its own values also ran with all that is worse."""
    cells = [(1e-3, 8), (1e-4, 8), (1e-3, 16), (1e-3, 32)]

    def score(settings: Settings, seed: int) -> float:
        worse = {8: 0.0, 16: 0.3, 32: 0.35}[settings[BATCH]]
        return 0.5 - 0.05 * (settings[LR] == 1e-4) - worse + 0.001 * noise(settings, seed)

    stated = {"claim": "x", "key": LR, "best": [1e-3]}
    words = {"": f"{LR}=1e-4,1e-3 {BATCH}=8,16,32"}
    for seeds, verdict, evidence in (
        ([0, 1, 2], "yes", "optimizer.lr=0.001 (mean 0.5"),
        ([0], "cannot be told", "compared by one trial each"),
    ):
        place = tmp_path / str(len(seeds))
        study = read_grid(place, score, phases=words, seeds=seeds, journal={"hypotheses": [stated]})
        phase = study.phases[0]
        phase.candidates = [
            one for one in phase.candidates if (one.settings[LR], one.settings[BATCH]) in cells
        ]
        (answer,) = answer_hypotheses(study)
        assert answer.verdict == verdict, answer.evidence
        # over all trials 1e-4 has the better mean: .45 against .28
        assert evidence in answer.evidence


def test_an_incumbent_that_was_not_crossed_is_left_out(tmp_path: Path) -> None:
    """A grid that does not hold what the study started from: one cell at a rate of its own."""
    words = {"first": f"{NET}=unet,attention_unet", "": f"{LR}=1e-4,1e-3 {BATCH}=8,16,32"}
    defaults = {LR: 5e-4, BATCH: 8, NET: "unet"}

    def score(settings: Settings, seed: int) -> float:
        return crossed(defaults | settings, seed) + 0.3 * (settings.get(LR, 5e-4) == 5e-4)

    more: Settings = {"phases": words, "defaults": defaults, "seeds": [0, 1]}
    for form in ({}, {"effect_of": {BATCH: [8, 32]}}, {"spread_over": [BATCH]}):
        stated = {"key": LR, "highest": [1e-3]} | form
        answer = ask(tmp_path / "-".join(["x", *form]), stated, score, **more)
        assert answer.table is not None and list(answer.table.index) == [1e-4, 1e-3]
        assert set(answer.table["count"]) in ({6}, {2}, {3})
    alone = words | {"": f"{LR}=1e-4,1e-3"}  # of one key, it is compared with
    answer = ask(tmp_path / "one", {"key": LR, "best": [1e-3]}, score, **more | {"phases": alone})
    assert answer.verdict == "no" and "best at optimizer.lr=0.0005" in answer.evidence
