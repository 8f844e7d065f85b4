from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from phasewise.analysis.audit import audit
from phasewise.errors import Problem, UserError
from phasewise.study.journal import JOURNAL, Trial
from phasewise.study.read import read_study
from phasewise.study.results import StudyResult
from tests.phasewise.study.synthetic import CLEAN, CLEAN_DEFAULTS, Settings, Synthetic, clean_score

NET = "model.backbone"


def reasons(study: StudyResult, name: str) -> list[str]:
    return [problem.reason for problem in study.problems if problem.file == name]


def first_trial(directory: Path) -> tuple[str, Path]:
    name = read_study(directory).phases[0].candidates[0].plan.trials[0].directory
    return name, directory / name


def change(file: Path, **fields: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def values(study: StudyResult, phase: int) -> list[tuple[dict[str, object], list[float]]]:
    return [(one.settings, [*one.values.values()]) for one in study.phases[phase].candidates]


def test_journal_with_the_records_of_its_trials(tmp_path: Path) -> None:
    Synthetic(test=True).write(tmp_path)
    study = read_study(tmp_path)
    assert study.problems == []
    assert [phase.plan.name for phase in study.phases] == ["lr", "activation", "test"]
    for settings, found in values(study, 0):
        assert found == [clean_score(settings, seed) for seed in (0, 1, 2)]
    trial = study.phases[0].candidates[1].trials[2]
    assert trial.value == trial.record.objective["value"]
    assert [row["epoch"] for row in trial.history()] == [*range(1, 13)]
    assert trial.history() is trial.history()  # read once
    assert study.phases[1].keys == ["model.activation"]
    assert study.phases[1].label(study.phases[1].candidates[1]) == "model.activation=gelu"


def test_negative_objectives_are_results_like_any_other(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float:
        return {1e-4: -0.5, 1e-3: -0.2, 1e-2: -1.0}[settings["optimizer.lr"]]

    Synthetic({"lr": CLEAN["lr"]}, score, metric="val/R2", test=True).write(tmp_path)
    study = read_study(tmp_path)
    assert [found for _, found in values(study, 0)] == [[-0.5] * 3, [-0.2] * 3, [-1.0] * 3]
    winner = study.phases[0].plan.winner
    assert winner is not None
    assert study.phases[0].candidates[winner].settings == {"optimizer.lr": 1e-3}
    assert not {"undefined", "failed", "unfinished"} & {one.rule for one in audit(study)}


def test_torch_is_not_imported() -> None:
    import subprocess
    import sys

    code = "import sys, phasewise.study.read; sys.exit(bool({'torch', 'pandas'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rebuilt_without_its_journal(tmp_path: Path) -> None:
    planned = Synthetic(test=True).write(tmp_path)
    before = read_study(tmp_path)
    (tmp_path / JOURNAL).unlink()
    # the order of time is lost in a copy; that of ever more overrides is not
    shutil.copytree(tmp_path, tmp_path.parent / "copy")
    study = read_study(tmp_path.parent / "copy")
    (problem,) = study.problems
    assert problem.file == JOURNAL and "records of 15 runs" in problem.reason
    assert study.plan.task == "toy" and study.plan.objective == planned.objective
    assert study.plan.seeds == [0, 1, 2] and study.plan.status == "completed"
    assert [phase.plan.name for phase in study.phases] == ["lr", "activation"]
    assert values(study, 0) == values(before, 0)
    lr, activation = (phase.plan for phase in study.phases)
    assert lr.declared == {"optimizer.lr": ["0.0001", "0.001", "0.01"]} and lr.kind == "grid"
    assert activation.base == ["optimizer.lr=0.001"]
    # relu ran in the first phase, where it is the default
    incumbent = study.phases[1].candidates[activation.incumbent]
    assert incumbent.settings == {}
    assert incumbent.values == before.phases[1].candidates[0].values
    assert study.phases[1].candidates[activation.winner].settings == {"model.activation": "gelu"}


def test_rebuilt_incumbent_that_named_fewer_settings(tmp_path: Path) -> None:
    """It ran where the winner's learning rate was the config's default."""
    phases = {"net": "model.backbone=resnet18,resnet34", **CLEAN}
    defaults = CLEAN_DEFAULTS | {"model.backbone": "resnet18"}
    Synthetic(
        phases, lambda s, i: clean_score({k: s[k] for k in s if k != NET}, i), defaults
    ).write(tmp_path)
    (tmp_path / JOURNAL).unlink()
    activation = read_study(tmp_path).phases[2]
    assert set(activation.base) == {NET, "optimizer.lr"}
    incumbent = activation.candidates[activation.plan.incumbent]
    assert incumbent.plan.trials[0].directory == f"net/{NET}=resnet18,seed=0"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 9}', '{"schema": 1, "phases": [1]}', "\0\xff"]
)
def test_damaged_journal_is_told_and_rebuilt(tmp_path: Path, text: str) -> None:
    Synthetic().write(tmp_path)
    (tmp_path / JOURNAL).write_text(text)
    study = read_study(tmp_path)
    assert [problem.file for problem in study.problems] == [JOURNAL]
    assert "damaged" in study.problems[0].reason
    assert len(study.phases) == 2


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("winner", 7),
        ("incumbent", "x"),
        ("objective", {}),
        ("objective", {"metric": 5, "mode": "max"}),
        ("base", [5]),
        ("base", ["a=1,2"]),
        ("candidates", [{"overrides": ["a=("], "trials": []}]),
        ("candidates", [{"overrides": [], "trials": [{"seed": 0}]}]),
        ("candidates", [{"overrides": [], "trials": [Trial(0, 5, "").__dict__]}]),
        ("kind", "party"),
    ],
)
def test_journal_of_wrong_parts_is_rebuilt(tmp_path: Path, part: str, value: object) -> None:
    Synthetic().write(tmp_path)
    content = json.loads((tmp_path / JOURNAL).read_text())
    content["phases"][0][part] = value
    (tmp_path / JOURNAL).write_text(json.dumps(content))
    study = read_study(tmp_path)
    assert "damaged" in study.problems[0].reason
    assert len(study.phases) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"schema": 1, "stat', "Invalid JSON"),
        ("", "Invalid JSON"),
        ("[1]", "should be an object"),
        ('{"schema": 2}', "schema: Input should be 1"),
        ('{"schema": 1, "status": "completed"}', "error: Field required"),
    ],
)
@pytest.mark.parametrize("journal", [True, False])
def test_unreadable_records(tmp_path: Path, text: str, reason: str, journal: bool) -> None:
    Synthetic().write(tmp_path)
    name, place = first_trial(tmp_path)
    (place / "record.json").write_text(text)
    (place / ".hydra" / "overrides.yaml").write_text("[optimizer.lr=1e-4, seed=0]")
    if not journal:
        (tmp_path / JOURNAL).unlink()
    study = read_study(tmp_path)
    (found,) = reasons(study, name)
    assert reason in found
    first = next(c for c in study.phases[0].candidates if c.settings == {"optimizer.lr": 1e-4})
    assert len(first.trials) == 3 and sorted(first.values) == [1, 2]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"objective": {"metric": "m", "mode": "max", "value": "0.5", "epoch": 1}}, "objective"),
        ({"objective": {"metric": "m", "mode": "best", "value": 0.5, "epoch": 1}}, "objective"),
        ({"best": {"val/loss": [1]}}, "best.val/loss"),
        ({"baselines": {"mean": 3}}, "baselines.mean"),
        ({"cost": {"epochs": "many"}}, "cost.epochs"),
        ({"overrides": ["a=1,2"]}, "overrides"),
        ({"overrides": [1]}, "overrides"),
        ({"overrides": [["a"]]}, "overrides"),
    ],
)
@pytest.mark.parametrize("journal", [True, False])
def test_records_with_alien_content(
    tmp_path: Path, fields: dict[str, object], reason: str, journal: bool
) -> None:
    Synthetic().write(tmp_path)
    name, place = first_trial(tmp_path)
    change(place / "record.json", **fields)
    if not journal:
        (tmp_path / JOURNAL).unlink()
    study = read_study(tmp_path)
    assert any(reason in found or "neither a record nor" in found for found in reasons(study, name))
    assert all(math.isfinite(v) for p in study.phases for c in p.candidates for v in c.values)


