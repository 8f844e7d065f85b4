"""How the losses of several tasks share the gradient.

Every balance is a module, so that checkpoints keep its state. A loss that is exactly 0 stands for a
task without annotations in the batch: it adds no gradient and leaves the balance's state alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchjd.aggregation import PCGradWeighting

Losses = Mapping[str, Tensor]
"""One scalar per task."""


class Balance(nn.Module):
    """Base: a weighted sum of the losses. Subclasses decide on the weights.

    Args:
        names: the tasks, at least one; every mapping given later has these keys.
    """

    weights: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("weights", torch.ones(len(self.names)))

    def forward(self, losses: Losses, shared: Tensor | Sequence[Tensor]) -> Tensor:
        """The total to minimise.

        Args:
            losses: a scalar per task.
            shared: parameters that all tasks share, where gradients are compared.

        Returns:
            Scalar.
        """
        # A copy, for the weights may change in place before the backward pass.
        return (self.weights.clone() * self.stack(losses)).sum()

    def backward(self, total: Tensor, parameters: Sequence[Tensor]) -> None:
        """Add the gradients to ``.grad`` of the parameters.

        Args:
            total: what `forward` returned last, or a multiple of it (as gradient scaling and
                accumulation make).
            parameters: all that are trained.
        """
        total.backward()

    def on_epoch_end(self, mean_losses: Mapping[str, float]) -> None:
        """Take note of the mean training losses of the epoch that ends."""

    def stack(self, values: Losses) -> Tensor:
        """The tasks' scalars in fixed order, float32 (K,)."""
        return torch.stack([values[name].float() for name in self.names])


class Fixed(Balance):
    """Constant weights.

    Args:
        weights: per task, >= 0.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(tuple(weights))
        self.weights.copy_(torch.tensor(list(weights.values())))


class Uncertainty(Balance):
    """Learned log-variances ``s``: total = sum of ``exp(-s) L + s``, s starting at 0.

    Kendall et al. 2018 (arXiv:1705.07115), eq. 7 with s = log sigma^2 and the common factor 1/2
    left out. The optimizer has to train ``log_variances``, better without weight decay.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.log_variances = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, losses: Losses, shared: Tensor | Sequence[Tensor]) -> Tensor:
        """See `Balance.forward`."""
        values = self.stack(losses)
        self.weights.copy_(torch.exp(-self.log_variances.detach()))
        terms = torch.exp(-self.log_variances) * values + self.log_variances
        # Without data, `s` alone would be minimised, and the task's weight would grow and grow.
        return torch.where(values != 0, terms, 0 * terms).sum()


class DynamicWeightAverage(Balance):
    """Weights ``K softmax(r / T)``, r = last epoch's mean loss over that of the epoch before.

    Liu et al. 2019 (arXiv:1803.10704), T = 2. All are 1 in the first two epochs; a task whose
    ratio is unknown (no loss in one of the epochs) counts as r = 1.
    """

    temperature = 2.0
    history: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.register_buffer("history", torch.zeros(2, len(self.names)))  # before last, last

    def on_epoch_end(self, mean_losses: Mapping[str, float]) -> None:
        """See `Balance.on_epoch_end`."""
        newest = self.history.new_tensor([mean_losses.get(name, 0.0) for name in self.names])
        self.history.copy_(torch.stack([self.history[1], newest.nan_to_num(0, 0, 0)]))
        known = (self.history > 0).all(0)
        rates = torch.where(known, self.history[1] / self.history[0], 1)
        self.weights.copy_(len(self.names) * torch.softmax(rates / self.temperature, 0))


class GradNorm(Balance):
    """Weights that let all tasks train at the same pace.

    Chen et al. 2018 (arXiv:1711.02257), alpha = 1.5: the norm of each weighted gradient at the
    shared parameters, ``G = |w dL|``, is drawn towards ``mean(G) r^alpha``, where r is the task's
    share of its first loss, relative to the mean share. One gradient step on ``sum |G - target|``
    per training batch, then the weights are scaled to the sum K. Unlike the paper, that step is
    divided by mean(G), so it does not depend on the scale of the losses.
    """

    alpha = 1.5
    lr = 0.025
    smallest = 1e-3
    """Least weight before scaling, so that no task is lost for good."""
    first_losses: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.register_buffer("first_losses", torch.zeros(len(self.names)))  # 0 = not seen yet

    def forward(self, losses: Losses, shared: Tensor | Sequence[Tensor]) -> Tensor:
        """See `Balance.forward`. In training, the weights are updated for the next batch."""
        total = super().forward(losses, shared)
        if self.training and torch.is_grad_enabled():
            self._update(losses, [shared] if isinstance(shared, Tensor) else list(shared))
        return total

    def _update(self, losses: Losses, shared: list[Tensor]) -> None:
        norms = [_gradient_norm(losses[name], shared) for name in self.names]
        values, norms = mean_over_ranks(
            torch.stack([self.stack(losses).detach(), torch.stack(norms)])
        )
        weighted = self.weights * norms
        usable = (values > 0) & (norms > 0) & values.isfinite() & norms.isfinite()
        if not usable.all():
            return
        self.first_losses.copy_(torch.where(self.first_losses > 0, self.first_losses, values))
        share = values / self.first_losses
        target = weighted.mean() * (share / share.mean()) ** self.alpha
        step = torch.sign(weighted - target) * norms / weighted.mean()
        moved = (self.weights - self.lr * step).clamp_min(self.smallest)
        self.weights.copy_(moved * (len(self.names) / moved.sum()))


