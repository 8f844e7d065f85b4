"""Phases whose trials are asked of a sampler: the same ones whatever happened in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from phasewise.records.record import read_record
from phasewise.study.journal import Phase
from tests.phasewise.study.whole import (
    calls,
    journal,
    make_app,
    results,
    study,
    winners,
    write_study,
)

pytestmark = pytest.mark.slow

SPACE = "optimizer.lr=tag(log,interval(1e-5,1e-1)) model.activation=native,gelu,silu"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def searched(overrides: str = SPACE, **search: Any) -> dict[str, Any]:
    return {"overrides": overrides, "search": {"sampler": "random", "trials": 6} | search}


def asked(phase: Phase) -> list[list[str]]:
    return [candidate.overrides for candidate in phase.candidates]


def test_tpe_is_asked_in_batches_and_told_means(app: Path) -> None:
    """Against Optuna's own study: the same questions, answered with the means over the seeds."""
    phase = searched(sampler="tpe", trials=9, parallel=2, startup=3, seed=5)
    write_study(app, {"rate": phase | {"seeds": [0, 1]}})
    planned = study(app, "study.dry_run=true")
    assert "  9 + incumbent x 2 seeds  asked by tpe, at most 2 at a time: optimizer.lr=tag(" in (
        planned.stdout
    )
    assert "20 trials; trials that phases share run once" in planned.stdout
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert "tpe asked for 9 of 9 trials" in done.stdout
    rate = journal(app).phases[0]
    assert (rate.kind, rate.incumbent, len(rate.candidates)) == ("search", 0, 10)
    sampler = optuna.samplers.TPESampler(n_startup_trials=3, seed=5)
    reference = optuna.create_study(sampler=sampler, direction="maximize")
    space: dict[str, optuna.distributions.BaseDistribution] = {
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
        "model.activation": optuna.distributions.CategoricalDistribution(
            [f"model.activation={name}" for name in ("native", "gelu", "silu")]
        ),
    }
    reference.enqueue_trial({"optimizer.lr": 1e-3, "model.activation": "model.activation=native"})
    for first in range(0, 10, 2):
        trials = [reference.ask(space) for _ in range(2)]
        for row, trial in enumerate(trials, first):
            lr, activation = trial.params["optimizer.lr"], trial.params["model.activation"]
            words = [f"optimizer.lr={float(f'{lr:.4g}')!r}", activation] if row else []
            assert rate.candidates[row].overrides == words
            scores = [_score(app, one.directory) for one in rate.candidates[row].trials]
            reference.tell(trial, sum(scores) / 2)
    best = max(range(10), key=lambda row: reference.trials[row].value or 0)
    assert rate.winner == best


def _score(app: Path, directory: str) -> float:
    record = read_record(app / "out" / directory)
    assert record is not None
    return float(record.objective["value"])


def test_killed_at_any_epoch_the_table_is_the_same(app: Path) -> None:
    rest = searched("model.dropout_rate=interval(0,0.5)", trials=3)
    write_study(app, {"rate": searched(sampler="tpe", trials=7, parallel=3), "next": rest})
    done = study(app)
    assert done.returncode == 0, done.stderr
    wanted, trials = results(app), calls(app)
    (app / "out").rename(app / "alone")
    for kill in (3, 9, 14, 1, 6):
        killed = study(app, KILL_AT=str(kill))
        assert killed.returncode == -9, killed.stdout + killed.stderr
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert results(app) == wanted
    assert calls(app).keys() == trials.keys()
    again = study(app)
    assert results(app) == wanted
    assert "12 trials, 12 of them done" in again.stdout


def test_a_space_that_is_exhausted_ends_the_phase(app: Path) -> None:
    """The incumbent, 1e-3, is one of the four; nothing runs twice."""
    space = "optimizer.lr=1e-3,1e-2 model.activation=native,gelu"
    write_study(app, {"rate": searched(space, sampler="tpe", trials=20, parallel=3, startup=2)})
    done = study(app)
    assert done.returncode == 0, done.stderr
    rate = journal(app).phases[0]
    assert len(rate.candidates) == 4
    assert rate.search is not None
    assert rate.search.ended == "all configurations of its space were tried"
    assert f"tpe asked for 3 of 20 trials ({rate.search.repeated} times" in done.stdout
    assert set(calls(app).values()) == {"x"}
    assert winners(app) == {"rate": ["optimizer.lr=0.01", "model.activation=gelu"]}


