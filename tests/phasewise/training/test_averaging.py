"""Averages and interpolation: what is validated and kept, against the same by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from localization.module import LocalizationModule
from phasewise.records.history import read_history
from phasewise.training.checkpoints import read_checkpoint
from phasewise.training.finetuning import distance
from phasewise.training.run import train
from tests.phasewise.training.directory import assert_same_run, record_of

Make = Callable[..., DictConfig]
State = dict[str, Tensor]

SMALL: dict[str, Any] = {"backbone": "test_resnet", "image_size": 64, "dropout_rate": 0.0}


def small_loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 64, 64, generator=generator)
    boxes = torch.tensor([[8.0, 8.0, 40.0, 48.0]]).repeat(6, 1)
    rows = [{"image": image, "box": box} for image, box in zip(images, boxes, strict=True)]
    return DataLoader(rows, batch_size=2)  # type: ignore[arg-type]


class Watch(Callback):
    """The network's weights after each step, and those that are validated."""

    def __init__(self) -> None:
        self.steps: list[State] = []
        self.validated: list[State] = []

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.steps.append(copied(module))

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.steps.append(copied(module))

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.validated.append(copied(module))


def copied(module: Any) -> State:
    return {name: value.clone() for name, value in module.network.state_dict().items()}


def fitted(module: LocalizationModule, tmp_path: Path) -> tuple[Watch, State]:
    """What was watched, and the weights of the last checkpoint."""
    watch = Watch()
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[watch],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, small_loader(), small_loader())
    (file,) = tmp_path.rglob("*.ckpt")
    state = torch.load(file, weights_only=True)["state_dict"]
    kept = {name.removeprefix("network."): it for name, it in state.items() if "network." in name}
    return watch, kept


def assert_equal(found: State, wanted: State) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


def averaged_by_hand(steps: list[State], decay: float) -> State:
    average = {name: value.clone() for name, value in steps[0].items()}
    for n, state in enumerate(steps[1:], 1):
        d = min(decay, (1 + n) / (10 + n))
        for name, value in state.items():
            whole = not value.is_floating_point()
            average[name] = value if whole else d * average[name] + (1 - d) * value
    return average


def test_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    module = LocalizationModule(**SMALL, finetuning={"ema": 0.3})
    watch, kept = fitted(module, tmp_path)
    assert len(watch.steps) == 7
    assert_equal(watch.validated[0], averaged_by_hand(watch.steps[:4], 0.3))
    wanted = averaged_by_hand(watch.steps, 0.3)
    assert_equal(watch.validated[1], wanted)
    assert_equal(kept, wanted)
    assert_equal(copied(module), wanted)
    assert any(not torch.equal(wanted[name], watch.steps[-1][name]) for name in wanted)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_interpolation_is_between_the_weights_that_came_and_those_of_training(
    tmp_path: Path, ema: float | None
) -> None:
    module = LocalizationModule(**SMALL, finetuning={"interpolate": 0.25, "ema": ema})
    module.came = "backbone"
    watch, kept = fitted(module, tmp_path)
    start, trained = watch.steps[0], watch.steps[-1]
    if ema is not None:
        trained = averaged_by_hand(watch.steps, ema)
    wanted = {
        name: torch.lerp(start[name], value, 0.25)
        if name.startswith("backbone.") and value.is_floating_point()
        else value
        for name, value in trained.items()
    }
    assert any(name.startswith("backbone.") for name in wanted)
    assert_equal(kept, wanted)
    assert_equal(copied(module), wanted)


def test_training_goes_on_with_its_own_weights(tmp_path: Path) -> None:
    """The steps are those of a training without averages, to the last bit."""
    torch.manual_seed(0)
    plain = LocalizationModule(**SMALL)
    torch.manual_seed(0)
    averaged = LocalizationModule(**SMALL, finetuning={"ema": 0.9, "interpolate": 0.5})
    averaged.came = "network"
    one, _ = fitted(plain, tmp_path / "plain")
    other, _ = fitted(averaged, tmp_path / "averaged")
    for a, b in zip(one.steps, other.steps, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_l2_sp_is_half_of_the_squared_distance(tmp_path: Path) -> None:
    module = LocalizationModule(**SMALL, finetuning={"l2_sp": 0.3})
    module.came = "backbone"
    module.setup("fit")
    weights = {n: p for n, p in module.network.named_parameters() if n.startswith("backbone.")}
    with torch.no_grad():
        for weight in weights.values():
            weight.add_(0.01 * torch.randn_like(weight))
    batch = next(iter(small_loader()))
    module.eval()
    module.training_step(batch, 0).backward()
    found = {name: weight.grad for name, weight in module.network.named_parameters()}
    module.zero_grad(set_to_none=True)
    module.finetuning = type(module.finetuning)()
    module.training_step(batch, 0).backward()
    far = distance(module.network, module.start)
    assert far is not None
    explicit = sum((w - module.start[n]).square().sum() for n, w in weights.items())
    torch.testing.assert_close(far, explicit)
    for name, weight in module.network.named_parameters():
        pull = 0.3 * (weight - module.start[name]).detach() if name in weights else 0.0
        before = 0.0 if weight.grad is None else weight.grad
        if found[name] is not None:
            torch.testing.assert_close(found[name], before + pull, rtol=1e-4, atol=1e-6)


LOCAL = ("task=localization", "trainer.max_epochs=3", "model.backbone=test_resnet", "test=false")


@pytest.fixture
def started(make_config: Make, tmp_path: Path) -> Path:
    """The directory of a run to start from."""
    train(make_config(*LOCAL), tmp_path / "start")
    return tmp_path / "start"


@pytest.mark.slow
def test_validation_chooses_among_several_shares(
    make_config: Make, tmp_path: Path, started: Path
) -> None:
    """Rows, record and best weights agree, and no single share would have validated better."""
    words = [*LOCAL, f"init_from={started}", "optimizer.lr=3e-2", "trainer.max_epochs=1"]
    shares = [0.0, 0.5, 1.0]
    alone = {}
    for share in shares:
        cfg = make_config(*words, f"finetuning.interpolate={share}")
        train(cfg, tmp_path / str(share))
        alone[share] = record_of(tmp_path / str(share)).objective["value"]
    train(make_config(*words, f"finetuning.interpolate={shares}"), tmp_path / "several")
    record = record_of(tmp_path / "several")
    (row,) = read_history(tmp_path / "several")
    best = max(alone.values())
    assert record.objective["value"] == best == row["val/IoU"]
    chosen = row["val/finetuned_share"]
    assert record.best["val/finetuned_share"] == chosen
    assert alone[chosen] == best
    assert len(set(alone.values())) > 1
    before, kept = (
        read_checkpoint(folder)["state_dict"] for folder in (started, tmp_path / "several")
    )
    if chosen == 0:
        assert all(torch.equal(before[n], it) for n, it in kept.items() if "num_batches" not in n)


@pytest.mark.slow
def test_a_continued_run_ends_as_if_it_had_not_been_interrupted(
    make_config: Make, tmp_path: Path, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*LOCAL, f"init_from={started}", "finetuning.ema=0.8", "trainer.max_epochs=4"]
    cfg = make_config(*words, "finetuning.interpolate=[0.3,0.7,1]", "finetuning.l2_sp=0.01")
    train(cfg, tmp_path / "whole")
    original = LocalizationModule.training_step

    def step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)

    monkeypatch.setattr(LocalizationModule, "training_step", step)
    with pytest.raises(KeyboardInterrupt):
        train(cfg, tmp_path / "parts")
    monkeypatch.setattr(LocalizationModule, "training_step", original)
    train(cfg, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
