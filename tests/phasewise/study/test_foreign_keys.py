"""Keys of another application that have a meaning of their own in this project's configs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from phasewise.study.read import read_study
from tests.conftest import ROOT

APP = """
import hydra


@hydra.main(version_base=None, config_path=".", config_name="main")
def main(cfg):
    value = cfg.rate + cfg.budget / 100 + cfg.init / 1000 + cfg.study.size
    return {"val_acc": value, "val_loss": -value}


main()
"""
CONFIG = "{rate: 0.1, budget: 10, test: 1, init_study: 3, logger: a, init: 0, study: {size: 1}}"
STUDY = "{mode: max, objective: val_acc, seed_key: init, seeds: [0, 1], phases: %s}"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "main.yaml").write_text(CONFIG)
    return tmp_path


def call(app: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "app.py", "-m", "hydra/sweeper=phasewise", *words],
        cwd=app,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def section(phases: str) -> str:
    return f"+hydra.sweeper.study={STUDY % phases}"


def test_the_key_that_repeats_is_neither_searched_nor_scaled_nor_rerun(app: Path) -> None:
    search = {"sampler": "random", "trials": 3}
    phases = {
        "a": {"overrides": "rate=1,2 init=choice(1,2)", "search": search},
        "b": {"overrides": "rate=1,2 init=3", "search": search},
        "c": {"overrides": "rate=1,2", "halving": {"key": "init", "values": [1, 2]}},
        "d": {"rerun": {"top": 1, "overrides": "init=4"}},
    }
    own = {"mode": "max", "seed_key": "init", "phases": phases}
    OmegaConf.save({"rate": 0.1, "init": 0, "study": own}, app / "main.yaml")
    done = call(app)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    found = [line.strip() for line in done.stderr.splitlines() if "seeds are repeats" in line]
    assert [line.partition(": seeds")[0] for line in found] == [
        "study.phases.a: init=choice(1,2)",
        "study.phases.b: init=3",
        "study.phases.c: halving.key=init",
        "study.phases.d: init=4",
    ]
    assert not (app / "multirun").exists()


@pytest.mark.slow
def test_its_own_keys_are_compared_and_the_plan_survives_its_file(app: Path) -> None:
    phases = "{a: 'budget=10,20', b: 'logger=a,b', c: 'study.size=1,2'}"
    done = call(app, section(phases), "init_study=4")
    assert done.returncode == 0, done.stderr
    assert "final configuration:     val_acc 2.3 +- " in done.stdout
    assert "starting configuration:  val_acc 1.2 +- " in done.stdout
    folder = app / "multirun" / "app"
    records = [json.loads(path.read_text()) for path in folder.glob("*/*/record.json")]
    assert {one["study"]["seed_key"] for one in records} == {"init"}
    assert len({one["fingerprint"] for one in records}) == len(records) == 2 * 4
    whole = read_study(folder)
    (folder / "study.json").unlink()
    rebuilt = read_study(folder).plan
    assert (rebuilt.seeds, rebuilt.budget, rebuilt.origin) == ([0, 1], "full", None)
    for one, wanted in zip(rebuilt.phases, whole.plan.phases, strict=False):
        assert (one.name, one.seeds, one.base) == (wanted.name, wanted.seeds, wanted.base)
        assert len(one.candidates) == len(wanted.candidates)


def test_where_its_own_jobs_lie_is_passed_over_and_told(app: Path) -> None:
    own = {"sweep": {"subdir": "${hydra.job.override_dirname}"}}
    study = {"mode": "max", "phases": {"a": "rate=1,2"}}
    OmegaConf.save({"rate": 0.1, "study": study, "hydra": own}, app / "main.yaml")
    (app / "app.py").write_text(
        APP.partition("    value =")[0] + "    return cfg.rate\n\n\nmain()\n"
    )
    typed = call(app, "hydra.sweep.subdir=x${hydra.job.num}")
    assert typed.returncode == 2
    assert "hydra.sweep.subdir cannot be set: trials are named by" in typed.stderr
    assert not (app / "multirun").exists()
    done = call(app, "+study.report=false")
    assert done.returncode == 0, done.stderr
    (told,) = (line for line in done.stdout.splitlines() if "sweep.subdir" in line)
    assert told == (
        "note: hydra.sweep.subdir=${hydra.job.override_dirname} is passed over: trials are named "
        "by their overrides"
    )
    places = {path.parent.name for path in app.glob("multirun/app/a/*/record.json")}
    assert places == {"default", "rate=1", "rate=2"}


def test_another_studys_winner_is_typed(app: Path) -> None:
    study = {"mode": "max", "phases": {"a": "rate=1,2"}}
    OmegaConf.save({"rate": 0.1, "study": study}, app / "main.yaml")
    done = call(app, "+init_study=outputs/before")
    assert done.returncode == 2
    assert "+init_study=outputs/before: is for this project's runs; type the words" in done.stderr
    assert not (app / "multirun").exists()
