"""`phasewise.lightning.RecordCallback`: one line in a script of nobody's."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

import phasewise
from phasewise.errors import DivergedError, UserError
from phasewise.lightning import RecordCallback
from tests.conftest import ROOT

SCRIPT = Path(__file__).with_name("foreign_script.py")
VALUES = [0.3, 0.5, 0.4]


class Scripted(L.LightningModule):
    """Logs what it is told."""

    def __init__(self, name: str = "val/acc", fault: BaseException | None = None) -> None:
        super().__init__()
        self.save_hyperparameters("name")
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.fault = fault
        self.train_losses: list[float] = []

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        if self.fault is not None and self.current_epoch == 2:
            raise self.fault
        loss = (self.weight * batch[0].mean()).pow(2).sum()
        self.train_losses.append(float(loss.detach()))
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log(self.hparams["name"], VALUES[min(self.current_epoch, 2)])

    def test_step(self, batch: Any, index: int) -> None:
        self.log("test_acc", 0.45)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


LOADER = DataLoader(TensorDataset(torch.arange(8.0)[:, None] / 8), 4)


def trainer(record: RecordCallback, **more: Any) -> L.Trainer:
    settings = {"max_epochs": 3, "logger": False, "enable_checkpointing": False} | more
    silent = {"enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", callbacks=[record], **settings, **silent)


def content(directory: Path) -> dict[str, Any]:
    found = json.loads((directory / "record.json").read_text())
    assert isinstance(found, dict)
    return found


def fit(directory: Path, module: Scripted | None = None, **more: Any) -> L.Trainer:
    found = trainer(RecordCallback("val/acc", directory=directory), **more)
    found.fit(module or Scripted(), LOADER, LOADER)
    return found


def test_a_fit_is_a_run(tmp_path: Path) -> None:
    module = Scripted()
    fit(tmp_path, module).test(module, LOADER, verbose=False)
    record = content(tmp_path)
    assert (record["status"], record["error"]) == ("completed", None)
    assert record["objective"] == {
        "metric": "val/acc",
        "mode": "max",
        "value": pytest.approx(0.5),
        "epoch": 2,
    }
    losses = [fmean(module.train_losses[2 * i : 2 * i + 2]) for i in range(3)]
    assert record["best"] == {
        "train/loss": pytest.approx(losses[1]),
        "val/acc": pytest.approx(0.5),
    }
    assert record["test"] == {"test/acc": pytest.approx(0.45)}
    assert (record["cost"]["parameters"], record["cost"]["epochs"]) == (3, 3)
    assert record["overrides"] == ["name=val/acc", "trainer.max_epochs=3"]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [float(row["val/acc"]) for row in rows] == pytest.approx(VALUES)
    assert [float(row["train/loss"]) for row in rows] == pytest.approx(losses)
    assert [(row["step"], row["lr"]) for row in rows] == [
        ("2", "0.01"),
        ("4", "0.01"),
        ("6", "0.01"),
    ]
    assert set(rows[0]) == {"epoch", "step", "seconds", "lr", "train/loss", "val/acc"}


def test_epochs_without_validation_have_none_of_its_values(tmp_path: Path) -> None:
    fit(tmp_path, check_val_every_n_epoch=2)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [row["val/acc"] != "" for row in csv.DictReader(file)] == [False, True, False]
    assert content(tmp_path)["objective"]["epoch"] == 2


@pytest.mark.parametrize(("asked", "logged"), [("val/acc", "val_acc"), ("val_acc", "val_acc")])
def test_old_names_are_found(asked: str, logged: str, tmp_path: Path) -> None:
    record = RecordCallback(asked, directory=tmp_path)
    trainer(record).fit(Scripted(logged), LOADER, LOADER)
    assert content(tmp_path)["objective"]["metric"] == asked
    assert content(tmp_path)["best"][asked] == pytest.approx(0.5)
    assert record.run.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (ValueError("no such layer"), "failed", "ValueError: no such layer"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory", "OutOfMemoryError: CUDA"),
        (KeyboardInterrupt(), "interrupted", "stopped from outside"),
    ],
)
def test_what_ends_a_fit_early_is_recorded(
    fault: BaseException, status: str, said: str, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises((type(fault), SystemExit)):
            fit(tmp_path, Scripted(fault=fault))
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores it from then on
    record = content(tmp_path)
    assert (record["status"], record["cost"]["epochs"]) == (status, 2)
    assert record["error"].startswith(said)
    assert record["best"]["val/acc"] == pytest.approx(0.5)


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path) -> None:
    module = Scripted()
    with torch.no_grad():
        module.weight[0] = torch.nan
    with pytest.raises(DivergedError, match=r"train/loss became nan in epoch 1"):
        fit(tmp_path, module)
    assert content(tmp_path)["status"] == "diverged"


def test_an_objective_that_nobody_logs_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"never logged, but .*did you mean val/acc2"):
        fit(tmp_path, Scripted("val/acc2"))
    assert content(tmp_path)["status"] == "failed"


def test_other_settings_are_refused_and_the_same_run_anew(tmp_path: Path) -> None:
    fit(tmp_path)
    before = content(tmp_path)
    with pytest.raises(UserError, match="holds a run of other settings"):
        fit(tmp_path, max_epochs=4)
    assert content(tmp_path) == before
    fit(tmp_path)
    assert content(tmp_path)["cost"]["epochs"] == 3


def test_evaluation_alone(tmp_path: Path) -> None:
    fit(tmp_path / "a")
    again = trainer(RecordCallback("val/acc", directory=tmp_path / "a"))
    again.test(Scripted(), LOADER, verbose=False)  # another process
    assert content(tmp_path / "a")["test"] == {"test/acc": pytest.approx(0.45)}
    assert content(tmp_path / "a")["cost"]["epochs"] == 3
    one = trainer(RecordCallback("val/acc", directory=tmp_path / "b"))
    one.validate(Scripted(), LOADER, verbose=False)
    assert content(tmp_path / "b")["best"] == {"val/acc": pytest.approx(0.3)}
    assert content(tmp_path / "b")["status"] == "completed"
    none = trainer(RecordCallback("val/acc", directory=tmp_path / "c"))
    none.test(Scripted(), LOADER, verbose=False)
    assert not (tmp_path / "c").exists()


def test_without_a_directory_it_is_the_loggers(tmp_path: Path) -> None:
    found = trainer(RecordCallback("val/acc"), logger=CSVLogger(tmp_path))
    found.fit(Scripted(), LOADER, LOADER)
    place = Path(found.log_dir)
    assert content(place.with_name("version_0_record"))["status"] == "completed"
    found = trainer(RecordCallback("val/acc"), default_root_dir=tmp_path / "root")
    found.fit(Scripted(), LOADER, LOADER)
    assert content(tmp_path / "root")["status"] == "completed"


def test_checkpoints_elsewhere_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit(tmp_path / "run", enable_checkpointing=True, default_root_dir="root")
    (file,) = (tmp_path / "root").rglob("*.ckpt")
    assert content(tmp_path / "run")["checkpoints"] == {"best": str(file)}
    assert phasewise.load(tmp_path / "run").best.checkpoint == file


def test_fast_dev_run_leaves_nothing(tmp_path: Path) -> None:
    fit(tmp_path / "out", fast_dev_run=True)
    assert not (tmp_path / "out").exists()


def call(*words: str) -> int:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *words]
    return subprocess.run(command, env=environment, check=False, capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_a_killed_script_goes_on_and_is_as_if_never_killed(package: str, tmp_path: Path) -> None:
    assert call(package, str(tmp_path / "whole"), "6") == 0
    killed = tmp_path / "killed"
    assert call(package, str(killed), "6", "4") == -signal.SIGKILL
    assert content(killed)["status"] == "running"
    assert phasewise.load(killed).trials.loc[0, "status"] == "running"
    assert call(package, str(killed), "6") == 0
    whole, found = content(tmp_path / "whole"), content(killed)
    for key in ("status", "objective", "best", "last", "test", "overrides", "seed", "fingerprint"):
        assert found[key] == whole[key], key
    columns = ["epoch", "step", "train/loss", "train/norm", "val/loss", "val/score"]
    one, other = (phasewise.load(it).history[columns] for it in (killed, tmp_path / "whole"))
    assert one.equals(other)
    assert len(one) == 6
    assert one["train/loss"].notna().all()  # the epoch that the checkpoint ends, too
    assert one["val/score"].notna().tolist() == [False, True] * 3
    assert whole["cost"]["parameters"] == 7
    assert whole["cost"]["trained_parameters"] == 3
    assert phasewise.load(killed).best.checkpoint == killed / whole["checkpoints"]["best"]
    assert phasewise.load(killed).best.checkpoint.is_file()


APPLICATION = """
import hydra
import lightning as L
from omegaconf import DictConfig
import test_record_callback as parts

@hydra.main(config_path=".", config_name="app", version_base="1.3")
def main(cfg: DictConfig) -> None:
    record = hydra.utils.instantiate(cfg.callback)
    parts.trainer(record, max_epochs=cfg.epochs).fit(parts.Scripted(), parts.LOADER, parts.LOADER)

main()
"""


@pytest.mark.slow
def test_in_a_job_of_hydra(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    target = "{_target_: phasewise.lightning.RecordCallback, objective: val/acc, mode: max}"
    (tmp_path / "app.yaml").write_text(f"epochs: 1\nseed: 4\ncallback: {target}\n")
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    command = [sys.executable, "app.py", "hydra.run.dir=out", "epochs=2"]
    environment = os.environ | {"PYTHONPATH": path}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    record = content(tmp_path / "out")
    assert (record["status"], record["overrides"], record["seed"]) == ("completed", ["epochs=2"], 4)
    assert (record["task"], record["objective"]["epoch"]) == ("app", 2)
