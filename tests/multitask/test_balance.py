from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from multitask.balance import (
    BALANCES,
    DynamicWeightAverage,
    GradNorm,
    PCGrad,
    Uncertainty,
    make_balance,
)
from tests.ranks import together

NAMES = ("segmentation", "detection")


class TwoHeads(nn.Module):
    """A shared layer and a linear head per task; each loss is a distance to a target."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.shared = nn.Linear(4, 5)
        self.heads = nn.ModuleDict({name: nn.Linear(5, 2) for name in NAMES})
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, seed: int) -> dict[str, Tensor]:
        return self.losses(seed)

    def losses(self, seed: int = 1) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(8, 4, generator=generator)
        features = torch.tanh(self.shared(x))
        return {
            name: (head(features) - 3 * sign).pow(2).mean()
            for (name, head), sign in zip(self.heads.items(), (1, -1), strict=True)
        }


def step(balance: nn.Module, model: TwoHeads, losses: dict[str, Tensor], scale: float = 1) -> None:
    total = balance(losses, model.shared.weight)
    balance.backward(scale * total, [*model.parameters(), *balance.parameters()])


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def task_gradients(model: TwoHeads, seed: int = 1) -> list[Tensor]:
    """Of the shared layer, flat, one per task."""
    losses = model.losses(seed)
    shared = list(model.shared.parameters())
    return [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
        for loss in losses.values()
    ]


def shared_gradient(model: TwoHeads) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.shared.parameters()])


# --- what all balances have in common ---------------------------------------------------------


@pytest.mark.parametrize("name", BALANCES)
def test_one_task_is_its_plain_gradient(name: Any) -> None:
    model, plain = TwoHeads(), TwoHeads()
    balance = make_balance(name, {"detection": 1.0})
    for _ in range(2):
        step(balance, model, {"detection": model.losses()["detection"]})
        balance.on_epoch_end({"detection": 0.5})
        plain.losses()["detection"].backward()
    for got, want in zip(gradients(model), gradients(plain), strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", BALANCES)
@pytest.mark.parametrize("connected", [True, False])
def test_a_task_without_loss_is_harmless(name: Any, connected: bool) -> None:
    """All masks (or boxes) of a batch may be missing, in the first batch or later."""
    model = TwoHeads()
    balance = make_balance(name, {"segmentation": 1.0, "detection": 1.0})
    for absent in ("detection", None, "segmentation", None):
        losses = model.losses()
        state = copy.deepcopy(balance.state_dict())
        if absent:
            losses[absent] = 0 * losses[absent] if connected else torch.zeros(())
        step(balance, model, losses)
        balance.on_epoch_end({key: value.item() for key, value in losses.items()})
        if name in {"gradnorm"} and absent:
            torch.testing.assert_close(balance.state_dict(), state)
    assert all(p.grad.isfinite().all() for p in balance.parameters())
    assert all(value.isfinite().all() for value in balance.state_dict().values())
    assert all(g.isfinite().all() for g in gradients(model) if g is not None)


@pytest.mark.parametrize("name", BALANCES)
def test_all_losses_zero(name: Any) -> None:
    model = TwoHeads()
    balance = make_balance(name, {"segmentation": 1.0, "detection": 1.0})
    step(balance, model, {key: 0 * loss for key, loss in model.losses().items()})
    assert all((g == 0).all() for g in gradients(model) if g is not None)


@pytest.mark.parametrize("name", BALANCES)
def test_state_survives_a_checkpoint(name: Any) -> None:
    model, weights = TwoHeads(), {"segmentation": 1.0, "detection": 0.5}
    balance, fresh = make_balance(name, weights), make_balance(name, weights)
    optimizer = torch.optim.SGD([*model.parameters(), *balance.parameters()], 0.1)
    for epoch in range(3):
        optimizer.zero_grad()
        step(balance, model, model.losses(epoch))
        optimizer.step()
        balance.on_epoch_end({"segmentation": 1 / (epoch + 1), "detection": 2.0})
    fresh.load_state_dict(balance.state_dict())
    for seed in (7, 8):
        totals = [b(model.losses(seed), model.shared.weight).item() for b in (balance, fresh)]
        assert totals[0] == totals[1]
    for b in (balance, fresh):
        b.on_epoch_end({"segmentation": 0.3, "detection": 1.5})
    assert torch.equal(balance.weights, fresh.weights)


@pytest.mark.parametrize("name", BALANCES)
def test_gradients_add_up_and_follow_the_scale(name: Any) -> None:
    """Two backward passes at half the total, as Lightning's accumulation does."""
    once, twice = TwoHeads(), TwoHeads()
    weights = {"segmentation": 1.0, "detection": 0.5}
    step(make_balance(name, weights), once, once.losses())
    for _ in range(2):
        step(make_balance(name, weights), twice, twice.losses(), scale=0.5)
    for got, want in zip(gradients(twice), gradients(once), strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(got, want)
    assert once.unused.grad is None
    assert once.frozen.grad is None


@pytest.mark.parametrize("name", BALANCES)
def test_validation_leaves_the_state_alone(name: Any) -> None:
    model = TwoHeads()
    balance = make_balance(name, {"segmentation": 1.0, "detection": 1.0})
    step(balance, model, model.losses())
    balance.eval()
    state = copy.deepcopy(balance.state_dict())
    with torch.inference_mode():
        assert balance(model.losses(2), model.shared.weight).isfinite()
    torch.testing.assert_close(balance.state_dict(), state)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="fixed, uncertainty, dwa, gradnorm, pcgrad"):
        make_balance("equal", {"detection": 1.0})


