"""Real command lines: the project's configuration with a job that trains nothing (toy.py)."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from phasewise.records.record import read_record
from phasewise.study.application import Application
from phasewise.study.override_checks import nothing_to_compare
from tests import forks
from tests.forks import Done

pytestmark = pytest.mark.slow

APP = (
    "from phasewise.cli.main import main\n\n"
    'if __name__ == "__main__":\n    main("toy:{function}")\n'
)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    shutil.copy(Path(__file__).with_name("toy.py"), tmp_path)
    (tmp_path / "app.py").write_text(APP.format(function="run"))
    return tmp_path


def sweep(app: Path, *words: str, **environment: str) -> Done:
    command = ["app.py", "-m", *words]
    command += [] if any("sweep.dir=" in word for word in words) else ["hydra.sweep.dir=out"]
    command += [] if any("study.report" in word for word in words) else ["study.report=false"]
    return forks.engine().run(command, app, environment)


def names(app: Path) -> list[str]:
    return sorted(path.name for path in (app / "out").iterdir() if path.is_dir())


def rows(app: Path) -> list[dict[str, str]]:
    with (app / "out" / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_prints_its_table(app: Path) -> None:
    done = sweep(app, "optimizer.lr=1e-3,1e-2", "seed=range(0,2)", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert names(app) == [
        f"optimizer.lr={lr},seed={seed},trainer.max_epochs=3"
        for lr in ("0.001", "0.01")
        for seed in (0, 1)
    ]
    assert (app / "out" / "multirun.yaml").exists()
    lines = done.stdout.splitlines()
    header = next(row for row, line in enumerate(lines) if "val/mIoU" in line)
    assert lines[header].split() == [
        *("optimizer.lr", "seed", "val/mIoU", "epoch", "val/loss", "parameters", "seconds")
    ]
    assert lines[header + 4].split()[:4] == ["*", "0.01", "1", "0.5100"]
    assert any(line.endswith(str(Path("out") / "sweep.csv")) for line in lines)
    assert lines[-2:] == [
        "optimizer.lr=0.001: 0.405 +- 0.0071 (2 seeds)",
        "optimizer.lr=0.01: 0.505 +- 0.0071 (2 seeds)",
    ]
    assert [float(row["optimizer.lr"]) for row in rows(app)] == [0.001, 0.001, 0.01, 0.01]
    assert float(rows(app)[1]["val/mIoU"]) == 0.5 - 0.1 + 0.01
    for name, row in zip(names(app), rows(app), strict=True):
        record = read_record(app / "out" / name)
        assert record is not None
        assert row["trial"] == name
        assert record.overrides[1] == "trainer.max_epochs=3"
        assert all(not word.startswith("hydra") for word in record.overrides)


def test_the_directory_is_settled_once_even_if_checking_takes_its_time(app: Path) -> None:
    toy = app / "app.py"
    slow = "import time, phasewise.config.schema as s\nreal = s.check_config\n"
    slow += "s.check_config = lambda cfg: (time.sleep(0.6), real(cfg))\n"
    toy.write_text(slow + toy.read_text())
    done = sweep(app, "seed=0,1", "hydra.sweep.dir=out_${now:%S}")
    assert done.returncode == 0, done.stderr
    (folder,) = app.glob("out_*")
    assert (folder / "sweep.csv").exists(), done.stdout


def test_failing_trials_stop_nothing_and_lose_nothing(app: Path) -> None:
    done = sweep(app, "optimizer.lr=3,4,5,8,1e-2")
    assert done.returncode == 1
    assert [row["status"] for row in rows(app)] == [
        *("failed", "failed", "diverged", "unfinished", "completed")
    ]
    assert rows(app)[4]["val/mIoU"] == "0.5"
    assert "*         0.01   completed   0.5000" in done.stdout
    log = Path("out") / "optimizer.lr=4" / "run.log"
    assert done.stderr.splitlines() == [
        "app.py: 4 of 5 trials did not complete:",
        "  optimizer.lr=3: failed: RuntimeError: no record yet",
        f"  optimizer.lr=4: failed: RuntimeError: died half-way; see {log}",
        "  optimizer.lr=5: diverged: the loss became NaN",
        "  optimizer.lr=8: unfinished: left no final record",
        "the tables above hold all of them",
    ]


def test_an_interrupted_sweep_shows_what_is_finished(app: Path) -> None:
    done = sweep(app, "optimizer.lr=1e-2,6,1e-3", "hydra.sweeper.max_batch_size=2")
    assert done.returncode == 130
    assert [row["status"] for row in rows(app)] == ["completed", "interrupted", "unfinished"]
    assert "*         0.01" in done.stdout
    assert "Traceback" not in done.stderr
    assert names(app) == ["optimizer.lr=0.01", "optimizer.lr=6"]


def test_a_bad_value_in_the_last_trial_is_refused_before_the_first(app: Path) -> None:
    done = sweep(app, "seed=0,1", "optimizer.lr=1e-3,-1", "trainer.max_epochs=0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[:3] == [
        "app.py: 2 settings cannot be used; no trial was run:",
        "  trainer.max_epochs=0: must be a whole number >= 1",
        "  optimizer.lr=-1: must be a number > 0"
        " (trial optimizer.lr=-1,seed=0,trainer.max_epochs=0 and 1 more)",
    ]
    assert not (app / "out").exists()


def test_nothing_to_compare_is_refused(app: Path) -> None:
    done = sweep(app)
    assert (done.returncode, "there is nothing to compare" in done.stderr) == (2, True)
    assert len(done.stderr.splitlines()) == 1
    assert not (app / "out").exists()


def test_folds_do_not_compete() -> None:
    project = SimpleNamespace(writes_records=True)
    (problem,) = nothing_to_compare({"data.fold": ["0", "1"]}, cast(Application, project))
    assert str(problem).startswith("data.fold=0,1: folds are repeats and do not compete")
    assert nothing_to_compare({"data.folds": ["3", "5"]}, cast(Application, project)) == []


def test_a_key_of_one_choice_only_is_refused(app: Path) -> None:
    done = sweep(app, "optimizer=sgd,adam", "optimizer.momentum=0.5,0.9")
    assert done.returncode == 2
    assert done.stderr.splitlines()[:2] == [
        "app.py: 1 setting cannot be used; no trial was run:",
        "  optimizer.momentum: no such key with optimizer=adam; optimizer has lr, weight_decay"
        " (trial optimizer=adam,optimizer.momentum=0.5 and 1 more)",
    ]
    assert not (app / "out").exists()


def test_a_key_that_all_swept_choices_have_but_the_default_one_is_accepted(app: Path) -> None:
    done = sweep(app, "optimizer=sgd,rmsprop", "optimizer.momentum=0.5", "optimizer.lr=0.01")
    assert done.returncode == 0, done.stderr
    assert names(app) == [
        f"optimizer={name},optimizer.lr=0.01,optimizer.momentum=0.5" for name in ("rmsprop", "sgd")
    ]
    for name in names(app):
        record = read_record(app / "out" / name)
        assert record is not None
        assert "optimizer.momentum=0.5" in record.overrides


def test_a_trial_of_another_config_is_refused_before_anything_runs(app: Path) -> None:
    assert sweep(app, "optimizer.lr=1e-2,1e-3").returncode == 0
    shutil.copytree(app / "out" / "optimizer.lr=0.001", app / "out" / "optimizer.lr=0.1")
    done = sweep(app, "optimizer.lr=1e-2,1e-1")
    assert done.returncode == 2
    assert "optimizer.lr=0.1: holds a run of other settings" in done.stderr
    assert (app / "out" / "optimizer.lr=0.01" / "calls").read_text() == "x"


def test_repetitions_run_once_in_the_order_typed(app: Path) -> None:
    done = sweep(app, "optimizer.lr=1e-2,1e-3,0.01")
    assert done.returncode == 0, done.stderr
    assert "repeat another one and are left out: 1" in done.stdout
    assert [row["optimizer.lr"] for row in rows(app)] == ["0.01", "0.001"]
    assert {path.read_text() for path in app.glob("out/*/calls")} == {"x"}


def test_globs_and_lists_of_lists(app: Path) -> None:
    words = ("scheduler=glob([n*,cos*])", "data.augment=[],[{flip:{p: .5}}]")
    done = sweep(app, *words)
    assert done.returncode == 0, done.stderr
    assert names(app) == [
        f"data.augment={augment},scheduler={scheduler}"
        for augment in ("()", "({flip={p=0.5}})")
        for scheduler in ("cosine", "none")
    ]
    assert [row["data.augment"] for row in rows(app)] == ["[]", "[{flip:{p:0.5}}]"] * 2


def test_a_second_sweep_calls_only_what_is_not_done(app: Path) -> None:
    assert sweep(app, "optimizer.lr=1e-2,5").returncode == 1
    done = sweep(app, "optimizer.lr=1e-2,5,0.0010")
    assert done.returncode == 1
    assert "2 of 3 trials are done" in done.stdout
    assert "not run again because they failed: 1; study.retry_failed=true" in done.stdout
    assert [row["status"] for row in rows(app)] == ["completed", "diverged", "completed"]
    calls = {path.parent.name: path.read_text() for path in app.glob("out/*/calls")}
    assert set(calls.values()) == {"x"}
    assert sweep(app, "optimizer.lr=1e-2,5", "study.retry_failed=true").returncode == 1
    calls = {path.parent.name: path.read_text() for path in app.glob("out/*/calls")}
    assert calls["optimizer.lr=5"] == "xx"
    assert calls["optimizer.lr=0.01"] == "x"


def test_settings_of_the_sweep_itself(app: Path) -> None:
    done = sweep(app, "seed=0,1", "hydra.sweep.subdir=x${hydra.job.num}")
    assert done.returncode == 2
    assert "hydra.sweep.subdir cannot be set" in done.stderr
    done = sweep(app, "seed=0,1", "hydra.sweeper.max_batch_size=0")
    assert done.returncode == 2
    assert "max_batch_size=0" in done.stderr
    assert not (app / "out").exists()


def test_jobs_without_records_are_hydras_affair(app: Path) -> None:
    (app / "app.py").write_text(APP.format(function="silent"))
    done = sweep(app, "optimizer.lr=1,2")
    assert done.returncode == 0, done.stderr
    assert names(app) == ["optimizer.lr=1", "optimizer.lr=2"]
    assert "val/mIoU" not in done.stdout
    assert not (app / "out" / "sweep.csv").exists()
    done = sweep(app, "optimizer.lr=3,2")
    assert done.returncode == 1
    assert "a job's own error" in done.stderr
