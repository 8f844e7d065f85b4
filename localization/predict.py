"""Predictions of localization: one box per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phasewise.data.images import UINT8
from phasewise.inference.prediction.boxes import mirrored
from phasewise.inference.prediction.drawing import frame
from phasewise.inference.prediction.predictor import ImagePredictor, Row

Box = NDArray[np.float64]

COLOUR = (229, 32, 43)


class LocalizationPredictor(ImagePredictor[Box]):
    """The box (4,) of each image; the mean one of several networks and of mirror images."""

    @property
    def tables(self) -> dict[str, Sequence[str]]:
        """A row per image."""
        return {"boxes": ("file", "width", "height", "x1", "y1", "x2", "y2")}

    def predict(self, images: Sequence[UINT8]) -> list[Box]:
        """Images (H, W, 3) to boxes (4,) in their pixels."""
        found: list[list[Box]] = [[] for _ in images]
        for member, resize in zip(self.members, self.resizes, strict=True):
            side = resize.image_size
            for rows, batch, is_mirrored in self.views([resize.image(it) for it in images]):
                boxes = member.module(batch)["boxes"].cpu().double().numpy() * side
                boxes = mirrored(boxes, side) if is_mirrored else boxes
                for row, box in zip(rows, boxes, strict=True):
                    height, width = images[row].shape[:2]
                    found[row].append(resize.original_boxes(box[None], (width, height))[0])
        return [np.mean(boxes, 0) for boxes in found]

    def entry(self, result: Box) -> dict[str, Any]:
        """The box."""
        return {"box": dict(zip(("x1", "y1", "x2", "y2"), _rounded(result), strict=True))}

    def rows(self, name: str, size: tuple[int, int], result: Box) -> dict[str, list[Row]]:
        """The box."""
        return {"boxes": [(name, *size, *_rounded(result))]}

    def overlay(self, image: UINT8, result: Box) -> Image.Image:
        """The box on the image."""
        picture = Image.fromarray(image)
        frame(picture, result.tolist(), COLOUR)
        return picture


def _rounded(box: Box) -> list[float]:
    return [round(float(value), 2) for value in box]
