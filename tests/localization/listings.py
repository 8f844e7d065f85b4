"""Images to be listed, and what a reader said of them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from localization.samples import Listing, Sample

WIDTH, HEIGHT = 40, 30


def put(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A black image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def everything(listing: Listing) -> dict[str, Sample]:
    """The samples of all splits by name."""
    return {sample.name: sample for part in listing.samples.values() for sample in part}
