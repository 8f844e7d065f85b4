"""One training from its config to its record: what it leaves and how it ends."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import phasewise.training.logs
import phasewise.training.run
from multitask.module import MultitaskModule
from phasewise.errors import DivergedError, OutOfMemoryError, UserError
from phasewise.records.history import read_history
from phasewise.records.record import read_record
from phasewise.training.callbacks import shows_progress
from phasewise.training.run import train
from tests.conftest import ROOT, TINY
from tests.phasewise.training.directory import assert_same_run, record_of, weights
from tests.voc_folder import VocFolder

Make = Callable[..., DictConfig]
pytestmark = pytest.mark.usefixtures("interrupts")


@pytest.fixture(scope="module")
def done(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, for whoever only looks at it."""
    directory = tmp_path_factory.mktemp("done")
    cfg = make_config(*TINY, "trainer.max_epochs=2", "figures.images=2", "data.test_images=3")
    train(cfg, directory, overrides=["trainer.max_epochs=2"])
    return directory


# What a run leaves


def test_the_record_says_what_the_run_was_and_what_came_of_it(done: Path) -> None:
    content = json.loads((done / "record.json").read_text())
    assert list(content)[:3] == ["schema", "status", "error"]
    assert (content["schema"], content["status"], content["error"]) == (1, "completed", None)
    assert (content["task"], content["seed"]) == ("multitask", 0)
    assert content["overrides"] == ["trainer.max_epochs=2"]
    assert len(content["fingerprint"]) == 16
    assert content["headline"] == ["mIoU", "mAP", "mAP50", "pixel_acc"]
    rows = read_history(done)
    best = max(rows, key=lambda row: row["val/mIoU"])
    assert content["objective"] == {
        "metric": "val/mIoU",
        "mode": "max",
        "value": best["val/mIoU"],
        "epoch": best["epoch"],
    }
    assert content["best"] == {key: value for key, value in best.items() if "/" in key}
    assert content["last"] == {key: value for key, value in rows[-1].items() if "/" in key}
    assert 0 < content["test"]["test/pixel_acc"] < 1
    assert content["baselines"]["majority"].keys() >= {"val/mIoU", "val/pixel_acc"}
    assert content["baselines"]["mean_box"].keys() >= {"val/mAP", "val/mAP50"}
    cost = content["cost"]
    assert cost["epochs"] == 2
    assert cost["seconds"] > 2 * cost["seconds_per_epoch"] > 0
    assert all(cost[key] > 0 for key in ("images_per_second", "peak_memory_mb", "checkpoint_mb"))
    assert cost["parameters"] == sum(
        value.numel()
        for key, value in weights(done).items()
        if key.startswith("network.") and not key.endswith(("mean", "var", "tracked"))
    )
    environment = content["environment"]
    assert environment["torch"] == torch.__version__.partition("+")[0]
    assert {"python", "lightning", "torchmetrics", "git", "machine", "device"} <= set(environment)
    assert (environment["precision"], environment.get("precision_asked")) == ("32-true", None)
    assert str(ROOT) not in json.dumps(environment)
    data = content["data"]
    assert data["counts"] == {"train": 8, "val": 4, "test": 3}
    assert (data["rejected"], data["warnings"]) == ([], [])
    assert len(data["split_hash"]) == 16


def test_metrics_have_a_row_per_epoch_with_training_and_validation_on_it(done: Path) -> None:
    with (done / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "2"), ("2", "4")]
    for row in rows:
        assert all(float(row[key]) >= 0 for key in ("seconds", "lr", "train/loss", "val/loss"))
        assert 0 <= float(row["val/mIoU"]) <= 1
    assert rows[0]["train/loss"] != rows[1]["train/loss"]
    assert not any(key.startswith("test/") for key in rows[0])


def test_checkpoints_hold_plain_containers_and_what_is_needed_to_use_them(done: Path) -> None:
    for name in ("best", "last"):
        path = done / "checkpoints" / f"{name}.ckpt"
        content = torch.load(path, map_location="cpu", weights_only=True)
        assert content["phasewise"]["config"]["trainer"]["max_epochs"] == 2
        assert content["phasewise"]["info"]["image_size"] == 32
    assert "optimizer_states" not in torch.load(
        done / "checkpoints" / "best.ckpt", weights_only=True
    )
    assert len(list((done / "checkpoints").iterdir())) == 2


