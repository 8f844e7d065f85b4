"""Losses of binary segmentation: logits in, float32 inside, finite for every batch.

How the parameters correspond to those of other libraries (s is our ``smooth``):

========  ============================  ===============================  =========================
ours      the classic formula           SMP                              MONAI
========  ============================  ===============================  =========================
dice      (2 I + s) / (A + B + s)       DiceLoss(smooth=s / 2)           smooth_nr = smooth_dr = s
tversky   the same at weights .5, .5    TverskyLoss(smooth=s / 2)        smooth_nr = smooth_dr = s/2
weights   of FP and FN                  alpha, beta                      alpha, beta
reduce    batch or image                always batch                     batch=True, False
focal     alpha of Lin et al.           FocalLoss(alpha)                 alpha
bce       mean over labelled pixels     SoftBCE...: mean over all        -
========  ============================  ===============================  =========================
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phasewise.config.targets import build
from phasewise.networks import parts
from phasewise.records.notes import Diagram

FOREGROUND = 1
VOID = 255
"""Value of mask pixels that are not labelled."""

TERMS: dict[str, tuple[str, ...]] = {
    "dice": ("dice",),
    "focal": ("focal",),
    "combined": ("dice", "focal"),
    "bce": ("bce",),
    "dice_bce": ("dice", "bce"),
    "tversky": ("tversky",),
}
"""The terms of each loss."""

SETTINGS = {"focal": ("pos_alpha", "gamma"), "tversky": ("fn_weight",)}
"""What the terms depend on where the background is right, see `loss_diagram`."""

REDUCTIONS = ("batch", "image")


OVER = "p of a foreground pixel"
LOSS, GRADIENT, FOCUS = "loss", "size of the gradient", "focusing factor"
CAPTION = (
    "Losses over the probability p of the foreground pixels, where the background is right: the "
    "loss L, the size of its gradient |dL/dp|, and the focusing factor (1 - p)^gamma by which "
    "focal losses discount what is nearly right."
)


class SegmentationLoss(nn.Module):
    """Dice, focal, cross-entropy or Tversky loss of a mask, or Dice with one of the others.

    With p = sigmoid(logits), soft counts in pixels I = sum of p on foreground (true positives),
    FP = sum of p on background, FN = sum of 1 - p on foreground, and s = ``smooth``:

    - ``dice``: 1 - (2 I + s) / (2 I + FP + FN + s). The denominator is the sum of p plus the
      foreground pixels plus s (Milletari et al. 2016, arXiv:1606.04797, without the squares).
    - ``tversky``: 1 - (2 I + s) / (2 I + 2 a FP + 2 b FN + s), a = ``fp_weight``, b =
      ``fn_weight`` (Salehi et al. 2017, arXiv:1706.05721, both sides times two); with .5 and .5 it
      is ``dice``, at every smooth.
    - ``focal``: mean over labelled pixels of -w (1 - q)^gamma log q, where q is the probability of
      the true class and w is ``pos_alpha`` on foreground, 1 - ``pos_alpha`` on background (Lin et
      al. 2017, arXiv:1708.02002). ``pos_alpha`` below .5 thus weighs foreground LESS.
    - ``bce``: mean over labelled pixels of -log q.
    - ``combined``: ``dice`` and ``focal``; ``dice_bce``: ``dice`` and ``bce``; see `weights`.

    Nothing there: where no pixel is foreground, ``dice`` costs 1 - s / (sum of p + s), and
    ``tversky`` 1 - s / (2 a sum of p + s), with gradient, so false positives are punished (SMP
    gives 0 without gradient); with ``fp_weight`` 0 they are free. Mind the size of that gradient:
    s / (sum of p + s)^2 for each p, so with s far below the false area the loss is flat near 1
    and only ``focal`` or ``bce`` beside it moves such a prediction. Void pixels (255) count for
    nothing: an image of void only is left out, and if there is no labelled pixel at all, every
    term is 0 with zero gradients.

    Args:
        name: a key of `TERMS`.
        dice_weight: final share of ``dice`` in ``combined`` and ``dice_bce``, in [0, 1]; the other
            term has the rest.
        schedule_epochs: the two shares move linearly from one half each in epoch 0 to their final
            values in this epoch; 0 = final from the start.
        pos_alpha: of ``focal``, in [0, 1].
        gamma: of ``focal``, >= 0.
        fp_weight: of ``tversky``, >= 0.
        fn_weight: of ``tversky``, >= 0; the two weights are not both 0.
        smooth: of ``dice`` and ``tversky``, in pixels, > 0.
        reduce: of ``dice`` and ``tversky``: ``batch`` sums the counts over the batch and takes one
            ratio; ``image`` takes the ratio of each image and averages over those with a labelled
            pixel, so that images count alike whatever their foreground.

    Raises:
        ValueError: an unknown name or reduction, or a number out of its range.
    """

    def __init__(
        self,
        name: str,
        *,
        dice_weight: float,
        schedule_epochs: int,
        pos_alpha: float,
        gamma: float,
        fp_weight: float,
        fn_weight: float,
        smooth: float,
        reduce: str,
    ) -> None:
        super().__init__()
        _check_choice("loss", name, TERMS)
        _check_choice("reduce", reduce, REDUCTIONS)
        _check_range("dice_weight", dice_weight, high=1)
        _check_range("schedule_epochs", schedule_epochs)
        _check_range("pos_alpha", pos_alpha, high=1)
        _check_range("gamma", gamma)
        _check_range("fp_weight", fp_weight)
        _check_range("fn_weight", fn_weight)
        _check_range("smooth", smooth)
        if smooth == 0:
            raise ValueError("smooth must be > 0: an empty mask would give 0 / 0")
        if name == "tversky" and fp_weight == fn_weight == 0:
            raise ValueError("fp_weight or fn_weight must be > 0: no error would cost anything")
        self.name = name
        self.names = TERMS[name]
        self.dice_weight = dice_weight
        self.schedule_epochs = schedule_epochs
        self.pos_alpha = pos_alpha
        self.gamma = gamma
        self.fp_weight = fp_weight
        self.fn_weight = fn_weight
        self.smooth = smooth
        self.reduce = reduce

    @property
    def is_of_batches(self) -> bool:
        """Whether it is a ratio of sums over the batch: of the same outputs another number when the
        batches have another size, also where nothing is void."""
        return self.reduce == "batch" and not {"dice", "tversky"}.isdisjoint(self.names)

    def forward(self, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The unweighted terms by name, float32 scalars.

        Args:
            logits: (B, S, S), of any floating type.
            mask: (B, S, S), integer: 0 background, 1 foreground, 255 void; nothing else.

        Raises:
            ValueError: the shapes differ.
        """
        if logits.shape != mask.shape:
            raise ValueError(
                "logits and mask must have the same shape, "
                f"got {tuple(logits.shape)} and {tuple(mask.shape)}"
            )
        labelled = mask != VOID
        # First of all, so that not even a NaN under void reaches a gradient.
        logits = logits.float().masked_fill(~labelled, 0.0)
        positive = mask == FOREGROUND
        terms = {
            "dice": lambda: self._tversky(logits, positive, labelled, 0.5, 0.5),
            "tversky": lambda: self._tversky(
                logits, positive, labelled, self.fp_weight, self.fn_weight
            ),
            "focal": lambda: self._focal(logits, positive, labelled),
            "bce": lambda: _cross_entropy(logits, positive, labelled),
        }
        return {name: terms[name]() for name in self.names}

    def weights(self, epoch: int | None = None) -> dict[str, float]:
        """What the terms are multiplied with in an epoch, counted from 0; None: in the end.

        They add up to 1.
        """
        if len(self.names) == 1:
            return {self.names[0]: 1.0}
        share = self.dice_weight
        if epoch is not None and epoch < self.schedule_epochs:
            share = 0.5 + (self.dice_weight - 0.5) * epoch / self.schedule_epochs
        first, second = self.names
        return {first: share, second: 1.0 - share}

    def _tversky(
        self, logits: Tensor, positive: Tensor, labelled: Tensor, fp_weight: float, fn_weight: float
    ) -> Tensor:
        found, missed = logits.sigmoid(), (-logits).sigmoid()  # 1 - p would round to 0
        counts = [
            (pixels * where).flatten(1).sum(1)
            for pixels, where in (
                (found, positive),
                (found, labelled & ~positive),
                (missed, positive),
            )
        ]
        if self.reduce == "batch":
            counts = [count.sum() for count in counts]
        hits, false_positives, false_negatives = counts
        errors = 2 * (fp_weight * false_positives + fn_weight * false_negatives)
        # 1 - (2 I + s) / (2 I + errors + s), without the cancellation near 1.
        loss = errors / (2 * hits + errors + self.smooth)
        if self.reduce == "batch":
            return loss
        # An image without a label has no errors: it adds 0.
        return loss.sum() / labelled.flatten(1).any(1).sum().clamp_min(1)

    def _focal(self, logits: Tensor, positive: Tensor, labelled: Tensor) -> Tensor:
        signed = logits.where(positive, -logits)  # logit of the true class
        # (1 - q)^gamma with q = sigmoid(signed). As a power (torchvision, SMP) its gradient is NaN
        # for gamma < 1 where q rounds to 1.
        discount = (self.gamma * F.logsigmoid(-signed)).exp()
        weight = self.pos_alpha * positive + (1 - self.pos_alpha) * ~positive
        return _labelled_mean(-weight * discount * F.logsigmoid(signed), labelled)


