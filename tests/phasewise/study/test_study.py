"""Whole studies by their real command line, with a job that trains nothing (study_toy.py)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from phasewise.records.record import read_record
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

PHASES: dict[str, Any] = {
    "rate": "optimizer.lr=1e-1,1e-2,1e-3",
    "activation": "model.activation=relu,gelu,elu",
}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def test_each_phase_starts_from_the_winner_of_the_one_before(app: Path) -> None:
    write_study(app, PHASES)
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert winners(app) == {"rate": ["optimizer.lr=0.01"], "activation": ["model.activation=gelu"]}
    book = journal(app)
    assert book.status == "completed"
    assert [phase.verdict for phase in book.phases] == ["adopted", "adopted", None]
    activation = book.phases[1]
    assert activation.base == ["study=toy", "optimizer.lr=0.01"]
    # the incumbent is nobody's value here, so it was taken from the phase before
    assert activation.candidates[3].overrides == []
    assert activation.candidates[3].trials[0].directory == "rate/optimizer.lr=0.01,seed=0"
    assert set(calls(app).values()) == {"x"}
    assert set(calls(app)) == {
        *(f"rate/optimizer.lr={lr},seed=0" for lr in ("0.1", "0.01", "0.001")),
        *(f"activation/model.activation={name},seed=0" for name in ("relu", "gelu", "elu")),
    }
    record = read_record(app / "out/activation/model.activation=gelu,seed=0")
    assert record is not None
    assert "optimizer.lr=0.01" in record.overrides
    assert record.test is not None
    assert record.test["test/mIoU"] == record.objective["value"] - 0.01
    looked = [
        path for path in app.glob("out/**/record.json") if json.loads(path.read_text())["test"]
    ]
    assert len(looked) == 2
    assert "activation: model.activation=gelu adopted" in done.stdout
    assert "hydra.mode=RUN" in done.stdout


@pytest.mark.slow
def test_a_finished_study_runs_nothing_again(app: Path) -> None:
    write_study(app, PHASES)
    assert study(app).returncode == 0
    before = (app / "out/study.json").read_text()
    again = study(app)
    assert again.returncode == 0, again.stderr
    assert set(calls(app).values()) == {"x"}
    assert (app / "out/study.json").read_text() == before


@pytest.mark.slow
def test_a_report_shows_what_the_last_call_decided(app: Path) -> None:
    """Also where that call ran nothing, and no process goes on writing an earlier state."""
    write_study(app, {"rate": "optimizer.lr=1e-2,1e-1"})
    assert study(app, "study.report=true").returncode == 0
    write_study(app, {"renamed": "optimizer.lr=1e-2,1e-1"})
    done = study(app, "study.report=true")
    assert "report  " in done.stdout
    assert "Phase 1: renamed" in (app / "out/report.md").read_text()
    assert set(calls(app).values()) == {"x"}
    again = study(app, "study.report=true")
    assert again.returncode == 0, again.stderr
    assert "report  " not in again.stdout


@pytest.mark.slow
def test_killed_anywhere_it_ends_the_same(app: Path) -> None:
    phases = PHASES | {
        "halved": {"overrides": "model.dropout_rate=0,.2,.4", "halving": {"epochs": 1}},
        "longer": {"rerun": {"top": 2, "overrides": "trainer.max_epochs=6"}},
    }
    write_study(app, phases, seeds=[0, 1])
    done = study(app)
    assert done.returncode == 0, done.stderr
    whole = results(app)
    epochs = sum(len((run / "metrics.csv").read_text().splitlines()) - 1 for run in runs(app))
    (app / "out").rename(app / "whole")
    dice = random.Random(0)
    for _ in range(10):
        killed = study(app, KILL_AT=str(dice.randint(1, epochs // 8)))
        assert killed.returncode in (-9, 0)
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert results(app) == whole
    assert {path.read_text() for path in app.glob("out/**/finished")} == {"x"}


@pytest.mark.slow
def test_a_winner_that_changes_sets_aside_what_followed(app: Path) -> None:
    write_study(app, PHASES | {"rate": "optimizer.lr=1e-1,1e-3"})
    assert study(app).returncode == 0
    assert winners(app)["rate"] == ["optimizer.lr=0.001"]  # the incumbent stays on a tie
    old = (app / "out/activation/model.activation=gelu,seed=0/record.json").read_text()
    write_study(app, PHASES)
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert "3 trials of an earlier call had other settings or other data" in done.stdout
    aside = app / "out/superseded/activation/model.activation=gelu,seed=0~1/record.json"
    assert aside.read_text() == old
    record = read_record(app / "out/activation/model.activation=gelu,seed=0")
    assert record is not None
    assert "optimizer.lr=0.01" in record.overrides
    assert calls(app)["rate/optimizer.lr=0.1,seed=0"] == "x"


@pytest.mark.slow
def test_a_changed_config_is_told_and_nothing_is_mixed(app: Path) -> None:
    write_study(app, PHASES)
    assert study(app).returncode == 0
    done = study(app, "trainer.max_epochs=5", "hydra.sweep.dir=out")
    assert done.returncode == 2
    assert "holds a run of other settings" in done.stderr
    assert "Traceback" not in done.stderr
    assert set(calls(app).values()) == {"x"}


@pytest.mark.slow
def test_failures_stop_nothing(app: Path) -> None:
    write_study(app, PHASES | {"rate": "optimizer.lr=9,1e-2"})
    done = study(app)
    assert done.returncode == 1
    assert "rate/optimizer.lr=9,seed=0: failed: RuntimeError: broken on purpose" in done.stderr
    assert winners(app)["activation"] == ["model.activation=gelu"]
    assert journal(app).status == "failed"
    record = read_record(app / "out/rate/optimizer.lr=9,seed=0")
    assert record is not None
    assert record.status == "failed"


@pytest.mark.slow
def test_halving_continues_the_better_part(app: Path) -> None:
    values = ",".join(f"{10**-power:g}" for power in range(1, 7))
    write_study(app, {"rate": {"overrides": f"optimizer.lr={values}", "halving": {"epochs": 1}}})
    done = study(app, "trainer.max_epochs=9")
    assert done.returncode == 0, done.stderr
    phase = journal(app).phases[0]
    epochs = [candidate.epochs for candidate in phase.candidates]
    # .01 leads, .1 is second; .001 is the incumbent, which stays in the race
    assert epochs == [3, None, None, 1, 1, 1]
    assert phase.epochs_saved == 3 * 8 + 6
    lines = [len((run / "metrics.csv").read_text().splitlines()) - 1 for run in runs(app)]
    assert sorted(lines) == [1, 1, 1, 3, 9, 9]
    assert winners(app)["rate"] == ["optimizer.lr=0.01"]
    assert f"{phase.epochs_saved} epochs saved" in done.stdout


@pytest.mark.slow
def test_seeds_repeat_and_the_best_are_rerun(app: Path) -> None:
    phases = {
        "dropout": "model.dropout_rate=0,.5",
        "activation": {"overrides": "model.activation=gelu,silu", "seeds": [1]},
        "longer": {"rerun": {"top": 2, "overrides": "trainer.max_epochs=8"}},
    }
    write_study(app, phases, seeds=[0, 1])
    done = study(app)
    assert done.returncode == 0, done.stderr
    _, activation, longer, test = journal(app).phases
    assert [len(candidate.trials) for candidate in activation.candidates] == [1, 1, 1]
    assert len(longer.candidates) == 2
    assert all("trainer.max_epochs=8" in candidate.overrides for candidate in longer.candidates)
    assert "model.activation=gelu" in longer.candidates[0].overrides
    assert [len(candidate.trials) for candidate in test.candidates] == [2, 2]
    assert "(2 seeds)" in done.stdout


@pytest.mark.slow
def test_a_rerun_takes_different_configurations_not_different_words(app: Path) -> None:
    phases = {
        "rate": "optimizer.lr=1e-2,1e-3",
        "dropout": "model.dropout_rate=0.1,0.4",  # 0.1 is the default
        "longer": {"rerun": {"top": 2, "overrides": "trainer.max_epochs=6"}},
    }
    write_study(app, phases)
    assert study(app).returncode == 0
    longer = journal(app).phases[2]
    prints = [trial.fingerprint for candidate in longer.candidates for trial in candidate.trials]
    assert len(prints) == len(set(prints)) == 2


@pytest.mark.slow
def test_the_start_that_wins_a_rerun_is_the_final_configuration(app: Path) -> None:
    """Its own words are none, so that those of the winner before must not stay."""
    # seed 1 likes dropout, seed 0 does not
    phases = {
        "dropout": {"overrides": "model.dropout_rate=0.5", "seeds": [1]},
        "again": {"rerun": {"top": 2, "overrides": "trainer.max_epochs=6"}, "seeds": [0]},
        "rate": {"overrides": "optimizer.lr=1e-4", "seeds": [0]},
    }
    write_study(app, phases)
    assert study(app).returncode == 0
    assert winners(app)["dropout"] == ["model.dropout_rate=0.5"]
    assert winners(app)["again"] == ["trainer.max_epochs=6"]
    *_, rate, test = journal(app).phases
    assert rate.base == ["study=toy", "trainer.max_epochs=6"]
    assert test.candidates[0].overrides == ["trainer.max_epochs=6"]


@pytest.mark.slow
def test_combinations_samples_and_another_metric(app: Path) -> None:
    phases = {
        "pairs": {"combinations": ["model.activation=gelu", "optimizer=sgd optimizer.lr=1e-2"]},
        "drawn": {"overrides": "optimizer.lr=1e-1,1e-2,1e-3 model.dropout_rate=0,.2", "sample": 3},
        "loss": {"overrides": "model.dropout_rate=0,.3", "metric": "val/loss"},
    }
    write_study(app, phases)
    done = study(app)
    assert done.returncode == 0, done.stderr
    pairs, drawn, loss, _ = journal(app).phases
    assert [c.overrides for c in pairs.candidates] == [
        ["model.activation=gelu"],
        ["optimizer=sgd", "optimizer.lr=0.01"],
        [],  # the start
    ]
    assert drawn.sampled_from == 6
    assert len(drawn.candidates) in (3, 4)  # the incumbent may be among those drawn
    assert set(drawn.declared["optimizer.lr"]) == {"0.1", "0.01", "0.001"}
    assert loss.objective == {"metric": "val/loss", "mode": "min"}
    assert "objective.metric=val/loss" in loss.base


def test_a_mistake_in_the_last_phase_is_refused_at_once(app: Path) -> None:
    write_study(app, PHASES | {"last": "model.activation=gelu model.dropout_rate=0,2"})
    done = study(app)
    assert done.returncode == 2
    assert "model.dropout_rate=2: must be a number in [0, 1) (trial last/" in done.stderr
    assert not (app / "out").exists()
    write_study(app, PHASES | {"last": "model.activtion=gelu,relu", "worse": "optimizer.lr=1,"})
    done = study(app)
    assert done.returncode == 2
    assert "model.activtion: no such key" in done.stderr
    assert "study.phases.worse" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"adopt": "significant"}, "needs study.seeds of at least 3"),
        ({"seeds": [1, 1]}, "must be a list of different seeds"),
        ({"adopt": "bst"}, "not one of best, significant; did you mean best?"),
        ({"phases": {"test": "seed=1,2"}}, "choose another name: test is a folder"),
        ({"phases": {"a": {"sample": 3}}}, "overrides, combinations or rerun must be given"),
        ({"phases": {"a": {"rerun": {"top": 1, "overrides": "seed=1"}}}}, "nothing before"),
        ({"phases": {"a": {"overides": "seed=1"}}}, "no such key; did you mean overrides?"),
        ({"phases": {"a": {"optimizer.lr": [1, 2]}}}, "as after -m: optimizer.lr=1,2"),
        ({"phases": {"a": {"overrides": "seed=1", "2": None}}}, "with a comma stands in quotes"),
        ({"phases": {"a": {"overrides": {"seed": 1}}}}, "must be a text, as after -m: seed=1"),
        ({"phases": {"a": ["seed=1", 2]}}, "each item must be a whole override"),
        ({"phases": {"a": "optimizer.lr=1, 2"}}, "phases.a: optimizer.lr=1, 2: an override has no"),
        ({"phases": {"a": "data.augment=[flip, vflip],[]"}}, "write data.augment=[flip,vflip],[]"),
        ({"phases": {"a": "optimizer.lr:1,2"}}, "write optimizer.lr=1,2"),
        ({"phases": {"a": "optimizer.lr=interval(1,2)"}}, "optimizer.lr=range(1,2,STEP)"),
        ({"phases": {"a": "optimizer.lr=range(2,1)"}}, "optimizer.lr=range(2,1): has no values"),
        ({"phases": {"a": "preset=null,reid_strong"}}, "did you mean none?"),
        (
            {"phases": {"a": "optimizer.lrr=1,2"}},
            "no such key with optimizer=adamw; did you mean optimizer.lr?",
        ),
        ({"phases": {"a": {"rerun": 2}}}, "rerun=2: must be a mapping, e.g. {top: 2"),
        ({"phases": None}, "study.phases=null: must be a mapping"),
        ({"phases": "optimizer.lr=1,2"}, "study.phases=optimizer.lr=1,2: must be a mapping"),
        ({"phases": {}}, "study.phases: study=toy has none"),
        ({"phases": {True: "optimizer.lr=1,2"}}, "YAML takes the name of a phase for true"),
        (
            {"budgets": {"a": "trainer.max_epochs=2, seed=1"}},
            "study.budgets.a: trainer.max_epochs=2",
        ),
        (
            {"hypotheses": [{"claim": "x", "key": "optimizer.lr", "best": [1], "phase": "rat"}]},
            "phase=rat: not one of rate, activation; did you mean rate?",
        ),
        (
            {"hypotheses": [{"claim": "x", "key": "optimizr.lr", "best": [1]}]},
            "no phase varies it; did you mean optimizer.lr?",
        ),
        (
            {"hypotheses": [{"claim": "x", "key": "seed"}]},
            "one of best, highest, lowest, order, against must be given",
        ),
        (
            {"hypotheses": [{"claim": "x", "key": "optimizer.lr", "best": 5}]},
            "study.hypotheses.0.best=5: must be a list",
        ),
        ({"hypotheses": [{"key": "optimizer.lr", "best": [1]}]}, "hypotheses.0.claim: must be"),
        ({"published": {"rate": 3}}, "study.published.rate=3: must be keys with their values"),
        (
            {"published": {"rat": {"optimizer.lr=1e-1": {"mIoU": 0.5}}}},
            "study.published.rat: not one of rate, activation; did you mean rate?",
        ),
        (
            {"published": {"activation": {"model.activation=gel": {"mIoU": 0.5}}}},
            "model.activation=gel is not tried: not one of ",
        ),
        (
            {"published": {"activation": {"model.activation=gelu": {"mIu": 0.5}}}},
            "study.published.activation.model.activation=gelu.mIu: not one of ",
        ),
        ({"published": {"rate": {"optimizer.lr=1e-1": {}}}}, "must be metrics with finite numbers"),
        (
            {"published": {"rate": {"optimizer.lr=1e-1": {"mIoU": "good"}}}},
            "must be metrics with finite numbers",
        ),
    ],
)
def test_wrong_settings(app: Path, settings: dict[str, Any], told: str) -> None:
    write_study(app, **({"phases": PHASES} | settings))
    done = study(app)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (app / "out").exists()


def test_a_list_of_phases_in_an_odd_folder(tmp_path: Path) -> None:
    folder = tmp_path / "it's, an [odd]=1 folder"
    folder.mkdir()
    app = make_app(folder)
    write_study(app, ["optimizer.lr=1,2"])  # type: ignore[arg-type]
    done = study(app)
    assert done.returncode == 2
    assert "toy.yaml: study.phases must be a mapping" in done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "study:\n  phases:\n    a: seed=1\n    a: seed=2\n",
            "line 5: the key a stands there twice",
        ),
        ("study:\n\tname: a\n", "line 3: a tab; YAML is indented with spaces"),
        ("study:\n  phases:\n    a: seed=[{b: 1}]\n", "line 4: a colon too many"),
        ("study:\n  phases:\n    a: seed=1,2\n", "study=toy: its file has no `hydra: {mode: MUL"),
    ],
)
def test_a_file_that_is_no_study(app: Path, text: str, told: str) -> None:
    write_study(app, PHASES)
    (app / "extra" / "study" / "toy.yaml").write_text(f"# @package _global_\n{text}")
    done = study(app)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (app / "outputs").exists()


@pytest.mark.slow
def test_phases_may_be_called_by_numbers(app: Path) -> None:
    write_study(app, {1: "optimizer.lr=1e-1,1e-2", 2: "model.activation=relu,gelu"})
    done = study(app, "model.dropout_rate=0.1")
    assert done.returncode == 0, done.stderr
    assert winners(app) == {"1": ["optimizer.lr=0.01"], "2": ["model.activation=gelu"]}


def test_a_range_has_the_values_that_were_meant(app: Path) -> None:
    write_study(
        app, {"a": "model.dropout_rate=range(0.1,0.9,0.2) optimizer.lr=range(1e-10,1e-9,3e-10)"}
    )
    done = study(app, "study.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "model.dropout_rate=0.1,0.3,0.5,0.7 optimizer.lr=1e-10,4e-10,7e-10" in done.stdout


def test_the_printed_command_has_each_key_once(app: Path) -> None:
    write_study(app, {"rate": "optimizer.lr=1e-2,1e-3"})
    done = study(app, "optimizer.lr=1e-1")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("as a single run: "))
    assert line.count("optimizer.lr=") == 1
    assert "optimizer.lr=0.01" in line


def test_words_that_a_study_cannot_have(app: Path) -> None:
    write_study(app, PHASES, budgets={"tiny": "trainer.max_epochs=2"})
    for word, told in {
        "optimizer.lr=1,2": "several values of a key are a phase's",
        "budget=tny": "not one of full, tiny; did you mean tiny?",
        "study=toy,toy": "one study at a time",
    }.items():
        done = study(app, word)
        assert done.returncode == 2
        assert told in done.stderr
    done = study(app, "budget=tiny", "study.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "7 trials" in done.stdout  # relu, gelu and elu, and what they start from
    assert not (app / "out").exists()


def test_two_processes_do_not_share_a_study(app: Path) -> None:
    from filelock import FileLock

    write_study(app, PHASES)
    (app / "out").mkdir()
    with FileLock(app / "out" / ".lock"):
        done = study(app)
    assert done.returncode == 2
    assert "another process is at work" in done.stderr
    assert runs(app) == []
