"""Mistakes of the re-identification sequence and of the microbead search."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasewise.analysis.audit import audit
from phasewise.records.history import Row
from phasewise.records.notes import Limit, Notes
from phasewise.records.record import RunRecord
from phasewise.study.journal import JOURNAL, Journal
from phasewise.study.read import read_study
from tests.phasewise.analysis.auditing import BATCH, LR, audited, halved, only, replan, rules
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, clean_score, noise


def test_selected_by_a_metric_of_test_data(tmp_path: Path) -> None:
    found = only(audited(tmp_path, Synthetic(metric="test/mAP")), "selected_on_test")
    assert found.severity == "error" and "objective is test/mAP" in found.evidence[0]


@pytest.mark.parametrize("same", [True, False])
def test_selected_on_the_test_gallery(tmp_path: Path, same: bool) -> None:
    def hashed(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.data["hashes"] = {"train": "1", "val": "2", "test": "2" if same else "3"}

    found = audited(tmp_path, Synthetic(edit=hashed))
    assert rules(found) == ["selected_on_test"] * same
    assert all("validation data are its test data" in it for one in found for it in one.evidence)


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
    limit = Limit("train/positive_share", 0.5, "most anchors had no positive", "a larger batch")

    def lonely(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        share = 0.1 + 0.1 * noise(settings, record.seed or 0)
        record.best["train/positive_share"] = 0.6 if settings[LR] == 1e-2 else share
        record.notes = Notes(limits=(limit,))

    found = only(audited(tmp_path, Synthetic(edit=lonely)), "below_limit")
    assert found.text.startswith("in 12 trials most anchors had no positive")
    assert len(found.evidence) == 12 and found.advice == "a larger batch"


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


def test_a_final_configuration_that_is_trivial_on_test_data(tmp_path: Path) -> None:
    """Better on validation data, and not where it counts."""

    def tested(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        record.baselines["majority"]["test/mIoU"] = 0.9

    found = only(audited(tmp_path, Synthetic(test=True, edit=tested)), "trivial_on_test")
    assert found.severity == "error"
    assert "in 3 of 3 runs" in found.text and len(found.evidence) == 3
    assert all("majority 0.9" in line for line in found.evidence)


def test_values_that_halving_stopped_have_been_judged(tmp_path: Path) -> None:
    assert audit(read_study(halved(tmp_path))) == []


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


def test_numbers_at_the_edge_are_written_as_they_were_typed(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float:
        return 0.3 + 0.3 * settings["model.dropout_rate"] + 0.001 * noise(settings, seed)

    phases = {"": "model.dropout_rate=0.0,0.2,0.5"}
    found = only(audited(tmp_path, Synthetic(phases, score, {})), "on_the_edge")
    assert found.evidence == ("model.dropout_rate: 0.0, 0.2, 0.5",)


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
