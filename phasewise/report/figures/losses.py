"""How losses of binary segmentation behave: over the probability of a foreground pixel.

Every foreground pixel has the probability p, and the background is right. With that, the losses of
``segmentation.losses`` without smoothing have closed forms (sources there):

- dice: 1 - 2 p / (1 + p) = (1 - p) / (1 + p), gradient -2 / (1 + p)^2
- tversky: b (1 - p) / (p + b (1 - p)), b the weight of false negatives, gradient -b / (p + b (1 -
  p))^2; with b = 1/2 it is dice
- focal: -a (1 - p)^g log p, gradient a (1 - p)^(g - 1) (g log p - (1 - p) / p)
- bce: -log p, gradient -1 / p
- combined, dice_bce: w dice + (1 - w) focal (bce)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from phasewise.report.figures.style import canvas, handle, legend_below

P = np.linspace(0.01, 0.99, 197)
"""Probabilities at which losses are drawn."""

Curve = tuple[np.ndarray, np.ndarray]
"""Loss and gradient at `P`."""


@dataclass(frozen=True)
class Loss:
    """A loss with its settings, named as the config names them.

    Attributes:
        name: a key of `FORMULAE`.
        label, colour: of its curve.
    """

    name: str
    label: str
    colour: str
    pos_alpha: float = 0.25
    gamma: float = 2.0
    fn_weight: float = 0.7
    dice_weight: float = 0.7

    def curve(self) -> Curve:
        """Loss and gradient at `P`."""
        return FORMULAE[self.name](self)


def _dice(loss: Loss) -> Curve:
    return (1 - P) / (1 + P), -2 / (1 + P) ** 2


def _tversky(loss: Loss) -> Curve:
    below = P + loss.fn_weight * (1 - P)
    return loss.fn_weight * (1 - P) / below, -loss.fn_weight / below**2


def _focal(loss: Loss) -> Curve:
    a, g = loss.pos_alpha, loss.gamma
    slope = a * (1 - P) ** (g - 1) * (g * np.log(P) - (1 - P) / P)
    return -a * (1 - P) ** g * np.log(P), slope


def _bce(loss: Loss) -> Curve:
    return -np.log(P), -1 / P


def _mixed(other: Callable[[Loss], Curve]) -> Callable[[Loss], Curve]:
    def curve(loss: Loss) -> Curve:
        share = loss.dice_weight
        pairs = zip(_dice(loss), other(loss), strict=True)
        value, slope = (share * first + (1 - share) * second for first, second in pairs)
        return value, slope

    return curve


FORMULAE: Mapping[str, Callable[[Loss], Curve]] = {
    "dice": _dice,
    "tversky": _tversky,
    "focal": _focal,
    "bce": _bce,
    "combined": _mixed(_focal),
    "dice_bce": _mixed(_bce),
}


def behaviour(losses: Sequence[Loss]) -> Figure:
    """Losses, their gradients, and by how much focal discounts what is nearly right."""
    gammas = {one.gamma: one for one in losses if one.name in ("focal", "combined")}
    figure, axes = canvas(1, 3 if gammas else 2, height=2.6)
    for one in losses:
        value, slope = one.curve()
        axes[0].plot(P, value, color=one.colour)
        axes[1].plot(P, np.abs(slope), color=one.colour)
    axes[0].set(xlabel="p of a foreground pixel", ylabel="loss")
    axes[0].set_ylim(0, min(2.5, axes[0].get_ylim()[1]))
    axes[1].set(xlabel="p of a foreground pixel", ylabel="size of the gradient, |dL/dp|")
    axes[1].set_yscale("log")
    axes[1].yaxis.set_major_formatter("{x:g}")  # the default is a formula
    for gamma, one in gammas.items():
        axes[2].plot(P, (1 - P) ** gamma, color=one.colour)
        axes[2].annotate(f"g = {gamma:g}", (0.5, 0.5**gamma), (4, 4), textcoords="offset points")
    if gammas:
        axes[2].set(xlabel="p of a foreground pixel", ylabel="focusing factor, (1 - p)^g")
    legend_below(figure, [handle(one.colour, one.label) for one in losses])
    return figure
