"""How weights that came with a run are fine-tuned: settings, learning rates, and a frozen backbone.

What is validated and kept, `phasewise.training.averaging` sees to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor, nn

from phasewise.config.help import not_one_of
from phasewise.errors import UserError
from phasewise.networks.stages import AroundBackbone, added_names, groups_by_stage

Came = Literal["nothing", "backbone", "network"]
"""Which weights came with a run: none, those of the backbone, or all of the network's."""


@dataclass(frozen=True)
class Finetuning:
    """The settings, checked; by default they leave a training as it is.

    Attributes:
        freeze_epochs: so many epochs train all but the backbone, >= 0 (LP-FT, Kumar et al. 2022).
        backbone_lr_factor: learning rate of the backbone's last stage as a share of
            ``optimizer["lr"]``, > 0.
        layer_decay: by which each earlier stage learns slower, 0 < factor <= 1.
        l2_sp: alpha >= 0 of ``alpha / 2 * |w - w0|^2`` over the weights that came with the run,
            which joins the loss (L2-SP, Li et al. 2018).
        ema: decay of an exponential moving average of the weights, 0 < decay < 1; None: none.
        interpolate: share of the fine-tuned weights, 0 to 1, where the others are those that came
            with the run (WiSE-FT, Wortsman et al. 2022); several: validation chooses; None: none.

    Raises:
        ValueError: a value out of its range.
    """

    freeze_epochs: int = 0
    backbone_lr_factor: float = 1.0
    layer_decay: float = 1.0
    l2_sp: float = 0.0
    ema: float | None = None
    interpolate: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        factor, shares = self.backbone_lr_factor, self.shares
        wrong = {
            "freeze_epochs must be >= 0": self.freeze_epochs < 0,
            "backbone_lr_factor must be > 0 and finite": not 0 < factor < math.inf,
            "layer_decay must be in (0, 1]": not 0 < self.layer_decay <= 1,
            "l2_sp must be >= 0 and finite": not 0 <= self.l2_sp < math.inf,
            "ema must be in (0, 1) or None": self.ema is not None and not 0 < self.ema < 1,
            "interpolate must be in [0, 1], several of them, or None": self.interpolate is not None
            and not (shares and all(0 <= share <= 1 for share in shares)),
        }
        for text in (text for text, found in wrong.items() if found):
            raise ValueError(f"finetuning: {text}, got {getattr(self, text.partition(' ')[0])!r}")

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Finetuning:
        """From a mapping, whose missing keys have their defaults.

        Raises:
            UserError: an unknown key.
            ValueError: a value out of its range.
        """
        known = [field.name for field in fields(cls)]
        for key in settings or {}:
            if key not in known:
                raise UserError(f"finetuning.{key}: {not_one_of(key, known)}")
        return cls(**(settings or {}))

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the fine-tuned weights, largest first."""
        given = self.interpolate
        several = given if isinstance(given, Sequence) else [] if given is None else [given]
        return tuple(sorted({float(share) for share in several}, reverse=True))

    @property
    def averages(self) -> bool:
        """Whether what is validated and kept is not what was trained."""
        return self.ema is not None or bool(self.shares)

    @property
    def copies(self) -> int:
        """How many states of the network a checkpoint to go on from holds besides the first."""
        return self.averages + (self.ema is not None)

    @property
    def has_rates(self) -> bool:
        """Whether stages of the backbone have learning rates of their own."""
        return not self.backbone_lr_factor == self.layer_decay == 1

    def groups(
        self, groups: Sequence[dict[str, Any]], network: nn.Module, optimizer: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Parameter groups with the rates of stages, see `groups_by_stage`.

        Raises:
            UserError: the network has no backbone, or the optimizer no ``lr`` to take shares of.
        """
        key = "backbone_lr_factor" if self.layer_decay == 1 else "layer_decay"
        if "lr" not in optimizer:
            raise UserError(
                f"finetuning.{key} is a share of the learning rate: optimizer must have an 'lr'"
            )
        return groups_by_stage(
            groups,
            backbone_of(network, key),
            lr=optimizer["lr"],
            backbone_lr_factor=self.backbone_lr_factor,
            layer_decay=self.layer_decay,
        )

    def freeze(self, network: nn.Module, epoch: int) -> None:
        """Train all but the backbone in the first epochs.

        Raises:
            UserError: the network has no backbone, or cannot keep it as it is.
        """
        backbone_of(network, "freeze_epochs")
        if not isinstance(network, AroundBackbone):
            raise UserError(
                f"finetuning.freeze_epochs: {type(network).__name__} must be derived from "
                "phasewise.networks.stages.AroundBackbone, which can freeze its backbone"
            )
        network.freeze_backbone(epoch < self.freeze_epochs)


def backbone_of(network: nn.Module, key: str) -> nn.Module:
    """The part of a network that pretrained weights are of.

    Args:
        network: an `AroundBackbone`, or any with a module ``backbone``.
        key: of ``finetuning``, that wants it.

    Raises:
        UserError: there is none.
    """
    if (found := _backbone(network)) is None:
        raise UserError(f"finetuning.{key}: this {type(network).__name__} has no backbone")
    return found


def _backbone(network: nn.Module) -> nn.Module | None:
    if isinstance(network, AroundBackbone):
        return network.inner_backbone()
    found = getattr(network, "backbone", None)
    return found if isinstance(found, nn.Module) else None


def weights_that_came(network: nn.Module, came: Came, key: str) -> dict[str, Tensor]:
    """The weights that a run starts from, and does not draw: parameters and statistics by name,
    copies on the CPU or wherever they are.

    Of a pretrained backbone, what was added to it and is new is left out.

    Args:
        network: before its first step.
        came: which they are.
        key: of ``finetuning``, that wants them.

    Raises:
        UserError: none came.
    """
    state = network.state_dict(keep_vars=True)
    names = list(state)
    if came == "nothing":
        raise UserError(
            f"finetuning.{key}: no weights came with this run; pretrained (model.pretrained) or "
            "another run's (init_from) do"
        )
    if came == "backbone":
        backbone = backbone_of(network, key)
        new = added_names(backbone)
        inner = backbone.state_dict(keep_vars=True).items()
        inside = {id(value) for name, value in inner if not (new and name.startswith(new))}
        names = [name for name in names if id(state[name]) in inside]
    return {name: state[name].detach().clone() for name in names if state[name].is_floating_point()}


def distance(network: nn.Module, start: Mapping[str, Tensor]) -> Tensor | None:
    """The squared distance of the trained weights from where they started, ``|w - w0|^2``.

    Statistics of batch norms are no weights. A frozen backbone is where it was: its weights are
    left out, for a gradient of zero would let the optimizer decay them.

    Args:
        network: whose weights they are.
        start: tensors by name, see `weights_that_came`.

    Returns:
        A scalar; None where no such weight is trained.
    """
    still: set[int] = set()
    if isinstance(network, AroundBackbone) and network.frozen:
        backbone = network.inner_backbone()
        still = {id(p) for p in backbone.parameters()} if backbone is not None else set()
    parts = [
        (parameter - start[name].to(parameter.device)).square().sum()
        for name, parameter in network.named_parameters()
        if name in start and parameter.requires_grad and id(parameter) not in still
    ]
    return sum(parts[1:], parts[0]) if parts else None