def test_figures_and_events_are_written(done: Path) -> None:
    figures = {path.name for path in (done / "figures").iterdir()}
    names = ("best", "worst", "test_best", "test_worst", "curves")
    assert figures == {f"{name}.png" for name in names}
    assert all((done / "figures" / name).stat().st_size > 5000 for name in figures)
    events = EventAccumulator(str(done))
    events.Reload()
    summary = {tag for tag in events.Tags()["scalars"] if tag.startswith("best/")}
    assert "best/val/mIoU" in summary and "best/val/loss" not in summary  # of a tab, few columns
    assert set(events.Tags()["images"]) == set(names)
    for name in names:
        (event,) = events.Images(name)
        picture = (done / "figures" / f"{name}.png").read_bytes()
        assert event.encoded_image_string == picture
        assert (event.width, event.height) == Image.open(io.BytesIO(picture)).size


def test_no_figures_without_images_to_draw(config: Make, tmp_path: Path) -> None:
    train(config(), tmp_path)
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("test", "trial", "evaluated"),
    [("auto", False, True), ("auto", True, False), ("true", True, True), ("false", False, False)],
)
def test_who_looks_at_the_test_split(
    config: Make, tmp_path: Path, test: str, trial: bool, evaluated: bool
) -> None:
    train(config(f"test={test}"), tmp_path, trial=trial)
    assert (record_of(tmp_path).test is not None) == evaluated


def test_deterministic_kernels_are_asked_for_and_no_longer_than_the_run(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = MultitaskModule.on_train_batch_start

    def spy(self: MultitaskModule, batch: Any, batch_idx: int) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())
        original(self, batch, batch_idx)

    monkeypatch.setattr(MultitaskModule, "on_train_batch_start", spy)
    for wanted in ("true", "false"):
        train(config(f"trainer.deterministic={wanted}"), tmp_path / wanted)
    assert seen == [True, True, False, False]
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_progress_bar_only_for_somebody_who_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    def shown(wanted: bool) -> bool:
        return shows_progress({"enable_progress_bar": wanted})

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert shown(True)
    assert not shown(False)
    monkeypatch.setattr(sys, "stderr", None)  # closed, as a daemon's
    assert not shown(True)


# Which epoch counts


def test_the_best_epoch_is_kept_and_tested_not_the_last(
    config: Make, tmp_path: Path, scripted: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(0.25, 0.75, 0.5)
    tested: dict[str, Tensor] = {}
    monkeypatch.setattr(
        MultitaskModule,
        "on_test_start",
        lambda self: tested.update({k: v.clone() for k, v in self.state_dict().items()}),
    )
    assert train(config("trainer.max_epochs=3"), tmp_path) == 0.75
    record = record_of(tmp_path)
    assert (record.objective["value"], record.objective["epoch"]) == (0.75, 2)
    assert (record.best["val/mIoU"], record.last["val/mIoU"]) == (0.75, 0.5)
    assert record.best["train/loss"] == read_history(tmp_path)[1]["train/loss"]
    best, last = weights(tmp_path, "best"), weights(tmp_path, "last")
    assert not all(torch.equal(best[key], last[key]) for key in best)
    assert all(torch.equal(best[key], tested[key]) for key in best)


def test_the_last_epoch_is_kept_where_that_is_wanted(
    config: Make, tmp_path: Path, scripted: Callable[..., None]
) -> None:
    scripted(0.25, 0.75, 0.5)
    assert train(config("trainer.max_epochs=3", "objective.keep=last"), tmp_path) == 0.5
    record = record_of(tmp_path)
    assert (record.objective["value"], record.objective["epoch"]) == (0.5, 3)
    best, last = weights(tmp_path, "best"), weights(tmp_path, "last")
    assert all(torch.equal(best[key], last[key]) for key in best)


def test_an_objective_that_is_better_when_lower(config: Make, tmp_path: Path) -> None:
    words = ("objective.metric=val/loss", "objective.mode=min", "scheduler=none")
    cfg = config(*words, "optimizer=sgd", "optimizer.lr=1.0", "trainer.max_epochs=4")
    value = train(cfg, tmp_path)
    losses = [row["val/loss"] for row in read_history(tmp_path)]
    assert value == min(losses) < max(losses)
    assert record_of(tmp_path).objective["epoch"] == losses.index(min(losses)) + 1
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == losses.index(min(losses))


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        ((), 6),
        (("early_stopping.patience=1",), 3),
        (("early_stopping.patience=2",), 4),
        (("early_stopping.patience=1", "early_stopping.min_delta=0.05"), 2),
    ],
)
def test_a_run_stops_when_nothing_gets_better(
    config: Make, tmp_path: Path, scripted: Callable[..., None], words: list[str], epochs: int
) -> None:
    scripted(0.30, 0.31, 0.31, 0.29, 0.28, 0.27)
    train(config("trainer.max_epochs=6", *words), tmp_path)
    assert record_of(tmp_path).cost["epochs"] == epochs
    if epochs > 2:
        assert record_of(tmp_path).objective["epoch"] == 2