def loss_diagram(loss: SegmentationLoss, points: int = 49) -> Diagram:
    """The loss over the probability p of every pixel of an image that is all foreground, at so many
    points."""
    curves: dict[str, list[float]] = {OVER: [], LOSS: [], GRADIENT: []}
    weights = loss.weights()
    for p in torch.linspace(0.02, 0.98, points).requires_grad_():
        logits = p.logit().expand(1, 64, 64)  # so large that ``smooth`` hardly counts
        terms = loss(logits, torch.full((1, 64, 64), FOREGROUND))
        value = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        (slope,) = torch.autograd.grad(value, p)
        for name, number in zip(curves, (p, value, slope.abs()), strict=True):
            curves[name].append(float(f"{number.item():.4g}"))
    if "focal" in loss.names:
        curves[FOCUS] = [float(f"{(1 - p) ** loss.gamma:.4g}") for p in curves[OVER]]
    return Diagram("losses", label_of(loss), CAPTION, curves, log=(GRADIENT,))


def label_of(loss: SegmentationLoss) -> str:
    """Its name with what its curves depend on."""
    settings = [*(("dice_weight",) if len(loss.names) > 1 else ())]
    settings += [key for name in loss.names for key in SETTINGS.get(name, ())]
    return " ".join([loss.name, *(f"{key} {getattr(loss, key):g}" for key in settings)])


