"""Halving in whole studies by their real command line, with a job that trains nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from phasewise.study.halved import Halved
from phasewise.study.halving_plan import Halving, halved_of
from phasewise.study.journal import Phase, load_journal
from phasewise.study.naming import trial_name
from phasewise.study.rungs import Ladder, deal
from tests.phasewise.study.whole import (
    calls,
    journal,
    make_app,
    results,
    runs,
    study,
    winners,
    write_study,
)

RATES = ",".join(f"{10**-power:g}" for power in range(1, 10))
"""Nine learning rates: .01 is best, then .1 and .001, which is the incumbent's."""

KEYED = {"key": "trainer.max_epochs", "values": [1, 3, 9]}
ASHA = {"epochs": 1, "asynchronous": True, "parallel": 2}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def halved(app: Path, halving: dict[str, Any], *words: str, **more: Any) -> Phase:
    """The first phase of a study that compares `RATES` for nine epochs."""
    write_study(app, {"rate": {"overrides": f"optimizer.lr={RATES}", "halving": halving}}, **more)
    done = study(app, "trainer.max_epochs=9", "test=false", *words)
    assert done.returncode == 0, done.stderr
    return journal(app).phases[0]


def lengths(app: Path) -> dict[str, int]:
    """How many epochs each run of the first phase has."""
    return {run.name: len((run / "metrics.csv").read_text().splitlines()) - 1 for run in runs(app)}


@pytest.mark.slow
def test_brackets_begin_at_different_rungs(app: Path) -> None:
    phase = halved(app, {"epochs": 1, "brackets": 2})
    rows = [row for row in range(9) if row != phase.incumbent]
    names = [phase.candidates[row].overrides[0] for row in rows]
    dealt = dict(zip(rows, deal(names, Ladder((1, 3, 9), 3, 2)), strict=True))
    assert [one.bracket for one in phase.candidates] == [dealt.get(row, 0) for row in range(9)]
    least = {0: 1, 1: 3}
    found = lengths(app)
    for one in phase.candidates:
        epochs = found[trial_name([*one.overrides, "seed=0"], {"optimizer.lr"})]
        assert epochs >= least[one.bracket]
        assert epochs == (one.epochs or 9)
    assert phase.halving is not None
    assert phase.halving.full == 81
    assert phase.halving.spent == sum(found.values())
    assert phase.epochs_saved == 81 - sum(found.values())
    assert winners(app)["rate"] == ["optimizer.lr=0.01"]


@pytest.mark.slow
def test_waves_of_asha_reach_the_same_winner(app: Path) -> None:
    phase = halved(app, ASHA)
    assert winners(app)["rate"] == ["optimizer.lr=0.01"]
    assert phase.incumbent is not None
    assert phase.candidates[phase.incumbent].epochs is None
    stopped = [one.epochs for one in phase.candidates]
    # .1 goes on when two have been seen and it is better than none but .01; see test_rungs.py
    assert stopped.count(1) == 6
    assert set(calls(app)) == {f"rate/optimizer.lr={lr},seed=0" for lr in RATES.split(",")}


@pytest.mark.slow
def test_by_a_key_each_rung_is_a_run_of_its_own(app: Path) -> None:
    phase = halved(app, KEYED, seeds=[0, 1])
    found = calls(app)
    assert set(found.values()) == {"x"}
    assert len(found) == 2 * (9 + 3 + 2)  # a third of nine, then of three, and the incumbent
    assert found.keys() >= {
        "rate/rungs/optimizer.lr=0.01,seed=0,trainer.max_epochs=1",
        "rate/rungs/optimizer.lr=0.01,seed=1,trainer.max_epochs=3",
        "rate/optimizer.lr=0.01,seed=0",
    }
    assert [one.epochs for one in phase.candidates] == [3, None, None, 1, 1, 1, 1, 1, 1]
    assert phase.halving is not None
    assert (phase.halving.full, phase.halving.spent) == (162, 2 * (9 + 3 * 3 + 2 * 9))
    assert phase.epochs_saved == 0  # no epochs are counted where the key may be anything
    assert winners(app)["rate"] == ["optimizer.lr=0.01"]
    again = study(app, "trainer.max_epochs=9", "test=false")
    assert again.returncode == 0, again.stderr
    assert calls(app) == found


