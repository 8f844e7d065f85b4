"""A completed run that is tested afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig

import phasewise.training.run
from multitask.module import MultitaskModule
from phasewise.errors import OutOfMemoryError, UserError
from phasewise.training.run import train
from phasewise.training.session import Session
from tests.conftest import TINY
from tests.phasewise.training.directory import record_of
from tests.reid.conftest import TINY_REID
from tests.segmentation.conftest import TINY_BEADS

pytestmark = pytest.mark.slow

Make = Callable[..., DictConfig]


@pytest.fixture
def config(make_config: Make) -> Make:
    return lambda *words: make_config(*TINY, *words)


def contents(directory: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob(pattern)}


@pytest.mark.parametrize("tiny", [TINY_BEADS, TINY_REID], ids=["segmentation", "reid"])
def test_it_has_the_figures_of_a_run_that_was_tested_at_once(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Sequence[str]
) -> None:
    words = (*tiny, "figures.images=1")
    train(make_config(*words, "test=true"), tmp_path / "once", trial=True)
    value = train(make_config(*words), tmp_path / "late", trial=True)
    before = record_of(tmp_path / "late").as_dict()
    assert before["test"] is None
    untested = contents(tmp_path / "late", "figures/*") | contents(tmp_path / "late", "*.csv")
    monkeypatch.setattr(Session, "_fit", None)  # nothing is trained
    assert train(make_config(*words), tmp_path / "late") == value
    after, once = record_of(tmp_path / "late").as_dict(), record_of(tmp_path / "once").as_dict()
    for part in ("test", "baselines", "objective", "best", "last", "data"):
        assert after[part] == once[part], part
    assert after["test"]
    untouched = {key for key in before if key not in ("test", "baselines")}
    assert {key: after[key] for key in untouched} == {key: before[key] for key in untouched}
    both = [contents(tmp_path / name, "figures/test_*") for name in ("late", "once")]
    assert both[0] == both[1]
    assert both[0]
    found = contents(tmp_path / "late", "*/*.png") | contents(tmp_path / "late", "*.csv")
    assert {name: found[name] for name in untested} == untested


def test_it_is_done_once_and_only_where_it_is_wanted(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config("test=false"), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(phasewise.training.run, "Session", None)
        train(config("test=false"), tmp_path)
        train(config("test=auto"), tmp_path, trial=True)
    train(config("test=true"), tmp_path, trial=True)
    assert record_of(tmp_path).test is not None
    monkeypatch.setattr(phasewise.training.run, "Session", None)
    train(config(), tmp_path)


def test_data_without_a_test_split_are_not_read_again(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config("test=false"), tmp_path)
    path = tmp_path / "record.json"
    content = json.loads(path.read_text())
    content["data"]["counts"]["test"] = 0
    path.write_text(json.dumps(content))
    monkeypatch.setattr(phasewise.training.run, "Session", None)
    train(config(), tmp_path)


def test_the_last_weights_are_tested_where_no_epoch_was_best(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MultitaskModule.compute_metrics

    def scores(self: MultitaskModule, stage: str) -> dict[str, float]:
        return original(self, stage) | {"mIoU": float("nan")}

    monkeypatch.setattr(MultitaskModule, "compute_metrics", scores)
    words = "trainer.max_epochs=2"
    train(config(words, "test=true"), tmp_path / "once")
    train(config(words), tmp_path / "late", trial=True)
    train(config(words), tmp_path / "late")
    late = record_of(tmp_path / "late").test
    assert late == record_of(tmp_path / "once").test
    assert late is not None
    assert late["test/loss"] > 0


def test_a_checkpoint_that_is_gone_is_told_and_nothing_is_changed(
    config: Make, tmp_path: Path
) -> None:
    train(config(), tmp_path, trial=True)
    before = (tmp_path / "record.json").read_bytes()
    (tmp_path / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(UserError, match=r"best.ckpt is gone: without it this run cannot be tested"):
        train(config(), tmp_path)
    assert (tmp_path / "record.json").read_bytes() == before


def test_memory_that_runs_out_leaves_the_run_completed(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config(), tmp_path, trial=True)

    def too_much(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(MultitaskModule, "test_step", too_much)
    with pytest.raises(OutOfMemoryError, match="needs less"):
        train(config(), tmp_path)
    assert (record_of(tmp_path).status, record_of(tmp_path).test) == ("completed", None)
