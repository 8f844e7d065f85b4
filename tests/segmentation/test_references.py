from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from segmentation.losses import FOCUS, GRADIENT, OVER, make_loss
from segmentation.references import DICE, FOCAL, loss_references
from tests.segmentation.test_losses import DEFAULTS

CLOSE = 2e-3
"""Numbers of four digits, and a smoothing of one pixel in 4096."""


def test_curves_are_the_formulas() -> None:
    own = make_loss("combined", **{**DEFAULTS, "dice_weight": 0.6, "gamma": 3.0})
    found = {one.label: one.curves for one in loss_references(own)}
    p = np.array(found["dice"][OVER])
    dice, slope = (1 - p) / (1 + p), 2 / (1 + p) ** 2
    assert found["dice"][DICE] == pytest.approx(dice, rel=CLOSE)
    assert found["dice"][GRADIENT] == pytest.approx(slope, rel=CLOSE)
    for gamma in (0, 1, 2, 3, 5):
        curves = found[f"focal pos_alpha 0.25 gamma {gamma}"]
        focal = -0.25 * (1 - p) ** gamma * np.log(p)
        assert curves[FOCAL] == pytest.approx(focal, rel=CLOSE)
        assert curves[FOCUS] == pytest.approx((1 - p) ** gamma, rel=CLOSE)
        steep = 0.25 * ((1 - p) ** gamma / p - gamma * (1 - p) ** max(gamma - 1, 0) * np.log(p))
        assert curves[GRADIENT] == pytest.approx(steep, rel=CLOSE)
    both = found["combined dice_weight 0.6 pos_alpha 0.25 gamma 3"]
    focal = -0.25 * (1 - p) ** 3 * np.log(p)
    assert both[DICE] == pytest.approx(0.6 * dice + 0.4 * focal, rel=CLOSE)
    assert len(found) == 7


def test_a_loss_of_somebody_has_the_usual_ones_beside_it() -> None:
    own = make_loss({"_target_": "torch.nn.BCEWithLogitsLoss"}, **DEFAULTS)
    assert isinstance(own, nn.Module)
    assert len(loss_references(own)) == 6
