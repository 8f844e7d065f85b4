"""`phasewise.run_study`: a study of a function, through the planner and runner of all studies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra

import phasewise
from phasewise.errors import UserError
from phasewise.records import Recorder
from tests.conftest import ROOT

START = {"lr": 0.01, "net": {"depth": 1, "act": None}}
PHASES = {"rate": {"lr": [0.01, 0.1, 1.0]}, "depth": "net.depth=1,2"}
CALLS: list[dict[str, Any]] = []


def score(config: Any) -> float:
    return float(1 - abs(config.lr - 0.1) + 0.01 * config["net"]["depth"] + 0.001 * config.seed)


def function(config: Any) -> dict[str, float]:
    CALLS.append(dict(config))
    if config.lr == 9:
        raise ValueError("broken on purpose")
    return {"val/acc": score(config), "train/acc": 1.0}


def epochs(config: Any) -> None:
    with Recorder() as run:
        for epoch in (1, 2, 3):
            run.log({"val/acc": score(config) - abs(epoch - 2)})


def call(directory: Path, what: Any = function, phases: Any = None, **more: Any) -> Any:
    CALLS.clear()
    settings = {"seeds": [0, 1], "objective": "val/acc", "report": False, "show": "nothing"} | more
    return phasewise.run_study(what, phases or PHASES, START, directory=directory, **settings)


def test_phases_build_on_each_other(tmp_path: Path) -> None:
    study = call(tmp_path)
    assert len(CALLS) == 6 + 2  # the incumbent of the second phase is known
    assert CALLS[0] == {"seed": 0, **START}
    assert study.status == "completed"
    assert study.phases["winner"].tolist() == ["lr=0.1", "net.depth=2"]
    assert study.best.overrides == ["lr=0.1", "net.depth=2"]
    assert study.best.values == {0: pytest.approx(1.02), 1: pytest.approx(1.021)}
    for path in tmp_path.rglob("record.json"):
        record = json.loads(path.read_text())
        words = dict(word.split("=") for word in record["overrides"])
        lr, depth = float(words.get("lr", 0.01)), int(words.get("net.depth", 1))
        wanted = 1 - abs(lr - 0.1) + 0.01 * depth + 0.001 * record["seed"]
        assert record["objective"]["value"] == pytest.approx(wanted)
        assert record["best"] == {"val/acc": pytest.approx(wanted), "train/acc": 1.0}
        assert record["task"] == "function"


@pytest.mark.slow
def test_the_same_call_runs_what_is_missing(tmp_path: Path) -> None:
    before = call(tmp_path)
    assert call(tmp_path).trials.equals(before.trials)
    assert CALLS == []
    more = {**PHASES, "rate": {"lr": [0.01, 0.1, 0.2, 1.0]}}
    study = call(tmp_path, phases=more)
    assert [(one["lr"], one["seed"]) for one in CALLS] == [(0.2, 0), (0.2, 1)]
    assert study.best.overrides == before.best.overrides


def test_one_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    """As by the stop button of a notebook, whose next call is the same one."""
    stops, seen = [3], list[float]()

    def train(config: Any) -> float:
        seen.append(config.lr)
        if len(seen) in stops:
            raise KeyboardInterrupt
        return float(config.lr)

    def run() -> Any:
        return phasewise.run_study(
            train, {"rate": {"lr": [0.1, 0.2, 0.3]}}, start={"lr": 0.1}, directory=tmp_path / "out"
        )

    with pytest.raises(KeyboardInterrupt, match="the same call continues"):
        run()
    assert phasewise.load(tmp_path / "out").trials["status"].tolist()[:2] == ["completed"] * 2
    study = run()
    assert seen == [0.1, 0.2, 0.3, 0.3]
    assert study.trials["status"].tolist() == ["completed"] * 3
    assert study.best.overrides == ["lr=0.3"]


@pytest.mark.slow
def test_another_function_is_another_application(tmp_path: Path) -> None:
    call(tmp_path)

    def function(config: Any) -> dict[str, float]:
        return {"val/acc": 0.5}

    with pytest.raises(UserError) as caught:
        call(tmp_path, function)
    text = str(caught.value)
    assert "the function's source=" in text
    assert text.splitlines()[-1].startswith("directory=DIR chooses another place; set_aside=True")
    study = call(tmp_path, function, set_aside=True)
    assert set(study.trials["value"]) == {0.5}
    assert (tmp_path / "superseded").is_dir()


def test_a_failing_trial_stops_no_other(tmp_path: Path) -> None:
    study = call(tmp_path, phases={"rate": {"lr": [0.01, 9, 0.1]}})
    failed = study.trials[study.trials["status"] == "failed"]
    assert failed["lr"].tolist() == [9, 9]
    assert set(failed["error"]) == {"ValueError: broken on purpose"}
    assert study.best.overrides == ["lr=0.1"]


@pytest.mark.slow
def test_a_recorder_inside_writes_the_epochs(tmp_path: Path) -> None:
    study = call(tmp_path, epochs)
    assert len(study.history) == 3 * 8
    assert set(study.trials["epoch"]) == {2}
    assert study.best.value == pytest.approx(1.0205)


def test_a_number_is_enough_and_less_may_be_better(tmp_path: Path) -> None:
    study = call(tmp_path, score, objective=None, mode="min", seeds=[0])
    assert study.best.metric == "result"
    assert study.best.overrides == ["lr=1.0"]


def test_a_file_has_the_phases(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "study:\n  objective: val/acc\n  seeds: [3]\n  phases:\n    rate: lr=0.01,0.1\n"
    )
    study = call(tmp_path / "out", phases=tmp_path / "study.yaml", seeds=None, objective=None)
    assert study.best.values == {3: pytest.approx(1.013)}
    assert CALLS[0]["seed"] == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"phases": {"rate": {"lrr": [1, 2]}}}, "lrr: no such key; did you mean lr?"),
        ({"phases": {"rate": "lr=[1"}}, "lr=[1"),
        ({"adopt": "bes"}, "study.adopt=bes: not one of best, significant"),
        ({"sedes": [1]}, "study.sedes"),
        ({"mode": "most"}, "study.mode=most: must be max or min"),
        ({"phases": "nowhere.yaml"}, "nowhere.yaml: No such file"),
        ({"objective": "test/acc"}, "is a test metric"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        call(tmp_path / "out", **settings)
    assert said in str(caught.value)
    assert "train.py" not in str(caught.value)
    assert CALLS == []
    assert not (tmp_path / "out").exists()


def test_an_objective_that_is_not_returned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"study.objective=val/ac is not among what"):
        call(tmp_path, objective="val/ac")
    assert len(CALLS) == 1  # the next would return the same


def test_what_cannot_be_a_configuration(tmp_path: Path) -> None:
    for start, said in (({"lr": object()}, "only numbers, texts"), ({"study": 1}, "no keys")):
        with pytest.raises(UserError, match=said):
            phasewise.run_study(function, PHASES, start, directory=tmp_path)


def test_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def loud(config: Any) -> float:
        print("inside")
        return score(config)

    settings = {"phases": {"rate": {"lr": [0.01, 0.1]}}, "objective": None, "seeds": [0]}
    assert call(tmp_path / "plan", loud, dry_run=True, **settings) is None
    assert "2 trials" in capsys.readouterr().out
    assert not (tmp_path / "plan").exists()
    call(tmp_path / "out", loud, show="progress", **settings)
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("inside") == 2
    assert any(line.startswith("[rate 2/2") and "lr=0.1" in line for line in lines)
    assert not any("unrounded in" in line for line in lines)
    call(tmp_path / "all", loud, show="all", **settings)
    assert "unrounded in" in capsys.readouterr().out


@pytest.mark.slow
def test_a_notebooks_own_hydra_is_there_again(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text("a: 1\n")
    relative = os.path.relpath(tmp_path / "conf", Path(__file__).parent)
    with initialize(relative, version_base="1.3"):
        call(tmp_path / "out")
        assert compose("mine").a == 1
    assert not GlobalHydra.instance().is_initialized()


KILLED = """
import os, sys
import phasewise
count = 0
def function(config):
    global count
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    return 1 - abs(config.lr - .1) + .01 * config.depth + .001 * config.seed
phasewise.run_study(
    function, {"rate": {"lr": [.01, .1, 1]}, "depth": {"depth": [1, 2]}}, {"lr": .01, "depth": 1},
    seeds=[0, 1], directory=sys.argv[1], report=False,
)
"""


@pytest.mark.slow
def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(KILLED)

    def run(place: str, stop: int) -> int:
        command = [sys.executable, "script.py", place, str(stop)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=False, capture_output=True
        ).returncode

    assert run("whole", 99) == 0
    assert run("killed", 4) == -signal.SIGKILL
    assert run("killed", 4) == -signal.SIGKILL  # the fourth of this process: another phase
    assert run("killed", 99) == 0
    columns = ["phase", "candidate", "role", "seed", "lr", "depth", "status", "value"]
    one, other = (phasewise.load(tmp_path / it).trials[columns] for it in ("whole", "killed"))
    assert one.equals(other)


def test_phases_may_search_and_trials_be_barred(tmp_path: Path) -> None:
    search = {"sampler": "random", "trials": 3}
    phases = {
        "rate": {"overrides": "lr=interval(0.05,0.2)", "search": search},
        "depth": {"net.depth": [1, 2, 3]},
    }

    def sized(config: Any) -> dict[str, float]:
        return {"val/acc": score(config), "size": config.net.depth}

    study = call(tmp_path, sized, phases, seeds=[0], require=["size <= 2"])
    assert study.phases["kind"].tolist() == ["search", "grid"]
    asked = study.trials.query("phase == 'rate' and role == 'candidate'")["lr"]
    assert len(asked) == 3
    assert asked.between(0.05, 0.2).all()
    barred = study.trials[study.trials["barred"].notna()]
    assert barred["net.depth"].tolist() == [3]
    assert barred["barred"].tolist() == ["size <= 2 (is 3)"]
    assert study.best.overrides[-1] == "net.depth=2"


@pytest.mark.slow
def test_trials_in_other_processes(tmp_path: Path) -> None:
    def remote(config: Any) -> float:
        return 1 - abs(config.lr - 0.1) + 0.01 * config.net.depth + os.getpid() * 1e-9

    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    study = call(tmp_path, remote, objective=None, seeds=[0], hydra=words)
    assert study.best.overrides == ["lr=0.1", "net.depth=2"]
    own = 1.02 + os.getpid() * 1e-9
    assert abs(study.best.value - 1.02) < 0.005
    assert study.best.value != own
