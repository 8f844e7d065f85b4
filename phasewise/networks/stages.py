"""A network around a backbone: the backbone's stages, and how it is kept as it is for a while."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

LEAST_STAGES = 4
"""A backbone of fewer parts is looked into for its stages."""


class AroundBackbone(nn.Module):
    """A network that computes maps by a backbone, and all else from these.

    While the backbone is frozen it is in eval mode, its batch norms' statistics included, and gets
    no gradients, so optimizers pass it by. Its parameters still require gradients: DDP leaves out
    for ever those that do not when it is set up, and the ranks' backbones would drift apart later.
    DDP must look for unused parameters then (``trainer.strategy=ddp_find_unused_parameters_true``).
    """

    frozen = False

    def inner_backbone(self) -> nn.Module | None:
        """What pretrained weights are of; None: there is no such part."""
        found: nn.Module | None = getattr(self, "backbone", None)
        return found

    def maps(self, images: Tensor) -> Any:
        """What the backbone makes of images, without a graph behind it while it is frozen."""
        backbone = self.inner_backbone()
        assert backbone is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return backbone(images)

    def freeze_backbone(self, frozen: bool) -> None:
        """Keep the backbone as it is, or train it again; see above."""
        self.frozen = frozen
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training or eval mode, the latter always for a frozen backbone."""
        super().train(mode)
        if self.frozen and (backbone := self.inner_backbone()) is not None:
            backbone.eval()
        return self


def added_names(backbone: nn.Module) -> tuple[str, ...]:
    """Prefixes of the parameters of a backbone that no weights file of it has."""
    return tuple(getattr(backbone, "added", ()))


def stages(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """The trained parameters of a backbone by stage, the stem first.

    Stages are the backbone's children in their order; of a plain transformer, its blocks. Children
    are opened, the largest first, until there are enough: libraries wrap their networks. What was
    added to a backbone (see `added_names`) is new and belongs to none.
    """
    prefixes = added_names(backbone)
    new = {p for name, p in backbone.named_parameters() if prefixes and name.startswith(prefixes)}
    parts: list[tuple[list[nn.Parameter], nn.Module]] = [([], backbone)]
    while len(found := _joined(parts, new)) < LEAST_STAGES:
        sizes = [sum(p.numel() for p in _trained(module, new)) for _, module in parts]
        largest = sizes.index(max(sizes))
        bare, module = parts[largest]
        inner = [child for child in module.children() if _trained(child, new)]
        if not inner:
            break
        # A class token or a table of positions belongs to what comes first.
        bare = bare + _trained(module, new, recurse=False)
        parts[largest : largest + 1] = [(bare, inner[0]), *(([], child) for child in inner[1:])]
    return found


def _trained(
    module: nn.Module, new: Collection[nn.Parameter], recurse: bool = True
) -> list[nn.Parameter]:
    return [p for p in module.parameters(recurse) if p.requires_grad and p not in new]


def _joined(
    parts: Sequence[tuple[list[nn.Parameter], nn.Module]], new: Collection[nn.Parameter]
) -> list[list[nn.Parameter]]:
    """The parameters of each part; a norm goes with the part before it."""
    found: list[list[nn.Parameter]] = []
    for bare, module in parts:
        own = bare + _trained(module, new)
        if found and all(p.ndim < 2 for p in own):
            found[-1] += own
        else:
            found.append(own)
    return found


def groups_by_stage(
    groups: Sequence[dict[str, Any]],
    backbone: nn.Module,
    *,
    lr: float,
    backbone_lr_factor: float,
    layer_decay: float,
) -> list[dict[str, Any]]:
    """Parameter groups with learning rates of their own, as torch's optimizers take them.

    Of each group what is no part of the backbone comes first, with ``lr`` unless it has one; then
    the backbone's stages from the last one down to the stem, the k-th of them (from 0) with ``lr *
    backbone_lr_factor * layer_decay**k``. Clark et al. 2020, "ELECTRA", use such rates for
    fine-tuning.

    Args:
        groups: what is trained; a group's other options hold for all that is made of it.
        backbone: see `stages`.
        lr: of all else, > 0.
        backbone_lr_factor: > 0.
        layer_decay: in (0, 1].
    """
    by_depth = list(reversed(stages(backbone)))
    inside = {p for stage in by_depth for p in stage}
    found = []
    for group in groups:
        own = list(group["params"])
        if rest := [p for p in own if p not in inside]:
            found.append({"lr": lr, **group, "params": rest})
        kept = set(own)
        for depth, stage in enumerate(by_depth):
            if part := [p for p in stage if p in kept]:
                rate = lr * backbone_lr_factor * layer_decay**depth
                found.append({**group, "params": part, "lr": rate})
    return found
