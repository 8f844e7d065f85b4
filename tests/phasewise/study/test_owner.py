"""A directory belongs to one study, sweep or run; refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasewise.errors import UserError
from phasewise.study.journal import Candidate, Journal, Phase, Trial
from phasewise.study.owner import check_owner
from tests.phasewise.study.whole import call, calls, make_app, study, write_study

pytestmark = pytest.mark.slow

RATE = {"rate": "optimizer.lr=1e-2,1e-1"}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def sweep(app: Path, *words: str) -> tuple[int, str, str]:
    done = call(app, "-m", "study.report=false", *words)
    return done.returncode, done.stdout, done.stderr


def files(app: Path) -> dict[str, bytes]:
    """All of them but the lock, which is taken and given back."""
    found = [path for path in app.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path): path.read_bytes() for path in found if "__pycache__" not in str(path)}


def test_a_study_shares_its_directory_with_nobody(app: Path) -> None:
    write_study(app, {"other": "model.activation=relu,gelu"}, name="other")
    assert study(app).returncode == 0
    write_study(app, RATE, budgets={"tiny": "trainer.max_epochs=2"})
    before = files(app)
    mine = "out: belongs to the study other with budget=full"
    among = f"is among the trials of the study or sweep in {app}/out, which would take it for one"
    for words, told in (
        (["study=toy"], mine),
        (["study=toy", "study.dry_run=true"], mine),
        (["study=toy", "study.name=other", "budget=tiny"], mine),
        (["-m", "optimizer.lr=1,2", "hydra.sweep.dir=out"], mine),
        (["optimizer.lr=1", "hydra.run.dir=out"], "out: a study or sweep lies there"),
        (["optimizer.lr=1", "hydra.run.dir=out/other"], "a phase of a study lies there"),
        (["-m", "seed=1,2", "hydra.sweep.dir=out/other"], "a phase of a study lies there"),
        (["optimizer.lr=1", "hydra.run.dir=out/mine"], among),
        (["optimizer.lr=1", "hydra.run.dir=out/other/mine"], among),
        (["optimizer.lr=1", "hydra.run.dir=out/superseded/other/mine"], among),
    ):
        done = call(app, "--config-dir", "extra", *words)
        assert done.returncode == 2, words
        assert told in done.stderr
        assert "dir=DIR chooses another place" in done.stderr
        assert files(app) == before, words
    write_study(app, {"other": "model.activation=relu,gelu"}, name="other")
    assert study(app).returncode == 0
    assert set(calls(app).values()) == {"x"}


def test_a_sweep_goes_on_with_its_own_trials_only(app: Path) -> None:
    assert sweep(app, "optimizer.lr=1,2", "hydra.sweep.dir=out")[0] == 0
    before = files(app)
    code, _, told = sweep(app, "optimizer.lr=3,4", "hydra.sweep.dir=out")
    assert code == 2
    assert "belongs to the sweep -m optimizer.lr=1,2" in told
    write_study(app, RATE)
    before = files(app)
    done = study(app)
    assert done.returncode == 2
    assert "belongs to the sweep -m optimizer.lr=1,2" in done.stderr
    assert files(app) == before
    code, told, _ = sweep(app, "optimizer.lr=2,4", "hydra.sweep.dir=out")
    assert code == 0
    assert "finished trials of an earlier call that are not in this sweep: 1; they stay" in told
    assert set(calls(app).values()) == {"x"}


def test_nothing_goes_into_a_single_run(app: Path) -> None:
    assert call(app, "optimizer.lr=1", "hydra.run.dir=out").returncode == 0
    write_study(app, RATE)
    before = files(app)
    of_sweep = sweep(app, "optimizer.lr=1,2", "hydra.sweep.dir=out")
    of_study = study(app)
    for code, told in (of_sweep[::2], (of_study.returncode, of_study.stderr)):
        assert code == 2
        assert "hydra.sweep.dir=out: a single run lies there" in told
    assert files(app) == before
    assert call(app, "optimizer.lr=1", "hydra.run.dir=out").returncode == 0  # its own goes on


def test_a_long_sweep_is_named_by_its_beginning(tmp_path: Path) -> None:
    def book(word: str, place: str) -> Journal:
        candidates = [Candidate([], [Trial(0, place, place)])]
        phase = Phase("", "grid", {}, [0], candidates=candidates)
        return Journal(tmp_path, "sweep", "t", [word], {}, [0], phases=[phase])

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text("{}")
    old = book(f"optimizer.lr={','.join(map(str, range(1000)))}", "run")
    with pytest.raises(UserError, match=r"the sweep -m optimizer.lr=0,1,.* \.\.\., and this is"):
        check_owner(book("seed=1,2", "seed=1"), old)


def test_another_budget_or_objective_is_refused_with_both_values(app: Path) -> None:
    def written(epochs: int) -> None:
        words = {"small": f"trainer.max_epochs={epochs}"}
        write_study(app, {"rate": "optimizer.lr=1e-2,1e-4"}, budgets=words)

    written(2)
    assert study(app, "budget=small").returncode == 0
    before = calls(app)
    written(3)
    done = study(app, "budget=small")
    assert done.returncode == 2
    assert "holds a run of other settings (trainer.max_epochs=2 there, 3 now)" in done.stderr
    written(2)
    metric = ("budget=small", "objective.metric=val/mAP")
    done = study(app, *metric, "hydra.sweep.dir=out")
    assert done.returncode == 2
    assert "(objective.metric=val/mIoU there, val/mAP now)" in done.stderr
    assert calls(app) == before
    elsewhere = study(app, *metric)  # no directory typed: it has one of its own
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert "note: out is this study with no settings typed; it goes to out-metric-val_mAP" in (
        elsewhere.stdout
    )
    assert calls(app) == before