class OwnLoss(parts.OwnLoss):
    """A loss that somebody brought, which is asked only about batches with a labelled pixel.

    Args:
        loss: takes float32 logits (B, S, S) and integer masks (B, S, S), 0 background, 1
            foreground, 255 void, and returns a scalar.
    """

    def forward(self, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """See `SegmentationLoss.forward`.

        Raises:
            UserError: it is no scalar.
        """
        logits = logits.float()
        if not (mask != VOID).any():
            return {"own": 0 * logits.sum()}
        return self.term(logits, mask.long())


def make_loss(name: str | Mapping[str, Any], **settings: Any) -> SegmentationLoss | OwnLoss:
    """The loss that is asked for.

    Args:
        name: of `SegmentationLoss`, or a mapping, see `phasewise.config.targets.build`.
        settings: of `SegmentationLoss`.

    Raises:
        UserError: the mapping makes no loss.
        ValueError: see `SegmentationLoss`.
    """
    if isinstance(name, Mapping):
        return OwnLoss(build(name, where="loss.name", kind=nn.Module))
    return SegmentationLoss(name, **settings)


def _cross_entropy(logits: Tensor, positive: Tensor, labelled: Tensor) -> Tensor:
    values = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
    return _labelled_mean(values, labelled)


def _labelled_mean(values: Tensor, labelled: Tensor) -> Tensor:
    return (values * labelled).sum() / labelled.sum().clamp_min(1)


def _check_choice(key: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {value!r}")


def _check_range(key: str, value: float, high: float = math.inf) -> None:
    if not (0 <= value <= high and math.isfinite(value)):
        bounds = ">= 0 and finite" if high == math.inf else f"in [0, {high}]"
        raise ValueError(f"{key} must be {bounds}, got {value}")
