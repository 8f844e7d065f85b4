"""Colour as one affine map on RGB per image, composed with the ImageNet normalisation.

Every operation here is affine in a pixel's RGB; contrast is also linear in the image's mean RGB.
So an operation is a (B, 7, 7) matrix on (r, g, b, mean r, mean g, mean b, 1), values in [0, 1],
and a list of operations is the product of their matrices. The mean is taken once, from the source
image before any geometry; carried along, it stays the exact mean after each colour operation.
Values are clamped to the valid range once, at the end, where torchvision clamps after each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from phasewise.augment.draws import Draws
from phasewise.augment.transfer import send

MEAN = (0.485, 0.456, 0.406)
"""ImageNet's mean RGB, of values in [0, 1]."""

STD = (0.229, 0.224, 0.225)
"""ImageNet's standard deviation of RGB, of values in [0, 1]."""

LUMA = (0.2989, 0.587, 0.114)
"""Weights of R, G and B in grey, torchvision's digits (ITU-R BT.601)."""

YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
"""RGB to luma and the two chroma axes (FCC NTSC standard)."""

EIGENVALUES = (0.2175, 0.0188, 0.0045)
"""Of ImageNet's RGB covariance, as published with fb.resnet.torch, for values in [0, 1]."""

EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
"""Their eigenvectors, one per COLUMN; rows are R, G, B. The first is nearly grey. (torchreid's
ColorAugmentation sums the rows of the mirrored matrix, which tints the image instead.)"""


def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return send(torch.tensor(values, dtype=torch.float32), like.device)[:, None, None]


def normalize(image: Tensor) -> Tensor:
    """uint8 (..., 3, H, W) RGB to float32 of ImageNet's mean 0 and standard deviation 1."""
    scale = tuple(1 / (255 * std) for std in STD)
    offset = tuple(-mean / std for mean, std in zip(MEAN, STD, strict=True))
    return image.float().mul_(_per_channel(scale, image)).add_(_per_channel(offset, image))


def unit_range(image: Tensor) -> Tensor:
    """Normalised (..., 3, H, W) to float32 from 0 to 1."""
    return (image * _per_channel(STD, image) + _per_channel(MEAN, image)).clamp_(0, 1)


def normalized(image: Tensor) -> Tensor:
    """The inverse of `unit_range`."""
    return (image - _per_channel(MEAN, image)) / _per_channel(STD, image)


def denormalize(image: Tensor) -> Tensor:
    """The inverse of ``normalize``: float (..., 3, H, W) to uint8, rounded and clamped."""
    values = image.float() * _per_channel(STD, image) + _per_channel(MEAN, image)
    return values.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def _operation(pixel: Tensor, mean: Tensor | None = None, offset: Tensor | None = None) -> Tensor:
    """(B, 7, 7) of rgb' = pixel rgb + mean mean_rgb + offset; (B, 3, 3), (B, 3, 3) and (B, 3)."""
    matrix = torch.zeros(len(pixel), 7, 7, dtype=torch.float64)
    mean = torch.zeros_like(pixel) if mean is None else mean
    matrix[:, :3, :3], matrix[:, :3, 3:6], matrix[:, 3:6, 3:6] = pixel, mean, pixel + mean
    if offset is not None:
        matrix[:, :3, 6] = matrix[:, 3:6, 6] = offset
    matrix[:, 6, 6] = 1
    return matrix


def _factor(draws: Draws, amount: float) -> Tensor:
    """(B, 1, 1) in 1 - amount .. 1 + amount."""
    return draws.uniform(1 - amount, 1 + amount, 1, 1)


_IDENTITY = torch.eye(3, dtype=torch.float64)[None]
_TO_GREY = torch.tensor(LUMA, dtype=torch.float64).expand(1, 3, 3)
_ONE = _operation(torch.zeros_like(_IDENTITY))
_PIXEL = _operation(_IDENTITY) - _ONE
_OWN_GREY = _operation(_TO_GREY) - _ONE
_MEAN_GREY = _operation(torch.zeros_like(_IDENTITY), mean=_TO_GREY) - _ONE
"""(1, 7, 7), of which blends are sums: a few additions instead of a matrix put together from
blocks, at each step of a training."""


def brightness(factor: Tensor) -> Tensor:
    """rgb x factor; ``factor`` (B, 1, 1), result (B, 7, 7), as of all operations here."""
    return factor * _PIXEL + _ONE


def contrast(factor: Tensor) -> Tensor:
    """A blend of the pixel (factor) and the image's mean grey (1 - factor)."""
    return factor * _PIXEL + (1 - factor) * _MEAN_GREY + _ONE


