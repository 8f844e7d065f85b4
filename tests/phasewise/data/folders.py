"""Data sets in folders that tests write and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BOX = {"xmin": "3", "ymin": "2", "xmax": "10", "ymax": "8"}


def annotation(*objects: str, size: tuple[int, int] | None = (40, 30)) -> str:
    """A PASCAL VOC annotation of an image of so many pixels."""
    declared = ""
    if size:
        declared = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{declared}{''.join(objects)}</annotation>"


def an_object(name: str = "dog", extra: str = "", **box: object) -> str:
    """One of its objects; ``box`` replaces edges of `BOX`."""
    edges = "".join(f"<{tag}>{value}</{tag}>" for tag, value in (BOX | box).items())
    return f"<object><name>{name}</name>{extra}<bndbox>{edges}</bndbox></object>"


def write(path: Path, text: str | bytes) -> None:
    """A file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def names_of(listing: Any) -> dict[str, list[str]]:
    """Of the samples of each split."""
    return {split: [sample.name for sample in part] for split, part in listing.samples.items()}


def problems_of(listing: Any) -> dict[str, str]:
    """Reasons by file; no file has two."""
    assert len({problem.file for problem in listing.problems}) == len(listing.problems)
    return {problem.file: problem.reason for problem in listing.problems}


def warnings_of(listing: Any) -> list[str]:
    """As they are shown."""
    return [str(warning) for warning in listing.warnings]
