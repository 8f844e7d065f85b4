"""Images with boxes around their objects: what readers of annotations find, and how they check it.

Boxes are x1, y1, x2, y2 in pixels of the upright image with continuous edges: 0, 0, width, height
is the whole image.
"""

from __future__ import annotations

import gc
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from phasewise.data.frame import Box, Frame, as_it_is, find_frame
from phasewise.data.images import IMAGE_SUFFIXES, image_header
from phasewise.data.listing import is_text
from phasewise.data.splits import check_inside
from phasewise.errors import BadSample, Problem, UserError

OBJECT = "object"
"""The class of boxes without one."""

TOLERANCE = 1.0
"""A box up to this many pixels outside its image is clipped: programs round differently."""

EVERYTHING = "all"
"""The list of images that belong to no split yet."""

SHOWN = 3
"""So many files a note names."""

Outline = list[list[float]] | Mapping[str, Any]
"""Polygons x, y, x, y, ... or COCO's run lengths, in the pixels that annotations are stated in."""


class AnnotatedObject(NamedTuple):
    """One object: its class, its box, and if known its outline.

    Attributes:
        is_crowd: of COCO: several at once, which nobody is asked to tell apart.
    """

    class_name: str
    box: Box
    outline: Outline | None = None
    is_crowd: bool = False


class AnnotatedImage(NamedTuple):
    """One image and its objects.

    Attributes:
        name: relative to the root.
        image: the file.
        size: width and height of the upright image in pixels.
        objects: may be none.
        frame: from stated pixels to those of the image; boxes are in the latter already.
    """

    name: str
    image: Path
    size: tuple[int, int]
    objects: tuple[AnnotatedObject, ...]
    frame: Frame