def test_an_incumbent_outside_competes_and_is_told(app: Path) -> None:
    write_study(app, {"rate": searched("optimizer.lr=tag(log,interval(1e-9,1e-7))", trials=3)})
    done = study(app)
    assert done.returncode == 0, done.stderr
    told = "rate: the incumbent competes, but the sampler does not learn from it, for it is not in"
    assert told in done.stdout
    assert "the space that is searched: optimizer.lr=0.001" in done.stdout
    rate = journal(app).phases[0]
    assert (rate.winner, rate.verdict, len(rate.candidates)) == (0, "kept", 4)


def test_failures_and_what_does_not_go_together_are_told(app: Path) -> None:
    """9 raises; patience is a key of plateau alone."""
    space = "optimizer.lr=1e-3,1e-2,9 scheduler=cosine,plateau scheduler.patience=range(1,4)"
    write_study(app, {"rate": searched(space, sampler="tpe", trials=18, parallel=2, startup=4)})
    done = study(app)
    assert done.returncode == 1, done.stderr  # some trials did not complete
    rate = journal(app).phases[0]
    refused = [one for one in rate.candidates if one.refused]
    assert refused
    assert all("scheduler=cosine" in one.overrides for one in refused)
    assert rate.winner is not None
    assert "optimizer.lr=0.01" in rate.candidates[rate.winner].overrides
    again = study(app)
    assert (again.returncode, asked(journal(app).phases[0])) == (1, asked(rate))


def test_other_results_ask_for_other_trials_which_is_said(app: Path) -> None:
    write_study(app, {"rate": searched(sampler="tpe", trials=8, startup=2)})
    assert study(app).returncode == 0
    (trial,) = journal(app).phases[0].candidates[1].trials
    path = app / "out" / trial.directory / "record.json"
    content = json.loads(path.read_text())
    content["objective"]["value"] = 0.9
    path.write_text(json.dumps(content))
    again = study(app)
    assert again.returncode == 0, again.stderr
    assert "rate: from trial " in again.stdout + again.stderr
    assert "results of trials before it have changed" in again.stdout + again.stderr
    assert winners(app) == {"rate": journal(app).phases[0].candidates[1].overrides}


def test_a_second_search_of_the_same_reuses_what_was_computed(app: Path) -> None:
    write_study(app, {"one": searched(trials=4), "two": searched(trials=6)})
    done = study(app)
    assert done.returncode == 0, done.stderr
    one, two = journal(app).phases[:2]
    assert one.winner is not None  # which is the incumbent of the other one, and not asked again
    asked_before = [it for row, it in enumerate(asked(one)) if row not in (0, one.winner)]
    assert asked(two)[1:4] == asked_before
    folders = [trial.directory for one in two.candidates for trial in one.trials]
    assert sum(folder.startswith("one/") for folder in folders) >= 4
    shutil.rmtree(app / "out" / "two")
    assert study(app).returncode == 0


