"""``trainer.log_every_n_steps``: losses of single steps, each once, whatever happens to the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from phasewise.records.history import read_history
from phasewise.records.steps import FILE, append_steps, cut_steps, read_steps
from phasewise.training.run import train
from phasewise.training.steps import StepLog
from tests.phasewise.training.directory import timeless, weights

Make = Callable[..., DictConfig]
EACH = "trainer.log_every_n_steps=1"


def table(directory: Path) -> list[dict[str, float]]:
    found = read_steps(directory)
    assert found is not None
    return found.to_dict("records")


def test_their_means_are_the_losses_of_the_epochs(config: Make, tmp_path: Path) -> None:
    train(config(EACH, "trainer.max_epochs=2"), tmp_path)
    rows = table(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]  # 8 images, 4 in a batch
    assert [row["epoch"] for row in rows] == [0.5, 1, 1.5, 2]
    for epoch, both in zip(read_history(tmp_path), (rows[:2], rows[2:]), strict=True):
        for name in ("train/loss", "train/loss/segmentation", "train/loss/detection"):
            mean = sum(row[name] for row in both) / 2
            assert mean == pytest.approx(epoch[name], rel=1e-6)
    events = EventAccumulator(str(tmp_path)).Reload()
    logged = {event.step: event.value for event in events.Scalars("train/loss_step")}
    assert logged == pytest.approx({row["step"]: row["train/loss"] for row in rows})


def test_nothing_is_kept_by_default_and_nothing_computed_differs(
    config: Make, tmp_path: Path
) -> None:
    for name, words in (("off", ()), ("on", (EACH,))):
        train(config("model.dropout_rate=0.3", *words), tmp_path / name)
    assert not (tmp_path / "off" / FILE).exists()
    assert timeless(tmp_path / "on") == timeless(tmp_path / "off")
    mine, other = weights(tmp_path / "on"), weights(tmp_path / "off")
    assert all(torch.equal(mine[key], other[key]) for key in other)


def test_accumulated_batches_are_one_step(config: Make, tmp_path: Path) -> None:
    words = ("trainer.accumulate_grad_batches=2", "data.batch_size=2", "trainer.max_epochs=2")
    train(config("trainer.log_every_n_steps=2", *words), tmp_path)
    assert [(row["step"], row["epoch"]) for row in table(tmp_path)] == [(2, 1), (4, 2)]


@pytest.mark.slow
def test_a_run_that_goes_on_has_each_step_once(config: Make, tmp_path: Path) -> None:
    words = (EACH, "trainer.max_epochs=3")
    train(config(*words), tmp_path / "whole")
    train(config(*words, "trainer.pause_after=1"), tmp_path / "parts")
    with (tmp_path / "parts" / FILE).open("a") as file:  # of an epoch that a kill has cut short
        file.write("3,1.5,9,9,9\n4,2.0,9")
    train(config(*words), tmp_path / "parts")
    assert table(tmp_path / "parts") == table(tmp_path / "whole")


def test_steps_that_are_done_again_are_forgotten(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        append_steps(tmp_path, ["train/loss"], [[step, step / 2, 0.1 * step]])
    cut_steps(tmp_path, 2)
    assert [row["step"] for row in table(tmp_path)] == [1, 2]
    cut_steps(tmp_path, 0)
    assert read_steps(tmp_path) is None


@pytest.mark.parametrize("text", ["", "step,epoch,train/loss\n", "a,b\n1,2\n", "\0\n"])
def test_what_is_no_table_of_steps_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert read_steps(tmp_path) is None


class Plain(L.LightningModule):
    """Somebody's own, whose loss is the number of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.weight.sum() * 0 + batch.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("parts", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [1.5, 3.5, 5])], ids=["each", "two"]
)
def test_the_loss_of_a_module_of_somebody_elses(
    tmp_path: Path, parts: int, expected: list[float]
) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=parts,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[StepLog(tmp_path, 1)],
    )
    trainer.fit(Plain(), DataLoader(torch.arange(1.0, 6), batch_size=1))  # type: ignore[arg-type]
    assert [row["train/loss"] for row in table(tmp_path)] == pytest.approx(expected)
