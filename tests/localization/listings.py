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


def names(listing: Listing) -> dict[str, list[str]]:
    """Of the samples, by split."""
    return {split: [sample.name for sample in part] for split, part in listing.samples.items()}


def problems(listing: Listing) -> dict[str, str]:
    """Reasons by file; a file has one."""
    assert len({problem.file for problem in listing.problems}) == len(listing.problems)
    return {problem.file: problem.reason for problem in listing.problems}


def warnings(listing: Listing) -> list[str]:
    """As they are shown."""
    return [str(warning) for warning in listing.warnings]


def everything(listing: Listing) -> dict[str, Sample]:
    """The samples of all splits by name."""
    return {sample.name: sample for part in listing.samples.values() for sample in part}