# --- each by its formula ----------------------------------------------------------------------


def test_fixed_by_hand() -> None:
    balance = make_balance("fixed", {"segmentation": 2.0, "detection": 0.5})
    losses = {"detection": torch.tensor(4.0), "segmentation": torch.tensor(3.0)}
    assert balance(losses, torch.zeros(1)) == 2 * 3 + 0.5 * 4


def test_uncertainty_by_hand() -> None:
    balance = Uncertainty(NAMES)
    with torch.no_grad():
        balance.log_variances.copy_(torch.tensor([0.5, -1.0]))
    losses = {"segmentation": torch.tensor(3.0), "detection": torch.tensor(4.0)}
    total = balance(losses, torch.zeros(1))
    expected = 3 * math.exp(-0.5) + 0.5 + 4 * math.exp(1) - 1
    assert total.item() == pytest.approx(expected)
    total.backward()
    torch.testing.assert_close(
        balance.log_variances.grad,
        torch.tensor([1 - 3 * math.exp(-0.5), 1 - 4 * math.exp(1)]),
    )


def test_uncertainty_does_not_move_for_an_absent_task() -> None:
    balance = Uncertainty(NAMES)
    balance({"segmentation": torch.tensor(3.0), "detection": torch.tensor(0.0)}, []).backward()
    assert balance.log_variances.grad.tolist() == [-2, 0]


def test_uncertainty_settles_at_the_logarithm_of_the_loss() -> None:
    balance = Uncertainty(NAMES)
    optimizer = torch.optim.SGD(balance.parameters(), 0.2)
    for _ in range(200):
        optimizer.zero_grad()
        balance({"segmentation": torch.tensor(3.0), "detection": torch.tensor(0.2)}, []).backward()
        optimizer.step()
    torch.testing.assert_close(balance.log_variances.detach(), torch.tensor([3.0, 0.2]).log())