@contextmanager
def uncollected() -> Iterator[None]:
    """Many objects are made inside and none of them in circles: the search for these, after every
    few hundred, would take a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Noting:
    """See `Finder.noting`. A class, for a generator would take four times as long, and there is one
    for each sample."""

    __slots__ = ("problems",)

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> bool:
        if not isinstance(error, BadSample):
            return False
        self.problems.append(error.problem)
        return True


@dataclass
class Finder:
    """Files below a root, and what was found wrong with them so far."""

    root: Path
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def noting(self) -> Noting:
        """Whatever is wrong inside with a sample becomes a problem."""
        return Noting(self.problems)

    def name(self, path: Path) -> str:
        """How messages call a file."""
        text, base = str(path), f"{self.root}{os.sep}"
        if text.startswith(base):  # what `Path` takes five times as long for
            return text.removeprefix(base).replace(os.sep, "/")
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else text

    def find(self, relative: str, folders: Iterable[str] = (".",)) -> Path:
        """The file of that name in the first of the folders, all below the root, that has it.

        Raises:
            BadSample: it leads out of the root, or there is none.
        """
        folders, base = list(folders), str(self.root)
        check_inside(relative)
        forms = (relative,) if relative.isascii() else _forms(relative)
        for folder in folders:
            for form in forms:
                path = os.path.join(base, folder, form)
                if os.path.isfile(path):
                    return Path(path)
        where = ", ".join("data.root" if folder == "." else folder for folder in folders)
        raise BadSample(relative, f"no such file in {where}")


@dataclass
class Annotations(Finder):
    """What a reader of annotated images has found so far.

    Attributes:
        images: the usable ones by name.
        lists: names by list, called as in `phasewise.data.splits` or `EVERYTHING`; those of images
            that cannot be used, too.
        class_names: in the order of the annotations' own numbers.
        moved: what was found by the last part of its name, by the whole one.
        unclear: images that EXIF turns, where nothing tells whether they were turned already when
            they were annotated.
    """

    images: dict[str, AnnotatedImage] = field(default_factory=dict)
    lists: dict[str, dict[str, None]] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    unclear: list[str] = field(default_factory=list)

    def find_listed(
        self, listed: str, folders: Iterable[str], last_parts: Mapping[str, int]
    ) -> Path:
        """As `find`; a name that leads elsewhere, from the computer of who annotated, is looked
        for by its last part, which must be that of one image only.

        Args:
            listed: what the annotations call it, with slashes of either kind.
            folders: see `find`.
            last_parts: how many of the names listed end in it, see `last_parts`.
        """
        listed = listed.replace("\\", "/")
        folders = list(folders)
        try:
            return self.find(listed, folders)
        except BadSample:
            last = PurePosixPath(listed).name
            if last == listed or last_parts.get(last) != 1:
                raise
            try:
                found = self.find(last, folders)
            except BadSample:
                pass
            else:
                self.moved[listed] = self.name(found)
                return found
            raise

    def frame(self, stated: tuple[Any, Any], image: Path, name: str, source: str) -> Frame:
        """`phasewise.data.frame.find_frame`, from the image's header.

        Raises:
            BadSample: see there; or the image cannot be used.
        """
        header = image_header(image, name)
        frame = find_frame(stated, header.size, image, name, source)
        on_its_side = header.orientation >= 5 and header.size[0] != header.size[1]
        if header.orientation > 1 and not (on_its_side and stated[0] and stated[1]):
            self.unclear.append(name)
        return frame

    def finish(self, source: str) -> None:
        """Note what is only known of all images together.

        Args:
            source: how notes call the annotations.
        """
        frames = {name: image.frame for name, image in self.images.items()}
        turned = [name for name, frame in frames.items() if frame.turn > 1]
        scaled = [name for name, frame in frames.items() if frame.is_scaled]
        total = len(frames)
        stored = "boxes are for the image as it is stored: turned by its EXIF tag"
        other = "boxes are for another size of the image: scaled"
        guessed = "named elsewhere, found by the last part of the name"
        self.count(turned, total, stored, source)
        self.count(scaled, total, other, source)
        upright = "EXIF turns them, and no size tells for which side up boxes are: taken as upright"
        self.count(self.unclear, total, upright, source)
        self.count(list(self.moved), total, guessed, source)
        self._once(source)
        self.note_unlisted(source)

    def _once(self, source: str) -> None:
        """Objects that an image has twice, to the last digit, count once."""
        twice = []
        for name, image in self.images.items():
            objects = image.objects
            if len({(it.class_name, it.box) for it in objects}) == len(objects):
                continue
            once = {repr(it): it for it in objects}
            if len(once) < len(objects):
                twice.append(name)
                self.images[name] = image._replace(objects=tuple(once.values()))
        what = "the same object is there more than once: it counts once"
        self.count(twice, len(self.images), what, source)

    def count(self, names: Sequence[str], total: int, what: str, file: str) -> None:
        """One note on some images, if there are any."""
        if names:
            shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            self.warnings.append(Problem(file, f"{len(names)} of {total} images: {what} ({shown})"))

    def note_unlisted(self, source: str) -> None:
        """Note images that lie beside those that were read and are not in the annotations."""
        named = [name for names in self.lists.values() for name in names]
        named += [problem.file for problem in self.problems]
        listed = {unicodedata.normalize("NFC", name) for name in named}
        there = 0
        others = []
        folders = {os.path.dirname(image.image): image.image for image in self.images.values()}
        for folder, image in folders.items():
            before = self.name(image).removesuffix(image.name)
            for entry in sorted(os.listdir(folder)):
                if entry.lower().endswith(IMAGE_SUFFIXES) and not entry.startswith("."):
                    name = unicodedata.normalize("NFC", before + entry)
                    there += 1
                    if name not in listed:
                        others.append(name if is_text(name) else ascii(name))
        self.count(others, there, "not in the annotations, not used", source)


def _forms(name: str) -> tuple[str, str]:
    """A name as most editors write it, and as macOS does: umlauts as two characters."""
    return unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)


def last_parts(listed: Iterable[str]) -> Mapping[str, int]:
    """How often names end in which last part, see `Annotations.find_listed`."""
    return Counter(name.replace("\\", "/").rpartition("/")[2] for name in listed)


def annotated(
    name: str,
    image: Path,
    size: tuple[int, int],
    objects: Sequence[AnnotatedObject],
    frame: Frame | None = None,
) -> AnnotatedImage:
    """An image; boxes are in stated pixels, and are checked there.

    Raises:
        BadSample: a box is empty or outside.
    """
    frame = frame or as_it_is(size)
    if frame.stated != size or frame.turn > 1:
        objects = [
            AnnotatedObject(it.class_name, frame.box(it.box), it.outline, it.is_crowd)
            for it in objects
        ]
    return AnnotatedImage(name, image, size, tuple(objects), frame)


def split_files(
    root: Path, pattern: str, key: str, suffix: str, folder_first: Sequence[str] = ()
) -> dict[Path, str]:
    """The files that describe a data set, and the split that each of several is.

    By the last of the words train, val, test or trainval in its path below the root.

    Args:
        root: of the data.
        pattern: relative to it: a file, a pattern, or a folder.
        key: as messages call it, ``data.annotations``.
        suffix: of the files, ``.json``.
        folder_first: patterns of the files of a folder; the first that is met counts.

    Returns:
        The split by file; of a single file `EVERYTHING`.

    Raises:
        UserError: there is none, or several that tell no split.
    """
    place = root / pattern
    if place.is_dir():
        found = next((hits for it in folder_first if (hits := sorted(place.glob(it)))), [])
    elif place.is_file() or Path(pattern).is_absolute():
        found = [place] * place.is_file()
    else:
        found = sorted(root.glob(pattern))
    if not found:
        others = sorted(path.relative_to(root).as_posix() for path in root.rglob(f"*{suffix}"))[:10]
        kind = suffix[1:].upper()
        there = f"{kind} files there: {', '.join(others) or 'none'}"
        raise UserError(f"{key}={pattern}: no such file in data.root={root}. {there}")
    if len(found) == 1:
        return {found[0]: EVERYTHING}
    splits = {}
    for path in found:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        words = re.findall("(?<![a-z])(?:trainval|train|val|test)", name.lower())
        if not words:
            raise UserError(
                f"{key}={pattern}: {len(found)} files, a split each, but {name} has none of "
                "train, val and test in its name"
            )
        splits[path] = words[-1]
    return splits


def number(value: Any, key: str, name: str) -> float:
    """A finite number.

    Raises:
        BadSample: ``value`` of ``key`` in ``name`` is none.
    """
    if value is None or value == "":
        raise BadSample(name, f"no {key}")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadSample(name, f"{key}={str(value)[:40]!r} is not a number") from None
    if not math.isfinite(found):
        raise BadSample(name, f"{key} is not finite")
    return found


def sound(edges: Sequence[float], size: tuple[int, int], name: str) -> Box:
    """A box, clipped to the image of ``size`` (width, height).

    Raises:
        BadSample: it is empty, or outside by more than `TOLERANCE`.
    """
    for axis, side in enumerate("xy"):
        low, high, end = edges[axis], edges[axis + 2], size[axis]
        if high <= low:
            raise BadSample(name, f"{side}max={high:g} <= {side}min={low:g}")
        beyond = low < -TOLERANCE or high > end + TOLERANCE
        if beyond or min(high, end) <= max(low, 0):
            raise BadSample(name, f"{side} {low:g}..{high:g} lies outside the image 0..{end}")
    x1, y1, x2, y2 = edges
    return (max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1])))


__all__ = [
    "EVERYTHING",
    "OBJECT",
    "AnnotatedImage",
    "AnnotatedObject",
    "Annotations",
    "Box",
    "Finder",
    "Outline",
    "annotated",
    "find_frame",
    "last_parts",
    "number",
    "sound",
    "split_files",
    "uncollected",
]
