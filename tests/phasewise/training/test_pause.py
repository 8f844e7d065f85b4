"""A run that is paused after so many epochs, and goes on as if it had not been."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

import phasewise.training.run
from multitask.module import MultitaskModule
from phasewise.config.fingerprint import fingerprint
from phasewise.records.summary import summary_text
from phasewise.training.run import train
from tests.conftest import TINY
from tests.phasewise.training.directory import assert_same_run, record_of, timeless

pytestmark = pytest.mark.slow

Make = Callable[..., DictConfig]


@pytest.fixture
def config(make_config: Make) -> Make:
    return lambda *words: make_config(*TINY, *words)


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After how many epochs the test split was looked at."""
    epochs: list[int] = []
    original = MultitaskModule.on_test_start

    def spy(self: MultitaskModule) -> None:
        epochs.append(self.trainer.current_epoch)
        original(self)

    monkeypatch.setattr(MultitaskModule, "on_test_start", spy)
    return epochs


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("scheduler=onecycle", "model.dropout_rate=0.3", "figures.images=1"),
        ("scheduler=plateau", "trainer.accumulate_grad_batches=2", "loss.balance=dwa"),
    ],
)
def test_a_run_in_three_parts_ends_as_one_that_was_never_paused(
    config: Make, tmp_path: Path, tested: list[int], words: list[str]
) -> None:
    def make(*more: str) -> DictConfig:
        return config("trainer.max_epochs=4", *words, *more)

    train(make(), tmp_path / "whole")
    assert tested == [4]
    for epochs in (1, 3):
        value = train(make(f"trainer.pause_after={epochs}"), tmp_path / "parts")
        record = record_of(tmp_path / "parts")
        rows = timeless(tmp_path / "parts")
        assert (record.status, record.error, record.is_final) == ("paused", None, False)
        assert rows == timeless(tmp_path / "whole")[:epochs]
        best = max(rows, key=lambda row: row["val/mIoU"])
        assert (record.objective["value"], record.objective["epoch"]) == (value, best["epoch"])
        assert record.best == {key: value for key, value in best.items() if "/" in key}
        assert record.last == {key: value for key, value in rows[-1].items() if "/" in key}
        assert record.baselines["majority"].keys() >= {"val/mIoU"}
        assert record.cost["epochs"] == epochs
        assert record.test is None
        assert not (tmp_path / "parts" / "figures").exists()
    assert tested == [4]
    seconds = record.cost["seconds"]
    train(make(), tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert (tmp_path / "parts" / "figures").exists() == ("figures.images=1" in words)
    assert record_of(tmp_path / "parts").cost["seconds"] > seconds


def test_where_it_is_past_already_nothing_is_trained(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def make(epochs: int) -> DictConfig:
        return config("trainer.max_epochs=3", f"trainer.pause_after={epochs}")

    value = train(make(2), tmp_path)
    monkeypatch.setattr(phasewise.training.run, "Session", None)
    for epochs in (1, 2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert train(make(epochs), tmp_path) == value
        assert caplog.text.count("paused after epoch 2 of 3") == 1
    assert record_of(tmp_path).status == "paused"


@pytest.mark.parametrize(("epochs", "status"), [(3, "paused"), (4, "completed")])
def test_a_run_that_was_killed_past_it_is_only_recorded(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, status: str
) -> None:
    monkeypatch.setattr(
        phasewise.training.run.Session, "_finish", lambda *_: None
    )  # as if killed before
    train(config("trainer.max_epochs=4", f"trainer.pause_after={epochs}"), tmp_path)
    assert record_of(tmp_path).status == "running"
    before = timeless(tmp_path)
    monkeypatch.undo()
    train(config("trainer.max_epochs=4", "trainer.pause_after=2"), tmp_path)
    assert (record_of(tmp_path).status, record_of(tmp_path).cost["epochs"]) == (status, epochs)
    assert timeless(tmp_path) == before


def test_a_run_that_ends_before_is_completed(config: Make, tmp_path: Path) -> None:
    words = ("trainer.max_epochs=6", "early_stopping.patience=1", "early_stopping.min_delta=1.0")
    train(config(*words, "trainer.pause_after=5"), tmp_path / "early")
    early = record_of(tmp_path / "early")
    assert (early.status, early.cost["epochs"]) == ("completed", 2)
    assert summary_text(early).endswith("; stopped early: the last 1 brought no gain in val/mIoU")
    train(config(*words, "trainer.pause_after=2"), tmp_path / "both")
    assert record_of(tmp_path / "both").status == "completed"
    train(config("trainer.max_epochs=2", "trainer.pause_after=2"), tmp_path / "whole")
    whole = record_of(tmp_path / "whole")
    assert (whole.status, whole.cost["epochs"]) == ("completed", 2)
    assert whole.test is not None
    assert "stopped early" not in summary_text(whole)


def test_it_is_no_part_of_the_fingerprint(config: Make) -> None:
    assert fingerprint(config("trainer.pause_after=1")) == fingerprint(config())
