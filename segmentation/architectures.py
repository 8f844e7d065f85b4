"""The architectures by name, and which depths and sizes of images each takes; no torch here."""

from __future__ import annotations

UNETS = ("unet", "attention_unet", "resunet", "attention_resunet")
"""The U-Nets of `segmentation.unet`."""

OURS = (*UNETS, "nnunet")
"""All that are built here, without a backbone."""

RESIDUAL = ("resunet", "attention_resunet")
"""Those with residual branches, which stochastic depth drops."""

OF_SMP = (
    "smp_unet",
    "unetplusplus",
    "manet",
    "fpn",
    "deeplabv3plus",
    "upernet",
    "segformer",
    "transunet",
)
"""SMP's, around a backbone, and one made of SMP's parts."""

FOURS = ("fpn", "transunet")
"""Those whose width is a multiple of 4."""

UNET_DEPTH, SMP_DEPTH = 4, 5
"""How often images are halved where nobody says so."""

SMP_STEP = 32
"""Sides of images of SMP's are multiples of it."""

SMALLEST_MAP = 4
"""Side of nnU-Net's coarsest map that no further halving may go below."""


def depths(architecture: str) -> range:
    """Allowed depths."""
    if architecture == "nnunet":
        return range(2, 9)
    return range(2, 7) if architecture in UNETS else range(3, 6)


def depth_of(architecture: str, image_size: int, depth: int | None) -> int:
    """How often images are halved.

    Args:
        architecture: one of the names above.
        image_size: side of the images in pixels.
        depth: what was asked for; None: of nnU-Net, as its rule has it (Isensee et al. 2021: halve
            as long as the coarsest map keeps 4 pixels), here as long as the side is even too; 4 of
            the other U-Nets, 5 of SMP's.
    """
    if depth is not None:
        return depth
    if architecture != "nnunet":
        return UNET_DEPTH if architecture in OURS else SMP_DEPTH
    halved = 0
    while image_size % 2 == 0 and image_size >= 2 * SMALLEST_MAP:
        image_size //= 2
        halved += 1
    return halved


def step_of(architecture: str, depth: int) -> int:
    """What sides of images are a multiple of, for a depth of `depth_of`."""
    return 2**depth if architecture in OURS else SMP_STEP


def least_size(architecture: str, depth: int) -> int:
    """The smallest side of images: instance norm wants more than a single pixel."""
    return (2 if architecture == "nnunet" else 1) * step_of(architecture, depth)
