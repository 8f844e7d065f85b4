from __future__ import annotations

import numpy as np
import pytest
import torch

from phasewise.report.figures.losses import FORMULAE, Loss, P, behaviour
from segmentation.losses import SegmentationLoss


@pytest.mark.parametrize("name", FORMULAE)
def test_curves_are_those_of_the_training_loss(name: str) -> None:
    """The closed forms against the losses that train, with autograd's gradients."""
    settings = {"pos_alpha": 0.3, "gamma": 1.5, "fn_weight": 0.8, "dice_weight": 0.6}
    trained = SegmentationLoss(
        name, schedule_epochs=0, fp_weight=0.3, smooth=1e-6, reduce="batch", **settings
    ).double()
    value, slope = Loss(name, name, "#000000", **settings).curve()
    for place in (0, 50, 120, len(P) - 1):
        p = torch.tensor(P[place], dtype=torch.float64, requires_grad=True)
        logits = (p.log() - (1 - p).log()).expand(1, 4, 4)
        terms = trained(logits, torch.ones(1, 4, 4, dtype=torch.long))
        loss = sum(trained.weights()[key] * term for key, term in terms.items())
        loss.backward()
        assert value[place] == pytest.approx(loss.item(), rel=1e-4)
        assert slope[place] == pytest.approx(p.grad.item(), rel=1e-4)


def test_tversky_with_equal_weights_is_dice() -> None:
    half = Loss("tversky", "", "", fn_weight=0.5).curve()
    assert np.allclose(half, Loss("dice", "", "").curve())


def test_only_focal_losses_have_a_focusing_factor() -> None:
    assert len(behaviour([Loss("dice", "dice", "#0072B2")]).axes) == 2
    three = behaviour([Loss("focal", "focal", "#0072B2"), Loss("bce", "bce", "#E69F00")])
    assert len(three.axes) == 3
    assert len(three.axes[2].lines) == 1
