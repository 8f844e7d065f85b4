"""Gaussian blur with one width per image."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from phasewise.augment.transfer import send


def blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Blurs in place the images whose ``sigma`` is above 0; the borders are reflected.

    Args:
        image: float (B, C, H, W).
        sigma: (B,) on the CPU, standard deviation in pixels; 0 leaves the image untouched.
    """
    rows = sigma.nonzero()[:, 0]
    if not len(rows):
        return image
    count, channels, height, width = len(rows), *image.shape[1:]
    radius = min(math.ceil(3 * float(sigma.max())), height - 1, width - 1)
    kernel = send(gaussian_kernels(sigma[rows], radius), image.device, image.dtype)
    kernel = kernel.repeat_interleave(channels, 0)
    rows = send(rows, image.device)
    padded = F.pad(image[rows], (radius,) * 4, mode="reflect")
    planes = padded.view(1, count * channels, *padded.shape[2:])
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=count * channels)
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=count * channels)
    return image.index_copy_(0, rows, planes.view(count, channels, height, width))


def gaussian_kernels(sigma: Tensor, radius: int) -> Tensor:
    """(N, 2 radius + 1), each row a Gaussian sampled at whole pixels and summing to 1."""
    offset = torch.arange(-radius, radius + 1, dtype=sigma.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    return kernel / kernel.sum(1, keepdim=True)
