"""Every mistake of the published studies, in a directory made for it; none in a clean one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.history import Row
from common.record import RunRecord
from studies.audit import RULES, Finding, audit
from studies.journal import JOURNAL, Journal
from studies.read import read_study
from tests.studies.synthetic import CLEAN, Edit, Settings, Synthetic, clean_score, noise

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


def edit_some(condition: Callable[[Settings, RunRecord], bool], change: Edit) -> Edit:
    def edit(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        if condition(settings, record):
            change(record, rows, settings)

    return edit


def test_rules_have_a_sentence_each() -> None:
    assert len(RULES) >= 20
    assert all(sentence.endswith(".") and len(sentence) > 20 for sentence in RULES.values())


CLEAN_STUDIES = {
    "phases": Synthetic(test=True),
    "without test": Synthetic(),
    "minimised": Synthetic(
        metric="val/loss", mode="min", test=True, score=lambda s, i: 1 - clean_score(s, i)
    ),
    "sweep": Synthetic({"": CLEAN["lr"]}),
    "grid": Synthetic(
        {"": f"{LR}=1e-4,1e-3,1e-2 model.activation=relu,gelu"}, defaults={}, seeds=[3, 4]
    ),
    "five seeds": Synthetic(seeds=range(5), test=True),
}


@pytest.mark.parametrize("name", CLEAN_STUDIES)
@pytest.mark.parametrize("journal", [True, False])
def test_nothing_in_a_clean_study(tmp_path: Path, name: str, journal: bool) -> None:
    CLEAN_STUDIES[name].write(tmp_path)
    if not journal:
        (tmp_path / JOURNAL).unlink()
    assert audit(read_study(tmp_path)) == []


def test_nothing_while_a_clean_study_runs(tmp_path: Path) -> None:
    """Trials to come are no fault."""

    def halt(plan: Journal) -> None:
        plan.status = "running"
        plan.phases[1].status = "running"
        for candidate in plan.phases[1].candidates:
            for trial in candidate.trials:
                if trial.directory.startswith("activation/") and "relu" not in trial.directory:
                    shutil.rmtree(tmp_path / trial.directory, ignore_errors=True)
        plan.phases[1].winner = plan.phases[1].verdict = None
        plan.phases.pop()

    assert replan(tmp_path, halt) == []


# A: multi-task study


def test_dead_knob(tmp_path: Path) -> None:
    """Dropout was not wired: .2 and .5 gave the same figures to the last digit."""
    study = Synthetic({"dropout": "model.dropout_rate=0,0.2,0.5"}, defaults={})

    def score(settings: Settings, seed: int) -> float:
        return (0.5 if settings["model.dropout_rate"] else 0.4) + 0.001 * noise({}, seed)

    def unwired(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        wired = {"model.dropout_rate": 0} if not settings["model.dropout_rate"] else {}
        jitter = noise(wired, record.seed or 0)
        record.best["train/loss"] = record.last["train/loss"] = 0.3 + 0.01 * jitter
        record.best["val/loss"] = record.last["val/loss"] = 0.4 + 0.01 * jitter

    found = audited(tmp_path, replace(study, score=score, edit=unwired))
    dead = next(finding for finding in found if finding.rule == "dead_knob")
    assert dead.severity == "warning" and dead.phase == "dropout"
    assert "model.dropout_rate = 0.2, 0.5" in dead.text
    assert dead.evidence[0] == (
        "dropout/model.dropout_rate=0.2,seed=0 = dropout/model.dropout_rate=0.5,seed=0"
    )
    assert len(dead.evidence) == 3


def test_knob_without_any_effect_is_an_error(tmp_path: Path) -> None:
    def blind(settings: Settings, seed: int) -> float:
        return 0.5 + 0.001 * seed

    def unwired(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        for scores in (record.best, record.last):
            scores |= {"train/loss": 0.1 * (record.seed or 0), "val/loss": 0.7}

    found = audited(tmp_path, Synthetic({"": CLEAN["lr"]}, blind, edit=unwired))
    assert next(f for f in found if f.rule == "dead_knob").severity == "error"


def test_seeds_without_any_effect(tmp_path: Path) -> None:
    def unwired(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        for scores in (record.best, record.last):
            scores |= {"train/loss": settings[LR], "val/loss": 0.7}

    score = {1e-4: 0.4, 1e-3: 0.6, 1e-2: 0.5}
    study = Synthetic({"": CLEAN["lr"]}, lambda s, _: score[s[LR]], edit=unwired)
    found = only(audited(tmp_path, study), "dead_knob")
    assert "seed = 0, 1, 2 give identical metrics" in found.text


def test_failures_that_look_alike_are_no_dead_knob(tmp_path: Path) -> None:
    """Scores of 0 and 1 coincide by chance."""

    def nothing(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.best = record.last = {"val/mIoU": 0.0}

    found = audited(tmp_path, Synthetic({"": CLEAN["lr"]}, lambda *_: 0.0, edit=nothing))
    assert "dead_knob" not in rules(found)
    assert "no_better_than_trivial" in rules(found)


def test_phase_that_did_not_start_from_the_winner(tmp_path: Path) -> None:
    """Phases 2 and 3 ran on another architecture; C: the best augmentation too."""
    Synthetic({"lr": CLEAN["lr"]}).write(tmp_path)
    other = {"activation": CLEAN["activation"]}
    Synthetic(other, base=[f"{LR}=1e-2"]).write(tmp_path)
    (tmp_path / JOURNAL).unlink()
    found = only(audit(read_study(tmp_path)), "not_from_the_winner")
    assert found.severity == "error" and found.phase == "activation"
    assert found.evidence == ("optimizer.lr is 0.01, while phase lr chose 0.001",)


def test_phase_that_left_the_winner_out(tmp_path: Path) -> None:
    """Nothing but the saved config tells what it ran with."""

    def forget(plan: Journal) -> None:
        plan.phases[1].base = []

    assert replan(tmp_path / "default", forget) == []  # the winner is the config's default
    plan = Synthetic(score=lambda s, i: clean_score(s, i) + 0.3 * (s.get(LR) == 1e-2)).write(
        tmp_path / "other"
    )
    plan.phases[1].base = []
    plan.write()
    for config in (tmp_path / "other" / "activation").glob("*/.hydra/config.yaml"):
        config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.001"))
    found = audit(read_study(tmp_path / "other"))
    departed = next(f for f in found if f.rule == "not_from_the_winner")
    assert departed.evidence == ("optimizer.lr is 0.001, while phase lr chose 0.01",)


def test_phases_to_come_start_from_nothing_yet(tmp_path: Path) -> None:
    """Their plan is made from the start, before there is a winner."""

    def pending(plan: Journal) -> None:
        plan.status = "running"
        plan.phases[1].status = "pending"
        plan.phases[1].base = []
        plan.phases[1].winner = plan.phases[1].verdict = None
        shutil.rmtree(tmp_path / "activation")
        plan.phases[1].candidates[0].trials = []
        plan.phases.pop()

    assert replan(tmp_path, pending) == []


def test_final_configuration_that_no_phase_chose(tmp_path: Path) -> None:
    """The summary table says lr 1e-2, the text 1e-3."""

    def mistake(plan: Journal) -> None:
        plan.phases[2].candidates[0].overrides = [f"{LR}=1e-2", "model.activation=gelu"]

    found = replan(tmp_path, mistake)
    assert rules(found) == ["not_from_the_winner", "other_settings_than_named"]
    assert found[0].evidence == ("optimizer.lr is 0.01, while phase lr chose 0.001",)
    assert found[1].evidence[0].endswith("optimizer.lr is 0.01 in the plan, ran 0.001")


def test_table_that_names_other_settings_than_ran(tmp_path: Path) -> None:
    def mislabel(plan: Journal) -> None:
        plan.phases[0].candidates[2].overrides = [f"{LR}=2e-2"]

    found = replan(tmp_path / "plan", mislabel)
    wrong = next(f for f in found if f.rule == "other_settings_than_named")
    assert wrong.evidence[0].endswith("optimizer.lr is 0.02 in the plan, ran 0.01")
    Synthetic().write(tmp_path / "config")
    for config in (tmp_path / "config" / "lr").glob("*lr=0.01,*/.hydra/config.yaml"):
        config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.02"))
    wrong = only(audit(read_study(tmp_path / "config")), "other_settings_than_named")
    assert wrong.severity == "error" and len(wrong.evidence) == 3
    assert wrong.evidence[0].endswith("optimizer.lr is 0.01 by its name, ran with 0.02")


def test_last_epoch_instead_of_the_best(tmp_path: Path) -> None:
    def last(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.objective |= {"value": rows[-1]["val/mIoU"], "epoch": 12}

    found = audited(tmp_path, Synthetic({"": CLEAN["lr"]}, edit=last))
    assert "not_the_best_epoch" in rules(found)
    wrong = next(f for f in found if f.rule == "not_the_best_epoch")
    assert len(wrong.evidence) == 9 and "(the last epoch's), best epoch 0.6" in wrong.evidence[3]


def test_last_epoch_by_intention(tmp_path: Path) -> None:
    def last(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.objective |= {"value": rows[-1]["val/mIoU"]}

    study = Synthetic({"": CLEAN["lr"]}, edit=last, base=["objective.keep=last"])
    assert audited(tmp_path, study) == []


def test_one_seed(tmp_path: Path) -> None:
    found = only(audited(tmp_path, Synthetic(seeds=[0], test=True)), "one_seed")
    assert found.evidence == ("lr: 3 configurations", "activation: 3 configurations")


def test_all_background_predictor(tmp_path: Path) -> None:
    """best_v2: mIoU .046 at a pixel accuracy of .732; the majority class has .035."""

    def majority(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.best["val/pixel_acc"] = 0.732
        record.baselines = {"mean_box": {"val/mAP": 0.01}}
        if baselines:
            record.baselines["majority"] = {"val/mIoU": 0.732 / 21, "val/pixel_acc": 0.732}

    def score(settings: Settings, seed: int) -> float:
        if settings.get("model.activation") == "leaky_relu":
            return 0.046 + 0.001 * noise(settings, seed)
        return clean_score(settings, seed)

    for baselines, evidence in ((True, "majority 0.03486"), (False, "the majority class")):
        study = Synthetic(score=score, edit=majority)
        found = only(audited(tmp_path / str(baselines), study), "no_better_than_trivial")
        assert found.severity == "warning" and found.phase == "activation"
        assert len(found.evidence) == 3 and evidence in found.evidence[0]
        assert "leaky_relu" in found.evidence[0]


def test_one_class_found(tmp_path: Path) -> None:
    def collapse(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        for number in range(20):
            record.best[f"val/IoU/{number}"] = 0.0
        record.best["val/IoU/background"] = 0.9

    study = Synthetic(edit=edit_some(lambda s, _: s[LR] == 1e-2, collapse))
    found = only(audited(tmp_path, study), "no_better_than_trivial")
    assert "of 21 classes only background is found" in found.evidence[0]


# B: localization


def test_baselines_that_were_never_computed(tmp_path: Path) -> None:
    def forget(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.baselines = {}

    found = only(audited(tmp_path, Synthetic(edit=forget)), "no_baselines")
    assert "15 of 15 completed trials" in found.text


def test_tuned_without_a_table(tmp_path: Path) -> None:
    study = Synthetic({"": f"{LR}=1e-3"})
    assert rules(audited(tmp_path, study)) == ["nothing_compared"]


# C: re-identification


@pytest.mark.parametrize("told_by", ["override", "warning", "objective"])
def test_selected_on_the_test_gallery(tmp_path: Path, told_by: str) -> None:
    def warn(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        reason = "selection on the test gallery, as published; figures are optimistic"
        record.data["warnings"] = [{"file": "validation=test", "reason": reason}]

    study = {
        "override": Synthetic(base=["data.validation=test"]),
        "warning": Synthetic(edit=warn),
        "objective": Synthetic(metric="test/mAP"),
    }[told_by]
    found = only(audited(tmp_path, study), "selected_on_test")
    assert found.severity == "error"
    assert "objective is test/mAP" in found.evidence[0] or "data.validation" in found.evidence[0]


def test_test_data_seen_by_every_trial(tmp_path: Path) -> None:
    def seen(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.test = {"test/mIoU": 0.5}

    for test in (True, False):
        found = only(
            audited(tmp_path / str(test), Synthetic(edit=seen, test=test)), "test_seen_early"
        )
        assert found.severity == "note"
        assert len(found.evidence) == (3 if test else 5)


def test_gain_within_the_noise_of_seeds(tmp_path: Path) -> None:
    """Gains of .07 mAP (in percent) were called improvements."""

    def score(settings: Settings, seed: int) -> float:
        score = {1e-4: 0.4, 1e-3: 0.5, 1e-2: 0.3}[settings[LR]]
        if settings.get("model.activation") == "gelu":
            score += [0.012, -0.011, 0.0011][seed]  # .0007 in the mean
        return score - 0.01 * (settings.get("model.activation") == "leaky_relu")

    found = audited(tmp_path, Synthetic(score=score))
    noisy = next(f for f in found if f.rule == "within_noise")
    assert noisy.severity == "warning" and noisy.phase == "activation"
    assert "than the incumbent, model.activation=relu" in noisy.text
    assert "seed 0: " in noisy.evidence[0]


def test_second_best_within_noise_is_a_note(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float:
        return {1e-4: 0.2, 1e-3: 0.5, 1e-2: 0.5}[settings[LR]] + 0.01 * noise(settings, seed)

    values = f"{LR}=1e-4,1e-3,1e-2"
    found = audited(tmp_path, Synthetic({"": values}, score, defaults={}))
    noisy = next(f for f in found if f.rule == "within_noise")
    assert noisy.severity == "note" and "than the second best" in noisy.text


def test_anchors_without_positives(tmp_path: Path) -> None:
    def lonely(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.best["train/positive_share"] = 0.1 + 0.1 * noise(settings, record.seed or 0)

    found = only(audited(tmp_path, Synthetic(edit=lonely)), "few_positives")
    assert len(found.evidence) == 15 and "data.sampler=identity" in found.advice


# D: microbeads


def test_jaccard_of_the_foreground_fraction(tmp_path: Path) -> None:
    """Many of the reported .12 are the all-foreground predictor's."""

    def beads(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.best["val/truth/foreground"] = 0.1215
        if baselines:
            record.baselines = {"all_foreground": {"val/jaccard": 0.1215}}
        else:
            record.baselines = {"otsu": {"val/dice": 0.1}}

    def score(settings: Settings, seed: int) -> float:
        if settings[LR] == 1e-4:
            return 0.1212 + 1e-4 * noise(settings, seed)
        return clean_score(settings, seed)

    for baselines in (True, False):
        study = Synthetic({"": CLEAN["lr"]}, score, edit=beads, metric="val/jaccard")
        found = only(audited(tmp_path / str(baselines), study), "no_better_than_trivial")
        name = "all_foreground" if baselines else "val/truth/foreground"
        assert len(found.evidence) == 3 and f"{name} 0.1215" in found.evidence[0]


def test_a_trivial_winner_is_an_error(tmp_path: Path) -> None:
    found = audited(tmp_path, Synthetic(score=lambda s, i: 0.1 + 0.001 * noise(s, i)))
    trivial = [f for f in found if f.rule == "no_better_than_trivial"]
    assert [f.severity for f in trivial] == ["error", "error"]
    assert found[0].severity == "error"


def test_value_that_never_ran(tmp_path: Path) -> None:
    """Batch 16 was in the space, was never drawn, and nobody noticed."""

    def shrink(plan: Journal) -> None:
        phase = plan.phases[1]
        phase.declared["model.activation"].append("silu")

    found = only(replan(tmp_path, shrink), "never_finished")
    assert found.evidence == ("model.activation=silu: not drawn from the grid",)


def test_value_that_never_finished(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float | str:
        return "out_of_memory" if settings[LR] == 1e-4 else clean_score(settings, seed)

    study = Synthetic({"": f"{LR}=1e-4,3e-4,1e-3,1e-2"}, score)
    study.score = lambda s, i: 0.45 if s[LR] == 3e-4 else score(s, i)
    found = audited(tmp_path, study)
    never = next(f for f in found if f.rule == "never_finished")
    assert "optimizer.lr = 0.0001 is in the search space" in never.text
    assert never.evidence == ("optimizer.lr=0.0001: 3 out_of_memory",)
    (tmp_path / JOURNAL).unlink()
    assert "never_finished" in rules(audit(read_study(tmp_path)))


def test_refused_value(tmp_path: Path) -> None:
    def refuse(plan: Journal) -> None:
        plan.phases[1].candidates[2].refused = "the two do not go together"
        plan.phases[1].candidates[2].trials = []

    found = only(replan(tmp_path, refuse), "never_finished")
    assert found.evidence == ("model.activation=leaky_relu: refused (the two do not go together)",)


def test_value_that_ran_only_once(tmp_path: Path) -> None:
    """One dice run only, among fifteen."""
    plan = Synthetic(
        {"": f"{LR}=1e-4,1e-3,1e-2 {BATCH}=4,8,16 loss.name=dice,focal,combined"},
        lambda s, i: clean_score(s, i) + {4: 0, 8: 0.05, 16: 0.02}[s[BATCH]],
        defaults={},
        seeds=[0],
    ).write(tmp_path)
    phase = plan.phases[0]
    dice = [one for one in phase.candidates if "loss.name=dice" in one.overrides]
    phase.candidates = [one for one in phase.candidates if one not in dice[1:]]
    phase.winner, phase.sampled_from = None, 27
    plan.write()
    found = audit(read_study(tmp_path))
    once = next(f for f in found if f.rule == "hardly_ran")
    assert once.evidence == ("loss.name=dice: 1", "focal: 9, combined: 9")
    assert rules(found).count("hardly_ran") == 1


@pytest.mark.parametrize(("best", "side"), [(1e-4, "smallest"), (1e-2, "largest")])
def test_optimum_on_the_edge(tmp_path: Path, best: float, side: str) -> None:
    def score(settings: Settings, seed: int) -> float:
        return 0.3 + 0.3 * (settings[LR] == best) + 0.001 * noise(settings, seed)

    found = only(audited(tmp_path, Synthetic({"": CLEAN["lr"]}, score, {})), "on_the_edge")
    assert side in found.text and found.evidence == ("optimizer.lr: 0.0001, 0.001, 0.01",)
    assert ("smaller" if side == "smallest" else "larger") in found.advice


def test_edges_that_are_none(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float:
        rate = settings.get("model.dropout_rate", settings.get("model.width", 0))
        return 0.6 - 0.1 * rate + 0.001 * noise(settings, seed)

    dropout = Synthetic({"": "model.dropout_rate=0,0.2,0.5"}, score, {})
    assert audited(tmp_path / "zero", dropout) == []  # nothing lies below
    two = Synthetic({"": "model.width=1,2"}, score, {})
    assert audited(tmp_path / "two", two) == []  # of two, one is always on the edge


def test_last_epoch_far_below_the_best(tmp_path: Path) -> None:
    """The winner had .164 at its best epoch and .140 at the end."""

    def fall(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.last["val/mIoU"] = rows[-1]["val/mIoU"] = 0.140 / 0.164 * record.objective["value"]

    found = audited(tmp_path, Synthetic({"": CLEAN["lr"]}, edit=fall))
    (line, *_) = only(found, "last_below_best").evidence
    assert line.endswith("(15 % worse)")


def test_best_at_the_last_epoch(tmp_path: Path) -> None:
    def rise(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        del rows[9:]
        record.cost["epochs"] = 9
        record.last = dict(record.best)

    found = only(audited(tmp_path, Synthetic({"": CLEAN["lr"]}, edit=rise)), "still_improving")
    assert "in 3 of 3 runs" in found.text


def test_few_epochs(tmp_path: Path) -> None:
    found = audited(tmp_path, Synthetic({"": CLEAN["lr"]}, epochs=4))
    assert only(found, "few_epochs").evidence[0] == "optimizer.lr=0.001,seed=0"


# conditions and ends


@pytest.mark.parametrize(
    ("key", "value"),
    [("git", "ba9876543210"), ("torch", "2.16.0"), ("device", "NVIDIA H100"), ("python", "3.12.1")],
)
def test_trials_under_different_conditions(tmp_path: Path, key: str, value: str) -> None:
    def other(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.environment[key] = value

    study = Synthetic(edit=edit_some(lambda s, _: s[LR] == 1e-2, other))
    found = only(audited(tmp_path, study), "mixed_conditions")
    assert found.evidence[0].startswith(f"{key}: ") and f"{value} (3)" in found.evidence[0]


def test_trials_on_different_samples(tmp_path: Path) -> None:
    def other(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.data["split_hash"] = "f" * 16

    study = Synthetic(edit=edit_some(lambda s, _: s[LR] == 1e-2, other))
    assert only(audited(tmp_path / "same", study), "different_data").phase == "lr"
    by_seed = Synthetic(edit=edit_some(lambda _, record: record.seed == 1, other))
    assert audited(tmp_path / "seeds", by_seed) == []  # a split by seed is one


def test_image_in_two_splits(tmp_path: Path) -> None:
    def overlap(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        remarks = [{"file": f"{n}.jpg", "reason": "is in train and val"} for n in range(12)]
        record.data["warnings"] = [
            *remarks,
            {"file": "a.txt", "reason": "lists 'x' more than once"},
        ]

    found = only(audited(tmp_path, Synthetic(edit=overlap)), "sample_in_two_splits")
    assert found.text.startswith("12 samples in two splits") and found.evidence[-1] == "and 2 more"
    assert found.evidence[0] == "0.jpg is in train and val"


def test_failures_are_listed_with_their_reasons(tmp_path: Path) -> None:
    ends = {1e-4: "diverged", 1e-2: "failed"}
    study = Synthetic(
        {"": f"{LR}=1e-4,3e-4,1e-3,2e-3,1e-2"},
        lambda s, i: ends.get(s[LR], 0.6 - abs(s[LR] - 1e-3) * 100 + 0.001 * noise(s, i)),
        {},
    )
    found = audited(tmp_path, study)
    lost = next(f for f in found if f.rule == "failed")
    assert lost.text == "6 of 15 trials have no result: 3 diverged, 3 failed"
    assert "optimizer.lr=0.0001,seed=0: diverged, the reason why it diverged" in lost.evidence


@pytest.mark.parametrize("end", ["missing", "running"])
def test_trials_that_never_ended(tmp_path: Path, end: str) -> None:
    def score(settings: Settings, seed: int) -> float | str:
        lost = settings[LR] == 1e-4 and seed == 2
        return end if lost else clean_score(settings, seed)

    found = only(audited(tmp_path, Synthetic({"": CLEAN["lr"]}, score)), "unfinished")
    assert "1 of 9" in found.text and "seed=2" in found.evidence[0]


def test_undefined_objectives(tmp_path: Path) -> None:
    def undefine(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.objective |= {"value": None, "epoch": None}

    study = Synthetic(edit=edit_some(lambda s, r: s[LR] == 1e-4 and r.seed == 0, undefine))
    assert only(audited(tmp_path, study), "undefined").evidence == (
        "lr/optimizer.lr=0.0001,seed=0",
    )


def test_reduced_budget(tmp_path: Path) -> None:
    assert only(audited(tmp_path, Synthetic(journal={"budget": "smoke"})), "scaled_down")


def test_alien_remarks_and_environments_raise_nothing(tmp_path: Path) -> None:
    aliens: list[Any] = [None, 5, "text", [None, 5, {"file": 3}, {"reason": ["x"]}]]

    def alien(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.data["warnings"] = aliens[(record.seed or 0) % 4]
        record.environment = {"git": ["x", {"y": 1}]}
        record.error = ""

    assert audited(tmp_path, Synthetic(edit=alien, seeds=range(4))) == []
    nothing = Synthetic(score=lambda *_: "failed")
    assert "failed" in rules(audited(tmp_path / "failed", nothing))
    assert audited(tmp_path / "missing", Synthetic(score=lambda *_: "missing"))
