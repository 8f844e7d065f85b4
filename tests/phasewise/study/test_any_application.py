"""Studies in a Hydra application that has never heard of this project: its code is not changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf

from phasewise.config.foreign import foreign_fingerprint, plain_foreign
from phasewise.study.job import UnusableResult, metrics_of_result
from phasewise.study.journal import load_journal
from phasewise.study.read import read_study
from tests.conftest import ROOT

APP = """
import os, time
import hydra
from src.score import score


@hydra.main(version_base="1.3", config_path="../configs", config_name="main")
def main(cfg):
    assert sorted(cfg) == ["init", "model", "paths", "rate", "steps"], cfg
    with open(os.path.join(cfg.paths.log, "calls.txt"), "a") as file:
        print(cfg.model.name, cfg.rate, cfg.steps, cfg.init, file=file)
    time.sleep(float(os.environ.get("SECONDS_EACH", 0)))
    return score(cfg)


if __name__ == "__main__":
    main()
"""
SCORE = """
def score(cfg):
    best = {"line": 0.1, "curve": 0.01}[cfg.model.name]
    value = cfg.model.top - abs(cfg.rate - best) + cfg.steps / 1000 + cfg.init / 1e5
    return {"val/score": value, "val/other": -value, "test/score": value - 0.1}
"""
FILES = {
    "configs/main.yaml": """
defaults: [_self_, {model: line}]
rate: 0.3
steps: 10
init: 0
paths:
  log: ${oc.env:APP_LOG}
  out: ${hydra:runtime.output_dir}
hydra:
  sweep:
    dir: logs/${hydra.job.name}/${now:%H-%M-%S}
    subdir: ${hydra.job.num}
""",
    "configs/model/line.yaml": "name: line\ntop: 0.5\n",
    "configs/model/curve.yaml": "name: curve\ntop: 0.8\n",
    "own/study/three.yaml": """
# @package _global_
defaults: [override /hydra/sweeper: phasewise]
study:
  name: three
  objective: val/score
  mode: max
  seed_key: init
  seeds: [0, 1]
  phases:
    model: model=line,curve
    rate: rate=0.01,0.1
    steps: steps=10,20,30
hydra: {mode: MULTIRUN}
""",
    "src/__init__.py": "",
    "src/train.py": f"import sys\nsys.path.insert(0, '.')\n{APP}",
    "src/score.py": SCORE,
}
STUDY = ("--config-dir", "own", "+study=three")


class Application:
    """Somebody's repository, and what one types in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(ROOT), "APP_LOG": str(self.folder)}

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "src/train.py", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "src/train.py", *words]
        environment = self.environment | {"SECONDS_EACH": "0.4"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **quiet)  # type: ignore[call-overload, no-any-return]

    @property
    def study(self) -> Path:
        return self.folder / "logs" / "train" / "three"

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls.txt").read_text().splitlines()

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))

    def tables(self) -> dict[str, pd.DataFrame]:
        found = {}
        for path in sorted(self.study.glob("*/sweep.csv")):
            found[path.parent.name] = pd.read_csv(path).drop(columns="seconds")
        return found


@pytest.fixture
def app(tmp_path: Path) -> Application:
    return Application(tmp_path / "app")


@pytest.mark.slow
def test_three_phases_killed_continued_and_reported(app: Application, tmp_path: Path) -> None:
    whole = Application(tmp_path / "whole")
    done = whole(*STUDY)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(whole.calls) == 2 * (2 + 2 + 2)  # the incumbents of the last two were there

    process = app.start(*STUDY)
    while len([*app.study.rglob("record.json")]) < 5:
        time.sleep(0.02)
        assert process.poll() is None
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    states = [json.loads(path.read_text())["status"] for path in app.study.rglob("record.json")]
    assert states.count("running") == 1
    done = app(*STUDY)
    assert done.returncode == 0, done.stderr
    assert len(app.calls) == len(whole.calls) + 1  # the one that was killed began anew
    theirs = whole.tables()
    assert [*theirs] == ["model", "rate", "steps", "test"]
    for name, table in app.tables().items():
        pd.testing.assert_frame_equal(table, theirs[name])
    again = app(*STUDY)
    assert again.returncode == 0
    assert len(app.calls) == len(whole.calls) + 1

    journal = load_journal(app.study)
    assert [(it.name, it.verdict) for it in journal.phases[:3]] == [
        ("model", "adopted"),
        ("rate", "adopted"),
        ("steps", "adopted"),
    ]
    last = journal.phases[2]
    assert last.winner is not None
    words = [*last.base, *last.candidates[last.winner].overrides]
    assert {"model=curve", "rate=0.01", "steps=30"} <= {*words}
    page = (app.study / "report.md").read_text()
    assert "## Audit" in page
    assert "evaluate.py" not in page  # which knows nothing of these networks
    assert "test/score" in page
    assert "train.py --config-dir own" in page


@pytest.mark.slow
def test_rounds_follow_here_too(app: Application) -> None:
    """Proposals need records and saved configs alone."""
    done = app(*STUDY, "++study.follow_up={rounds: 1}")
    assert done.returncode == 0, done.stderr
    found = load_journal(app.study)
    rounds = [phase for phase in found.phases if phase.round]
    assert rounds and all(phase.why and phase.winner is not None for phase in rounds)
    assert found.rounds_ended == "these were all rounds"