@pytest.mark.slow
def test_the_phase_after_has_its_own_budget(app: Path) -> None:
    """The last value is what this phase compares at, and no setting that is carried on."""
    phases = {
        "rate": {"overrides": "optimizer.lr=1e-1,1e-2", "halving": KEYED | {"values": [1, 2]}},
        "longer": {"rerun": {"top": 2, "overrides": "model.dropout_rate=0"}},
    }
    write_study(app, phases)
    done = study(app, "test=false")
    assert done.returncode == 0, done.stderr
    rate, longer = journal(app).phases
    assert "trainer.max_epochs=2" in rate.base
    words = [word for one in longer.candidates for word in one.overrides]
    assert "optimizer.lr=0.01" in words
    assert not any(word.startswith("trainer.max_epochs") for word in words)


def test_the_plan_says_how_much_it_takes(app: Path) -> None:
    phases = {
        "plain": {"overrides": f"optimizer.lr={RATES}", "halving": {"epochs": 1}},
        "keyed": {"overrides": "model.dropout_rate=0,.2", "halving": KEYED},
        "asha": {"overrides": f"optimizer.lr={RATES}", "halving": ASHA | {"factor": 2}},
    }
    write_study(app, phases)
    done = study(app, "trainer.max_epochs=9", "study.dry_run=true")
    assert done.returncode == 0, done.stderr
    told = done.stdout
    # three and the incumbent go on, then two and the incumbent: 3 * 9 + 3 + 5
    assert "halving after 1, 3 of 9 epochs, about 1/3 go on: at most 35 epochs inst" in told
    assert "halving by trainer.max_epochs=1, 3, 9, each run anew, about 1/3 go on: at most" in told
    assert (
        "halving after 1, 2, 4, 8 of 9 epochs, about 1/2 go on, as soon as a rung allows, in"
        in (told)
    )


@pytest.mark.slow
def test_a_failed_run_at_a_rung_is_told(app: Path) -> None:
    phases = {"rate": {"overrides": "optimizer.lr=9,1e-2,1e-1", "halving": KEYED}}
    write_study(app, phases)
    done = study(app, "test=false")
    assert done.returncode == 1
    assert "of 9 trials did not complete" in done.stderr
    assert "rate/rungs/optimizer.lr=9,seed=0,trainer.max_epochs=1: failed" in done.stderr
    assert winners(app)["rate"] == ["optimizer.lr=0.01"]
    assert next(one.epochs for one in journal(app).phases[0].candidates) == 1


@pytest.mark.parametrize(
    ("halving", "told"),
    [
        ({}, "either epochs, or key with values, must be given"),
        ({"epochs": 1} | KEYED, "halving.epochs=1: either epochs, or key with values"),
        ({"key": "trainer.max_epochs"}, "goes with key, e.g."),
        ({"epochs": 1, "values": [1, 2]}, "goes with key"),
        (KEYED | {"values": [3, 1]}, "must be a list of ascending numbers, at least two"),
        (KEYED | {"values": [3]}, "must be a list of ascending numbers, at least two"),
        (KEYED | {"brackets": 4}, "halving.brackets=4: must be at most 3"),
        (KEYED | {"key": "seed"}, "halving.key=seed: seeds are repeats"),
        (KEYED | {"key": "trainer.max_epoch"}, "did you mean trainer.max_epochs?"),
        (KEYED | {"key": "optimizer.lr"}, "optimizer.lr is what scales the trials, and the phase"),
        ({"epochs": 0}, "halving.epochs=0: must be a whole number >= 1"),
        ({"epochs": 1, "brackets": 0}, "halving.brackets=0: must be a whole number >= 1"),
        ({"epochs": 1, "parallel": 2}, "halving.parallel=2: is for asynchronous: true"),
        ({"epochs": 1, "asynchronus": True}, "did you mean asynchronous?"),
        (KEYED | {"values": [0, 1]}, "trainer.max_epochs=0: must be a whole number"),
    ],
)
def test_wrong_settings(app: Path, halving: dict[str, Any], told: str) -> None:
    write_study(app, {"rate": {"overrides": "optimizer.lr=1e-1,1e-2", "halving": halving}})
    done = study(app)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (app / "out").exists()


