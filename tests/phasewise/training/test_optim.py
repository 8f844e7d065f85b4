from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader

from phasewise.training.module import TaskModule
from phasewise.training.optim import DEFAULTS, build_optimizer, build_schedulers
from tests.conftest import ROOT

OBJECTIVE = {"metric": "val/mIoU", "mode": "max"}
LR = 0.5
BATCHES = 3
"""Batches per epoch of the fits below."""


class _Toy(TaskModule):
    """One parameter, and validation metrics that are given: a list per name, a value per epoch."""

    def __init__(self, config: dict[str, Any], metrics: dict[str, list[float]]) -> None:
        super().__init__((), **config, monitor="val/mIoU", mode="max")
        self.weight = nn.Parameter(torch.zeros(1))
        self.metrics = metrics
        self.rates: list[list[float]] = []
        """Learning rate of each batch, epoch by epoch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not batch_idx:
            self.rates.append([])
        self.rates[-1].append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    def on_validation_epoch_end(self) -> None:
        for name, values in self.metrics.items():
            self.log(name, values[self.current_epoch])


_Toy.__abstractmethods__ = frozenset()  # it has no network, losses or pictures


def _fit(
    scheduler: dict[str, Any],
    epochs: int,
    metrics: dict[str, list[float]] | None = None,
    **trainer: Any,
) -> list[list[float]]:
    """The learning rates of a real fit, batch by batch."""
    config = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": LR},
        "scheduler": scheduler,
    }
    module = _Toy(config, metrics or {"val/mIoU": [0.5] * epochs})  # type: ignore[abstract]
    loader: Any = DataLoader(range(BATCHES), batch_size=1)  # type: ignore[arg-type]
    with warnings.catch_warnings(action="ignore"):
        L.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **trainer,
        ).fit(module, loader, loader)
    return module.rates


def _steps(config: dict[str, Any], total_steps: int, epochs: int) -> list[float]:
    """The learning rates of ``total_steps`` optimizer steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    schedulers = build_schedulers(
        config,
        optimizer,
        total_steps=total_steps,
        epoch_steps=max(total_steps // epochs, 1),
        objective=OBJECTIVE,
    )
    rates = []
    for _ in range(total_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            if scheduler["interval"] == "step":
                scheduler["scheduler"].step()
    return rates


def _rise(step: int, steps: int) -> float:
    return LR * (0.01 + 0.99 * step / steps)


def _between(start: float, end: float, share: float) -> float:
    """Cosine interpolation."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _flat(rates: list[list[float]]) -> list[float]:
    return [rate for epoch in rates for rate in epoch]


# Curves


def test_none_is_constant() -> None:
    assert _flat(_fit({"name": "none", "warmup_epochs": 0}, 2)) == [LR] * 6


def test_warmup_alone() -> None:
    found = _flat(_fit({"name": "none", "warmup_epochs": 2}, 3))
    assert found == pytest.approx([_rise(step, 6) for step in range(6)] + [LR] * 3)


@pytest.mark.parametrize("warmup_epochs", [0, 1, 2])
def test_cosine(warmup_epochs: int) -> None:
    config = {"name": "cosine", "warmup_epochs": warmup_epochs, "min_lr": 0.1}
    found = _flat(_fit(config, 4))
    rise = BATCHES * warmup_epochs
    wanted = [_rise(step, rise) for step in range(rise)]
    wanted += [_between(LR, 0.1, step / (12 - rise)) for step in range(12 - rise)]
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("epochs", [9, -1])
def test_epochs_of_a_schedule_are_epochs_where_steps_end_a_run(epochs: int) -> None:
    """An epoch and two steps, whatever the number of epochs that never come."""
    values, end = {"val/mIoU": [0.5] * 9}, BATCHES + 2
    cosine = {"name": "cosine", "warmup_epochs": 1, "min_lr": 0.1}
    wanted = [_rise(step, BATCHES) for step in range(BATCHES)]
    wanted += [_between(LR, 0.1, step / 2) for step in range(2)]
    assert _flat(_fit(cosine, epochs, values, max_steps=end)) == pytest.approx(wanted)
    steps = {"name": "multistep", "warmup_epochs": 0, "milestones": [1], "gamma": 0.1}
    wanted = [LR] * BATCHES + [0.1 * LR] * 2
    assert _flat(_fit(steps, epochs, values, max_steps=end)) == pytest.approx(wanted)
    first, second, *_ = _fit(steps, epochs, values, max_steps=3, accumulate_grad_batches=2)
    assert first + second[:1] == pytest.approx([LR] * BATCHES + [0.1 * LR])


@pytest.mark.parametrize("warmup_epochs", [0, 1, 2])
def test_milestones_are_epochs_from_the_start(warmup_epochs: int) -> None:
    config = {
        "name": "multistep",
        "warmup_epochs": warmup_epochs,
        "milestones": [3, 5],
        "gamma": 0.1,
    }
    found = _fit(config, 6)
    rise = BATCHES * warmup_epochs
    assert _flat(found)[:rise] == pytest.approx([_rise(step, rise) for step in range(rise)])
    wanted = [[LR] * 3] * 3 + [[LR * 0.1] * 3] * 2 + [[LR * 0.01] * 3]
    assert _flat(found)[rise:] == pytest.approx(_flat(wanted)[rise:])


def test_milestones_within_the_warmup_are_not_lost() -> None:
    config = {"name": "multistep", "warmup_epochs": 2, "milestones": [1, 2, 3], "gamma": 0.1}
    found = _fit(config, 4)
    assert found[2] == pytest.approx([LR * 0.01] * 3)
    assert found[3] == pytest.approx([LR * 0.001] * 3)


def test_one_cycle() -> None:
    """Up until step .4 * 15 - 1 = 5 from a 25th of the rate, down to a 250,000th of it."""
    found = _flat(_fit({"name": "onecycle", "warmup_fraction": 0.4}, 5))
    wanted = [_between(LR / 25, LR, step / 5) for step in range(6)]
    wanted += [_between(LR, LR / 25e4, step / 9) for step in range(1, 10)]
    assert found == pytest.approx(wanted)


def test_accumulated_batches_make_fewer_steps() -> None:
    """Two steps per epoch of three batches: of two, and of the one that is left."""
    config = {"name": "multistep", "warmup_epochs": 1, "milestones": [2], "gamma": 0.1}
    found = _fit(config, 3, accumulate_grad_batches=2)
    assert found[0] == pytest.approx([_rise(0, 2), _rise(0, 2), _rise(1, 2)])
    assert found[1:] == [pytest.approx([LR] * 3), pytest.approx([LR * 0.1] * 3)]


def test_one_cycle_ends_with_the_last_step_whatever_is_left_of_an_epoch() -> None:
    """Two steps per epoch of three batches; up until step .5 * 8 - 1 = 3."""
    config = {"name": "onecycle", "warmup_fraction": 0.5}
    found = _fit(config, 4, accumulate_grad_batches=2)
    wanted = [_between(LR / 25, LR, step / 3) for step in range(4)]
    wanted += [_between(LR, LR / 25e4, step / 4) for step in range(1, 5)]
    steps = [rates for first, _, last in found for rates in (first, last)]
    assert steps == pytest.approx(wanted)


# Plateau


def _plateau(**settings: Any) -> dict[str, Any]:
    known = {"warmup_epochs": 0, "monitor": None, "mode": None, "patience": 1, "min_lr": 0.0}
    return {"name": "plateau", "factor": 0.1, **known, **settings}


def _per_epoch(rates: list[list[float]]) -> list[float]:
    assert all(min(epoch) == max(epoch) for epoch in rates)
    return [epoch[0] for epoch in rates]


RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
CALM = [0.5] * 6


@pytest.mark.parametrize(
    ("settings", "metrics", "cuts"),
    [
        # the first value is the best, the next is one epoch without improvement, then a cut
        ({}, {"val/mIoU": CALM, "val/loss": RISING}, [0, 0, 0, 1, 1, 2]),
        ({}, {"val/mIoU": RISING, "val/loss": RISING}, [0] * 6),
        ({}, {"val/mIoU": RISING[::-1], "val/loss": CALM}, [0, 0, 0, 1, 1, 2]),
        ({"patience": 0}, {"val/mIoU": CALM}, [0, 0, 1, 2, 3, 4]),
        ({"patience": 3}, {"val/mIoU": CALM}, [0, 0, 0, 0, 0, 1]),
        (
            {"monitor": "val/loss", "mode": "min"},
            {"val/mIoU": CALM, "val/loss": RISING[::-1]},
            [0] * 6,
        ),
        (
            {"monitor": "val/loss", "mode": "min"},
            {"val/mIoU": RISING, "val/loss": RISING},
            [0, 0, 0, 1, 1, 2],
        ),
        ({"mode": "min"}, {"val/mIoU": RISING}, [0, 0, 0, 1, 1, 2]),
        ({}, {"val/mIoU": [0.5, 0.5, 0.6, 0.6, 0.6, 0.6]}, [0, 0, 0, 0, 0, 1]),
        ({}, {"val/mIoU": [math.nan] * 6}, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_plateau_watches_the_right_metric(
    settings: dict[str, Any], metrics: dict[str, list[float]], cuts: list[int]
) -> None:
    found = _per_epoch(_fit(_plateau(**settings), 6, metrics))
    assert found == pytest.approx([LR * 0.1**cut for cut in cuts])


def test_plateau_factor_and_floor() -> None:
    config = _plateau(factor=0.5, min_lr=0.2, patience=0)
    found = _per_epoch(_fit(config, 5, {"val/mIoU": CALM}))
    assert found == pytest.approx([LR, LR, 0.25, 0.2, 0.2])


def test_plateau_counts_validations() -> None:
    """An epoch without one is no sign of a plateau."""
    found = _fit(_plateau(), 6, {"val/mIoU": CALM}, check_val_every_n_epoch=2)
    assert _per_epoch(found) == [LR] * 6
    found = _fit(_plateau(patience=0), 6, {"val/mIoU": CALM}, check_val_every_n_epoch=2)
    assert _per_epoch(found) == pytest.approx([LR] * 4 + [LR * 0.1] * 2)


def test_plateau_after_a_warmup() -> None:
    found = _fit(_plateau(warmup_epochs=2), 5, {"val/mIoU": CALM})
    assert _flat(found[:2]) == pytest.approx([_rise(step, 6) for step in range(6)])
    assert _flat(found[2:]) == pytest.approx([LR] * 3 + [LR * 0.1] * 6)


# Short runs, odd settings

SCHEDULERS: list[dict[str, Any]] = [
    {"name": "none", "warmup_epochs": 0},
    {"name": "none", "warmup_epochs": 1},
    {"name": "cosine", "warmup_epochs": 0, "min_lr": 0.0},
    {"name": "cosine", "warmup_epochs": 1, "min_lr": 0.0},
    {"name": "multistep", "warmup_epochs": 0, "milestones": [1, 2], "gamma": 0.1},
    {"name": "multistep", "warmup_epochs": 1, "milestones": [1, 2], "gamma": 0.1},
    {"name": "onecycle", "warmup_fraction": 0.3},
    {"name": "onecycle", "warmup_fraction": 0.5},
    _plateau(),
    _plateau(warmup_epochs=1),
]


@pytest.mark.parametrize("config", SCHEDULERS, ids=str)
@pytest.mark.parametrize(("total_steps", "epochs"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_short_runs(config: dict[str, Any], total_steps: int, epochs: int) -> None:
    rates = _steps(config, total_steps, epochs)
    assert len(rates) == total_steps
    assert all(0 < rate <= LR for rate in rates)
    assert max(rates) >= LR / 25  # it does learn


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 10, 20, 100])
def test_one_cycle_of_every_share(steps: int) -> None:
    """Among them those whose rise ends with the first step, where torch divides by zero."""
    for share in (0.001, 1 / steps, 0.01, 0.1, 0.2, 0.25, 0.3, 0.5, 2 / steps, 0.99):
        rates = _steps({"name": "onecycle", "warmup_fraction": min(share, 0.999)}, steps, 1)
        peak = rates.index(max(rates))
        assert all(a < b for a, b in pairwise(rates[: peak + 1]))
        assert all(a > b for a, b in pairwise(rates[peak:]))
        assert all(0 < rate <= LR for rate in rates)


# Optimizers


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "amsgrad", "adamw"])
@pytest.mark.parametrize("scheduler", ["onecycle", "cosine"])
def test_schedules_leave_all_but_the_rate_alone(
    name: str, scheduler: str, make_config: Callable[..., DictConfig]
) -> None:
    cfg = make_config(f"optimizer={name}", f"scheduler={scheduler}")
    groups = [
        {"params": [nn.Parameter(torch.ones(1))]},
        {"params": [nn.Parameter(torch.ones(1))], "weight_decay": 0.0},
    ]
    optimizer = build_optimizer(OmegaConf.to_container(cfg.optimizer), groups)  # type: ignore[arg-type]
    fixed = ("betas", "momentum", "alpha", "weight_decay", "amsgrad", "nesterov")
    before = [{k: group[k] for k in fixed if k in group} for group in optimizer.param_groups]
    (found,) = build_schedulers(
        OmegaConf.to_container(cfg.scheduler),  # type: ignore[arg-type]
        optimizer,
        total_steps=10,
        epoch_steps=1,
        objective=OBJECTIVE,
    )
    for _ in range(5):
        optimizer.step()
        found["scheduler"].step()
    assert [{k: g[k] for k in fixed if k in g} for g in optimizer.param_groups] == before
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[0] == rates[1] != cfg.optimizer.lr
    assert optimizer.param_groups[1]["weight_decay"] == 0


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adam", torch.optim.Adam, {"lr": 1e-3, "weight_decay": 0.0, "amsgrad": False}),
        ("amsgrad", torch.optim.Adam, {"lr": 1e-3, "amsgrad": True}),
        ("adamw", torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 1e-4}),
        ("sgd", torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9, "nesterov": False}),
        ("rmsprop", torch.optim.RMSprop, {"lr": 1e-3, "alpha": 0.99, "momentum": 0.0}),
    ],
)
def test_optimizers_by_name(
    name: str, kind: type, settings: dict[str, Any], make_config: Callable[..., DictConfig]
) -> None:
    config: Any = OmegaConf.to_container(make_config(f"optimizer={name}").optimizer)
    optimizer = build_optimizer(config, [{"params": [nn.Parameter(torch.ones(1))]}])
    assert type(optimizer) is kind
    assert settings.items() <= optimizer.param_groups[0].items()


def test_a_key_of_the_optimizer_reaches_it(make_config: Callable[..., DictConfig]) -> None:
    cfg = make_config("optimizer=sgd", "optimizer.lr=0.3", "optimizer.momentum=0.4")
    config: Any = OmegaConf.to_container(cfg.optimizer)
    group = build_optimizer(config, [{"params": [nn.Parameter(torch.ones(1))]}]).param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.3, 0.4)


def test_one_cycle_keeps_the_ratio_of_groups() -> None:
    slow, fast = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [fast], "lr": 0.4}, {"params": [slow], "lr": 0.1}])
    (entry,) = build_schedulers(
        {"name": "onecycle", "warmup_fraction": 0.3},
        optimizer,
        total_steps=20,
        epoch_steps=1,
        objective=OBJECTIVE,
    )
    rates = []
    for _ in range(20):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        entry["scheduler"].step()
    assert all(a == pytest.approx(4 * b) for a, b in rates)
    assert max(a for a, _ in rates) == pytest.approx(0.4, rel=0.02)


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_config_files(name: str) -> None:
    file = OmegaConf.load(ROOT / "conf" / "scheduler" / f"{name}.yaml")
    assert OmegaConf.to_container(file) == {"name": name, **DEFAULTS[name]}