@pytest.mark.parametrize(
    "wrong",
    [
        [
            (searched(sampler="tpa"), "sampler=tpa: not one of tpe, gp, cmaes, qmc, random; did"),
            ({"search": {"sampler": "tpe", "trials": 3}}, "overrides, combinations or rerun must"),
            ({"overrides": SPACE, "search": {"trials": 3}}, "search.sampler: must be given"),
            ({"overrides": SPACE, "search": {"sampler": "tpe"}}, "search.trials: must be given"),
            (searched(trials=0), "search.trials=0: must be a whole number >= 1"),
            (searched(paralell=2), "search.paralell=2: no such key; did you mean parallel?"),
            (searched(parallel=0), "search.parallel=0: must be a whole number >= 1"),
        ],
        [
            (searched(sampler="tpe", startup=6), "trials=6: must be more than the 6 of startup"),
            (searched(startup=2), "startup=2: is for tpe, gp, cmaes, which go by results"),
            (searched() | {"sample": 3}, "goes with overrides, without combinations and sample"),
            (searched() | {"max_hours": 0}, "max_hours=0: must be a number of hours > 0"),
            (
                searched() | {"halving": {"epochs": 1}},
                "for halving drops trials of a batch",
            ),
        ],
        [
            (searched("optimizer.lr=1e-3"), "has nothing to search"),
            (searched("optimizer.lr=interval(1,0)"), "an interval goes from a number to a larger"),
            (searched("optimizer.lrr=interval(1,2)"), "optimizer.lrr: no such key with"),
            (searched("optimizer.lr=interval(-1,1)"), "optimizer.lr=-1.0: must be a number > 0"),
            (searched("data.batch_size=interval(1,8)"), "data.batch_size=1.0: must be a whole"),
            (searched("model.activation=relu,gleu"), "did you mean gelu?"),
            (searched("figures.images=range(1,4) optimizer.lr=interval(1,2)"), "changes nothing"),
            ("optimizer.lr=interval(1,2)", "or give the phase a search: {sampler: tpe, trials: 30"),
            (searched("seed=0,1"), "seed=0,1: seeds are repeats and are not searched"),
        ],
        [
            (searched("seed=3 optimizer.lr=interval(1,4)"), "seed=3: seeds are repeats and"),
            ({"rerun": {"top": 1, "overrides": "seed=4"}}, "seeds are repeats and are not chosen"),
        ],
    ],
)
def test_what_is_no_search_is_refused_in_one_line(app: Path, wrong: Any) -> None:
    phases = {f"wrong{number}": phase for number, (phase, _) in enumerate(wrong)}
    write_study(app, {"first": "seed=0,1"} | phases)
    done = study(app)
    assert done.returncode == 2, done.stdout
    lines = done.stderr.splitlines()
    for number, (_, told) in enumerate(wrong):
        found = [line for line in lines if told in line]
        assert len(found) == 1, (told, done.stderr)
        assert f"wrong{number}" in found[0]
    assert not (app / "out").exists()


def test_each_batch_is_halved_by_itself(app: Path) -> None:
    """Of four, two go on after one epoch and one after two; so does the incumbent in any case."""
    phase = searched(sampler="tpe", trials=7, parallel=4, startup=2)
    write_study(app, {"rate": phase | {"halving": {"epochs": 1, "factor": 2}}})
    planned = study(app, "study.dry_run=true")
    assert "halving after 1, 2 of 4 epochs, about 1/2 go on, each batch by itself" in planned.stdout
    done = study(app)
    assert done.returncode == 0, done.stderr
    rate = journal(app).phases[0]
    epochs = [one.epochs for one in rate.candidates]
    assert epochs[0] is None
    assert 1 in epochs[1:4]
    assert sorted(it or 4 for it in epochs[4:]) == [1, 1, 2, 4]
    assert rate.epochs_saved == sum(4 - (it or 4) for it in epochs)
    wanted = results(app)
    (app / "out").rename(app / "alone")
    for kill in (4, 5):
        assert study(app, KILL_AT=str(kill)).returncode == -9
    assert study(app).returncode == 0
    assert results(app) == wanted


def test_a_search_that_was_edited_says_that_it_asks_anew(app: Path) -> None:
    write_study(app, {"rate": searched(sampler="tpe"), "norm": "model.norm=batch,group"})
    assert study(app).returncode == 0
    before = len(calls(app))
    linear = SPACE.replace("tag(log,interval(1e-5,1e-1))", "interval(1e-5,1e-1)")
    write_study(app, {"rate": searched(linear, trials=8), "norm": "model.norm=batch,group"})
    told = study(app, "study.dry_run=true").stdout
    assert (
        "note: since the last call: rate: it asks anew (sampler tpe, now random, trials 6" in told
    )
    assert "another space), and what is there is not run again, its winner may change" in told
    assert "note: norm: if rate stays with " in told
    assert len(calls(app)) == before
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert len(journal(app).phases[0].candidates) == 9
    assert "since the last call" not in study(app, "study.dry_run=true").stdout