@pytest.mark.slow
def test_trials_side_by_side_are_the_same(app: Application, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    whole = Application(tmp_path / "whole")
    assert whole(*STUDY).returncode == 0
    done = app(*STUDY, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    theirs = whole.tables()
    for name, table in app.tables().items():
        pd.testing.assert_frame_equal(table, theirs[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("'good'", "the function returned 'good' (str)"),
        ("None", "the function returned nothing"),
        ("{'val/loss': 1.0}", "study.objective=val/score is not among what the function returned"),
        ("{'val/score': 'good'}", "study.objective=val/score is no number"),
        ("True", "the function returned True (bool)"),
    ],
)
def test_a_result_that_decides_nothing_ends_the_study_at_once(
    app: Application, result: str, told: str
) -> None:
    app.edit("src/train.py", "return score(cfg)", f"return {result}")
    done = app(*STUDY)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len(app.calls) == 1
    app.edit("src/train.py", f"return {result}", "return score(cfg)")
    assert app(*STUDY).returncode == 0, "what was wrong with an objective is no failure of a trial"


@pytest.mark.slow
def test_a_trial_that_fails_stops_no_other(app: Application) -> None:
    app.edit("src/score.py", "    best =", "    1 / (cfg.steps - 20)\n    best =")
    done = app(*STUDY)
    assert done.returncode == 1
    assert "steps/init=0,steps=20: failed: ZeroDivisionError" in done.stderr
    failed = [it for it in app.study.rglob("record.json") if "failed" in it.read_text()]
    assert len(failed) == 2
    assert load_journal(app.study).phases[2].winner is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("++study.mode=null", "study.mode=null: must be max or min"),
        ("++study.objective=test/score", "study.objective=test/score: is a test metric"),
        ("++study.seed_key=initt", "study.seed_key=initt: no such key; did you mean init?"),
        ("++study.seed_key=null", "study.seeds=[0, 1]: study.seed_key=KEY must name the key"),
        ("++study.refit=true", "study.refit: means nothing to trials of this application"),
        ("++study.sedes=[1]", "study.sedes: no such key; did you mean study.seeds?"),
        ("++study.phases.steps='stepz=1,2'", "stepz: no such key; did you mean steps?"),
    ],
)
def test_mistakes_are_told_before_anything_runs(app: Application, word: str, told: str) -> None:
    done = app(*STUDY, word)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (app.folder / "calls.txt").exists()


@pytest.mark.slow
def test_what_a_figure_belongs_to(app: Application) -> None:
    """Another objective, an edited function, other files: never under the old figures."""
    assert app(*STUDY).returncode == 0
    other = app(*STUDY, "++study.objective=val/other")
    assert other.returncode == 2
    assert "study.objective=val/score there, val/other now" in other.stderr
    app.edit("src/train.py", "return score(cfg)", "return {'val/score': 1.0}")
    edited = app(*STUDY)
    assert edited.returncode == 2
    assert "the code, or a file that it names, has changed since: train.py" in edited.stderr
    count = len(app.calls)
    done = app(*STUDY, "++study.set_aside=true")
    assert done.returncode == 0, done.stderr
    assert len(app.calls) > count
    assert (app.study / "superseded").is_dir()


@pytest.mark.slow
def test_a_section_of_the_sweeper_does_where_the_config_has_no_such_key(app: Application) -> None:
    words = (
        "+hydra.sweeper.study={mode: max, objective: val/score, seed_key: init, seeds: [0, 1]}",
    )
    done = app("-m", "hydra/sweeper=phasewise", *words, "steps=10,20", "hydra.sweep.dir=out")
    assert done.returncode == 0, done.stderr
    (phase,) = read_study(app.folder / "out").phases
    assert [len(one.values) for one in phase.candidates] == [2, 2]
    assert phase.plan.winner == 1


@pytest.mark.slow
def test_without_a_section_the_sweeper_is_hydras_own(app: Application) -> None:
    done = app("-m", "hydra/sweeper=phasewise", "steps=10,20", "hydra.sweep.dir=out")
    assert done.returncode == 0, done.stderr
    assert {it.name for it in (app.folder / "out").iterdir() if it.is_dir()} == {"0", "1"}
    assert not [*(app.folder / "out").rglob("record.json")]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (0.5, {"val/x": 0.5}),
        (3, {"val/x": 3.0}),
        ({"val/x": 1, "name": "tree", "val/y": 2.5}, {"val/x": 1.0, "val/y": 2.5}),
        (OmegaConf.create({"val/x": 1.5}), {"val/x": 1.5}),
    ],
)
def test_numbers_that_a_function_returns(value: Any, found: dict[str, float]) -> None:
    assert metrics_of_result(value, "val/x") == found


def test_scalars_of_libraries_are_numbers() -> None:
    import numpy as np

    assert metrics_of_result(np.float32(0.5), "x") == {"x": 0.5}
    assert metrics_of_result({"x": np.array(2)}, "x") == {"x": 2.0}
    with pytest.raises(UnusableResult, match="is no number"):
        metrics_of_result({"x": np.array([1.0, 2.0])}, "x")


CONFIG = """
rate: 0.1
out: ${hydra:runtime.output_dir}
folder: ${out}/files
twice: ${rate}
study: {mode: max}
"""


def test_what_only_a_job_can_tell_does_not_count() -> None:
    plain = plain_foreign(OmegaConf.create(CONFIG))
    assert plain["twice"] == 0.1
    assert plain["folder"] == "${hydra:runtime.output_dir}/files"
    assert "study" not in plain
    assert foreign_fingerprint(plain) == foreign_fingerprint(plain | {"rate": 1e-1})
    assert foreign_fingerprint(plain) != foreign_fingerprint(plain | {"rate": 0.2})


def test_keys_that_a_study_ignores() -> None:
    config = OmegaConf.create(CONFIG)
    assert plain_foreign(config, ["folder", "no.such"]).keys() == {"rate", "out", "twice"}
    assert plain_foreign(config, ["rate"])["twice"] == "${rate}"  # nobody knows what it is then


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("1")
    before = foreign_fingerprint({"data": str(file)})
    file.write_text("2")
    assert foreign_fingerprint({"data": str(file)}) != before
