"""Trackers as a run uses them: what they keep is read back, from files and without a network."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import WandbLogger
from omegaconf import OmegaConf

from phasewise.errors import UserError
from phasewise.records.history import read_history
from phasewise.records.record import read_record
from phasewise.study.overrides import merge
from phasewise.training import trackers
from phasewise.training.logs import build_loggers, close_loggers
from phasewise.training.memory import remove_leftovers
from phasewise.training.trackers import start_trackers
from tests.conftest import ROOT, TINY

pytestmark = pytest.mark.slow

NEEDS = {
    name: pytest.mark.skipif(find_spec(name) is None, reason=f"the extra {name} is not installed")
    for name in ("wandb", "mlflow")
}
FIGURES = {"best", "worst", "curves", "iou_histogram", "iou_by_size"}
BLOCK = 2**15


def train(out: Path, name: str, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    wanted = ("task=localization", "trainer.max_epochs=2", "figures.images=1")
    place = (f"logger={name}", f"hydra.run.dir={out}")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "train.py", *merge(TINY, wanted, place, words)],
        cwd=ROOT,
        env=clean | {"HOME": str(out.parent)} | settings,  # no key of a person's
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def chunks(path: Path) -> list[bytes]:
    """The records of a log as LevelDB writes it: blocks of 32 KB, parts with seven bytes before."""
    data, place, found, parts = path.read_bytes(), 7, [], b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(parts)
            parts = b""
    return found


@pytest.fixture
def wandb_anew() -> Iterator[None]:
    """It reads the environment once in a process."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


