"""Segmentation of foreground from background: networks, losses, metrics, data.

``SegmentationModule`` and the data modules import torch, and only when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewise.lazy import lazily

if TYPE_CHECKING:
    from segmentation.data import BeadsData as BeadsData
    from segmentation.data import ImageMaskData as ImageMaskData
    from segmentation.module import SegmentationModule as SegmentationModule

__all__ = ["BeadsData", "ImageMaskData", "SegmentationModule"]


__getattr__ = lazily(__name__, module=["SegmentationModule"], data=["BeadsData", "ImageMaskData"])
