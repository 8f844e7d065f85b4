"""Phases with ``per`` that search or halve: each branch by itself, in one comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from phasewise.records.record import read_record
from phasewise.study.journal import Branch, Phase
from phasewise.study.read import read_study
from tests.phasewise.study.whole import (
    calls,
    journal,
    make_app,
    results,
    study,
    winners,
    write_study,
)

PER = {"per": "model.activation"}
LEVELS = "model.activation=relu,gelu"
SPACE = "optimizer.lr=tag(log,interval(1e-5,1e-1))"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def searched(**search: Any) -> dict[str, Any]:
    settings = {"sampler": "tpe", "trials": 6, "startup": 2, "parallel": 2, "seed": 3} | search
    return {"overrides": SPACE, "search": settings} | PER


def phase_of(app: Path, name: str) -> Phase:
    return next(phase for phase in journal(app).phases if phase.name == name)


def score(app: Path, phase: Phase, row: int) -> float:
    found = []
    for trial in phase.candidates[row].trials:
        record = read_record(app / "out" / trial.directory)
        assert record is not None
        found.append(float(record.objective["value"]))
    return sum(found) / len(found)


def rates(phase: Phase, branch: Branch) -> list[float | None]:
    """Of its candidates, in order; None where the words name none."""
    found = []
    for row in branch.candidates:
        own = [word for word in phase.candidates[row].overrides if "optimizer.lr=" in word]
        found.append(float(own[0].partition("=")[2]) if own else None)
    return found


@pytest.mark.slow
def test_each_branch_asks_as_if_it_were_alone(app: Path) -> None:
    """Against Optuna's own study, one per branch, told what came of that branch."""
    write_study(
        app,
        {"act": LEVELS, "rate": searched() | {"seeds": [0, 1]}, "norm": "model.norm=batch,group"},
    )
    planned = study(app, "study.dry_run=true").stdout
    assert (
        "18 + 3 incumbents x 2 seeds  asked by tpe, at most 2 at a time: optimizer.lr=" in planned
    )
    assert ", from the best of each model.activation (relu, gelu, native)" in planned
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert "tpe asked for 18 of 18 trials" in done.stdout
    rate = phase_of(app, "rate")
    assert (rate.kind, len(rate.candidates)) == ("search", 21)
    assert [branch.level for branch in rate.branches] == ["relu", "gelu", "native"]
    assert sorted(row for it in rate.branches for row in it.candidates) == [*range(21)]
    space: dict[str, optuna.distributions.BaseDistribution] = {
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)
    }
    for branch in rate.branches:
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=2, seed=3, multivariate=True, constant_liar=True
        )
        reference = optuna.create_study(sampler=sampler, direction="maximize")
        reference.enqueue_trial({"optimizer.lr": 1e-3})
        own, asked = branch.candidates, rates(rate, branch)
        assert own[0] == branch.incumbent
        for first, last in ((0, 2), (2, 4), (4, 6), (6, 7)):
            trials = [reference.ask(space) for _ in range(first, last)]
            for place, trial in enumerate(trials, first):
                if place:
                    assert asked[place] == float(f"{trial.params['optimizer.lr']:.4g}")
                reference.tell(trial, score(app, rate, own[place]))
        best = max(own, key=lambda row: score(app, rate, row))
        assert branch.winner == best
    assert rate.winner == rate.branches[1].winner
    assert set(phase_of(app, "norm").base) >= {
        "model.activation=gelu",
        *(word for word in rate.candidates[rate.winner or 0].overrides),
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("halving", [{}, {"halving": {"epochs": 1, "factor": 2}}])
def test_killed_at_any_epoch_the_table_is_the_same(app: Path, halving: dict[str, Any]) -> None:
    phases = {
        "act": LEVELS,
        "rate": searched(trials=3) | halving,
        "drop": {"overrides": "model.dropout_rate=0.1,0.3"} | PER,
    }
    write_study(app, phases)
    done = study(app)
    assert done.returncode == 0, done.stderr
    wanted, trials = results(app), calls(app)
    (app / "out").rename(app / "alone")
    for kill in (14, 5, 3, 8, 13):
        killed = study(app, KILL_AT=str(kill))
        assert killed.returncode == -9, killed.stdout + killed.stderr
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert results(app) == wanted
    assert calls(app).keys() == trials.keys()
    again = study(app)
    assert again.returncode == 0, again.stderr
    assert results(app) == wanted
    assert "since the last call" not in again.stdout


@pytest.mark.slow
def test_what_a_branch_leaves_is_told_of_that_branch(app: Path) -> None:
    """Of a space of four values each branch tries all, and no more; the incumbent is one."""
    phase = {
        "overrides": "optimizer.lr=1e-1,1e-2,1e-3,1e-4",
        "search": {"sampler": "random", "trials": 9},
    }
    write_study(app, {"act": LEVELS, "rate": phase | PER})
    done = study(app)
    assert done.returncode == 0, done.stderr
    rate = phase_of(app, "rate")
    assert [len(branch.candidates) for branch in rate.branches] == [4, 4, 4]
    assert {branch.ended for branch in rate.branches} == {
        "all configurations of its space were tried"
    }
    assert rate.search is not None
    assert rate.search.ended == "all configurations of its space were tried"
    assert rate.search.repeated == sum(branch.repeated for branch in rate.branches)
    assert set(calls(app).values()) == {"x"}
    assert winners(app)["rate"] == ["model.activation=gelu", "optimizer.lr=0.01"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "halving",
    [
        {"epochs": 1, "factor": 2},
        {"epochs": 1, "factor": 2, "asynchronous": True, "parallel": 2},
        {"key": "trainer.max_epochs", "values": [1, 2, 4], "factor": 2},
    ],
)
def test_halving_drops_no_branch(app: Path, halving: dict[str, Any]) -> None:
    """All of gelu are better than all of relu, and yet relu's own best goes on."""
    phase = {"overrides": "optimizer.lr=3e-2,1e-2,3e-3,1e-4", "halving": halving} | PER
    phases = {
        "act": LEVELS,
        "rate": phase,
        "drop": {"overrides": "model.dropout_rate=0.1,0.3"} | PER,
    }
    write_study(app, phases)
    done = study(app)
    assert done.returncode == 0, done.stderr
    rate, drop = phase_of(app, "rate"), phase_of(app, "drop")
    for branch in rate.branches:
        assert branch.winner is not None
        assert "optimizer.lr=0.01" in rate.candidates[branch.winner].overrides
        stopped = [row for row in branch.candidates if rate.candidates[row].epochs is not None]
        assert len(stopped) >= 2
        assert branch.incumbent not in stopped
    assert [branch.level for branch in drop.branches] == ["relu", "gelu", "native"]
    assert rate.halving is not None
    again = study(app)
    assert again.returncode == 0, again.stderr
    assert "since the last call" not in again.stdout  # what was stopped is not new
    assert 0 < rate.halving.spent < rate.halving.full or rate.halving.unit != "epochs"


@pytest.mark.slow
def test_rungs_are_summed_up_by_branch(app: Path) -> None:
    from phasewise.analysis.statistics.halving import rung_summaries

    phase = {
        "overrides": "optimizer.lr=3e-2,1e-2,3e-3,1e-4",
        "halving": {"epochs": 1, "factor": 2},
        "seeds": [0, 1],
    }
    write_study(app, {"act": LEVELS, "rate": phase | PER})
    assert study(app).returncode == 0
    found = rung_summaries(read_study(app / "out").phases[1])
    assert {one.level for one in found} == {"relu", "gelu", "native"}
    first = [one for one in found if one.rung == 0]
    assert [(one.level, one.seen) for one in first] == [("relu", 5), ("gelu", 5), ("native", 5)]
    # relu's are all worse than those of gelu that went on, and are held against their own
    names = {row: it.level for it in phase_of(app, "rate").branches for row in it.candidates}
    for one in found:
        assert all(names[it.dropped] == names[it.kept] == one.level for it in one.close)


@pytest.mark.parametrize(
    ("first", "halving", "told"),
    [
        (
            "model.activation=relu,gelu trainer.max_epochs=2,4",
            {"epochs": 1},
            "branches compare after equal shares of trainer.max_epochs, which act varies",
        ),
        (
            "model.activation=relu,gelu data.train_images=8,16",
            {"key": "data.train_images", "values": [4, 8]},
            "branches compare after equal shares of data.train_images, which act varies",
        ),
    ],
)
def test_branches_compare_after_equal_amounts(
    app: Path, first: str, halving: dict[str, Any], told: str
) -> None:
    phase = {"overrides": "optimizer.lr=1e-2,1e-3", "halving": halving}
    write_study(app, {"act": first, "rate": phase | PER})
    done = study(app)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (app / "out").exists()
