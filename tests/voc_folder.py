"""A small data set in PASCAL VOC layout, written file by file: squares on noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 20)
"""Width and height of the images."""
BOX = (11, 5, 30, 16)
"""Of the one object: xmin, ymin, xmax, ymax, 1-based and inclusive as in VOC."""


class VocFolder:
    """Writes ``train-0`` ... and ``val-0`` ..., a dog in each, and the lists that name them."""

    def __init__(self, root: Path, train: int = 4, val: int = 2) -> None:
        self.root = root
        for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)
        (root / "labels.txt").write_text("background\ncat\ndog\n")
        for split, count in (("train", train), ("val", val)):
            names = [f"{split}-{i}" for i in range(count)]
            for name in names:
                self.add(name)
            self.list(split, names)

    def add(self, name: str) -> None:
        """An image with its mask and its annotation."""
        rng = np.random.default_rng(sum(name.encode()))
        width, height = SIZE
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        x1, y1, x2, y2 = BOX
        pixels[y1 - 1 : y2, x1 - 1 : x2] = (250, 10, 10)
        mask[y1 - 1 : y2, x1 - 1 : x2] = 2
        Image.fromarray(pixels).save(self.image(name), quality=95)
        Image.fromarray(mask).save(self.mask(name))
        self.annotate(name)

    def annotate(self, name: str, *, label: str = "dog", **edges: object) -> None:
        """One object; edges that are not given are those of `BOX`."""
        box = dict(zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True)) | edges
        tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in box.items())
        self.write_xml(name, f"<object><name>{label}</name><bndbox>{tags}</bndbox></object>")

    def write_xml(self, name: str, content: str, before: str = "") -> None:
        """An annotation of ``content``, in full."""
        self.xml(name).write_text(f"{before}<annotation>{content}</annotation>")

    def list(self, split: str, names: list[str]) -> None:
        """The list of a split."""
        path = self.root / "ImageSets" / "Main" / f"{split}.txt"
        path.write_text("".join(f"{name}\n" for name in names))

    def image(self, name: str) -> Path:
        """An image's file."""
        return self.root / "JPEGImages" / f"{name}.jpg"

    def mask(self, name: str) -> Path:
        """A mask's file."""
        return self.root / "SegmentationClass" / f"{name}.png"

    def xml(self, name: str) -> Path:
        """An annotation's file."""
        return self.root / "Annotations" / f"{name}.xml"