def test_an_application_without_pauses_is_told_what_it_can_do() -> None:
    foreign = [OmegaConf.create({"lr": 0.1, "trainer": {"max_epochs": 9}})]
    halved, (reason,), _ = halved_of(Halving(epochs=1), foreign, {})
    assert halved is None
    assert reason.startswith("epochs needs trainer.pause_after, which this application does not")
    assert "halving: {key: KEY, values: [10,30,90]}" in reason
    by_key, reasons, _ = halved_of(Halving(key="lr", values=[0.1, 0.3]), foreign, {})
    assert by_key == Halved("lr", [0.1, 0.3], 3)
    assert not reasons


def test_what_cannot_be_compared_early_is_told(app: Path) -> None:
    """As with budget=smoke, which may have fewer epochs than the first rung."""
    phases = {
        "a": {"overrides": "optimizer.lr=1e-1,1e-2", "halving": {"epochs": 4}},
        "b": {"overrides": "optimizer.lr=1e-1,1e-2", "halving": {"epochs": 2, "brackets": 3}},
    }
    write_study(app, phases)
    done = study(app, "study.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "a: halving after 4 epochs compares nothing before the end" in done.stdout
    assert "b: halving has 2 brackets, one for each rung, not 3" in done.stdout


@pytest.mark.slow
def test_a_journal_of_an_older_version_is_read(app: Path) -> None:
    halved(app, {"epochs": 1})
    path = app / "out" / "study.json"
    content = json.loads(path.read_text())
    for phase in content["phases"]:
        del phase["halving"]
        for one in phase["candidates"]:
            del one["bracket"], one["rungs"]
    path.write_text(json.dumps(content))
    old = load_journal(app / "out").phases[0]
    assert old.halving is None
    assert [one.epochs for one in old.candidates] == [3, None, None, 1, 1, 1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("halving", [ASHA, KEYED, {"epochs": 1, "brackets": 3}])
def test_killed_anywhere_it_ends_the_same(app: Path, halving: dict[str, Any]) -> None:
    halved(app, halving, seeds=[0, 1])
    whole = results(app)
    epochs = sum(lengths(app).values())
    (app / "out").rename(app / "whole")
    dice = random.Random(0)
    for _ in range(8):
        words = ("trainer.max_epochs=9", "test=false")
        killed = study(app, *words, KILL_AT=str(dice.randint(1, epochs // 6)))
        assert killed.returncode in (-9, 0)
    halved(app, halving, seeds=[0, 1])
    assert results(app) == whole


@pytest.mark.slow
@pytest.mark.parametrize("halving", [ASHA, KEYED])
def test_any_launcher_decides_the_same(app: Path, halving: dict[str, Any]) -> None:
    halved(app, halving, seeds=[0, 1])
    whole = results(app)
    (app / "out").rename(app / "whole")
    halved(app, halving, "hydra/launcher=joblib", "hydra.launcher.n_jobs=3", seeds=[0, 1])
    found = results(app)
    assert found.keys() == whole.keys()
    same = [name for name in whole if not name.endswith(("record.json", "study.json"))]
    assert [found[name] for name in same] == [whole[name] for name in same]
    decided = [
        [json.loads(it["study.json"])[key] for key in ("phases", "status")] for it in (found, whole)
    ]
    assert decided[0] == decided[1]
