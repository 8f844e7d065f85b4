"""Every mistake of the published studies, in a directory made for it; none in a clean one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from phasewise.analysis.audit import RULES, audit
from phasewise.records.history import Row
from phasewise.records.lock import locked
from phasewise.records.record import RunRecord
from phasewise.study.journal import JOURNAL, Journal
from phasewise.study.read import read_study
from tests.phasewise.analysis.auditing import LR, audited, edit_some, only, replan, rules
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, clean_score, noise


def test_rules_have_a_sentence_each() -> None:
    assert len(RULES) >= 20
    assert all(sentence.endswith(".") and len(sentence) > 20 for sentence in RULES.values())


def test_the_page_on_reports_has_them_all() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reports.md").read_text(encoding="utf-8")
    rows = [f"| `{rule}` | {sentence} |" for rule, sentence in RULES.items()]
    assert [line for line in page.splitlines() if line in rows] == rows


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

    with locked(tmp_path, wait=False):
        assert replan(tmp_path, halt) == []
    killed = audit(read_study(tmp_path))  # none are to come
    assert rules(killed) == ["never_finished", "unfinished"]


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

    with locked(tmp_path, wait=False):
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


def test_of_several_baselines_the_strongest_is_cited(tmp_path: Path) -> None:
    def two(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        weak, strong = (0.9, 1.0) if higher else (2.0, 0.01)
        metric = record.objective["metric"]
        record.baselines = {"weak": {metric: weak}, "strong": {metric: strong}}
        record.baselines["perfect_mask"] = {metric: 2.0 if higher else 0.0}  # is none to beat

    for mode, metric, strong in (("max", "val/mIoU", "1"), ("min", "val/loss", "0.01")):
        higher = mode == "max"
        study = Synthetic({"": CLEAN["lr"]}, edit=two, metric=metric, mode=mode)
        (found,) = [
            one for one in audited(tmp_path / mode, study) if one.rule == "no_better_than_trivial"
        ]
        assert all(line.endswith(f", strong {strong}") for line in found.evidence)
        assert len(found.evidence) == 9


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
