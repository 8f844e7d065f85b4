"""The losses that the others are read by: Dice, focal ones with several gammas, both combined."""

from __future__ import annotations

from phasewise.records.notes import Diagram
from segmentation.losses import (
    FOCUS,
    GRADIENT,
    LOSS,
    OVER,
    OwnLoss,
    SegmentationLoss,
    loss_diagram,
)

GAMMAS = (0.0, 1.0, 2.0, 5.0)
"""As Lin et al. 2017 draw them (arXiv:1708.02002, figure 1), without their .5."""

POINTS = 25
"""Of each curve: every run's record holds them."""

DICE, FOCAL = "Dice and combined loss", "focal loss"
CAPTION = (
    "Dice, the focal loss with several gammas, and both combined, over the probability p of the "
    "foreground pixels, where the background is right: the losses, the focusing factor "
    "(1 - p)^gamma, and the size of the gradient |dL/dp|."
)


def loss_references(loss: SegmentationLoss | OwnLoss) -> tuple[Diagram, ...]:
    """With the run's own alpha, weights and gamma, and those of `SegmentationModule` where its loss
    is somebody's own."""
    own = loss if isinstance(loss, SegmentationLoss) else None
    gamma = own.gamma if own else 2.0
    shares = {"dice_weight": own.dice_weight if own else 0.7}
    alpha = own.pos_alpha if own else 0.25
    made = [_made("dice", gamma, alpha, shares), _made("combined", gamma, alpha, shares)]
    made += [_made("focal", each, alpha, shares) for each in sorted({*GAMMAS, gamma})]
    return tuple(_diagram(each) for each in made)


def _made(name: str, gamma: float, alpha: float, shares: dict[str, float]) -> SegmentationLoss:
    return SegmentationLoss(
        name,
        **shares,
        schedule_epochs=0,
        pos_alpha=alpha,
        gamma=gamma,
        fp_weight=0.5,
        fn_weight=0.5,
        smooth=1.0,
        reduce="batch",
    )


def _diagram(loss: SegmentationLoss) -> Diagram:
    """The curves of `loss_diagram` under the names of the panels that they belong to."""
    found = loss_diagram(loss, POINTS)
    curves = {OVER: found.curves[OVER]}
    curves[FOCAL if loss.name == "focal" else DICE] = found.curves[LOSS]
    if loss.name == "focal":
        curves[FOCUS] = found.curves[FOCUS]
    curves[GRADIENT] = found.curves[GRADIENT]
    return Diagram("loss_functions", found.label, CAPTION, curves, log=(GRADIENT,))
