"""Readers of somebody's own, one for each task."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from localization.samples import Collector, Listing
from multitask.data import VocListing
from phasewise.data.images import image_size
from phasewise.data.voc import read_voc
from reid.readers import read_folder
from reid.splits import Listing as ReidListing
from segmentation.image_mask import Listing as MaskListing
from segmentation.image_mask import read_image_mask


def halves(root: Path, table: str, seed: int = 0) -> Listing:
    """Images of a table, with the box that stands beside each: name, x1, y1, x2, y2."""
    collector = Collector(root)
    with open(table, newline="") as file:
        for name, x1, y1, x2, y2 in csv.reader(file):
            with collector.noting():
                image = collector.find(name)
                box = (float(x1), float(y1), float(x2), float(y2))
                collector.add(name, image, image_size(image, name), [("thing", box)])
    return collector.listing(collector.split({"all": list(collector.samples)}, seed))


def voc(root: Path) -> VocListing:
    return read_voc(root, split_seed=0)


def masks(root: Path, kind: str = "auto") -> MaskListing:
    return read_image_mask(root, split_seed=0, kind=kind)


def identities(root: Path) -> ReidListing:
    return read_folder(root, split_seed=0)


def names(root: Path) -> list[Any]:
    """No listing."""
    return sorted(root.iterdir())
