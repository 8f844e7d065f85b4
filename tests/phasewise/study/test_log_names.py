"""The logs of trials under names of one's own."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from phasewise.errors import UserError
from phasewise.study.journal import Candidate, Journal, Phase, Trial
from phasewise.study.log_names import name_problem, write_logs
from tests.phasewise.study import whole


def study(folder: Path) -> Journal:
    """Two phases: the first's second trial is the second's first, its last has not begun."""
    first, second, third = (["lr=0.1"], ["lr=0.2"], ["act=[a,b]"])
    phases = [
        Phase("rate", "grid", {}, [0], candidates=[_one(first, "rate/a"), _one(second, "rate/b")]),
        Phase("act", "grid", {}, [0], candidates=[_one([], "rate/b"), _one(third, "act/c")]),
    ]
    return Journal(folder, "s", "t", [], {}, [0], phases=phases)


def _one(words: list[str], directory: str) -> Candidate:
    return Candidate(words, [Trial(0, directory, "")])


def log(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "run.log").write_text(text)


def logs(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "logs").iterdir()}


def test_each_trial_has_its_log_by_its_name(tmp_path: Path) -> None:
    for name in "ab":
        log(tmp_path, f"rate/{name}", f"of {name}")
    write_logs(study(tmp_path), "log_sec{phase}_q{trial:02d}")
    found = logs(tmp_path)
    index = [*csv.DictReader(found.pop("index.csv").splitlines())]
    assert found == {
        "log_sec1_q01.txt": "of a",
        "log_sec1_q02.txt": "of b",
        "log_sec2_q01.txt": "of b",
    }
    assert index[2] == {
        "log": "log_sec2_q01.txt",
        "phase": "2",
        "phase_name": "act",
        "trial": "1",
        "seed": "0",
        "values": "default",
        "directory": "rate/b",
    }


def test_they_are_renewed_and_what_is_out_of_date_goes(tmp_path: Path) -> None:
    for name in ("rate/a", "rate/b", "act/c"):
        log(tmp_path, name, "begun")
    journal = study(tmp_path)
    write_logs(journal, "{phase_name}_{values}_{seed}.log")
    assert set(logs(tmp_path)) - {"index.csv"} == {
        "rate_lr=0.1_0.log",
        "rate_lr=0.2_0.log",
        "act_default_0.log",
        "act_act=(a,b)_0.log",
    }
    (tmp_path / "logs" / "mine.txt").write_text("mine")
    log(tmp_path, "rate/a", "ended")
    del journal.phases[1]
    write_logs(journal, "{phase_name}_{values}_{seed}.log")
    found = logs(tmp_path)
    del found["index.csv"]
    assert found == {
        "rate_lr=0.1_0.log": "ended",
        "rate_lr=0.2_0.log": "begun",
        "mine.txt": "mine",
    }
    write_logs(journal, None)
    assert logs(tmp_path) == {"mine.txt": "mine"}
    (tmp_path / "logs" / "mine.txt").unlink()
    write_logs(journal, None)
    assert not (tmp_path / "logs").exists()


def test_an_index_that_names_files_elsewhere_deletes_none(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "precious").write_text("")
    (tmp_path / "logs" / "index.csv").write_text("log,phase\n../precious,1\n")
    write_logs(study(tmp_path), None)
    assert (tmp_path / "precious").exists()


def test_logs_of_other_applications(tmp_path: Path) -> None:
    (tmp_path / "rate/a").mkdir(parents=True)
    (tmp_path / "rate/a/main.log").write_text("hydra's default")
    write_logs(study(tmp_path), "{phase}.{trial}")
    assert logs(tmp_path)["1.1.txt"] == "hydra's default"


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    log(tmp_path, "rate/a", "x")
    (tmp_path / "logs").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_logs(study(tmp_path), "{phase}_{trial}")


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("log_{phase}_{trail}", "{trail} is not one of phase, .*did you mean trial"),
        ("log_{phase}_{trial.__class__}", "is not one of"),
        ("log_{phase}_{}", "is not one of"),
        ("log_{phase}_{trial:q}", "no such pattern"),
        ("log_{phase}_{trial", "no such pattern"),
        ("{phase}/{trial}", "without a folder"),
        ("..{phase}{trial}", "without a folder"),
        ("log_{phase}", "it needs {trial}, or {values} and {seed}"),
        ("log_{phase}_{values}", "it needs {trial}, or {values} and {seed}"),
        ("log_{trial}", "it needs {phase} or {phase_name}"),
    ],
)
def test_what_a_pattern_may_not_be(pattern: str, problem: str) -> None:
    found = name_problem(pattern, several_phases=True)
    assert found is not None
    assert re.search(problem, found)


def test_patterns_that_are_fine() -> None:
    for pattern in (
        "log_sec{phase}_q{trial}",
        "{phase_name}-{values}-{seed}",
        "{phase}.{trial:>04}",
    ):
        assert name_problem(pattern, several_phases=True) is None
    assert name_problem("test_{trial}", several_phases=False) is None


@pytest.mark.slow
def test_a_study_writes_them_and_refuses_names_before_it_runs(tmp_path: Path) -> None:
    app = whole.make_app(tmp_path)
    whole.write_study(app, {"rate": "optimizer.lr=1e-2,1e-3", "act": "model.activation=relu,gelu"})
    done = whole.study(app, 'study.log_names="log_{trial}"')
    assert done.returncode == 2
    assert "study.log_names=log_{trial}: phases would have one name" in done.stderr
    assert not (app / "out").exists()
    assert whole.study(app).returncode == 0
    assert not (app / "out" / "logs").exists()
    for run in whole.runs(app):  # this job logs nothing
        (run / "run.log").write_text(run.name)
    assert whole.study(app, 'study.log_names="sec{phase}_q{trial}"').returncode == 0
    found = logs(app / "out")
    index = [*csv.DictReader(found.pop("index.csv").splitlines())]
    # the second phase has its incumbent too, the test the final and the starting configuration
    trials = {1: 2, 2: 3, 3: 2}
    expected = [f"sec{n}_q{m}.txt" for n, count in trials.items() for m in range(1, count + 1)]
    assert [row["log"] for row in index] == expected
    assert found == {row["log"]: Path(row["directory"]).name for row in index}
