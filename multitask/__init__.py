"""Semantic segmentation and object detection on one backbone.

``MultitaskModule`` and the data modules import torch, and only when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewise.lazy import lazily

if TYPE_CHECKING:
    from multitask.data import ShapesData as ShapesData
    from multitask.data import Voc2012Data as Voc2012Data
    from multitask.data import VocData as VocData
    from multitask.module import MultitaskModule as MultitaskModule

__all__ = ["MultitaskModule", "ShapesData", "Voc2012Data", "VocData"]


__getattr__ = lazily(
    __name__, module=["MultitaskModule"], data=["ShapesData", "Voc2012Data", "VocData"]
)
