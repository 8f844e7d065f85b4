"""How far a pixel of a network's output can see."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules import activation

LOOKED_AT = 1024
"""Pixels along which is looked; who sees them all sees the whole of most images."""

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
POOLINGS = (nn.MaxPool2d,)


def receptive_field(network: nn.Module, channels: int, step: int, least: int) -> int | None:
    """The side of the square of input pixels that the output in the middle can depend on.

    Measured on a copy: how far the gradient of the middle pixel reaches along a strip of pixels.
    The copy is linear, with positive weights, so that no path is closed or cancelled: no
    activations, maxima as means. Norms are left out: those over a whole map (instance, group) have
    each pixel see all of it, which is not what is meant. That is the theoretical receptive field;
    what trained weights use of it is less (Luo et al. 2016, arXiv:1701.04128).

    Args:
        network: takes float images (B, ``channels``, H, W) to one tensor (B, 1, H, W) or (B, H, W).
        channels: of the images.
        step: what sides of images are a multiple of.
        least: pixels along which is to be looked at least.

    Returns:
        Pixels, at most the larger of `LOOKED_AT` and ``least``, rounded up; ``None`` where it
        cannot be told: the network does not take strips, or what comes out does not depend on what
        comes in.
    """
    length = -(-max(LOOKED_AT, least) // (2 * step)) * 2 * step
    try:
        copy = _linear(deepcopy(network).cpu().eval())
        images = torch.ones(1, channels, step, length, requires_grad=True)
        with torch.enable_grad():
            middle = copy(images)[..., step // 2, length // 2].sum()
            (gradient,) = torch.autograd.grad(middle, images)
    except Exception:  # each foreign network has its own way of failing
        return None
    seen = gradient.abs().amax((0, 1, 2)).nonzero()
    return int(seen[-1] - seen[0]) + 1 if len(seen) else None


def _linear(network: nn.Module) -> nn.Module:
    _replace(network)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for layer in network.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            parameter.fill_(0.0 if "bias" in name else _positive(layer, parameter))
    return network


def _positive(layer: nn.Module, weight: Tensor) -> float:
    """Such that neither the far ends of many layers vanish in float32 nor their middle overflows:
    the mean over channels and rows, of columns the sum over their root."""
    if isinstance(layer, CONVOLUTIONS):
        height, width = layer.kernel_size
        inputs = weight.shape[0 if isinstance(layer, nn.ConvTranspose2d) else 1]
        return float(1 / (inputs * height * width**0.5))
    return 1 / weight.shape[1] if weight.ndim == 2 else 1.0


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        if (make := _replacement(child)) is not None:
            setattr(module, name, make(child))
        else:
            _replace(child)


def _replacement(layer: nn.Module) -> Callable[[nn.Module], nn.Module] | None:
    if isinstance(layer, POOLINGS):
        return _mean
    kind = type(layer)
    bends = kind.__module__ == activation.__name__ and kind is not nn.MultiheadAttention
    mixes = any(p.ndim > 1 for p in layer.parameters())  # as torchvision's Conv2dNormActivation
    norm = "Norm" in kind.__name__ and not mixes
    return (lambda _: nn.Identity()) if bends or norm else None


def _mean(layer: nn.Module) -> nn.Module:
    assert isinstance(layer, nn.MaxPool2d)
    return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