def saturation(factor: Tensor) -> Tensor:
    """A blend of the pixel (factor) and its own grey (1 - factor)."""
    return factor * _PIXEL + (1 - factor) * _OWN_GREY + _ONE


def hue(turn: Tensor) -> Tensor:
    """Rotation of the chroma plane of YIQ by ``turn`` (B,), as a fraction of the circle.

    Keeps luma and greys. As in ``tfa.image.adjust_hsv_in_yiq`` of TensorFlow Addons; close to the
    rotation in HSV that torchvision does, but linear. Positive turns red to yellow, as there.
    """
    angle = -2 * math.pi * turn
    cos, sin = angle.cos(), angle.sin()
    rotation = _IDENTITY.repeat(len(turn), 1, 1)
    rotation[:, 1, 1], rotation[:, 1, 2], rotation[:, 2, 1], rotation[:, 2, 2] = cos, -sin, sin, cos
    to_yiq = torch.tensor(YIQ, dtype=torch.float64)
    return _operation(torch.linalg.inv(to_yiq) @ rotation @ to_yiq)


def lighting(alpha: Tensor) -> Tensor:
    """Adds sum_i alpha_i eigenvalue_i eigenvector_i to all pixels; ``alpha`` (B, 3).

    Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
    section 4.1.
    """
    vectors = torch.tensor(EIGENVECTORS, dtype=torch.float64)
    offset = (alpha * torch.tensor(EIGENVALUES, dtype=torch.float64)) @ vectors.T
    return _operation(_IDENTITY.expand(len(alpha), 3, 3), offset=offset)


def _jitter(draws: Draws, values: Mapping[str, float]) -> Tensor:
    """Brightness, contrast and saturation commute here, so their order need not be drawn; hue
    comes last. The latter two draw nothing unless they are asked for."""
    bright = brightness(_factor(draws, values["brightness"]))
    diagonal = bright.diagonal(dim1=1, dim2=2)  # and nothing beside it: the product of matrices
    matrix = contrast(_factor(draws, values["contrast"])) * diagonal[:, None]
    if amount := values["saturation"]:
        matrix = saturation(_factor(draws, amount)) @ matrix
    if amount := values["hue"]:
        matrix = hue(draws.uniform(-amount, amount)) @ matrix
    return matrix


COLOR: dict[str, Callable[[Draws, Mapping[str, float]], Tensor]] = {
    "brightness": lambda draws, values: brightness(_factor(draws, values["amount"])),
    "contrast": lambda draws, values: contrast(_factor(draws, values["amount"])),
    "saturation": lambda draws, values: saturation(_factor(draws, values["amount"])),
    "hue": lambda draws, values: hue(draws.uniform(-values["amount"], values["amount"])),
    "color_jitter": _jitter,
    "color_augment": lambda draws, values: lighting(draws.normal(values["std"], 3)),
}
"""Name -> the colour matrices (B, 7, 7) of one draw, float64 on the CPU."""


_MEAN, _STD = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
_PER_STD = (1 / _STD)[:, None]
_LESS_MEAN = torch.cat([torch.zeros(3, 6), (-_MEAN / _STD)[:, None]], 1)
_BETWEEN_CHANNELS = 1 - _IDENTITY
_FROM_BYTES = torch.tensor([1 / 255] * 6 + [1], dtype=torch.float64)


def recolor(image: Tensor, matrix: Tensor) -> Tensor:
    """Applies colour matrices and normalises, in one pass.

    Args:
        image: uint8 (B, 3, H, W).
        matrix: (B, 7, 7) float64 on the CPU.

    Returns:
        float32 (B, 3, H, W), normalised, clamped to what [0, 1] becomes.
    """
    matrix = (matrix[:, :3] * _PER_STD + _LESS_MEAN) * _FROM_BYTES
    channels_mix = bool((matrix[:, :, :3] * _BETWEEN_CHANNELS).any())
    uses_mean = bool(matrix[:, :, 3:6].any())
    mix, mean_mix, offset = send(matrix, image.device, torch.float32).split([3, 3, 1], 2)
    out = image.float()
    if uses_mean:
        offset = offset + (mean_mix * out.mean((2, 3))[:, None, :]).sum(2, keepdim=True)
    if channels_mix:
        out = torch.bmm(mix, out.flatten(2)).view(image.shape)
    else:
        out.mul_(mix.diagonal(dim1=1, dim2=2)[:, :, None, None])
    out.add_(offset[:, :, :, None])
    for channel, (m, s) in enumerate(zip(MEAN, STD, strict=True)):
        out[:, channel].clamp_(-m / s, (1 - m) / s)
    return out
