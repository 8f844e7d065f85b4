"""No new trial begins when the time is up, counted over all calls; what is known decides."""

from __future__ import annotations

from pathlib import Path

import pytest

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

SECOND = 1 / 3600
"""What each trial of the toy takes, in hours."""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def test_a_grid_ends_and_later_phases_keep_what_they_have(app: Path) -> None:
    phases = {"rate": "optimizer.lr=1e-3,1e-2,1e-1,1", "rest": "model.activation=gelu,silu"}
    write_study(app, phases)
    limit = f"study.max_hours={2.5 * SECOND}"
    killed = study(app, limit, KILL_AT="6")
    assert killed.returncode == -9
    done = study(app, limit)
    assert done.returncode == 0, done.stderr
    assert "rate: no more trials begin, for they have taken 0.000833 hours together" in done.stdout
    assert "1 trials were not run: no more trials begin" in done.stdout
    assert len(calls(app)) == 3
    rate, rest, test = journal(app).phases
    assert rate.out_of_hours is not None
    assert rest.out_of_hours is not None
    assert rate.out_of_hours.left == ["rate/optimizer.lr=1,seed=0"]
    assert len(rest.out_of_hours.left) == 2
    assert winners(app) == {"rate": ["optimizer.lr=0.01"], "rest": []}
    assert test.status == "completed"  # what was found is looked at
    wanted = results(app)
    assert study(app, limit).returncode == 0
    assert results(app) == wanted
    more = study(app, f"study.max_hours={20 * SECOND}")
    assert more.returncode == 0, more.stderr
    assert len(calls(app)) == 6
    assert all(phase.out_of_hours is None for phase in journal(app).phases)
    assert winners(app)["rest"] == ["model.activation=gelu"]


def test_a_search_asks_no_more_and_its_phase_alone_has_the_limit(app: Path) -> None:
    search = {"sampler": "tpe", "trials": 9, "parallel": 2}
    space = "optimizer.lr=interval(1e-3,1)"
    fine = {"overrides": space, "search": search, "max_hours": 4.5 * SECOND}
    write_study(app, {"fine": fine, "rest": "model.activation=gelu,silu"})
    done = study(app)
    assert done.returncode == 0, done.stderr
    assert "study.phases.fine.max_hours=" in done.stdout
    first, rest = journal(app).phases[:2]
    assert first.search is not None
    assert first.search.ended == "its time was up"
    assert first.out_of_hours is not None
    assert first.out_of_hours.left == [first.candidates[5].trials[0].directory]
    assert len(first.candidates) == 6  # of three batches, of which the last could not be finished
    assert rest.out_of_hours is None
    wanted = results(app)
    (app / "out").rename(app / "alone")
    for kill in (5, 11):
        assert study(app, KILL_AT=str(kill)).returncode == -9
    assert study(app).returncode == 0
    assert results(app) == wanted
