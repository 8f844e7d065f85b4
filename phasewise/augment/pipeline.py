"""The augmentation of a batch: AutoAugment's colours, one colour map, one warp, blur, erasing,
what somebody brings, cutmix, mixup."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from phasewise.augment import auto
from phasewise.augment.blur import blur
from phasewise.augment.color import COLOR, normalize, normalized, recolor, unit_range
from phasewise.augment.cutmix import Window, draw_cutmix, paste
from phasewise.augment.draws import Draws
from phasewise.augment.erase import ERASE, fill
from phasewise.augment.geometry import GEOMETRY, Warp
from phasewise.augment.transfer import send
from phasewise.config.augment import KEY, NO_BOXES, settings
from phasewise.config.signatures import TARGET
from phasewise.config.targets import build
from phasewise.errors import UserError

Own = Callable[[Tensor, torch.Generator], Tensor]
"""An augmentation of somebody's own, see `Augment`."""


@dataclass
class _Plan:
    """What was drawn for one batch, on the CPU."""

    homography: Tensor | None = None  # (B, 3, 3), source -> output
    recipe: list[auto.Step] = field(default_factory=list)  # colours of sub-policies
    color: Tensor | None = None  # (B, 7, 7)
    sigma: Tensor | None = None  # (B,), 0 = not blurred
    holes: list[Tensor] = field(default_factory=list)  # (B, K, 4) each
    own: list[tuple[Own, int]] = field(default_factory=list)  # with the seed of its draws
    cut: tuple[Tensor, Window] | None = None  # (B,) partners, window that is theirs
    mix: tuple[Tensor, float] | None = None  # (B,) partners, weight of the image itself