class PCGrad(Balance):
    """The plain sum of the losses, but each task's gradient loses what works against the others.

    Yu et al. 2020 (arXiv:2001.06782), algorithm 1, by `torchjd`, on the flattened gradient of all
    parameters that more than one task reaches; those of a single task get their plain gradient.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.project = PCGradWeighting()
        self._losses: list[Tensor] = []

    def forward(self, losses: Losses, shared: Tensor | Sequence[Tensor]) -> Tensor:
        """See `Balance.forward`. Keeps the losses for `backward`."""
        self._losses = [losses[name] for name in self.names]
        return super().forward(losses, shared)

    def backward(self, total: Tensor, parameters: Sequence[Tensor]) -> None:
        """See `Balance.backward`. Under DDP, projects the mean gradients of all ranks."""
        losses, self._losses = self._losses, []
        trained = [p for p in parameters if p.requires_grad]
        found = self._task_gradients(total, losses, trained)
        reached = mean_over_ranks(
            torch.tensor(
                [[g is not None for g in row] for row in found], device=total.device
            ).float()
        )
        tasks_per_parameter = (reached > 0).sum(0).tolist()
        jacobian = mean_over_ranks(torch.stack([_flatten(row, trained) for row in found]))
        blocks = jacobian.split([p.numel() for p in trained], 1)

        gramian = jacobian.new_zeros(len(found), len(found))
        for block, tasks in zip(blocks, tasks_per_parameter, strict=True):
            if tasks > 1:
                gramian += block @ block.T
        weights = self.project(gramian)
        for parameter, block, tasks in zip(trained, blocks, tasks_per_parameter, strict=True):
            if tasks:
                gradient = weights @ block if tasks > 1 else block.sum(0)
                before = 0 if parameter.grad is None else parameter.grad
                parameter.grad = before + gradient.view_as(parameter).to(parameter.dtype)

    @staticmethod
    def _task_gradients(
        total: Tensor, losses: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> list[Sequence[Tensor | None]]:
        """Gradients of what each loss adds to the total; None where a loss does not reach."""
        found: list[Sequence[Tensor | None]] = []
        live = [loss for loss in losses if loss.requires_grad]
        for loss in losses:
            if loss.requires_grad:
                (factor,) = torch.autograd.grad(total, loss, retain_graph=True)
                last = loss is live[-1]
                found.append(
                    torch.autograd.grad(
                        loss, parameters, factor, retain_graph=not last, allow_unused=True
                    )
                )
            else:
                found.append([None] * len(parameters))
        return found


BALANCES: dict[str, type[Balance]] = {
    "fixed": Fixed,
    "uncertainty": Uncertainty,
    "dwa": DynamicWeightAverage,
    "gradnorm": GradNorm,
    "pcgrad": PCGrad,
}


def make_balance(name: str, weights: Mapping[str, float]) -> Balance:
    """The balance called ``name`` for the tasks in ``weights``.

    Args:
        name: a key of `BALANCES`.
        weights: a weight >= 0 per task; the values matter to ``fixed`` only.

    Raises:
        ValueError: an unknown name.
    """
    if name not in BALANCES:
        raise ValueError(f"balance must be one of {', '.join(BALANCES)}, got {name!r}")
    return Fixed(weights) if name == "fixed" else BALANCES[name](tuple(weights))


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean over all processes, in place; the values themselves where there is but one."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return values


def _flatten(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """One float32 vector, with zeros for None."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten().float() for g, p in pairs]
    )


def _gradient_norm(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    if not loss.requires_grad:
        return loss.new_zeros(())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return _flatten(found, parameters).norm()