def test_cut_history(tmp_path: Path) -> None:
    Synthetic().write(tmp_path)
    name, place = first_trial(tmp_path)
    text = (place / "metrics.csv").read_text()
    (place / "metrics.csv").write_text(text[: len(text) // 2])
    study = read_study(tmp_path)
    (reason,) = reasons(study, name)
    trial = study.phases[0].candidates[0].trials[0]
    assert f"{len(trial.history())} whole rows of 12" in reason
    assert 0 < len(trial.history()) < 12
    assert trial.record is not None  # its figures are in the record
    (place / "metrics.csv").unlink()
    assert "0 whole rows of 12" in reasons(read_study(tmp_path), name)[0]


def test_another_configuration_in_a_trials_place(tmp_path: Path) -> None:
    Synthetic().write(tmp_path)
    name, place = first_trial(tmp_path)
    change(place / "record.json", fingerprint="f" * 16)
    study = read_study(tmp_path)
    assert "another configuration" in reasons(study, name)[0]
    assert study.phases[0].candidates[0].trials[0].record is None


def test_strangers_in_a_planned_study(tmp_path: Path) -> None:
    Synthetic().write(tmp_path)
    shutil.copytree(first_trial(tmp_path)[1], tmp_path / "lr" / "more")
    (tmp_path / "lr" / "nothing").mkdir()
    study = read_study(tmp_path)
    assert study.problems == [Problem("lr/more", "not in the study's plan; left out")]


def test_runs_of_other_tasks_and_objectives_are_left_out(tmp_path: Path) -> None:
    Synthetic(phases={"": "optimizer.lr=1e-4,1e-3,1e-2"}).write(tmp_path)
    Synthetic(phases={"": "optimizer.lr=1e-1"}, task="other", score=lambda *_: 0.9).write(tmp_path)
    Synthetic(phases={"": "optimizer.lr=2"}, metric="val/x", score=lambda *_: 0.9).write(tmp_path)
    (tmp_path / JOURNAL).unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text").write_text("not a run")
    study = read_study(tmp_path)
    told = {problem.file: problem.reason for problem in study.problems[1:]}
    assert told.pop("empty") == "an empty directory"
    assert set(told) == {f"optimizer.lr={lr},seed={s}" for lr in (0.1, 2) for s in (0, 1, 2)}
    assert all("another task or objective" in reason for reason in told.values())
    (phase,) = study.phases
    assert [one.settings["optimizer.lr"] for one in phase.candidates] == [1e-4, 1e-3, 1e-2]


def test_a_phase_with_a_metric_of_its_own(tmp_path: Path) -> None:
    Synthetic(phases={"lr": "optimizer.lr=1e-4,1e-3"}).write(tmp_path)
    Synthetic(phases={"speed": "data.batch_size=8,16"}, metric="val/loss", mode="min").write(
        tmp_path
    )
    (tmp_path / JOURNAL).unlink()
    study = read_study(tmp_path)
    goals = {phase.plan.name: phase.plan.objective for phase in study.phases}
    assert goals["speed"] == {"metric": "val/loss", "mode": "min"}
    assert goals["lr"] == {"metric": "val/mIoU", "mode": "max"}


def test_runs_that_left_no_record(tmp_path: Path) -> None:
    """Killed before the record was written; Hydra's own files tell what it was."""
    Synthetic(phases={"": CLEAN["lr"]}).write(tmp_path)
    name, place = first_trial(tmp_path)
    (place / "record.json").unlink()
    (place / ".hydra" / "overrides.yaml").write_text("- optimizer.lr=1e-4\n- seed=0\n")
    (tmp_path / JOURNAL).unlink()
    study = read_study(tmp_path)
    (phase,) = study.phases
    assert study.plan.status == "interrupted" and phase.plan.status == "running"
    one = next(one for one in phase.candidates if one.settings == {"optimizer.lr": 1e-4})
    assert [trial.record is None for trial in one.trials] == [True, False, False]
    assert reasons(study, name) == []  # it did not end; nothing is damaged


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_no_permission_for_real(tmp_path: Path) -> None:
    Synthetic().write(tmp_path)
    _, place = first_trial(tmp_path)
    place.chmod(0)
    try:
        assert read_study(tmp_path).problems
    finally:
        place.chmod(0o700)


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("what", ["record.json", "metrics.csv", "folder"])
def test_no_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, journal: bool
) -> None:
    Synthetic().write(tmp_path)
    name, place = first_trial(tmp_path)
    (place / ".hydra" / "overrides.yaml").write_text("[optimizer.lr=1e-4, seed=0]")
    if not journal:
        (tmp_path / JOURNAL).unlink()

    def refuse(method: str) -> None:
        real = getattr(Path, method)

        def guarded(self: Path, *args: object, **kwargs: object) -> object:
            if place in (self, *self.parents) and what in (self.name, "folder"):
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Path, method, guarded)

    for method in ("read_text", "read_bytes", "iterdir", "stat", "open"):
        refuse(method)
    study = read_study(tmp_path)
    (reason,) = reasons(study, name)
    assert "Permission denied" in reason or "0 whole rows" in reason
    assert sum(len(one.values) for one in study.phases[0].candidates) >= 8


def test_places_that_are_no_study(tmp_path: Path) -> None:
    Synthetic().write(tmp_path / "study")
    _, run = first_trial(tmp_path / "study")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "other" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / JOURNAL).write_text("{")
    for place, words in {
        tmp_path / "absent": "does not exist",
        tmp_path / "file": "is a file",
        tmp_path / "empty": "holds no run",
        tmp_path / "other": "holds no run",
        tmp_path / "broken": "its study.json is damaged",
        run: f"is one run; give the directory of its sweep, which may be {run.parent}",
    }.items():
        with pytest.raises(UserError) as caught:
            read_study(place)
        assert words in str(caught.value) and str(place) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_study_that_has_not_begun(tmp_path: Path) -> None:
    plan = Synthetic(score=lambda *_: "missing").write(tmp_path)
    study = read_study(tmp_path)
    assert study.problems == [] and len(study.phases) == len(plan.phases)
    assert all(not one.values for phase in study.phases for one in phase.candidates)
