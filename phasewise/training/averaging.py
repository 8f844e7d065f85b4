"""What is validated and kept need not be what was trained: averages, and shares of the start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.training.evaluating import evaluating

SHARE = "finetuned_share"
"""Under ``val/`` the share that validation has chosen, in the rows of the history."""

State = dict[str, Tensor]

TaskModule = Any
"""One of `phasewise.training.module`, which makes this callback."""


class Averaging(Callback):
    """Puts other weights into the network while it is validated, and those that train back.

    - With ``finetuning.ema``, an exponential moving average of the weights, after each optimizer
      step ``average = d * average + (1 - d) * weights`` with ``d = min(ema, (1 + n) / (10 + n))``
      at step n from 1. It begins with the weights of the start; the warm-up of d is that of
      TensorFlow's ``ExponentialMovingAverage``, so that short runs are not averaged with their
      start.
    - With ``finetuning.interpolate``, ``share * fine-tuned + (1 - share) * start`` of the weights
      that came with the run (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"); what
      was drawn at the start, such as a head, stays as it was trained. Of several shares, each is
      measured by the objective on the validation split at each validation, and the best one taken;
      of equal ones the largest.
    - Of both, the average is what is interpolated.

    Statistics of batch norms are averaged and interpolated as weights are; integers are those of
    training. Any checkpoint holds what was validated as its weights. A training that goes on does
    so with what stands in the state of this callback.

    Args:
        metric: of the objective, with its split.
        mode: ``max`` or ``min``.
    """

    def __init__(self, metric: str, mode: str) -> None:
        self.metric, self.mode = metric, mode
        self.share: float | None = None
        self._updates = self._step = 0
        self._average: State | None = None
        self._training: State | None = None
        self._is_over = False

    def on_train_start(self, trainer: L.Trainer, module: TaskModule) -> None:
        """Begin the average; go on with the weights of training where a run is continued."""
        self._is_over = False
        if self._training is not None:
            _put(module, self._training)
            self._training = None
        shares = module.finetuning.shares
        if self.share is None and shares:
            self.share = shares[0]
        if module.finetuning.ema is not None:
            state = _state(module)
            self._average = {
                name: it.to(state[name].device)
                for name, it in (self._average or _copy(module)).items()
                if it.is_floating_point()
            }
            self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: TaskModule, *_: Any) -> None:
        """Bring the average up to date after an optimizer step."""
        if self._average is None or trainer.global_step == self._step:
            return
        self._step, self._updates = trainer.global_step, self._updates + 1
        decay = min(module.finetuning.ema or 0.0, (1 + self._updates) / (10 + self._updates))
        state = _state(module)
        with torch.no_grad():
            torch._foreach_lerp_(
                [*self._average.values()], [state[name] for name in self._average], 1 - decay
            )

    def on_validation_start(self, trainer: L.Trainer, module: TaskModule) -> None:
        """Put in what is validated."""
        if trainer.state.fn != TrainerFn.FITTING:
            return  # the weights of a checkpoint are those already
        self._training = _copy(module)
        if len(module.finetuning.shares) > 1:
            self._choose(trainer, module)
        _put(module, self._evaluated(module))

    def on_validation_epoch_end(self, trainer: L.Trainer, module: TaskModule) -> None:
        """Say which share was chosen."""
        if self._training is not None and len(module.finetuning.shares) > 1:
            module.log(f"val/{SHARE}", float(self.share or 0.0))

    def on_validation_end(self, trainer: L.Trainer, module: TaskModule) -> None:
        """Put the weights of training back."""
        if self._training is not None:
            _put(module, self._training)
            self._training = None

    def on_train_end(self, trainer: L.Trainer, module: TaskModule) -> None:
        """Whoever uses the module after training uses what was validated."""
        _put(module, self._evaluated(module))
        self._is_over = True

    def _evaluated(self, module: TaskModule) -> State:
        """The state of the network that is validated and kept."""
        found = _state(module) if self._training is None else {**self._training}
        if self._is_over:
            return found
        found |= self._average or {}
        if self.share is not None:
            for name, start in module.start.items():
                found[name] = torch.lerp(start.to(found[name]), found[name], self.share)
        return found

    def _choose(self, trainer: L.Trainer, module: TaskModule) -> None:
        """The share whose weights score best on validation data."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, StoreDataModule):
            raise UserError(
                "finetuning.interpolate: validation chooses between several shares on data of this "
                "project's readers only; name one share"
            )
        sign = 1.0 if self.mode == "max" else -1.0
        scores = {}
        for share in module.finetuning.shares:
            self.share = share
            _put(module, self._evaluated(module))
            value = sign * self._score(trainer, module, data)
            scores[share] = -math.inf if math.isnan(value) else value  # which never wins
        self.share = max(scores, key=lambda share: scores[share])

    def _score(self, trainer: L.Trainer, module: TaskModule, data: StoreDataModule) -> float:
        rows = data.evaluated_rows("val")[trainer.global_rank :: trainer.world_size]
        with evaluating(trainer, module):
            for index in rows.split(data.batch_size):
                if len(index):
                    module.evaluate(data.prepared("val", index, module.device))
            scores = module.epoch_metrics("val")
        if self.metric not in scores:
            raise UserError(f"finetuning.interpolate: {self.metric} is not known in validation")
        return scores[self.metric]

    @contextmanager
    def put_in(self, module: TaskModule) -> Iterator[None]:
        """What is validated is in the network while this lasts."""
        training = _copy(module)
        _put(module, self._evaluated(module))
        try:
            yield
        finally:
            _put(module, training)

    def keep(self, module: TaskModule, checkpoint: dict[str, Any]) -> None:
        """Make what is validated the weights of a checkpoint; one to go on from has both."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state is not None:
            state["training"] = _copy(module)
        prefixed = {f"network.{name}": it for name, it in self._evaluated(module).items()}
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **prefixed}

    def state_dict(self) -> dict[str, Any]:
        """Where the average and the choice stand."""
        return {"share": self.share, "updates": self._updates, "average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of a run that is continued."""
        self.share, self._updates = state_dict["share"], state_dict["updates"]
        self._average, self._training = state_dict["average"], state_dict["training"]


def _state(module: TaskModule) -> State:
    """Of the network: what a task fits to validation data beside it stays as it is."""
    return {name: value.detach() for name, value in module.network.state_dict().items()}


def _copy(module: TaskModule) -> State:
    return {name: value.clone() for name, value in _state(module).items()}


@torch.no_grad()
def _put(module: TaskModule, state: Mapping[str, Tensor]) -> None:
    for name, value in _state(module).items():
        value.copy_(state[name])
