"""Which configurations run once more, and over which seeds the last one is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phasewise.study.journal import Phase
from tests.phasewise.study.whole import calls, journal, make_app, study, winners, write_study

pytestmark = pytest.mark.slow

GRID = "optimizer.lr=1e-1,1e-2,1e-3 model.activation=native,gelu,silu"
"""In the toy, 1e-2 is the best rate for each, and gelu comes before silu before native."""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def phase_of(app: Path, name: str) -> Phase:
    return next(phase for phase in journal(app).phases if phase.name == name)


def chosen(phase: Phase) -> list[set[str]]:
    return [set(candidate.overrides) for candidate in phase.candidates]


def test_the_best_of_each_value_of_a_key(app: Path) -> None:
    again = {"rerun": {"top": 1, "per": "model.activation", "overrides": "trainer.max_epochs=5"}}
    write_study(app, {"grid": GRID, "again": again})
    planned = study(app, "study.dry_run=true")
    told = "  2 again    3  the best so far of each model.activation with trainer.max_epochs=5"
    assert told in planned.stdout
    done = study(app)
    assert done.returncode == 0, done.stderr
    # in the order of their scores, and not the three best of all, which are neighbours
    words = [["gelu"], ["silu"], ["native"]]
    assert chosen(phase_of(app, "again")) == [
        {"optimizer.lr=0.01", f"model.activation={name}", "trainer.max_epochs=5"}
        for (name,) in words
    ]


def test_finalists_may_compete_with_themselves_as_they_were(app: Path) -> None:
    again = {"rerun": {"top": 2, "compare": True, "overrides": "trainer.max_epochs=5"}}
    write_study(app, {"grid": GRID, "again": again})
    done = study(app)
    assert done.returncode == 0, done.stderr
    phase = phase_of(app, "again")
    own = [{"optimizer.lr=0.01", f"model.activation={name}"} for name in ("gelu", "silu")]
    assert chosen(phase) == [*own, *({*words, "trainer.max_epochs=5"} for words in own)]
    assert (phase.incumbent, phase.winner, phase.verdict) == (0, 2, "adopted")
    assert [one.trials[0].directory.split("/")[0] for one in phase.candidates] == [
        *("grid", "grid"),  # not run again
        *("again", "again"),
    ]


def test_without_other_settings_the_seeds_are_new(app: Path) -> None:
    again: dict[str, Any] = {"rerun": {"top": 2, "overrides": ""}, "seeds": [0, 1]}
    write_study(app, {"grid": GRID, "again": again})
    done = study(app)
    assert done.returncode == 0, done.stderr
    phase = phase_of(app, "again")
    folders = [[it.directory.split("/")[0] for it in one.trials] for one in phase.candidates]
    assert folders == [["grid", "again"]] * 2


@pytest.mark.parametrize(("seeds", "expected"), [("null", [0, 3]), ("[5,0]", [5, 0, 3])])
def test_the_test_is_over_the_seeds_of_the_study_and_of_the_last_phase(
    app: Path, seeds: str, expected: list[int]
) -> None:
    again: dict[str, Any] = {"rerun": {"top": 1, "overrides": "trainer.max_epochs=5"}}
    phases = {"rate": "optimizer.lr=1e-1,1e-2", "again": again | {"seeds": [0, 3]}}
    write_study(app, phases)
    done = study(app, f"study.seeds={seeds}")
    assert done.returncode == 0, done.stderr
    assert winners(app)["again"] == ["optimizer.lr=0.01", "trainer.max_epochs=5"]
    test = journal(app).phases[-1]
    assert test.kind == "test"
    assert test.seeds == expected
    for candidate in test.candidates:
        assert [trial.seed for trial in candidate.trials] == expected
    assert set(calls(app).values()) == {"x"}


def test_a_key_that_nothing_varies_has_no_values(app: Path) -> None:
    again = {"rerun": {"top": 1, "per": "optimizer.lrs", "overrides": "trainer.max_epochs=5"}}
    write_study(app, {"grid": GRID, "again": again})
    done = study(app)
    assert done.returncode == 2
    told = "study.phases.again.rerun.per=optimizer.lrs: not one of optimizer.lr, model.activation"
    assert told in done.stderr
