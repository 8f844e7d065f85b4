"""Predictions of binary segmentation: masks, and the objects in them, of images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.segmentation import find_boundaries
from torch import Tensor

from phasewise.data.images import UINT8, Resize
from phasewise.errors import UserError
from phasewise.inference.prediction.drawing import eight_bits, label, line_width, tint
from phasewise.inference.prediction.maps import mean_map, resampled
from phasewise.inference.prediction.predictor import ImagePredictor, Row
from phasewise.inference.prediction.tiling import Tiles
from phasewise.inference.restore import Restored
from phasewise.training.module import TaskModule
from segmentation.figures import HIT
from segmentation.module import SegmentationModule
from segmentation.objects import split_objects

FILL, OUTLINE = eight_bits(to_rgb(HIT)), (255, 210, 0)
TILE_OVERLAP = 8
"""Unless said otherwise, neighbouring squares share an eighth of their side."""


@dataclass(frozen=True)
class Found:
    """The prediction of an image (H, W).

    Attributes:
        mask: bool (H, W), the foreground.
        objects: int32 (h, w), numbered from 1, 0 = none, at the size that the network saw; None
            where objects are not counted.
        points: x, y and area of each object in pixels of the image, float64 (n, 3).
    """

    mask: NDArray[np.bool_]
    objects: NDArray[np.int32] | None
    points: NDArray[np.float64]


class SegmentationPredictor(ImagePredictor[Found]):
    """Masks at the checkpoint's threshold; of several networks the mean probability at their mean
    threshold. Objects are formed at the size that the first network saw, where ``data.min_area``
    and ``data.min_distance`` hold."""

    keys: ClassVar[frozenset[str]] = frozenset({"tile", "overlap"})

    def check_members(self) -> None:
        """Also refuse an overlap without squares."""
        super().check_members()
        self.tiles = [self.settings.tile or m.config["data"].get("tile_size") for m in self.members]
        smallest = min((tile or 0) for tile in self.tiles)
        overlap = self.settings.overlap
        if overlap is not None and overlap >= smallest:
            what = f"must be smaller than the squares of {smallest} pixels"
            raise UserError(f"overlap={overlap}: {what if smallest else 'needs tile=PIXELS'}")
        self.counts = self.alike("evaluation.objects", lambda m: m.config["evaluation"]["objects"])
        modules = [member.module for member in self.members]
        self.threshold = float(np.mean([_threshold(module) for module in modules]))

    @property
    def tables(self) -> dict[str, Sequence[str]]:
        """A row per image, and a row per object."""
        tables: dict[str, Sequence[str]] = {"images": ("file", "width", "height", "foreground")}
        if self.counts:
            tables["images"] = (*tables["images"], "objects")
            tables["objects"] = ("file", "object", "x", "y", "area")
        return tables

    @property
    def folders(self) -> tuple[str, ...]:
        """Also the masks."""
        return ("masks", *super().folders)

    @property
    def images_at_once(self) -> int:
        """One, where it alone makes batches of squares."""
        return 1 if any(self.tiles) else super().images_at_once

    def heading(self) -> dict[str, Any]:
        """Also the threshold of the foreground."""
        return {**super().heading(), "threshold": round(self.threshold, 6)}

    def predict(self, images: Sequence[UINT8]) -> list[Found]:
        """Images (H, W, 3) to masks and objects."""
        found = [
            self._probabilities(member, resize, tile, images)
            for member, resize, tile in zip(self.members, self.resizes, self.tiles, strict=True)
        ]
        return [
            self._found(mean_map(maps), image) for *maps, image in zip(*found, images, strict=True)
        ]

    def _probabilities(
        self, member: Restored, resize: Resize, tile: int | None, images: Sequence[UINT8]
    ) -> list[Tensor]:
        """Of the foreground in each image, at the size that the network saw."""
        rasters = [_scaled(image, resize, tile) for image in images]
        side = resize.image_size
        overlap = side // TILE_OVERLAP
        if tile and self.settings.overlap is not None:
            overlap = min(round(self.settings.overlap * side / tile), side - 1)
        cuts = [Tiles((len(raster), raster.shape[1]), side, overlap) for raster in rasters]
        squares = [s for cut, raster in zip(cuts, rasters, strict=True) for s in cut.cut(raster)]
        found: list[Tensor | None] = [None] * len(squares)
        for rows, batch, is_mirrored in self.views(squares):
            values = member.module(batch)["logits"].float().sigmoid().cpu()
            for row, value in zip(rows, values.flip(-1) if is_mirrored else values, strict=True):
                before = found[row]
                found[row] = value if before is None else (before + value) / 2
        maps, start = [], 0
        for cut, image in zip(cuts, images, strict=True):
            end = start + len(cut.corners)
            joined = cut.join([it for it in found[start:end] if it is not None])
            content = resize.content((image.shape[1], image.shape[0]))
            maps.append(joined if tile else joined[content])
            start = end
        return maps

    def _found(self, probabilities: Tensor, image: UINT8) -> Found:
        height, width = image.shape[:2]
        mask = resampled(probabilities[None], (height, width))[0] >= self.threshold
        if not self.counts:
            return Found(mask.numpy(), None, np.zeros((0, 3)))
        data = self.members[0].config["data"]
        objects = split_objects(
            (probabilities >= self.threshold).numpy(),
            min_area=data["min_area"],
            min_distance=data["min_distance"],
        )
        return Found(mask.numpy(), objects, _points(objects, (height, width)))

    def entry(self, result: Found) -> dict[str, Any]:
        """The share of the foreground, and the number of objects."""
        entry: dict[str, Any] = {"foreground": round(float(result.mask.mean()), 6)}
        if result.objects is not None:
            entry["objects"] = len(result.points)
        return entry

    def rows(self, name: str, size: tuple[int, int], result: Found) -> dict[str, list[Row]]:
        """The same, and where the objects are."""
        image = (name, *size, *self.entry(result).values())
        if result.objects is None:
            return {"images": [image]}
        points: list[Row] = [
            (name, number, round(x, 1), round(y, 1), round(area, 1))
            for number, (x, y, area) in enumerate(result.points.tolist(), 1)
        ]
        return {"images": [image], "objects": points}

    def mask(self, result: Found) -> Image.Image:
        """White is foreground."""
        return Image.fromarray(result.mask.astype(np.uint8) * 255)

    def overlay(self, image: UINT8, result: Found) -> Image.Image:
        """Objects outlined in yellow, their number in the corner; where they are not counted, the
        foreground in green."""
        if result.objects is None:
            return Image.fromarray(tint(image, {FILL: result.mask}))
        rows, columns = (
            (2 * np.arange(target) + 1) * source // (2 * target)
            for target, source in zip(result.mask.shape, result.objects.shape, strict=True)
        )
        objects = result.objects[rows[:, None], columns] * result.mask
        edges = find_boundaries(objects, mode="inner")
        thick = line_width((image.shape[1], image.shape[0])) // 2
        if thick > 1:
            edges = ndimage.binary_dilation(edges, iterations=thick - 1) & (objects > 0)
        picture = Image.fromarray(np.where(edges[..., None], np.array(OUTLINE, np.uint8), image))
        label(picture, (0, 0), f"{len(result.points)} objects")
        return picture


def _threshold(module: TaskModule) -> float:
    assert isinstance(module, SegmentationModule)
    return float(module.metrics.threshold)


def _scaled(image: UINT8, resize: Resize, tile: int | None) -> UINT8:
    """The whole image as the network's square; with ``tile``, so that a square of so many pixels
    becomes one of the network's."""
    if not tile:
        return resize.image(image)
    scale = resize.image_size / tile
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small)


def _points(objects: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Centre x and y and area of each object (n, 3), in pixels of an image of that shape."""
    numbers = np.arange(1, int(objects.max(initial=0)) + 1)
    if not len(numbers):
        return np.zeros((0, 3))
    centres = np.array(ndimage.center_of_mass(objects > 0, objects, numbers))
    down, across = shape[0] / objects.shape[0], shape[1] / objects.shape[1]
    areas = np.bincount(objects.ravel())[1:] * down * across
    return np.stack([(centres[:, 1] + 0.5) * across, (centres[:, 0] + 0.5) * down, areas], 1)
