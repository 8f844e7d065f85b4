"""Localization: one box per image.

``LocalizationModule`` and the data modules import torch, and only when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewise.lazy import lazily

if TYPE_CHECKING:
    from localization.data import AnimalsData as AnimalsData
    from localization.data import CocoData as CocoData
    from localization.data import CsvData as CsvData
    from localization.data import PetsData as PetsData
    from localization.data import VocBoxesData as VocBoxesData
    from localization.data import YoloData as YoloData
    from localization.module import LocalizationModule as LocalizationModule

__all__ = [
    "AnimalsData",
    "CocoData",
    "CsvData",
    "LocalizationModule",
    "PetsData",
    "VocBoxesData",
    "YoloData",
]

__getattr__ = lazily(
    __name__,
    module=["LocalizationModule"],
    data=["AnimalsData", "CocoData", "CsvData", "PetsData", "VocBoxesData", "YoloData"],
)