def test_an_objective_that_is_undefined_throughout_is_told(
    config: Make,
    tmp_path: Path,
    scripted: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    scripted(float("nan"))
    with caplog.at_level(logging.WARNING):
        assert train(config(), tmp_path) is None
    assert "val/mIoU is undefined in every epoch" in caplog.text
    assert record_of(tmp_path).status == "completed"


# The same again


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_augmentation_counts(
    config: Make, tmp_path: Path
) -> None:
    lists = {"a": "[flip]", "again": "[flip]", "none": "[]", "more": "[flip,scale]"}
    for name, augment in lists.items():
        train(config(f"data.augment={augment}", "trainer.max_epochs=2"), tmp_path / name)
    assert_same_run(tmp_path / "a", tmp_path / "again")
    losses = [read_history(tmp_path / name)[1]["train/loss"] for name in ("a", "none", "more")]
    assert len(set(losses)) == 3


def test_a_completed_run_is_left_alone(
    done: Path, make_config: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    monkeypatch.setattr(phasewise.training.run, "Session", None)
    words = ("trainer.max_epochs=2", "data.test_images=3")
    with caplog.at_level(logging.INFO):
        value = train(make_config(*TINY, *words), done)
    assert value == record_of(done).objective["value"]
    assert "holds this run already, completed" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*")} == before


def test_a_run_of_another_config_is_not_overwritten(done: Path, make_config: Make) -> None:
    before = (done / "record.json").read_bytes()
    with pytest.raises(UserError, match=r"other settings"):
        train(make_config(*TINY, "optimizer.lr=0.1"), done)
    assert (done / "record.json").read_bytes() == before


def test_a_run_that_never_trained_does_not_keep_its_directory(
    config: Make, tmp_path: Path, broken: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context():
        broken(1, RuntimeError("at once"))
        with pytest.raises(RuntimeError):
            train(config(), tmp_path)
    monkeypatch.undo()
    train(config("seed=1"), tmp_path)
    assert (record_of(tmp_path).status, record_of(tmp_path).seed) == ("completed", 1)


def test_data_that_were_mended_find_their_directory_free(make_config: Make, tmp_path: Path) -> None:
    voc = VocFolder(tmp_path / "voc")
    words = ("data=voc", f"data.root={voc.root}", "data.image_size=32", "data.batch_size=4")
    tiny = [word for word in TINY if not word.startswith("data.")]
    cfg = make_config(*tiny, *words, f"data.cache_dir={tmp_path / 'cache'}")
    whole = voc.image("val-0").read_bytes()
    voc.image("val-0").write_bytes(whole[:-200])
    with pytest.raises(UserError, match=r"val-0.* cannot be decoded"):
        train(cfg, tmp_path / "run")
    voc.image("val-0").write_bytes(whole)
    train(cfg, tmp_path / "run")
    assert record_of(tmp_path / "run").status == "completed"
    voc.annotate("val-1", xmin=5)
    with pytest.raises(UserError, match=r"other data \(val: 2 samples there, 2 now"):
        train(cfg, tmp_path / "run")


# How a run ends early


def test_a_failure_keeps_its_traceback_in_the_log_and_off_the_console(
    config: Make,
    tmp_path: Path,
    broken: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    handler = logging.FileHandler(tmp_path / "run.log")
    logging.getLogger().addHandler(handler)
    broken(2, RuntimeError("something broke"))
    try:
        with pytest.raises(RuntimeError, match="something broke"):
            train(config("trainer.max_epochs=3"), tmp_path)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    record = record_of(tmp_path)
    assert (record.status, record.error) == ("failed", "RuntimeError: something broke")
    assert record.cost["epochs"] == 1  # what was reached stays
    assert record.objective["value"] == read_history(tmp_path)[0]["val/mIoU"]
    assert record.baselines
    log = (tmp_path / "run.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "raise error" in log
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_training_loss_that_explodes_is_divergence(config: Make, tmp_path: Path) -> None:
    words = ("optimizer=sgd", "optimizer.lr=1e12", "scheduler=none")
    cfg = config(*words, "trainer.gradient_clip_val=null", "trainer.max_epochs=5")
    with pytest.raises(DivergedError, match=r"train/loss became (nan|inf) in epoch \d; a smaller"):
        train(cfg, tmp_path)
    record = record_of(tmp_path)
    assert record.status == "diverged"
    assert "optimizer.lr" in str(record.error)
    assert record.is_final


def test_a_single_bad_validation_batch_is_not_averaged_away(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MultitaskModule.losses

    def losses(self: MultitaskModule, batch: dict[str, Tensor]) -> Any:
        outputs, terms = original(self, batch)
        if not self.training and 0 in batch["index"]:
            terms = {name: term * float("nan") for name, term in terms.items()}
        return outputs, terms

    monkeypatch.setattr(MultitaskModule, "losses", losses)
    with pytest.raises(DivergedError, match="val/loss became nan"):
        train(config("data.batch_size=2"), tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore lines"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_told_and_given_back(
    config: Make,
    tmp_path: Path,
    broken: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    broken(1, error)
    modules: list[weakref.ref] = []
    original = MultitaskModule.__init__

    @wraps(original)  # what a run gives it, its signature says
    def remember(self: MultitaskModule, **arguments: Any) -> None:
        original(self, **arguments)
        modules.append(weakref.ref(self))

    monkeypatch.setattr(MultitaskModule, "__init__", remember)
    with pytest.raises(OutOfMemoryError) as caught:  # which keeps the error, as a sweep does
        train(config(), tmp_path)
    assert [module() for module in modules] == [None]
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{type(error).__name__}: ")
    assert lines[1] == "a smaller data.batch_size, data.image_size or model.backbone needs less"
    assert len(lines) == 2
    assert record_of(tmp_path).status == "out_of_memory"


def test_batch_norm_with_a_single_value_is_told(config: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.batch_size=1 .* leave batch norm a single value"):
        train(config("data.batch_size=1"), tmp_path)
    assert record_of(tmp_path).status == "failed"


def test_an_event_writer_that_is_stuck_keeps_no_run_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (logger,) = phasewise.training.logs.build_loggers({}, "multitask", tmp_path)
    monkeypatch.setattr(phasewise.training.logs, "CLOSING_SECONDS", 0.05)
    never = threading.Event()
    monkeypatch.setattr(logger.experiment, "close", lambda: never.wait(20))
    begin = time.monotonic()
    logger.finalize("failed")
    assert time.monotonic() - begin < 5
    never.set()


def test_float16_is_replaced_on_a_processor_and_that_is_told(
    config: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("trainer.precision=16-mixed", "trainer.accelerator=cpu", "+trainer.fast_dev_run=true")
    with caplog.at_level(logging.WARNING):
        train(config(*words), tmp_path)
    told = "trainer.precision=16-mixed: wants a GPU; this run computes in bf16-mixed"
    assert caplog.messages == [told]  # and nothing of Lightning's beside it
    record = read_record(tmp_path)
    assert record is not None
    assert record.environment["precision"] == "bf16-mixed"
    assert record.environment["precision_asked"] == "16-mixed"
