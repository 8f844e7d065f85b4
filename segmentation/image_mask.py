"""Reader of folders with ``images/``, ``masks/`` and, if there, ``instances/`` and split lists.

A mask belongs to the image of the same name without its extension; the order of files in a folder
means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from phasewise.data.brightness import range_of
from phasewise.data.frame import as_stored
from phasewise.data.groups import AUTO, find_groups
from phasewise.data.held_out import AS_LISTED, HeldOut
from phasewise.data.listing import (
    by,
    check_filled,
    check_folder,
    find_layouts,
    no_layout,
)
from phasewise.data.reading import AS_IS, Layout, Reading, layout_of, refusal
from phasewise.data.splits import SPLITS, inside, read_lists
from phasewise.errors import BadSample, Problem, UserError
from segmentation.looking import understood
from segmentation.masks import mask_layout
from segmentation.pairing import ENDINGS, IMAGES, INSTANCES, MASK_SUFFIXES, MASKS, Files, find_files
from segmentation.samples import Sample, load, read_binary_mask, tile

__all__ = [
    "Listing",
    "Sample",
    "find_layouts",
    "load",
    "read_binary_mask",
    "read_image_mask",
    "tile",
]

LIST_FOLDERS = ("", "ImageSets/")


@dataclass(frozen=True)
class Listing:
    """What `read_image_mask` found.

    Attributes:
        samples: the usable samples of each of train, val and test.
        problems: samples left out, and why.
        warnings: what is odd but used.
        lists: the split lists that were read, relative to the root; empty = hashed split.
    """

    samples: dict[str, list[Sample]]
    problems: list[Problem]
    warnings: list[Problem]
    lists: list[str]


def read_image_mask(
    root: Path | str,
    *,
    split_seed: int,
    kind: str = "auto",
    foreground: Any = None,
    reading: Reading = AS_IS,
    group_by: str = AUTO,
    held_out: HeldOut = AS_LISTED,
) -> Listing:
    """List and check a data set of images and masks. Nothing stops at the first bad file.

    Headers are read; some masks are decoded, see `segmentation.looking`; and images of more than 8
    bits all are, since the darkest and the brightest image must be scaled alike, see
    `phasewise.data.brightness.range_of`.

    Args:
        root: the folder that holds ``images``.
        split_seed: of the split by hashed name, where lists are missing.
        kind, foreground: see `segmentation.meaning.decide`.
        reading: what of several pages and channels is read, and black and white if they are not to
            be found.
        group_by: see `phasewise.data.groups.find_groups`.
        held_out: what validates.

    Raises:
        UserError: no such layout, unreadable lists, or no sample in train or in val.
    """
    root = Path(root)
    reader = _Reader(root, _files(root), reading)
    lists = reader.lists
    # Without lists a mask alone is a problem; with them only the listed names matter.
    everything = reader.names()
    groups = find_groups(group_by, [*lists.listed_in, *everything], images=reader.image)
    splits, overlaps = held_out.resolve(lists.names, everything, split_seed, groups)
    reader.warnings += lists.warnings + overlaps
    names = dict.fromkeys(name for split in SPLITS for name in splits[split])
    found = {name: reader.sample(name) for name in names}
    reading = _with_range(reader)
    samples = {
        split: [
            replace(sample, reading=reading)
            for name in splits[split]
            if (sample := found[name]) is not None
        ]
        for split in SPLITS
    }
    check_filled(root, samples, lists.files, reader.problems)
    unlisted = len(reader.images.keys() - names.keys())
    if unlisted:
        reason = f"{unlisted} of {len(reader.images)} are in no list and not used"
        reader.warnings.append(Problem(IMAGES, reason))
    samples, remarks = understood(samples, kind, foreground)
    reader.warnings += remarks
    return Listing(samples, reader.problems, reader.warnings, lists.files)


@dataclass
class _Reader:
    """Files by sample name, and what was found wrong so far."""

    root: Path
    files: Files
    reading: Reading
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    layouts: dict[Path, Layout] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        files = self.files
        self.images, self.masks, self.instances = files.images, files.masks, files.instances
        self.warnings += files.notes
        self.lists = read_lists(self.root, LIST_FOLDERS, self.resolve)
        if moved := list(dict.fromkeys(self.moved)):
            reason = f"{len(moved)} entries are paths of elsewhere: taken as names of images"
            self.warnings.append(Problem(self.lists.files[0], f"{reason} ({moved[0]})"))

    def names(self) -> list[str]:
        """All names of images and of masks."""
        return list(dict.fromkeys([*self.images, *self.masks]))

    def image(self, name: str) -> Path | None:
        """The file of a sample's image, if it has one."""
        return self.images[name][0] if name in self.images else None

    def resolve(self, entry: str) -> str:
        """The sample that a line of a list names, with or without folder and extension."""
        if entry in self.images:
            return entry
        path = PurePosixPath(entry.replace("\\", "/"))
        if len(path.parts) > 1 and path.parts[0] in (IMAGES, MASKS):
            entry = PurePosixPath(*path.parts[1:]).as_posix()
        if entry not in self.images and PurePosixPath(entry).suffix.lower() in MASK_SUFFIXES:
            entry = str(PurePosixPath(entry).parent / PurePosixPath(entry).stem)
        if entry not in self.images and ".." not in path.parts and path.stem in self.images:
            self.moved.append(f"{path}")
            return path.stem  # of another computer
        return entry

    def sample(self, name: str) -> Sample | None:
        """The sample, or None after noting every reason why it cannot be used."""
        before = len(self.problems)
        if name not in self.images:
            self.problems.append(self._no_image(name))
            return None
        image = self._single(IMAGES, self.images[name])
        size = self._noting(self._image_size, image)
        if name not in self.masks:
            reason = f"has no mask of this name{self._similar(name)}"
            self.problems.append(Problem(self._name(image), reason))
            return None
        files: tuple[Path, ...] = ()
        if self.files.apart:
            files = tuple(self._checked(MASKS, [path], size, image) for path in self.masks[name])
        mask = files[0] if files else self._checked(MASKS, self.masks[name], size, image)
        instances = None
        if name in self.instances:
            instances = self._checked(INSTANCES, self.instances[name], size, image)
        if size is None or len(self.problems) > before:
            return None
        return Sample(name, image, mask, instances, size, files=files)

    def _image_size(self, path: Path, name: str) -> tuple[int, int]:
        layout = layout_of(path, name)
        self.layouts[path] = layout
        # black and white are found when all are known
        if reason := refusal(layout, replace(self.reading, black=0, white=1), keys=True):
            raise BadSample(name, reason)
        return layout.size

    def _single(self, folder: str, paths: list[Path]) -> Path:
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            self.problems.append(Problem(self._name(paths[0]), f"{names}: keep one of them"))
        return paths[0]

    def _checked(
        self, folder: str, paths: list[Path], size: tuple[int, int] | None, image: Path
    ) -> Path:
        path = self._single(folder, paths)
        found = self._noting(lambda file, name: mask_layout(file, name).size, path)
        if found is not None and size is not None and found != size:
            hint = as_stored(found, size, image)
            reason = f"is {by(found)}, its image {by(size)}{hint}"
            self.problems.append(Problem(self._name(path), reason))
        return path

    def _noting(
        self, measure: Callable[[Path, str], tuple[int, int]], path: Path
    ) -> tuple[int, int] | None:
        try:
            return measure(path, self._name(path))
        except BadSample as bad:
            self.problems.append(bad.problem)
            return None

    def _no_image(self, name: str) -> Problem:
        listed = self.lists.listed_in.get(name)
        if listed is None:
            return Problem(self._name(self.masks[name][0]), "has no image of this name")
        try:
            inside(self.root, name)
        except BadSample as bad:
            return Problem(name, f"{bad.problem.reason} (listed in {listed})")
        return Problem(f"{IMAGES}/{name}", f"listed in {listed}, but there is no such image")

    def _similar(self, name: str) -> str:
        """A hint at a mask that may be meant."""
        for other, paths in self.masks.items():
            if other.casefold() == name.casefold():
                return f" ({MASKS}/{paths[0].name} differs in upper and lower case)"
            if other in (name + ending for ending in ENDINGS):
                return f" ({MASKS}/{paths[0].name} would do if all masks were named alike)"
        return ""

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _files(root: Path) -> Files:
    """What is there; or a ``UserError`` that says what is there instead."""
    looked_for = f"the folders {IMAGES} and {MASKS}, with files of the same names"
    check_folder(root, looked_for)
    found = find_files(root)
    if found is not None:
        return found
    missing = [folder for folder in (IMAGES, MASKS) if not (root / folder).is_dir()]
    others = "a folder for each image with these two; both kinds in one folder, masks NAME_mask"
    layouts = find_layouts(root, IMAGES, MASKS)
    raise no_layout(root, " and no ".join(missing), looked_for, layouts, f"Read as well: {others}")


# --- remarks on the data set --------------------------------------------------------------------


def _with_range(reader: _Reader) -> Reading:
    """How all images are read.

    Raises:
        UserError: something was asked for that no image has.
    """
    reading, layouts = reader.reading, reader.layouts.values()
    deep = [(path, layout) for path, layout in reader.layouts.items() if layout.kind != "8"]
    if reading.page not in (None, 0) and all(layout.pages == 1 for layout in layouts):
        raise UserError(f"data.page={reading.page}: no image has more than one page")
    if reading.white is not None:
        if not deep:
            shown = f"[{reading.black:g},{reading.white:g}]"
            raise UserError(f"data.intensity={shown}: no image has more than 8 bits")
        return reading
    found = range_of(deep, reading)
    if found is None:
        return reading
    if found.reason:
        reader.warnings.append(Problem(IMAGES, f"{len(deep)} are {found.reason}"))
    if (found.black, found.white) == (0, 65535) and all(it.kind == "16" for _, it in deep):
        return reading
    return replace(reading, black=found.black, white=found.white)
