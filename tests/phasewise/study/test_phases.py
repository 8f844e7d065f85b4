"""What a phase compares, what it takes over, and where a study ends."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from phasewise.records.record import read_record
from phasewise.study.journal import Phase
from tests.phasewise.study.whole import calls, journal, make_app, study, winners, write_study

pytestmark = pytest.mark.slow


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def overrides(phase: Phase) -> list[list[str]]:
    return [candidate.overrides for candidate in phase.candidates]


@pytest.mark.parametrize(
    "phase",
    [
        "optimizer.lr=1e-9,1e-8",
        {"combinations": ["optimizer.lr=1e-9", "optimizer.lr=1e-8"]},
        {"overrides": "optimizer.lr=1e-9,1e-8,1e-7", "sample": 2},
        {"overrides": "optimizer.lr=1e-9,1e-8", "halving": {"epochs": 1}},
    ],
)
def test_the_start_competes_in_the_first_phase(app: Path, phase: Any) -> None:
    """All of these values are worse than what they would replace."""
    write_study(app, {"rate": phase})
    planned = study(app, "study.dry_run=true")
    assert "+ incumbent  optimizer.lr=" in planned.stdout
    done = study(app)
    assert done.returncode == 0, done.stderr
    rate, test = journal(app).phases
    assert rate.incumbent == 2
    assert overrides(rate)[2] == []
    assert (rate.winner, rate.verdict) == (2, "kept")
    assert overrides(test) == [[]]
    assert "changed from the start: nothing" in done.stdout


def test_what_a_start_says_anyway_is_no_change(app: Path) -> None:
    write_study(app, {"activation": "model.activation=native,elu"})  # native is the default
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert winners(app) == {"activation": ["model.activation=native"]}
    (candidate,) = journal(app).phases[1].candidates
    assert candidate.overrides == []
    assert "starting configuration" not in done.stdout
    assert "changed from the start: nothing" in done.stdout


def test_a_value_that_was_kept_is_no_change(app: Path) -> None:
    phases = {"activation": "model.activation=native,elu", "rate": "optimizer.lr=1e-2,1e-1"}
    write_study(app, phases)
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert winners(app) == {
        "activation": ["model.activation=native"],
        "rate": ["optimizer.lr=0.01"],
    }
    assert "changed from the start: optimizer.lr=0.01\n" in done.stdout


def test_refit_trains_both_on_the_same_samples(app: Path) -> None:
    write_study(app, {"rate": "optimizer.lr=1e-2,1e-1"})
    done = study(app, "study.refit=true")
    assert done.returncode == 0, done.stderr
    final, start = journal(app).phases[1].candidates
    for candidate in (final, start):
        record = read_record(app / "out" / candidate.trials[0].directory)
        assert record is not None
        assert record.test is not None
        assert "data.refit=true" in record.overrides
    assert "optimizer.lr=0.01" in final.overrides
    assert "changed from the start: optimizer.lr=0.01\n" in done.stdout


@pytest.mark.parametrize(
    ("phase", "told"),
    [
        ("seed=0,1 study.seeds=[0,1]", "study.seeds=[0,1]: concerns the whole study: type it"),
        ("seed=0,1 trainer.pause_after=2", "trainer.pause_after=2: is what a phase's halving"),
        ({"combinations": ["test=true", "seed=1"]}, "test=true: concerns the whole study, which"),
        ("seed=0,1 budget=smoke", "budget=smoke: concerns the whole study: type it"),
        ("seed=0,1 hydra.verbose=true", "or write it under hydra: in the file (overrides)"),
        ("optimizer.lr=1,2 optimizer.lr=3,4", "optimizer.lr: is given 2 times (optimizer.lr=1,2"),
        (
            {"overrides": "optimizer.lr=1,2", "combinations": ["seed=1", "optimizer.lr=3"]},
            "optimizer.lr: is given 2 times (optimizer.lr=1,2 and optimizer.lr=3)",
        ),
        ("figures.images=0,4", "figures.images=0,4: changes nothing that is computed"),
        ("logger=none,wandb", "logger=none,wandb: changes nothing that is computed"),
    ],
)
def test_words_that_are_no_phases(app: Path, phase: Any, told: str) -> None:
    write_study(app, {"first": "seed=0,1", "mine": phase})
    done = study(app)
    assert done.returncode == 2
    assert "study.phases.mine: " in done.stderr
    assert told in done.stderr
    assert not (app / "out").exists()


def test_words_that_are_no_reruns(app: Path) -> None:
    again = {
        "rerun": {
            "top": 1,
            "overrides": "test=true trainer.max_epochs=5 trainer.max_epochs=6",
        }
    }
    write_study(app, {"first": "seed=0,1", "mine": again})
    done = study(app)
    assert done.returncode == 2
    assert "study.phases.mine: test=true: concerns the whole study" in done.stderr
    assert "trainer.max_epochs: is given 2 times" in done.stderr


def test_candidates_that_compute_the_same_are_one(app: Path) -> None:
    lines = ["model.norm=group", "model.norm=batch", "model.activation=native"]
    write_study(app, {"norm": {"combinations": lines}})  # batch and native are the defaults
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert overrides(journal(app).phases[0]) == [["model.norm=group"], ["model.norm=batch"]]
    told = "note: norm: model.activation=native computes the same as model.norm=batch"
    assert told in done.stdout


@pytest.mark.parametrize("sample", [None, 3])
def test_shuffled_values_are_in_the_same_order_in_each_call(app: Path, sample: int | None) -> None:
    rates = ",".join(f"1e-{power}" for power in range(1, 8))
    write_study(app, {"rate": {"overrides": f"optimizer.lr=shuffle({rates})", "sample": sample}})
    assert study(app).returncode == 0
    first = journal(app)
    assert study(app).returncode == 0
    assert overrides(journal(app).phases[0]) == overrides(first.phases[0])
    assert set(calls(app).values()) == {"x"}


RATE, ACTIVATION = "optimizer.lr=1e-1,1e-3", "model.activation=relu,gelu"


def test_a_renamed_phase_and_one_before_it_train_nothing_again(app: Path) -> None:
    write_study(app, {"rate": RATE, "activation": ACTIVATION})
    assert study(app).returncode == 0
    before = calls(app)
    write_study(app, {"lr": RATE, "act": ACTIVATION})
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert "lr: 2 of 2 computed before: 2 in rate" in done.stdout
    assert "act: 3 of 3 computed before: 2 in activation, 1 in lr" in done.stdout
    renamed = {"rate": "lr", "activation": "act"}
    moved = {"/".join([renamed[phase], name]) for phase, name in (it.split("/") for it in before)}
    assert set(calls(app)) == moved  # to where the phases of this study would have put them
    places = {trial.directory for _, _, trial in journal(app).trials()}
    assert places == moved
    write_study(app, {"new": "model.dropout_rate=0.1,0.3", "lr": RATE, "act": ACTIVATION})
    assert study(app).returncode == 0
    assert len(calls(app)) == len(moved) + 1  # one dropout rate is the start's
    assert set(calls(app).values()) == {"x"}


def test_what_was_set_aside_comes_back(app: Path) -> None:
    phases = {"rate": RATE, "activation": ACTIVATION}
    write_study(app, phases)
    assert study(app).returncode == 0
    book = (app / "out/study.json").read_text()
    before = calls(app)
    write_study(app, phases | {"rate": f"{RATE},1e-2"})  # 1e-2 wins
    assert study(app).returncode == 0
    write_study(app, phases)
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert (
        "activation: 3 of 3 computed before: 2 in superseded/activation, 1 in rate" in done.stdout
    )
    assert (app / "out/study.json").read_text() == book
    assert before.items() <= calls(app).items()
    aside = sorted(path.name for path in (app / "out/superseded/activation").iterdir())
    assert aside == [f"model.activation={name},seed=0~2" for name in ("gelu", "relu")]
    place = app / "out/activation/model.activation=gelu,seed=0"
    place.rename(app / "out/superseded/activation/model.activation=gelu,seed=0~1")
    (place / "half").mkdir(parents=True)  # its place is not free
    assert study(app).returncode == 0
    assert (app / "out/study.json").read_text() == book
    assert len(list((app / "out/superseded").glob("activation/*/half"))) == 1
    assert set(calls(app).values()) == {"x"}


def test_candidates_have_the_same_exam_with_each_seed(app: Path) -> None:
    write_study(app, {"data": "data.draw_seed=0,${seed}"}, seeds=[0, 1])
    done = study(app, "data.val_images=4")
    assert done.returncode == 2
    assert "study.phases.data: data.draw_seed would be judged by different val" in done.stderr
    write_study(app, {"rate": RATE}, seeds=[0, 1])  # an exam for each seed, the same for all
    assert study(app, "data.draw_seed=${seed}", "study.dry_run=true").returncode == 0


SCHEDULE, PATIENCE = "scheduler=none,plateau", "scheduler.patience=2,4"


def test_a_choice_that_makes_later_candidates_impossible(app: Path) -> None:
    write_study(app, {"schedule": SCHEDULE, "patience": PATIENCE, "activation": ACTIVATION})
    plan = study(app, "study.dry_run=true")
    assert plan.returncode == 0, plan.stderr
    assert (
        "note: patience: scheduler.patience=2 and 1 more can run only after schedule: "
        "scheduler=plateau (else scheduler.patience: no such key with scheduler=onecycle;"
    ) in plan.stdout
    done = study(app)  # both score the same, so the start, none, stays
    assert done.returncode == 0, done.stderr
    patience = journal(app).phases[1]
    first, second, start = (str(candidate.refused) for candidate in patience.candidates)
    assert first == second
    assert first.startswith("scheduler.patience: no such key with scheduler=onecycle; ")
    assert start == "None"
    assert [len(candidate.trials) for candidate in patience.candidates] == [0, 0, 1]
    assert patience.winner == patience.incumbent == 2
    with (app / "out/patience/sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["refused", "refused", "completed"]
    starred = [line for line in done.stdout.splitlines() if line.startswith("*")]
    assert [line for line in starred if "refused" in line] == []
    assert "scheduler.patience=2 could not run: scheduler.patience: no such key" in done.stdout
    assert winners(app)["activation"] == ["model.activation=gelu"]
    again = study(app)
    assert again.returncode == 0, again.stderr
    assert set(calls(app).values()) == {"x"}


def test_a_choice_that_can_make_candidates_impossible_is_told(app: Path) -> None:
    write_study(app, {"schedule": "scheduler=plateau,cosine", "patience": PATIENCE})
    plan = study(app, "scheduler=plateau", "study.dry_run=true")
    assert plan.returncode == 0, plan.stderr
    assert (
        "note: patience: scheduler.patience=2 and 1 more cannot run if schedule adopts "
        "scheduler=cosine (scheduler.patience: no such key with scheduler=cosine;"
    ) in plan.stdout
    write_study(app, {"schedule": "scheduler=none,cosine", "patience": PATIENCE})
    plan = study(app, "study.dry_run=true")
    assert plan.returncode == 2
    assert (
        "scheduler.patience: no such key with scheduler=onecycle; scheduler has name" in plan.stderr
    )


def test_keys_of_a_choice_go_with_it(app: Path) -> None:
    phases = {
        "patience": "scheduler=plateau scheduler.patience=2,4 optimizer.lr=1e-2",
        "schedule": "scheduler=cosine,plateau optimizer=sgd,adam",
        "longer": {"rerun": {"top": 4, "overrides": "trainer.max_epochs=6"}},
        "activation": ACTIVATION,
    }
    write_study(app, phases)
    done = study(app)
    assert done.returncode == 0, done.stderr
    schedule = journal(app).phases[1]
    told = (
        "schedule: left out, for there is no such key: scheduler.patience=2 with scheduler=cosine"
    )
    assert f"{told}\n" in done.stdout
    found = [
        (read_record(app / "out" / candidate.trials[0].directory), candidate.overrides)
        for candidate in schedule.candidates
    ]
    for record, words in found:
        assert record is not None
        assert "optimizer.lr=0.01" in record.overrides
        cosine = "scheduler=cosine" in words
        assert ("scheduler.patience=2" in record.overrides) == (not cosine)
    assert journal(app).status == "completed"


def test_a_study_ends_where_nothing_is_defined(app: Path) -> None:
    write_study(app, {"dropout": "model.dropout_rate=0,.3", "rate": RATE})
    done = study(app, "model.activation=elu")
    assert done.returncode == 1
    assert done.stderr.splitlines()[:3] == [
        "app.py: the study ends with its phase dropout: no candidate has a result",
        "  3 of 3 trials completed, but val/mIoU is undefined in every epoch (no validation sample "
        "has what it measures)",
        "no later phase and no test was run",
    ]
    assert "objective.metric chooses another one" in done.stderr
    assert not (app / "out/rate").exists()
    assert not (app / "out/test").exists()
    book = journal(app)
    assert (book.status, book.phases[0].verdict) == ("failed", "undecided")
    assert study(app, "model.activation=elu").stderr == done.stderr


def test_a_study_ends_where_everything_fails(app: Path) -> None:
    write_study(app, {"dropout": "model.dropout_rate=0,.3", "rate": "optimizer.lr=1e-1,1e-2"})
    done = study(app, "optimizer.lr=9")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "app.py: the study ends with its phase dropout: no candidate has a result",
        "  3 of 3 trials failed: RuntimeError: broken on purpose",
        "no later phase and no test was run",
        "mend the cause; then the same command with study.retry_failed=true runs them again",
    ]
    assert set(calls(app)) == {
        *(f"dropout/model.dropout_rate={rate},seed=0" for rate in ("0", "0.3")),
        "dropout/seed=0",
    }
    study(app, "optimizer.lr=9", "study.retry_failed=true")
    assert set(calls(app).values()) == {"xx"}


def test_no_gain_is_tested_against_what_has_no_result(app: Path) -> None:
    phases = {"rate": "optimizer.lr=1e-1,1e-2", "activation": ACTIVATION}
    write_study(app, phases, seeds=[0, 1, 2], adopt="significant")
    done = study(app, "optimizer.lr=9")
    assert done.returncode == 1
    assert "phase rate: the incumbent has no result, so that no gain can be tested" in done.stderr
    assert "  3 of 3 trials failed: RuntimeError: broken on purpose" in done.stderr
    assert not (app / "out/activation").exists()
