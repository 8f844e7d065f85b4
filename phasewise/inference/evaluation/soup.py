"""One network whose weights are the mean of several: a greedy model soup.

Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy
without increasing inference time", 2022 (arXiv:2203.05482), recipe 1. It needs networks that
training has led from one start into one basin; those that went elsewhere are not taken, because
the validation objective of the average falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Step:
    """A network that was tried.

    Attributes:
        member: its place among those that were given.
        alone: its own validation objective.
        average: that of the average of those taken so far with it; of the first its own.
        taken: whether it stayed.
    """

    member: int
    alone: float
    average: float
    taken: bool


def average(weights: Sequence[Weights]) -> dict[str, Tensor]:
    """The mean of each tensor, computed in float64; of counters (integers) the first's.

    Statistics of batch norms are averaged like weights here, for `renew_batch_norms` to replace.

    Args:
        weights: of each network, by name; all of the same names and shapes.
    """
    first = weights[0]
    return {
        name: torch.stack([one[name].double() for one in weights]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


def greedy(
    alone: Sequence[float], score: Callable[[Sequence[int]], float], mode: str
) -> list[Step]:
    """Which networks to average: the best first, each stays if the objective does not fall.

    Args:
        alone: the validation objective of each; NaN is never taken.
        score: that of the average of some, by their places.
        mode: whether more of it is better: ``max``, ``min``.

    Returns:
        What was tried, best network first; of equal ones in the order in which they were given.
    """
    sign = 1 if mode == "max" else -1
    order = sorted(
        (place for place, value in enumerate(alone) if not math.isnan(value)),
        key=lambda place: -sign * alone[place],
    )
    steps: list[Step] = []
    taken: list[int] = []
    reached = -math.inf
    for place in order:
        value = score([*taken, place]) if taken else alone[place]
        stays = sign * value >= reached  # false for NaN
        steps.append(Step(place, alone[place], value, stays))
        if stays:
            taken.append(place)
            reached = sign * value
    return steps


@torch.no_grad()
def renew_batch_norms(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure the statistics of batch norms anew: those of averaged weights are no average.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018,
    section 3.2: the mean over batches. Unlike torch's ``update_bn`` nothing else is in training
    mode: what is dropped there would be missing from the statistics.

    Args:
        module: in eval mode, before and after.
        batches: normalised images (B, 3, S, S), of training data; a batch of one is passed over.
    """
    norms = [it for it in module.modules() if isinstance(it, _BatchNorm) and it.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a mean over all batches instead of a moving one
        norm.train()
    for images in batches:
        if len(images) > 1:  # of vectors, one has no variance
            module(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
