"""What a store of this task holds of an image: pixels, mask and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multitask.metrics import VOID
from phasewise.data.images import UINT8, Resize
from phasewise.data.store import Arrays

Fields = dict[str, tuple[tuple[int, ...], str]]


def row_fields(size: int, most: int) -> Fields:
    """The fields of a store, for images of ``size`` pixels with at most ``most`` objects."""
    return {
        "image": ((3, size, size), "uint8"),
        "mask": ((size, size), "uint8"),
        "boxes": ((most, 4), "float32"),
        "labels": ((most,), "int64"),
        "difficult": ((most,), "bool"),
        "has_mask": ((), "bool"),
        "has_boxes": ((), "bool"),
    }


def row_arrays(
    resize: Resize,
    image: UINT8,
    mask: UINT8 | None,
    objects: Sequence[tuple[str, Sequence[float], bool]] | None,
    class_names: Sequence[str],
    most: int,
) -> Arrays:
    """A row of a store, see `row_fields`.

    Args:
        resize: the map to the square.
        image: (H, W, 3), upright.
        mask: class indices (H, W); None where they are not known.
        objects: class, box in pixels of the image, and whether it is difficult; None where boxes
            are not known.
        class_names: by index.
        most: places for objects.
    """
    size = resize.image_size
    boxes = np.zeros((most, 4), np.float32)
    labels = np.full(most, -1, np.int64)
    difficult = np.zeros(most, bool)
    if objects:
        found = np.array([box for _, box, _ in objects], np.float32)
        boxes[: len(objects)] = resize.boxes(found, (image.shape[1], image.shape[0]))
        labels[: len(objects)] = [class_names.index(name) for name, _, _ in objects]
        difficult[: len(objects)] = [hard for _, _, hard in objects]
    void = np.full((size, size), VOID, np.uint8)
    return {
        "image": np.ascontiguousarray(resize.image(image).transpose(2, 0, 1)),
        "mask": void if mask is None else resize.mask(mask),
        "boxes": boxes,
        "labels": labels,
        "difficult": difficult,
        "has_mask": np.array(mask is not None),
        "has_boxes": np.array(objects is not None),
    }
