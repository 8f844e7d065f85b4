"""Shares of pixels and of gradients against masks counted by hand and derivatives on paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from phasewise.inference.restore import restore
from phasewise.records.record import read_record
from phasewise.training.run import train
from segmentation.losses import make_loss
from segmentation.shares import ZONES, GradientShares, boundary_width, zones
from tests.segmentation.conftest import TINY_BEADS
from tests.segmentation.test_losses import DEFAULTS

FOCUS = "gradient: cross-entropy, focusing gamma {:g}"


def masks(seed: int, count: int = 3, side: int = 12) -> Tensor:
    """Blobs of foreground, some void."""
    draw = np.random.default_rng(seed)
    mask = (draw.random((count, side, side)) < 0.08).astype(np.int64)
    mask[:, 3:8, 2:9] = 1
    mask[draw.random(mask.shape) < 0.05] = 255
    return torch.from_numpy(mask)


def zone_of(mask: np.ndarray, i: int, j: int, width: int) -> str | None:
    """By looking at each neighbour."""
    if mask[i, j] == 255:
        return None
    near = mask[max(0, i - width) : i + width + 1, max(0, j - width) : j + width + 1]
    if (near == 1 - mask[i, j]).any():
        return "boundary"
    return "inside" if mask[i, j] == 1 else "background"


@pytest.mark.parametrize("width", [1, 2])
def test_zones_against_every_neighbour(width: int) -> None:
    mask = masks(0)
    found = zones(mask, width)
    for row, i, j in np.ndindex(*mask.shape):
        expected = zone_of(mask[row].numpy(), i, j, width)
        assert found[:, row, i, j].tolist() == [zone == expected for zone in ZONES]


def slopes(logits: np.ndarray, mask: np.ndarray, gamma: float) -> np.ndarray:
    """|dL/dz| of -(1 - q)^gamma log q on paper, where dq/ds = q (1 - q)."""
    q = 1 / (1 + np.exp(-np.where(mask == 1, logits, -logits)))
    found: np.ndarray = (1 - q) ** gamma * np.abs(gamma * q * np.log(q) - (1 - q))
    return found * (mask != 255)


def by_zone(values: np.ndarray, mask: Tensor, width: int) -> dict[str, float]:
    where = zones(mask, width).numpy()
    sums = [float(values[one].sum()) for one in where]
    return dict(zip(ZONES, (value / sum(sums) for value in sums), strict=True))


@pytest.mark.parametrize("gamma", [0.0, 2.0, 5.0])
def test_gradients_are_those_on_paper_however_they_are_batched(gamma: float) -> None:
    mask, logits = masks(1, 5), 3 * torch.randn(5, 12, 12, generator=torch.manual_seed(0))
    loss = make_loss("focal", **{**DEFAULTS, "gamma": gamma})
    for size in (5, 2):
        shares = GradientShares(loss, 1)
        for one, other in zip(logits.split(size), mask.split(size), strict=True):
            shares.update(one, other)
        (found,) = shares.shares()
        z, m = logits.numpy().astype(float), mask.numpy()
        expected = {
            "pixels": by_zone((m != 255).astype(float), mask, 1),
            "gradient: cross-entropy": by_zone(slopes(z, m, 0), mask, 1),
            FOCUS.format(gamma): by_zone(slopes(z, m, gamma), mask, 1),
        }
        alpha = np.where(m == 1, 0.25, 0.75)
        own = by_zone(alpha * slopes(z, m, gamma), mask, 1)
        expected[f"gradient: focal pos_alpha 0.25 gamma {gamma:g}"] = own
        assert [*found.bars] == [*expected]
        for name, bar in expected.items():
            assert found.bars[name] == pytest.approx(bar, rel=1e-4, abs=1e-6), name


def test_gradients_of_dice_against_differences() -> None:
    mask, logits = masks(2, 1, 8), torch.randn(1, 8, 8, generator=torch.manual_seed(1)).double()
    loss = make_loss("dice", **DEFAULTS)
    shares = GradientShares(loss, 1)
    shares.update(logits, mask)

    def dice(z: np.ndarray) -> float:
        m = mask.numpy()
        p = np.where(m == 255, 0, 1 / (1 + np.exp(-z)))
        return float(1 - (2 * p[m == 1].sum() + 1) / (p.sum() + (m == 1).sum() + 1))

    z, step = logits.numpy(), 1e-4
    sizes = np.zeros_like(z)
    for place in np.ndindex(*z.shape):
        moved = np.zeros_like(z)
        moved[place] = step
        sizes[place] = abs(dice(z + moved) - dice(z - moved))
    assert shares.shares()[0].bars["gradient: dice"] == pytest.approx(
        by_zone(sizes, mask, 1), rel=1e-3
    )


def test_what_has_no_gradient_has_no_bar() -> None:
    class Constant(nn.Module):
        def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
            return torch.tensor(1.0)

    shares = GradientShares(make_loss("bce", **DEFAULTS), 1)
    shares.update(torch.zeros(1, 4, 4), torch.full((1, 4, 4), 255))
    assert shares.shares() == []  # void alone
    shares.losses = {"constant": Constant()}
    shares.update(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4).long())
    assert shares.shares()[0].bars == {
        "pixels": {"background": 1.0, "inside": 0.0, "boundary": 0.0}
    }


@pytest.mark.slow
def test_a_run_measures_its_best_weights_on_validation_masks(
    make_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    cfg = make_config(*TINY_BEADS, "trainer.max_epochs=2", "figures.images=1", "data.val_images=6")
    train(cfg, tmp_path)
    record = read_record(tmp_path)
    assert record is not None
    (shares,) = record.notes.shares
    data = instantiate(cfg.data, seed=0)
    data.setup()
    module = restore(tmp_path).module.eval()
    batch = data.prepared("val", torch.arange(6), torch.device("cpu"))
    with torch.no_grad():
        logits = module(batch["image"])["logits"].numpy().astype(float)
    mask = batch["mask"].long()
    m, width = mask.numpy(), boundary_width(32)
    assert shares.bars["pixels"] == pytest.approx(by_zone((m != 255) * 1.0, mask, width))
    found = shares.bars["gradient: cross-entropy"]
    assert found == pytest.approx(by_zone(slopes(logits, m, 0), mask, width), rel=1e-4)
    assert {one.name for one in record.notes.references} == {"loss_functions"}