def test_dwa_by_hand() -> None:
    balance = DynamicWeightAverage(NAMES)
    balance.on_epoch_end({"segmentation": 2.0, "detection": 4.0})
    assert balance.weights.tolist() == [1, 1]
    balance.on_epoch_end({"segmentation": 1.0, "detection": 3.6})
    fast, slow = math.exp(0.5 / 2), math.exp(0.9 / 2)
    expected = [2 * fast / (fast + slow), 2 * slow / (fast + slow)]
    assert balance.weights.tolist() == pytest.approx(expected)
    losses = {"segmentation": torch.tensor(3.0), "detection": torch.tensor(4.0)}
    total = balance(losses, torch.zeros(1))
    assert total.item() == pytest.approx(3 * expected[0] + 4 * expected[1])


@pytest.mark.parametrize("missing", [0.0, math.nan, None])
def test_dwa_without_a_task_for_an_epoch(missing: Any) -> None:
    balance = DynamicWeightAverage(NAMES)
    balance.on_epoch_end({"segmentation": 2.0, "detection": 4.0})
    gap = {"segmentation": 1.0} | ({} if missing is None else {"detection": missing})
    for losses in (gap, {"segmentation": 0.5, "detection": 4.0}):
        balance.on_epoch_end(losses)
        known, unknown = math.exp(0.5 / 2), math.exp(1 / 2)
        expected = [2 * known / (known + unknown), 2 * unknown / (known + unknown)]
        assert balance.weights.tolist() == pytest.approx(expected)


def test_gradnorm_first_steps_by_hand() -> None:
    """Losses a*x and b*x at x = 1: gradient norms a and b; both at their first value, so r = 1."""
    balance = GradNorm(NAMES)
    x = torch.ones(1, requires_grad=True)
    total = balance({"segmentation": 3 * x.sum(), "detection": x.sum()}, x)
    assert total.item() == 4  # the weights of this batch are still 1
    # mean G = 2: the first is too strong, the second too weak.
    moved = torch.tensor([1 - 0.025 * 3 / 2, 1 + 0.025 * 1 / 2])
    expected = 2 * moved / moved.sum()
    torch.testing.assert_close(balance.weights, expected)

    # The first loss has fallen to a third: r = (1/3, 1) / (2/3) = (.5, 1.5). Its gradient is too
    # strong with alpha = 1.5, and would be too weak with alpha = 1.
    norms = torch.tensor([0.21, 0.79])
    losses = norms * (x - 1) + 1
    balance({"segmentation": losses[0], "detection": losses[1]}, x)
    weighted = expected * norms
    target = weighted.mean() * torch.tensor([0.5, 1.5]) ** 1.5
    assert target[0] < weighted[0] < 0.5 * weighted.mean()
    moved = expected - 0.025 * torch.sign(weighted - target) * norms / weighted.mean()
    torch.testing.assert_close(balance.weights, 2 * moved / moved.sum())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_gradnorm_favours_the_slower_task(scale: float) -> None:
    """Chen et al., section 4: the same regression at different scales, one ten times as steep."""
    torch.manual_seed(0)
    shared = nn.Linear(6, 6, bias=False)
    target, x = torch.randn(6, 6), torch.randn(32, 6)
    balance = GradNorm(NAMES)
    optimizer = torch.optim.SGD(shared.parameters(), 1e-3 / scale)
    for _ in range(60):
        error = (shared(x) - x @ target).pow(2).mean(0)
        losses = {
            "segmentation": scale * error[:3].sum() * 10,
            "detection": scale * error[3:].sum(),
        }
        optimizer.zero_grad()
        balance.backward(balance(losses, [shared.weight]), list(shared.parameters()))
        optimizer.step()
    fast, slow = balance.weights.tolist()
    assert fast + slow == pytest.approx(2)
    assert slow > 2 * fast


def test_gradnorm_weights_stay_positive() -> None:
    balance = GradNorm(NAMES)
    x = torch.ones(1, requires_grad=True)
    for _ in range(300):
        balance({"segmentation": 1e6 * x.sum(), "detection": 1e-6 * x.sum()}, x)
    assert (balance.weights > 0).all()
    assert balance.weights.sum().item() == pytest.approx(2)


