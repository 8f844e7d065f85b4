"""Studies that are no chain: `from`, `per`, and several phases that nothing builds on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phasewise.study.journal import Phase
from phasewise.study.read import read_study
from tests.phasewise.study.whole import calls, journal, make_app, study, winners, write_study

GRID = "model.activation=relu,gelu optimizer.lr=1e-1,1e-3"
PER = {"per": "model.activation"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def phase_of(app: Path, name: str) -> Phase:
    return next(phase for phase in journal(app).phases if phase.name == name)


def words_of(phase: Phase, row: int | None) -> set[str]:
    assert row is not None
    words = [*phase.base, *phase.candidates[row].overrides]
    return {word for word in words if not word.startswith("study=")}


@pytest.mark.slow
def test_each_level_goes_on_from_its_own_best(app: Path) -> None:
    # lr 1e-3 and 1e-1 score the same in the toy: the earlier one starts a branch; relu's best is
    # worse than all of gelu
    phases = {
        "grid": GRID,
        "rate": {"overrides": "optimizer.lr=1e-2,3e-2"} | PER,
        "drop": {"overrides": "model.dropout_rate=0.,.3"} | PER,
        "norm": "model.norm=batch,group",
    }
    write_study(app, phases, seeds=[0, 1])
    done = study(app)
    assert done.returncode == 0, done.stderr
    rate, drop, norm = (phase_of(app, name) for name in ("rate", "drop", "norm"))
    assert [branch.level for branch in rate.branches] == ["relu", "gelu", "native"]
    starts = {it.level: words_of(rate, it.incumbent) for it in rate.branches}
    assert starts["relu"] == {"model.activation=relu", "optimizer.lr=0.1"}
    assert starts["native"] == set()
    for branch in rate.branches:
        assert "optimizer.lr=0.01" in words_of(rate, branch.winner)
        assert branch.verdict == "adopted"
    # the phase as a whole is one comparison, against the best of the phase before
    assert rate.incumbent == rate.branches[1].incumbent
    assert rate.winner == rate.branches[1].winner
    # with both seeds the mean of the toy does not depend on dropout but for the seed: a tie, and
    # each branch keeps its own winner
    for before, branch in zip(rate.branches, drop.branches, strict=True):
        assert words_of(drop, branch.incumbent) == words_of(rate, before.winner)
        assert branch.level == before.level
    assert set(norm.base) >= {"model.activation=gelu", "optimizer.lr=0.01"}
    assert "the best of each model.activation:\n  relu: 0." in done.stdout
    assert "rate: 6 of 18 computed before: 6 in grid" in done.stdout
    assert set(calls(app).values()) == {"x"}
    again = study(app)
    assert again.returncode == 0, again.stderr
    assert set(calls(app).values()) == {"x"}


@pytest.mark.slow
def test_the_best_of_a_level_has_the_best_mean_over_seeds(app: Path) -> None:
    """Dropout of .4 is best with seed 1 alone, and worst with seed 0; the start is not better."""
    grid = "model.activation=relu,gelu model.dropout_rate=.1,.4 optimizer.lr=1e-2,1e-1"
    phases = {
        "grid": {"overrides": grid, "seeds": [1, 3]},
        "rate": {"overrides": "optimizer.lr=1e-4", "seeds": [0]} | PER,
    }
    write_study(app, phases)
    assert study(app).returncode == 0
    rate = phase_of(app, "rate")
    best = {"optimizer.lr=0.01", "model.dropout_rate=0.4"}
    starts = {it.level: words_of(rate, it.incumbent) for it in rate.branches}
    assert starts["relu"] == best | {"model.activation=relu"}
    assert starts["gelu"] == best | {"model.activation=gelu"}


@pytest.mark.slow
def test_a_level_without_a_result_has_no_branch(app: Path) -> None:
    phases = {
        "act": "model.activation=elu,gelu",  # the toy's objective of elu is undefined
        "rate": {"overrides": "optimizer.lr=1e-2"} | PER,
    }
    write_study(app, phases)
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert [branch.level for branch in phase_of(app, "rate").branches] == ["gelu", "native"]
    assert "rate: no branch for model.activation=elu, of which nothing has a result" in done.stdout


@pytest.mark.slow
def test_the_best_leaf_is_tested(app: Path) -> None:
    phases = {
        "act": "model.activation=relu,gelu",
        "rate": "optimizer.lr=1e-2,1e-1",
        "norm": {"from": "act", "overrides": "model.norm=batch,group"},
        "fresh": {"from": "start", "overrides": "optimizer.lr=1e-2"},
    }
    write_study(app, phases)
    planned = study(app, "study.dry_run=true").stdout
    assert (
        "\n  1 act       2 + incumbent  model.activation=relu,gelu\n    2 rate    2 + " in planned
    )
    assert "\n    3 norm    2  model.norm=batch,group\n  4 fresh     1 + incumbent  " in planned
    assert "in the end the best of rate and norm and fresh by val/mIoU (max) is tested" in planned
    done = study(app)
    assert done.returncode == 0, done.stderr
    found = journal(app)
    assert found.phases[2].base == ["study=toy", "model.activation=gelu"]
    assert found.phases[3].base == ["study=toy"]
    assert found.last == "rate"
    assert found.last_reason.startswith("val/mIoU 0.53")
    assert "the study ends with the winner of rate: val/mIoU 0.53" in done.stdout
    best = ["model.activation=gelu", "optimizer.lr=0.01"]
    assert found.phases[-1].candidates[0].overrides == best


@pytest.mark.slow
def test_a_rerun_chooses_among_all_branches_or_one(app: Path) -> None:
    again: dict[str, Any] = {"rerun": {"top": 2, "overrides": "trainer.max_epochs=5"}}
    phases = {
        "act": "model.activation=relu,gelu",
        "rate": {"from": "start", "overrides": "optimizer.lr=1e-2,1e-1"},
        "all": again,
        "one": {"from": "act"} | again,
    }
    write_study(app, phases)
    done = study(app)
    assert done.returncode == 0, done.stderr
    whole, one = (phase_of(app, name) for name in ("all", "one"))
    more = "trainer.max_epochs=5"
    # lr=.01 is worth more than gelu
    assert _words(whole) == [{"optimizer.lr=0.01", more}, {"model.activation=gelu", more}]
    assert _words(one) == [{"model.activation=gelu", more}, {"model.activation=relu", more}]
    assert winners(app)["all"] == ["optimizer.lr=0.01", more]


def _words(phase: Phase) -> list[set[str]]:
    return [set(candidate.overrides) for candidate in phase.candidates]


INDEPENDENT = {
    "act": "model.activation=relu,gelu",
    "rate": "optimizer.lr=1e-2,1e-1",
    "norm": {"from": "act", "overrides": "model.norm=batch,group"},
    "halved": {"from": "start", "overrides": "optimizer.lr=1e-2,2e-2", "halving": {"epochs": 1}},
    "fresh": {"from": "start", "overrides": "optimizer.lr=1e-2,1e-3"},
}
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def table(app: Path) -> list[Any]:
    """All that was decided; in which folder a trial lies that phases share is told apart."""
    found = journal(app)
    rows = [(it.name, it.winner, it.reason, _words(it)) for it in found.phases]
    return [*rows, found.last, found.last_reason]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_independent_phases_run_side_by_side_where_several_trials_do(app: Path) -> None:
    write_study(app, INDEPENDENT)
    assert study(app).returncode == 0
    expected = table(app)
    (app / "out").rename(app / "before")
    done = study(app, *JOBLIB)
    assert done.returncode == 0, done.stderr
    assert "[act and fresh 1/" in done.stdout
    assert "[rate and norm " in done.stdout
    assert table(app) == expected
    assert set(calls(app).values()) <= {"x", "xx"}  # of a halved one, its rungs
    # what several phases of one batch need runs once
    fresh, act = phase_of(app, "fresh"), phase_of(app, "act")
    assert fresh.candidates[1].trials[0].directory == act.candidates[2].trials[0].directory
    assert study(app, *JOBLIB).returncode == 0
    assert set(calls(app).values()) <= {"x", "xx"}
    assert study(app).returncode == 0  # one after the other, from what lies there
    assert table(app) == expected
    assert set(calls(app).values()) <= {"x", "xx"}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("at", [2, 9, 17, 26])
def test_killed_and_called_again_it_is_the_same(app: Path, at: int) -> None:
    phases = {
        "act": "model.activation=relu,gelu",
        "rate": {"overrides": "optimizer.lr=1e-2"} | PER,
        "norm": {"from": "act", "overrides": "model.norm=group"},
    }
    write_study(app, phases)
    assert study(app).returncode == 0
    expected = journal(app)
    (app / "out").rename(app / "before")
    assert study(app, KILL_AT=str(at)).returncode == -9
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert journal(app) == expected


@pytest.mark.slow
def test_branches_after_a_rerun_per_level(app: Path) -> None:
    phases: dict[str, Any] = {
        "grid": GRID,
        "longer": {"rerun": {"top": 1, "overrides": "trainer.max_epochs=5"} | PER},
        "rate": {"overrides": "optimizer.lr=1e-2,1e-3"} | PER,
    }
    write_study(app, phases)
    done = study(app)
    assert done.returncode == 0, done.stderr
    longer, rate = phase_of(app, "longer"), phase_of(app, "rate")
    assert {it.level for it in longer.branches} == {"relu", "gelu", "native"}
    for branch in rate.branches:
        assert "trainer.max_epochs=5" in words_of(rate, branch.incumbent)
    assert {it.level for it in rate.branches} == {"relu", "gelu", "native"}


@pytest.mark.slow
def test_without_a_journal_the_records_tell_the_branches(app: Path) -> None:
    phases = {
        "act": "model.activation=relu,gelu",
        "rate": {"overrides": "optimizer.lr=1e-2,1e-1"} | PER,
        "fresh": {"from": "start", "overrides": "optimizer.lr=1e-2"},
    }
    write_study(app, phases, seeds=[0, 1])
    assert study(app).returncode == 0
    known = journal(app)
    (app / "out" / "study.json").unlink()
    found = read_study(app / "out").plan
    assert (found.last, found.last_reason) == (known.last, known.last_reason)
    assert [phase.source for phase in found.phases] == [None, None, "start", None]
    for one, other in zip(found.phases, known.phases, strict=True):
        assert {it.level for it in one.branches} == {it.level for it in other.branches}
        for branch in one.branches:
            (same,) = (it for it in other.branches if it.level == branch.level)
            assert words_of(one, branch.winner) == words_of(other, same.winner)
            assert words_of(one, branch.incumbent) == words_of(other, same.incumbent)


@pytest.mark.slow
def test_another_study_starts_from_the_best_of_the_last_phases(app: Path) -> None:
    phases = {
        "rate": "optimizer.lr=1e-2",
        "act": {"from": "start", "overrides": "model.activation=relu"},
    }
    write_study(app, phases)
    assert study(app, "test=false").returncode == 0
    assert journal(app).last == "rate"
    write_study(app, {"norm": "model.norm=batch,group"})
    done = study(app, "init_study=out", "hydra.sweep.dir=next", "study.dry_run=true")
    assert "starts from the winner of out (phase rate): optimizer.lr=0.01" in done.stdout


@pytest.mark.parametrize(
    ("phase", "told"),
    [
        ({"from": "ac", "overrides": "optimizer.lr=1,2"}, "b.from=ac: not one of start, act; did"),
        ({"from": "b", "overrides": "optimizer.lr=1,2"}, "study.phases.b.from=b: is the phase its"),
        ({"from": "c", "overrides": "optimizer.lr=1,2"}, "study.phases.b.from=c: comes after it"),
        (
            {"form": "act", "overrides": "optimizer.lr=1,2"},
            "form=act: no such key; did you mean from?",
        ),
        (
            {"per": "model.activatio", "overrides": "optimizer.lr=1,2"},
            "study.phases.b: per=model.activatio: phase act, which it starts from, has one value",
        ),
        (
            {"per": "model.norm", "overrides": "optimizer.lr=1,2"},
            "per=model.norm: phase act, which it starts from, has one value of it; it varies model",
        ),
        (
            {"from": "start", "per": "model.norm", "overrides": "optimizer.lr=1,2"},
            "per=model.norm: it starts from the start of the study",
        ),
        (
            {"per": "model.activation", "overrides": "model.activation=gelu,silu"},
            "per=model.activation: the phase sets that key itself",
        ),
        (
            {"per": "model.norm", "rerun": {"top": 1, "overrides": "seed=1"}},
            "study.phases.b.per=model.norm: of a rerun stands within it: rerun: {per: model.norm}",
        ),
    ],
)
def test_refused_before_anything_runs(app: Path, phase: dict[str, Any], told: str) -> None:
    write_study(app, {"act": "model.activation=relu,gelu", "b": phase, "c": "seed=1,2"})
    done = study(app)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (app / "out").exists()
