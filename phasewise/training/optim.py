"""Optimizers and learning-rate schedules, on torch's own parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from phasewise.config.optim_schema import ForeignScheduler, foreign_schedule
from phasewise.config.signatures import OPTIMIZERS, TARGET
from phasewise.config.targets import accepted, build

DEFAULTS: dict[str, dict[str, Any]] = {
    "none": {"warmup_epochs": 0},
    "plateau": {"warmup_epochs": 0, "monitor": None, "mode": None}
    | {"factor": 0.1, "patience": 3, "min_lr": 0.0},
    "cosine": {"warmup_epochs": 0, "min_lr": 0.0},
    "multistep": {"warmup_epochs": 0, "milestones": [10, 15], "gamma": 0.1},
    "onecycle": {"warmup_fraction": 0.3},
}
"""Of each schedule, as in ``conf/scheduler``."""

WARMUP_START = 0.01
"""Share of the learning rate that a warm-up begins with."""


def build_optimizer(config: Mapping[str, Any], groups: list[dict[str, Any]]) -> Optimizer:
    """The optimizer of the config over groups of parameters, as torch takes them.

    Raises:
        UserError: one of a user's own cannot be made.
    """
    if config[TARGET] in OPTIMIZERS:
        return instantiate(config, _partial_=True)(groups)
    found: Optimizer = build(config, groups, where="optimizer", kind=Optimizer)
    return found


def states_per_weight(config: Mapping[str, Any]) -> int:
    """How many numbers the optimizer of the config keeps of each weight, as a step shows."""
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.zeros(2)
    optimizer = build_optimizer(config, [{"params": [weight]}])
    try:
        optimizer.step(lambda: 0.0)
    except Exception:  # one of a user's own may want more than a gradient
        return 2
    kept = optimizer.state[weight].values()
    return sum(isinstance(it, Tensor) and it.shape == weight.shape for it in kept)


def build_schedulers(
    config: Mapping[str, Any],
    optimizer: Optimizer,
    *,
    total_steps: int,
    epoch_steps: int,
    objective: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The schedule of the config as Lightning wants it: a list of scheduler dictionaries.

    Args:
        config: ``name`` and the settings of that schedule (``conf/scheduler``), each of which has a
            default, see `DEFAULTS`.
        optimizer: whose learning rate moves.
        total_steps: optimizer steps of the whole run.
        epoch_steps: optimizer steps of an epoch; the last one of a run may have fewer.
        objective: ``metric`` and ``mode``, what ``plateau`` watches by default.
    """
    if TARGET in config:
        return [_foreign(foreign_schedule(config), optimizer, objective)]
    name = config["name"]
    config = {**DEFAULTS[name], **config}
    if name == "onecycle":
        return [_each_step(_one_cycle(optimizer, total_steps, config["warmup_fraction"]))]
    warmup = min(config["warmup_epochs"] * epoch_steps, total_steps - 1)
    if name == "plateau":
        return _plateau(config, optimizer, warmup, objective)
    main: LRScheduler | None = None
    if name == "cosine":
        main = CosineAnnealingLR(optimizer, total_steps - warmup, eta_min=config["min_lr"])
    elif name == "multistep":
        steps = [m * epoch_steps - warmup for m in config["milestones"]]
        main = MultiStepLR(optimizer, steps, config["gamma"])
    if not warmup:
        return [_each_step(main)] if main else []
    rise = _warmup(optimizer, warmup)
    return [_each_step(SequentialLR(optimizer, [rise, main], [warmup]) if main else rise)]


def _one_cycle(optimizer: Optimizer, total_steps: int, share: float) -> OneCycleLR:
    steps = max(total_steps, 2)  # OneCycleLR wants at least a step on either side of its peak,
    if share * steps == 1:
        share *= 1.001  # and divides by share * steps - 1, the step of the peak
    return OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        steps,
        pct_start=share,
        cycle_momentum=False,  # by default it moves the momentum: optimizer.momentum would be dead
    )


def _warmup(optimizer: Optimizer, steps: int) -> LinearLR:
    return LinearLR(optimizer, start_factor=WARMUP_START, total_iters=steps)


def _plateau(
    config: Mapping[str, Any], optimizer: Optimizer, warmup: int, objective: Mapping[str, str]
) -> list[dict[str, Any]]:
    plateau = ReduceLROnPlateau(
        optimizer,
        mode="max" if (config["mode"] or objective["mode"]) == "max" else "min",
        factor=config["factor"],
        patience=config["patience"],
        min_lr=config["min_lr"],
    )
    watched = {
        "scheduler": plateau,
        "interval": "epoch",
        "monitor": config["monitor"] or objective["metric"],
        "strict": False,  # on epochs without validation there is nothing to watch
    }
    # LinearLR multiplies the current rate, so it goes along with the plateau's cuts.
    return [_each_step(_warmup(optimizer, warmup)), watched] if warmup else [watched]


def _foreign(
    config: dict[str, Any], optimizer: Optimizer, objective: Mapping[str, str]
) -> dict[str, Any]:
    """Any class, as Lightning wants it. It steps once an epoch unless its ``interval`` says so."""
    config = dict(config)
    beside = {key: config.pop(key) for key in ForeignScheduler.LIGHTNINGS if key in config}
    by_objective = beside.get("monitor") in (None, objective["metric"])
    better: dict[str, Any] = {"mode": objective["mode"]} if by_objective else {}
    better = {key: better[key] for key in accepted(config[TARGET], better)}
    scheduler = build(config, optimizer, where="scheduler", **better)
    found = {"scheduler": scheduler, "interval": "epoch", **beside}
    if isinstance(scheduler, ReduceLROnPlateau):
        # on epochs without validation there is nothing to watch
        found |= {"monitor": beside.get("monitor") or objective["metric"], "strict": False}
    return found


def _each_step(scheduler: LRScheduler) -> dict[str, Any]:
    return {"scheduler": scheduler, "interval": "step"}
