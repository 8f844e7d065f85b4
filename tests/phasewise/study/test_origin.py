"""Studies that start from the winner of another one, by their command line (study_toy.py)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from phasewise.records.record import read_record
from phasewise.report.content import Bullets, Table, Text
from phasewise.report.sections.origin import origin_section
from phasewise.report.view import StudyView
from phasewise.study.journal import Origin, read_journal
from phasewise.study.read import read_study
from tests.phasewise.study.whole import call, make_app, study, write_study

pytestmark = pytest.mark.slow

PHASES: dict[str, Any] = {
    "rate": "optimizer.lr=1e-1,1e-2,1e-3",
    "activation": "model.activation=relu,gelu,elu",
}
NEXT: dict[str, Any] = {"dropout": "model.dropout_rate=0.1,0.2"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    make_app(folder)
    write_study(folder, PHASES)
    done = study(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def app(finished: Path, tmp_path: Path) -> Path:
    """With a study whose winner has ``optimizer.lr=0.01 model.activation=gelu``."""
    return shutil.copytree(finished, tmp_path, symlinks=True, dirs_exist_ok=True)


def write_next(app: Path, *choices: str, **settings: Any) -> None:
    content = {
        "defaults": [{"override /task": "multitask"}]
        + [dict([choice.split("=")]) for choice in choices],
        **settings,
        "init_study": "out",
        "study": {"name": "next", "phases": NEXT},
        "hydra": {"mode": "MULTIRUN", "sweep": {"dir": "next"}},
    }
    text = yaml.safe_dump(content, sort_keys=False)
    (app / "extra/study/next.yaml").write_text("# @package _global_\n" + text)


def origin(app: Path) -> Origin:
    found = read_journal(app / "next")
    assert found is not None
    assert found.origin is not None
    return found.origin


def test_a_study_starts_from_the_winner_of_another_one(app: Path) -> None:
    write_next(app)
    done = study(app, "study=next")
    assert done.returncode == 0, done.stderr
    taken = ["optimizer.lr=0.01", "model.activation=gelu", "trainer.max_epochs=4"]
    assert sorted(origin(app).words) == sorted(taken)
    assert f"starts from the winner of out (phase activation): {origin(app).words[0]}" in (
        done.stdout
    )
    book = read_journal(app / "next")
    assert book is not None
    assert book.base == ["study=next", *origin(app).words]
    assert origin(app).run == "activation/model.activation=gelu,seed=0"
    first, second = (one.trials[0].directory for one in book.phases[0].candidates)
    record = read_record(app / "next" / first)
    before = read_record(app / "out" / origin(app).run)
    assert record is not None
    assert before is not None
    assert record.overrides == [*book.base, "model.dropout_rate=0.1", "seed=0"]
    # the same configuration, computed anew
    assert record.fingerprint == before.fingerprint
    assert record.objective["value"] == before.objective["value"]
    again = study(app, "study=next")
    assert again.returncode == 0, again.stderr
    assert (app / "next" / second / "calls").read_text() == "x"


def test_what_the_file_the_budget_and_the_command_line_set_goes_first(app: Path) -> None:
    write_next(app, trainer={"max_epochs": 3}, optimizer={"weight_decay": 0.5})
    done = study(app, "study=next", "optimizer.lr=0.02", "study.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "starts from the winner of out (phase activation): model.activation=gelu\n" in (
        done.stdout
    )
    for text in ("trainer.max_epochs=3 (4 there)", "optimizer.lr=0.02 (0.01 there)"):
        assert text in done.stdout
    assert not (app / "next").exists()


def test_choices_of_config_groups_are_taken_with_their_keys(app: Path) -> None:
    write_study(app, {"rate": "optimizer.lr=1e-1,1e-2"})
    shutil.rmtree(app / "out")
    write_next(app)
    assert study(app, "optimizer=sgd", "optimizer.momentum=0.5").returncode == 0
    done = study(app, "study=next")
    assert done.returncode == 0, done.stderr
    assert origin(app).words[0] == "optimizer=sgd"
    assert "optimizer.momentum=0.5" in origin(app).words
    done = study(app, "study=next", "optimizer=adam", "study.dry_run=true", "study.set_aside=true")
    assert "optimizer=adam (sgd there)" in done.stdout
    assert "momentum" not in done.stdout


def test_a_source_that_changed_is_refused_or_set_aside(app: Path) -> None:
    write_next(app)
    assert study(app, "study=next").returncode == 0
    write_study(app, PHASES | {"activation": "model.activation=relu,silu"})
    assert study(app).returncode == 0
    done = study(app, "study=next")
    assert done.returncode == 2
    assert (
        "next: was begun from another start than init_study=out gives now "
        "(model.activation=gelu there, model.activation=silu now)" in done.stderr
    )
    done = study(app, "study=next", "study.set_aside=true")
    assert done.returncode == 0, done.stderr
    assert "model.activation=silu" in origin(app).words
    assert list((app / "next/superseded").rglob("record.json"))
    done = study(app, "study=next", "init_study=null", "hydra.sweep.dir=next")
    assert "than init_study=null gives now" in done.stderr


def test_a_source_that_is_gone_is_known_from_the_earlier_call(app: Path) -> None:
    write_next(app)
    assert study(app, "study=next").returncode == 0
    before = origin(app)
    shutil.rmtree(app / "out")
    done = study(app, "study=next")
    assert done.returncode == 0, done.stderr
    assert "out is gone" in done.stdout
    assert origin(app) == before
    shutil.rmtree(app / "next")
    done = study(app, "study=next")
    assert done.returncode == 2
    assert "init_study=out: no such folder" in done.stderr


def test_what_cannot_be_started_from(app: Path) -> None:
    write_next(app)
    done = study(app, "study=next", "task=segmentation")
    assert done.returncode == 2
    assert "a study of task=multitask, and this is one of segmentation" in done.stderr
    done = study(app, "study=next", "init_study=out/rate")
    assert done.returncode == 2
    assert "holds trials of one phase; its study is init_study=out\n" in done.stderr
    book = read_journal(app / "out")
    assert book is not None
    run = app / "out/activation/model.activation=gelu,seed=0"
    (run / ".hydra").rename(run / "away")
    done = study(app, "study=next")
    assert "the run that won phase activation is gone" in done.stderr
    (run / "away").rename(run / ".hydra")
    book.status = "interrupted"
    book.write()
    done = study(app, "study=next")
    assert done.returncode == 2
    assert "init_study=out: that study has not ended yet (status interrupted)" in done.stderr
    # one that has begun from it goes on
    book.status = "completed"
    book.write()
    assert study(app, "study=next").returncode == 0
    book.status = "running"
    book.write()
    done = study(app, "study=next")
    assert done.returncode == 0, done.stderr
    assert "out has not ended; its winner is known from an earlier call" in done.stdout
    book.status, book.phases[1].winner, book.phases[1].reason = "failed", None, "no result"
    book.write()
    done = study(app, "study=next")
    assert "init_study=out: phase activation has no winner: no result" in done.stderr
    for words in (("-m", "init_study=out", "optimizer.lr=1,2"), ("init_study=out",)):
        done = call(app, *words)
        assert done.returncode == 2
        assert "init_study=out: is for" in done.stderr


def test_without_a_journal_the_records_tell(app: Path) -> None:
    (app / "out/study.json").unlink()
    write_next(app)
    done = study(app, "study=next")
    assert done.returncode == 0, done.stderr
    assert "model.activation=gelu" in origin(app).words
    (app / "next/study.json").unlink()
    plan = read_study(app / "next").plan
    assert plan.origin is not None
    assert plan.origin.directory == "out"


def test_the_report_says_where_a_study_starts(app: Path) -> None:
    write_next(app, trainer={"max_epochs": 3})
    assert study(app, "study=next").returncode == 0
    section = origin_section(StudyView(read_study(app / "next")))
    assert section is not None
    text, table, _, kept = section.blocks
    assert isinstance(text, Text)
    assert text.text == (
        "The starting configuration is the winner of out (phase activation): "
        "run activation/model.activation=gelu,seed=0 of the study toy."
    )
    assert isinstance(table, Table)
    assert dict(map(tuple, table.rows)) == {"model.activation": "gelu", "optimizer.lr": "0.01"}
    assert isinstance(kept, Bullets)
    assert kept.items == ["trainer.max_epochs=3 (4 there)"]
    assert origin_section(StudyView(read_study(app / "out"))) is None