class Augment:
    """Random transforms of a batch, drawn per image; a pure function of the batch and the seed.

    The order of ``names`` is the order in which geometry is composed with geometry and colour with
    colour. Whatever the order, colour comes first (AutoAugment's before the others), then ONE warp
    of image, mask and boxes, then blur and erasing, then those of somebody's own, cutmix, mixup.

    One of somebody's own is made once, and called with each training batch: ``images`` float32
    (B, 3, H, W), RGB from 0 to 1, on the device, and ``generator``, on the CPU, from which all its
    random numbers must come, so that a run can be repeated and continued. It returns images of the
    same shape, which are cut off at 0 and 1. It sees neither masks nor boxes: where things are in
    an image it leaves as it is. A ``torch.nn.Module`` is moved to the device first.

    Args:
        names: each a name of ``phasewise.config.augment.AUGMENTATIONS``,
            ``{name: {parameter: value}}``, or ``{_target_: mypackage.Class, ...}``. An empty list
            only normalises.

    Raises:
        UserError: an unknown name or parameter, a value outside its range, or a class that cannot
            be made or called.
    """

    def __init__(self, names: Sequence[str | Mapping[str, Any]]) -> None:
        self._steps = settings(names)
        self._own = {i: _own(node) for i, (name, node) in enumerate(self._steps) if name == TARGET}

    def __call__(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Augments and normalises a batch.

        Args:
            batch: ``image`` uint8 (B, 3, H, W); if there, ``mask`` (B, H, W) of class indices and
                ``boxes`` float (B, M, 4) in pixels with ``labels`` (B, M), -1 = padding. Other keys
                pass through.
            seed: the draws depend on it and on the size of the batch only, not on the device.

        Returns:
            A new dict. ``image`` is float32 and normalised, the mean colour outside the source;
            ``mask`` is 255 there; ``boxes`` are the clipped hulls of the warped ones, those that
            left the image are padding. ``mixup`` adds ``mix_index`` (B,) int64 and ``mix_lambda``
            (scalar): the image is lambda x own + (1 - lambda) x that of mix_index, and the loss is
            to be mixed likewise. ``cutmix`` moves the mask with the image, which leaves nothing to
            mix; boxes it does not know how to cut.

        Raises:
            ValueError: the image is not uint8 (B, 3, H, W).
            UserError: ``cutmix`` of images with boxes and without masks.
        """
        image = batch["image"]
        if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"expected uint8 (B, 3, H, W), got {image.dtype} {tuple(image.shape)}")
        plan = self._draw(Draws(len(image), image.shape[2], image.shape[3], seed))
        out = dict(batch)
        warp = None
        if plan.homography is not None:
            warp = Warp(plan.homography, image.shape[2], image.shape[3], image.device)
            _warp_targets(out, warp)
        if plan.recipe:
            image = auto.apply(image, plan.recipe)
        if warp is not None and warp.only_flips:
            image, warp = warp.flip(image), None
        image = normalize(image) if plan.color is None else recolor(image, plan.color)
        if warp is not None:
            image = warp.image(image)
        if plan.sigma is not None:
            image = blur(image, plan.sigma)
        if plan.holes:
            image = fill(image, torch.cat(plan.holes, 1))
        if plan.own:
            image = _applied(image, plan.own)
        out["image"] = image
        if plan.cut is not None:
            _cut(out, *plan.cut)
        if plan.mix is not None:
            _mix(out, *plan.mix)
        return out

    def _draw(self, draws: Draws) -> _Plan:
        """All random numbers, in the order of the list: an entry moves no draw of those before."""
        plan = _Plan()
        for i, (name, values) in enumerate(self._steps):
            if name == TARGET:
                plan.own.append((self._own[i], _seed(draws)))
                continue
            if name == "cutmix":
                plan.cut = draw_cutmix(draws, values["alpha"])
                continue
            if name == "mixup":
                plan.mix = _draw_mix(draws, values["alpha"])
                continue
            chosen = draws.chosen(values["p"])
            if name in GEOMETRY:
                plan.homography = _then(plan.homography, GEOMETRY[name](draws, values), chosen)
            elif name in COLOR:
                plan.color = _then(plan.color, COLOR[name](draws, values), chosen)
            elif name == "autoaugment":
                homography, plan.recipe = auto.draw(draws, chosen)
                plan.homography = _then(plan.homography, homography, chosen)
            elif name in ERASE:
                plan.holes.append(ERASE[name](draws, values) * chosen[:, None, None])
            else:
                plan.sigma = draws.uniform(values["sigma_min"], values["sigma_max"]) * chosen
        return plan


def _then(before: Tensor | None, matrix: Tensor, chosen: Tensor) -> Tensor:
    """``matrix`` (B, N, N) after ``before``, in the images that are ``chosen`` (B,)."""
    matrix = matrix.where(chosen[:, None, None], _identity(matrix.shape[-1]))
    return matrix if before is None else matrix @ before


@cache  # nobody writes into it
def _identity(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def _warp_targets(batch: dict[str, Tensor], warp: Warp) -> None:
    if "mask" in batch:
        batch["mask"] = (warp.flip if warp.only_flips else warp.mask)(batch["mask"])
    if "boxes" in batch:
        batch["boxes"], batch["labels"] = warp.boxes(batch["boxes"], batch["labels"])


def _draw_mix(draws: Draws, alpha: float) -> tuple[Tensor, float]:
    """Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018): one weight per batch."""
    partners = torch.randperm(draws.batch, generator=draws.generator)
    return partners, random.Random(_seed(draws)).betavariate(alpha, alpha)


def _seed(draws: Draws) -> int:
    return int(torch.randint(2**62, (), generator=draws.generator))


def _own(node: Mapping[str, Any]) -> Own:
    made: Own = build(node, where=KEY)
    if not callable(made):
        kind = type(made).__name__
        reason = "which cannot be called with images and a generator"
        raise UserError(f"{KEY}: {node[TARGET]} makes a {kind}, {reason}")
    return made


def _applied(image: Tensor, steps: Sequence[tuple[Own, int]]) -> Tensor:
    """Normalised images after what somebody brought, one after the other.

    Raises:
        UserError: it gives something else than images of the same shape.
    """
    values = unit_range(image)
    for step, seed in steps:
        if isinstance(step, nn.Module):
            step.to(image.device)
        found = step(values, torch.Generator().manual_seed(seed))
        if not isinstance(found, Tensor) or found.shape != image.shape:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            name = getattr(step, "__name__", type(step).__name__)
            reason = f"wanted are images (B, 3, H, W), here {tuple(image.shape)}"
            raise UserError(f"{KEY}: {name} returned {got}; {reason}")
        values = found.detach().float().clamp(0, 1)
    return normalized(values)


def _cut(batch: dict[str, Tensor], partners: Tensor, window: Window) -> None:
    if "boxes" in batch and "mask" not in batch:
        raise UserError(f"{KEY}: cutmix: {NO_BOXES}")
    for key in ("image", "mask"):
        if key in batch:
            batch[key] = paste(batch[key], partners, window)


def _mix(batch: dict[str, Tensor], partners: Tensor, weight: float) -> None:
    image = batch["image"]
    partners = send(partners, image.device)
    batch["mix_index"] = partners
    batch["mix_lambda"] = send(torch.tensor(weight), image.device)
    batch["image"] = torch.lerp(image.index_select(0, partners), image, weight)