def kept_by_wandb(path: Path) -> tuple[dict[str, Any], dict[str, list[Any]], dict[str, Any]]:
    """Config, history and summary of an offline run."""
    from wandb.proto import wandb_internal_pb2

    config: dict[str, Any] = {}
    history: dict[str, list[Any]] = {}
    summary: dict[str, Any] = {}
    for chunk in chunks(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(chunk)
        for it in (*record.run.config.update, *record.config.update):
            config[it.key] = json.loads(it.value_json)
        for it in record.history.item:
            history.setdefault(it.key or it.nested_key[0], []).append(json.loads(it.value_json))
        for it in record.summary.update:
            summary["/".join(it.nested_key) or it.key] = json.loads(it.value_json)
    return config, history, summary


@NEEDS["wandb"]
def test_an_offline_run_of_wandb(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = train(out, "wandb", WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("wandb/offline-run-*/run-*.wandb")
    config, history, summary = kept_by_wandb(path)
    assert config["optimizer"]["lr"] == 0.001
    assert config["model"]["backbone"] == "test_resnet"
    rows, record = read_history(out), read_record(out)
    assert record is not None and record.test is not None
    for metric in ("train/loss", "val/loss", "val/IoU"):
        assert history[metric] == pytest.approx([row[metric] for row in rows])
    assert history["test/IoU"] == pytest.approx([record.test["test/IoU"]])
    assert summary["best/val/IoU"] == pytest.approx(record.best["val/IoU"])
    pictures = {key.removeprefix("figures/") for key in history if key.startswith("figures/")}
    assert pictures > FIGURES
    for name in pictures:
        (copy,) = out.glob(f"wandb/offline-run-*/files/media/images/figures/{name}_[0-9]*.png")
        assert copy.read_bytes() == (out / "figures" / f"{name}.png").read_bytes()


@NEEDS["wandb"]
@pytest.mark.usefixtures("wandb_anew")
def test_wandb_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no key of a person's
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    loggers = build_loggers(chosen("wandb"), "multitask", tmp_path)
    with pytest.raises(UserError) as caught:
        start_trackers(loggers, {"seed": 0})
    assert str(caught.value).startswith("logger=wandb: ")
    assert str(caught.value).endswith("WANDB_MODE=offline keeps it on this machine")
    assert "\n" not in str(caught.value)
    close_loggers(loggers, "failed")  # does not try again


def kept_by_mlflow(path: Path, question: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as base:
        return base.execute(question).fetchall()


@NEEDS["mlflow"]
def test_a_run_of_mlflow_has_a_database_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = train(out, "mlflow")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    database = out / "mlflow.db"
    assert kept_by_mlflow(database, "select status from runs") == [("FINISHED",)]
    params = dict(kept_by_mlflow(database, "select key, value from params"))
    assert params["optimizer.lr"] == "0.001"
    assert params["model.backbone"] == "test_resnet"
    rows, record = read_history(out), read_record(out)
    assert record is not None and record.test is not None
    for metric, expected in (
        *((name, [row[name] for row in rows]) for name in ("train/loss", "val/loss", "val/IoU")),
        ("test/IoU", [record.test["test/IoU"]]),
        ("best/val/IoU", [record.best["val/IoU"]]),
    ):
        question = f"select value from metrics where key = '{metric}' order by step"
        values = [value for (value,) in kept_by_mlflow(database, question)]
        assert values == pytest.approx(expected)
    pictures = {path.stem: path for path in out.glob("mlartifacts/*/artifacts/figures/*.png")}
    assert set(pictures) > FIGURES
    for name, path in pictures.items():
        assert path.read_bytes() == (out / "figures" / f"{name}.png").read_bytes()


@NEEDS["mlflow"]
def test_runs_of_mlflow_in_one_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "all.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    for name in ("one", "two"):
        loggers = build_loggers(chosen("mlflow"), "multitask", tmp_path / name)
        start_trackers(loggers, {"seed": 0})
        close_loggers(loggers, "failed")
    question = "select name, status from runs order by start_time"
    names = [f"{tmp_path.name}/{name}" for name in ("one", "two")]
    assert kept_by_mlflow(database, question) == [(name, "FAILED") for name in names]
    assert not (tmp_path / "one" / "mlflow.db").exists()


@NEEDS["mlflow"]
def test_mlflow_without_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    loggers = build_loggers(chosen("mlflow"), "multitask", tmp_path)
    with pytest.raises(UserError, match=r"^logger=mlflow: API request to http://127.0.0.1:9/"):
        start_trackers(loggers, {"seed": 0})


def test_a_run_has_one_id_in_wandb_until_it_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []
    fake = SimpleNamespace(Settings=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(trackers, "find_spec", lambda package: True)
    monkeypatch.setattr(trackers, "WandbLogger", lambda *_, **words: given.append(words))
    for place in ("one", "one", "two"):
        trackers.build_tracker("wandb", "multitask", tmp_path / place)
    remove_leftovers(tmp_path / "one")
    trackers.build_tracker("wandb", "multitask", tmp_path / "one")
    first, again, other, anew = (it["id"] for it in given)
    assert first == again
    assert len({first, other, anew}) == 3
    assert {it["resume"] for it in given} == {"allow"}


@NEEDS["wandb"]
def test_a_run_that_goes_on_is_the_same_one_in_wandb(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for words in ("trainer.pause_after=1", "test=false", "test=true"):
        done = train(out, "wandb", words, WANDB_MODE="offline")
        assert done.returncode == 0, done.stderr
    ids = [path.name.rpartition("-")[2] for path in out.glob("wandb/offline-run-*")]
    assert len(ids) == 3
    assert len(set(ids)) == 1


@NEEDS["mlflow"]
def test_a_run_that_goes_on_is_the_same_one_in_mlflow(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for words in ("trainer.pause_after=1", "test=false", "test=true"):
        done = train(out, "mlflow", words)
        assert done.returncode == 0, done.stderr
    database = out / "mlflow.db"
    assert kept_by_mlflow(database, "select status from runs") == [("FINISHED",)]
    question = "select value from metrics where key = 'val/IoU' order by step"
    values = [value for (value,) in kept_by_mlflow(database, question)]
    assert values == pytest.approx([row["val/IoU"] for row in read_history(out)])
    assert kept_by_mlflow(database, "select 1 from metrics where key = 'test/IoU'") == [(1,)]


@NEEDS["mlflow"]
def test_a_run_that_the_server_no_longer_has_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[Any] = []
    for server in ("a", "b", "b"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/{server}.db")
        loggers = build_loggers(chosen("mlflow"), "multitask", tmp_path)
        start_trackers(loggers, {"seed": len(ids)})  # which no run of MLflow may be told twice
        close_loggers(loggers, "failed")
        ids += [path.read_text() for path in tmp_path.glob(".mlflow*")]
    assert ids[0] != ids[1] == ids[2]


def chosen(name: str) -> Any:
    """``logger`` of a config with ``logger=NAME``."""
    return OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "logger" / f"{name}.yaml"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=f"logger={name}: not installed") as caught:
        build_loggers(chosen(name), "multitask", tmp_path)
    assert f".[{name}]" in str(caught.value)
    assert "\n" not in str(caught.value)


@NEEDS["wandb"]
@pytest.mark.usefixtures("wandb_anew")
def test_a_run_of_wandb_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next one in this process would go on with it."""
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    names = []
    for place in ("one", "two"):
        loggers = build_loggers(chosen("wandb"), "multitask", tmp_path / place)
        (logger,) = (it for it in loggers if isinstance(it, WandbLogger))
        names.append(logger.experiment.id)
        close_loggers(loggers, "failed")
        assert wandb.run is None
    assert names[0] != names[1]
