"""Predictions of multi-task networks: a class for each pixel, boxes with class and score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from multitask.figures import class_colour
from multitask.module import MultitaskModule
from phasewise.data.images import UINT8, Resize
from phasewise.inference.prediction.boxes import Boxes, fuse, mirrored
from phasewise.inference.prediction.drawing import eight_bits, frame, tint
from phasewise.inference.prediction.maps import most_likely, resampled
from phasewise.inference.prediction.predictor import ImagePredictor, Row
from phasewise.inference.restore import Restored

CORNERS = ("x1", "y1", "x2", "y2")


@dataclass
class Found:
    """The prediction of an image (H, W).

    Attributes:
        classes: uint8 (H, W), the class of each pixel; None without a segmentation head.
        boxes: best first; None without a detection head.
    """

    classes: NDArray[np.uint8] | None
    boxes: Boxes | None


@dataclass
class _Views:
    """What was seen in one image so far: probabilities (C, h, w), summed over mirror images, of
    each network; detections of each look."""

    probabilities: list[Tensor] = field(default_factory=list)
    boxes: list[Boxes] = field(default_factory=list)


class MultitaskPredictor(ImagePredictor[Found]):
    """Masks and boxes; of several networks and of mirror images the mean probabilities, and boxes
    by weighted fusion."""

    keys: ClassVar[frozenset[str]] = frozenset({"score"})

    def check_members(self) -> None:
        """Also refuse networks that do not have the same heads."""
        super().check_members()
        self.heads = self.alike("heads", _heads)
        self.class_names: list[str] = self.members[0].class_names
        self.colours = [
            eight_bits(class_colour(label)) if label else (0, 0, 0)
            for label in range(len(self.class_names))
        ]

    @property
    def tables(self) -> dict[str, Sequence[str]]:
        """A row per box, and a row per class that an image shows."""
        tables: dict[str, Sequence[str]] = {}
        if "detection" in self.heads:
            tables["boxes"] = ("file", "width", "height", "class", "score", *CORNERS)
        if "segmentation" in self.heads:
            tables["classes"] = ("file", "width", "height", "class", "pixels", "share")
        return tables

    @property
    def folders(self) -> tuple[str, ...]:
        """Also the masks, if there is a head for them."""
        return ("masks",) * ("segmentation" in self.heads) + super().folders

    def predict(self, images: Sequence[UINT8]) -> list[Found]:
        """Images (H, W, 3) to masks and boxes in their pixels."""
        seen = [_Views() for _ in images]
        for member, resize in zip(self.members, self.resizes, strict=True):
            self._look(member, resize, images, seen)
        return [self._found(one, image) for one, image in zip(seen, images, strict=True)]

    def _look(
        self, member: Restored, resize: Resize, images: Sequence[UINT8], seen: Sequence[_Views]
    ) -> None:
        """Add what one network sees."""
        assert isinstance(member.module, MultitaskModule)
        side = resize.image_size
        for rows, batch, is_mirrored in self.views([resize.image(image) for image in images]):
            outputs = member.module(batch)
            sizes = [(images[row].shape[1], images[row].shape[0]) for row in rows]
            if "segmentation" in outputs:
                values = outputs["segmentation"].float().softmax(1).cpu()
                values = values.flip(-1) if is_mirrored else values
                for row, size, one in zip(rows, sizes, values, strict=True):
                    inner = one[:, *resize.content(size)]
                    if is_mirrored:
                        seen[row].probabilities[-1] += inner
                    else:
                        seen[row].probabilities.append(inner.clone())
            if "class_logits" in outputs:
                detections = member.module.detections(outputs)
                for row, size, found in zip(rows, sizes, detections, strict=True):
                    boxes = found["boxes"].cpu().double().numpy()
                    boxes = mirrored(boxes, side) if is_mirrored else boxes
                    scores, labels = (found[key].cpu().numpy() for key in ("scores", "labels"))
                    boxes = resize.original_boxes(boxes, size)
                    seen[row].boxes.append(Boxes(boxes, scores.astype(np.float64), labels))

    def _found(self, seen: _Views, image: UINT8) -> Found:
        classes = boxes = None
        height, width = image.shape[:2]
        if seen.probabilities:
            first, *others = seen.probabilities
            shape = (first.shape[1], first.shape[2])
            total = sum((resampled(other, shape) for other in others), first)
            classes = most_likely(total, (height, width)).numpy()
        if seen.boxes:
            fused = fuse(seen.boxes)
            sides = fused.boxes[:, 2:] - fused.boxes[:, :2]
            kept = (fused.scores >= self.settings.score) & (sides > 0).all(1)  # not in the padding
            boxes = Boxes(fused.boxes[kept], fused.scores[kept], fused.labels[kept])
        return Found(classes, boxes)

    def entry(self, result: Found) -> dict[str, Any]:
        """The boxes, and how many pixels each class has."""
        entry: dict[str, Any] = {}
        if result.boxes is not None:
            entry["boxes"] = [
                {"class": name, "score": score, **dict(zip(CORNERS, box, strict=True))}
                for name, score, *box in self._boxes(result.boxes)
            ]
        if result.classes is not None:
            entry["pixels"] = dict(self._pixels(result.classes))
        return entry

    def rows(self, name: str, size: tuple[int, int], result: Found) -> dict[str, list[Row]]:
        """The same."""
        rows: dict[str, list[Row]] = {}
        if result.boxes is not None:
            rows["boxes"] = [(name, *size, *box) for box in self._boxes(result.boxes)]
        if result.classes is not None:
            whole = result.classes.size
            rows["classes"] = [
                (name, *size, label, pixels, round(pixels / whole, 6))
                for label, pixels in self._pixels(result.classes)
            ]
        return rows

    def _boxes(self, boxes: Boxes) -> list[tuple[Any, ...]]:
        """Class, score and corners of each."""
        return [
            (self.class_names[label], round(score, 4), *(round(value, 2) for value in box))
            for box, score, label in zip(*(part.tolist() for part in boxes), strict=True)
        ]

    def _pixels(self, classes: NDArray[np.uint8]) -> list[tuple[str, int]]:
        """Name and number of pixels of each class that occurs."""
        counts = np.bincount(classes.ravel(), minlength=len(self.class_names)).tolist()
        return [(self.class_names[label], count) for label, count in enumerate(counts) if count]

    def mask(self, result: Found) -> Image.Image | None:
        """Class indices, with the colours of the figures as palette."""
        if result.classes is None:
            return None
        mask = Image.fromarray(result.classes).convert("P")
        mask.putpalette(list(chain.from_iterable(self.colours)))
        return mask

    def overlay(self, image: UINT8, result: Found) -> Image.Image:
        """Classes as colours, boxes as frames."""
        if result.classes is not None:
            there = [label for label in np.unique(result.classes).tolist() if label]
            image = tint(image, {self.colours[label]: result.classes == label for label in there})
        picture = Image.fromarray(image)
        if result.boxes is not None:
            for box, score, label in reversed(list(zip(*result.boxes, strict=True))):
                text = f"{self.class_names[label]} {score:.2f}"
                frame(picture, box.tolist(), self.colours[label], text)
        return picture


def _heads(member: Restored) -> list[str]:
    assert isinstance(member.module, MultitaskModule)
    return list(member.module.loss_names())
