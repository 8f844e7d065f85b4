"""Re-identification: the same vehicle seen again by another camera.

What is exported here imports torch, and only when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewise.lazy import lazily

if TYPE_CHECKING:
    from reid.data import FolderData as FolderData
    from reid.data import MarketData as MarketData
    from reid.data import VehiclesData as VehiclesData
    from reid.data import VeriData as VeriData
    from reid.metrics import ReidRetrieval as ReidRetrieval
    from reid.module import ReidModule as ReidModule

__all__ = [
    "FolderData",
    "MarketData",
    "ReidModule",
    "ReidRetrieval",
    "VehiclesData",
    "VeriData",
]


__getattr__ = lazily(
    __name__,
    data=["FolderData", "MarketData", "VehiclesData", "VeriData"],
    metrics=["ReidRetrieval"],
    module=["ReidModule"],
)
