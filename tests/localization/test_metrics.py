from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from localization.metrics import BoxIoU, paired_iou
from tests.ranks import together


def boxes(count: int, seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator).sort(1).values
    return scale * corners.flatten(1)


def scores(found: Tensor, target: Tensor, *valid: Tensor) -> dict[str, float]:
    metric = BoxIoU()
    metric.update(found, target, *valid)
    return {name: float(value) for name, value in metric.compute().items()}


def noisy(count: int) -> tuple[Tensor, Tensor]:
    """Targets, and boxes of all degrees of rightness."""
    target = boxes(count, 1)
    noise = torch.randn(count, 4, generator=torch.Generator().manual_seed(2))
    found = target + noise * torch.linspace(0, 0.1, count)[:, None]
    return torch.cat([found[:, :2], torch.maximum(found[:, 2:], found[:, :2] + 0.01)], 1), target


@pytest.mark.parametrize("scale", [1.0, 256.0])
def test_paired_iou_is_the_diagonal_of_torchvisions(scale: float) -> None:
    found, target = boxes(200, 3, scale), boxes(200, 4, scale)
    wanted = box_iou(found.double(), target.double()).diagonal()
    torch.testing.assert_close(paired_iou(found, target).double(), wanted, atol=1e-5, rtol=1e-4)
    assert (paired_iou(found, found) == 1).all()


@pytest.mark.parametrize(
    ("found", "target"),
    [
        ([10, 10, 0, 0], [0, 0, 10, 10]),
        ([10, 10, 0, 0], [10, 10, 0, 0]),
        ([10, 0, 0, 10], [0, 0, 10, 10]),
        ([5, 5, 5, 5], [0, 0, 10, 10]),
        ([5, 5, 5, 5], [5, 5, 5, 5]),
        ([0, 0, 10, 10], [10, 0, 20, 10]),
    ],
    ids=["inverted", "both inverted", "x inverted", "a point", "two points", "side by side"],
)
def test_iou_is_zero(found: list[int], target: list[int]) -> None:
    pair = torch.tensor([found]), torch.tensor([target])
    assert paired_iou(*pair).tolist() == paired_iou(*pair[::-1]).tolist() == [0]


def test_scores_by_hand() -> None:
    """Overlaps of 1, 3/4, 1/2, 0: a hit has MORE than the threshold."""
    target = torch.tensor([[0.0, 0, 4, 4]]).repeat(4, 1)
    found = torch.tensor([[0.0, 0, 4, 4], [0, 0, 3, 4], [0, 0, 4, 2], [8, 8, 9, 9]])
    assert scores(found, target) == {"IoU": 2.25 / 4, "acc50": 2 / 4, "acc75": 1 / 4}


def test_images_count_alike_over_batches_and_without_a_box_not_at_all() -> None:
    found, target = noisy(30)
    valid = torch.arange(30) % 3 > 0
    metric = BoxIoU()
    for part in torch.arange(30).split(7):
        metric.update(found[part], target[part], valid[part])
    iou = box_iou(found.double(), target.double()).diagonal()[valid]
    result = metric.compute()
    assert result["IoU"].item() == pytest.approx(iou.mean().item(), abs=1e-6)
    for name, threshold in (("acc50", 0.5), ("acc75", 0.75)):
        assert 0 < result[name].item() < 1
        assert result[name].item() == pytest.approx((iou > threshold).double().mean().item())
    metric.reset()
    metric.update(target, target)
    assert metric.compute()["IoU"] == 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_an_image_all_is_undefined() -> None:
    assert all(value.isnan() for value in BoxIoU().compute().values())
    none = scores(boxes(2, 0), boxes(2, 1), torch.zeros(2, dtype=torch.bool))
    assert all(math.isnan(value) for value in none.values())


CUTS = (0, 1, 17, 30)
"""How many of 30 images the first process has."""


def work(rank: int) -> dict:
    results = {}
    found, target = noisy(30)
    for cut in CUTS:
        own = slice(cut, None) if rank else slice(0, cut)
        metric = BoxIoU()
        if len(found[own]):  # a rank without images does not update
            metric.update(found[own], target[own])
        results[cut] = {name: float(value) for name, value in metric.compute().items()}
    results["none"] = float(BoxIoU().compute()["IoU"])
    return results


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_processes_equal_one() -> None:
    wanted = scores(*noisy(30))
    for results in together(work):
        for cut in CUTS:
            assert results[cut] == pytest.approx(wanted, abs=1e-9), cut
        assert math.isnan(results["none"])
