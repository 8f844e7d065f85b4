"""Reader of the PASCAL VOC layout: JPEGImages, Annotations, SegmentationClass, ImageSets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phasewise.data.groups import AUTO, find_groups
from phasewise.data.images import IMAGE_SUFFIXES, UINT8, VOID, image_size, mask_size
from phasewise.data.listing import (
    by,
    check_filled,
    check_folder,
    files_by_name,
    find_layouts,
    no_layout,
)
from phasewise.data.splits import SPLITS, inside, read_list, read_lists, resolve_splits
from phasewise.data.voc_xml import BACKGROUND, VocObject, parse_annotation
from phasewise.errors import BadSample, Problem, UserError

IMAGES, ANNOTATIONS, MASKS = "JPEGImages", "Annotations", "SegmentationClass"
LIST_FOLDERS = ("ImageSets/Main", "ImageSets/Segmentation", "ImageSets")
LABELS = "labels.txt"


@dataclass(frozen=True)
class VocSample:
    """One image and what is known about it.

    Attributes:
        name: the image's file name without its extension.
        image, mask: files; ``mask`` is None without one.
        objects: None without an annotation file (boxes unknown); empty if it names no object.
        size: width and height of the upright image in pixels.
    """

    name: str
    image: Path
    mask: Path | None
    objects: tuple[VocObject, ...] | None
    size: tuple[int, int]


@dataclass(frozen=True)
class VocListing:
    """What ``read_voc`` found.

    Attributes:
        samples: the usable samples of each of train, val and test.
        class_names: by class index, ``"background"`` first.
        problems: samples left out, and why.
        warnings: what is odd but used.
        lists: the split lists that were read, relative to the root; empty = hashed split.
    """

    samples: dict[str, list[VocSample]]
    class_names: list[str]
    problems: list[Problem]
    warnings: list[Problem]
    lists: list[str]


def check_mask_values(mask: UINT8, num_classes: int, name: str) -> None:
    """Raise ``BadSample`` unless every value is a class index below ``num_classes`` or 255."""
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    wrong = [int(value) for value in values if value >= num_classes and value != VOID]
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        allowed = f"a class index 0..{num_classes - 1} or {VOID} (void)"
        raise BadSample(name, f"mask values {shown} where each must be {allowed}")


def read_voc(root: Path | str, *, split_seed: int, group_by: str = AUTO) -> VocListing:
    """List and check a data set in VOC layout; only headers of images and masks are read.

    A split is the union of its lists in all of `LIST_FOLDERS`. Masks and annotations are
    used where they exist. Nothing stops at the first bad file.

    Args:
        root: the folder that holds ``JPEGImages``.
        split_seed: of the split by hashed name, where lists are missing.
        group_by: see `phasewise.data.groups.find_groups`.

    Raises:
        UserError: no such layout, unreadable lists or labels, or no sample in train or in val.
    """
    root = Path(root)
    _check_layout(root)
    reader = _Reader(root, _read_labels(root))
    lists = reader.lists
    if not reader.images:
        raise UserError(f"{root / IMAGES} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    listed = [name for names in lists.names.values() for name in names]
    groups = find_groups(group_by, [*listed, *reader.images], images=reader.images.get)
    splits, overlaps = resolve_splits(lists.names, reader.images, split_seed, groups)
    reader.warnings += lists.warnings + overlaps
    names = dict.fromkeys(name for split in SPLITS for name in splits[split])
    found = {name: reader.sample(name) for name in names}
    samples = {
        split: [sample for name in splits[split] if (sample := found[name]) is not None]
        for split in SPLITS
    }
    usable = [sample for sample in found.values() if sample is not None]
    check_filled(root, samples, lists.files, reader.problems)
    class_names = reader.class_names or _found_classes(root, usable, reader.warnings)
    reader.warnings += _partly_labelled(usable)
    return VocListing(samples, class_names, reader.problems, reader.warnings, lists.files)


@dataclass
class _Reader:
    """Files by sample name, and what was found wrong so far."""

    root: Path
    class_names: list[str] | None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = self._files(IMAGES, IMAGE_SUFFIXES)
        self.annotations = self._files(ANNOTATIONS, (".xml",))
        self.masks = self._files(MASKS, IMAGE_SUFFIXES)
        self.lists = read_lists(self.root, LIST_FOLDERS)

    def _files(self, folder: str, suffixes: Sequence[str]) -> dict[str, Path]:
        """The first file of each name."""
        found = files_by_name(self.root, folder, suffixes, self.warnings)
        for first, *others in found.values():
            self.warnings += [
                Problem(self._name(path), f"ignored: {first.name} is used") for path in others
            ]
        return {name: paths[0] for name, paths in found.items()}

    def sample(self, name: str) -> VocSample | None:
        """The sample, or None after noting every reason why it cannot be used."""
        before = len(self.problems)
        image, mask = self.images.get(name), self.masks.get(name)
        annotation = self.annotations.get(name)
        try:
            if image is None:
                raise self._no_image(name)
            size = image_size(image, self._name(image))
            if mask is None and annotation is None:
                raise BadSample(self._name(image), "has neither a mask nor an annotation")
        except BadSample as bad:
            self.problems.append(bad.problem)
            return None
        objects = None if annotation is None else self._objects(annotation, size)
        if mask is not None:
            self._check_mask(mask, size)
        if len(self.problems) > before:
            return None
        return VocSample(name, image, mask, objects, size)

    def _objects(self, path: Path, size: tuple[int, int]) -> tuple[VocObject, ...] | None:
        try:
            annotation = parse_annotation(
                path, self._name(path), size=size, class_names=self.class_names
            )
        except BadSample as bad:
            self.problems.append(bad.problem)
            return None
        declared = annotation.declared_size
        if declared is not None and declared != size:
            reason = f"its size tag says {by(declared)}, the image is {by(size)}"
            self.warnings.append(Problem(self._name(path), reason))
        return annotation.objects

    def _check_mask(self, path: Path, size: tuple[int, int]) -> None:
        file = self._name(path)
        try:
            found = mask_size(path, file)
            if found != size:
                raise BadSample(file, f"the mask is {by(found)}, its image {by(size)}")
        except BadSample as bad:
            self.problems.append(bad.problem)

    def _no_image(self, name: str) -> BadSample:
        listed = self.lists.listed_in[name]
        try:
            inside(self.root, name)
        except BadSample as bad:
            return BadSample(name, f"{bad.problem.reason} (listed in {listed})")
        reason = f"listed in {listed}, but there is no such image"
        if Path(name).stem in self.images:
            reason += "; lists name images without their extension"
        return BadSample(f"{IMAGES}/{name}", reason)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _check_layout(root: Path) -> None:
    """Raise a ``UserError`` that says what is there instead of a VOC layout."""
    looked_for = f"{IMAGES} with {ANNOTATIONS} or {MASKS} beside it (PASCAL VOC layout)"
    check_folder(root, looked_for)
    images = (root / IMAGES).is_dir()
    if images and any((root / folder).is_dir() for folder in (ANNOTATIONS, MASKS)):
        return
    lacks = f"{ANNOTATIONS} and no {MASKS}" if images else IMAGES
    advice = (
        f"Move or link the images to {IMAGES}, their XML files to {ANNOTATIONS}, masks to {MASKS}."
    )
    found = [] if images else find_layouts(root, IMAGES)
    raise no_layout(root, lacks, looked_for, found, *([] if found else [advice]))


def _read_labels(root: Path) -> list[str] | None:
    """Class names of labels.txt, background first; None without that file."""
    path = root / LABELS
    if not path.is_file():
        return None
    listed = read_list(path, LABELS)
    # labelme writes "_background_", others "__background__".
    names = [BACKGROUND if name.strip("_") == BACKGROUND else name for name in listed.names]
    if listed.duplicates:
        raise UserError(f"{path} names {', '.join(listed.duplicates)} more than once")
    if BACKGROUND in names[1:]:
        raise UserError(f"{path}: {BACKGROUND} has index 0 and must be the first line")
    if not names or names[0] != BACKGROUND:
        names.insert(0, BACKGROUND)
    if not 2 <= len(names) <= VOID:
        raise UserError(f"{path} names {len(names) - 1} classes; 1 to {VOID - 1} are possible")
    return names


def _found_classes(root: Path, samples: list[VocSample], warnings: list[Problem]) -> list[str]:
    """Class names as they occur in the annotations, sorted, after background."""
    names = sorted({item.class_name for sample in samples for item in sample.objects or ()})
    if not 1 <= len(names) < VOID:
        reason = f"its annotations name {len(names)} classes, and it has no {LABELS}"
        raise UserError(f"data.root={root}: {reason} (one class name per line)")
    if any(sample.mask for sample in samples):
        order = ", ".join(f"{index} = {name}" for index, name in enumerate(names[:5], 1))
        more = ", ..." if len(names) > 5 else ""
        reason = f"missing: mask values are taken as the classes found, in order ({order}{more})"
        warnings.append(Problem(LABELS, reason))
    return [BACKGROUND, *names]


def _partly_labelled(samples: list[VocSample]) -> list[Problem]:
    no_boxes = [sample.name for sample in samples if sample.objects is None]
    no_mask = [sample.name for sample in samples if sample.mask is None]
    kinds = (
        (ANNOTATIONS, no_boxes, "annotation; they train without boxes"),
        (MASKS, no_mask, "mask; they train without masks"),
    )
    return [
        Problem(folder, f"{len(names)} of {len(samples)} images have no {what}")
        for folder, names, what in kinds
        if names
    ]