def conflicting(sign: float) -> tuple[nn.Parameter, dict[str, Tensor]]:
    """Gradients (1, 0) and sign * (1, 1)."""
    x = nn.Parameter(torch.zeros(2))
    return x, {"segmentation": x[0], "detection": sign * x.sum()}


def test_pcgrad_by_hand() -> None:
    x, losses = conflicting(-1)
    balance = PCGrad(NAMES)
    balance.backward(balance(losses, x), [x])
    # (1, 0) + .5 (-1, -1) and (-1, -1) + 1 (1, 0).
    assert x.grad.tolist() == [0.5, -1.5]


def test_pcgrad_without_conflict_is_the_sum() -> None:
    x, losses = conflicting(1)
    balance = PCGrad(NAMES)
    balance.backward(balance(losses, x), [x])
    assert x.grad.tolist() == [2, 1]


@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_pcgrad_works_against_no_task(seed: int) -> None:
    model, plain = TwoHeads(seed), TwoHeads(seed)
    first, second = task_gradients(model)
    assert first @ second < 0
    step(PCGrad(NAMES), model, model.losses())
    sum(plain.losses().values()).backward()
    got = shared_gradient(model)
    assert got @ first >= -1e-5
    assert got @ second >= -1e-5
    expected = first - (first @ second) / (second @ second) * second
    expected = expected + second - (first @ second) / (first @ first) * first
    torch.testing.assert_close(got, expected)
    for name in NAMES:
        torch.testing.assert_close(model.heads[name].weight.grad, plain.heads[name].weight.grad)


def test_pcgrad_of_three_tasks() -> None:
    """Each gradient is projected against the others one after another, in random order."""
    vectors = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])
    x = nn.Parameter(torch.zeros(3))
    balance = PCGrad(("a", "b", "c"))
    losses = {name: vector @ x for name, vector in zip("abc", vectors, strict=True)}
    balance.backward(balance(losses, x), [x])

    def projected(i: int, order: tuple[int, ...]) -> Tensor:
        vector = vectors[i]
        for j in order:
            other = vectors[j]
            vector = vector - (vector @ other).clamp(max=0) / (other @ other) * other
        return vector

    orders = [
        sum(projected(i, order) for i, order in enumerate(trio))
        for trio in [
            (a, b, c) for a in ((1, 2), (2, 1)) for b in ((0, 2), (2, 0)) for c in ((0, 1), (1, 0))
        ]
    ]
    assert any(torch.allclose(x.grad, order, atol=1e-6) for order in orders)


def rank(index: int) -> dict[str, list[Tensor]]:
    found = {}
    for name in ("pcgrad", "gradnorm"):
        model = TwoHeads()
        model.unused.requires_grad_(False)
        wrapped = nn.parallel.DistributedDataParallel(model)
        balance = make_balance(name, dict.fromkeys(NAMES, 1.0))
        for _ in range(2):  # a second pass fails if the first has confused DDP
            model.zero_grad()
            losses = wrapped(seed=index)
            if index:
                losses["detection"] = 0 * losses["detection"]  # this shard has no boxes
            step(balance, model, losses)
        found[name] = [g for g in gradients(model) if g is not None]
        found[f"{name} weights"] = [balance.weights]
    return found


@pytest.mark.slow
def test_ranks_agree_and_pcgrad_projects_their_mean() -> None:
    found, other = together(rank)
    for key in ("pcgrad", "gradnorm", "gradnorm weights"):
        for first, second in zip(found[key], other[key], strict=True):
            assert torch.equal(first, second), key
    model = TwoHeads()
    both, alone = model.losses(0), model.losses(1)
    mean = {
        "segmentation": (both["segmentation"] + alone["segmentation"]) / 2,
        "detection": both["detection"] / 2,
    }
    step(PCGrad(NAMES), model, mean)
    expected = [g for g in gradients(model) if g is not None]
    for got, want in zip(found["pcgrad"], expected, strict=True):
        torch.testing.assert_close(got, want)
    assert found["gradnorm weights"][0].tolist() != [1, 1]
