"""Reader of the PASCAL VOC layout (JPEGImages, Annotations, SegmentationClass, ImageSets), and of
what annotation tools leave in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from phasewise.data.frame import as_stored
from phasewise.data.groups import AUTO, find_groups
from phasewise.data.held_out import AS_LISTED, HeldOut
from phasewise.data.images import IMAGE_SUFFIXES, Header, image_header
from phasewise.data.listing import by, check_filled
from phasewise.data.splits import SPLITS, inside
from phasewise.data.voc_boxes import Annotated, BoxReading, decide_boxes
from phasewise.data.voc_files import ANNOTATIONS, IMAGES, MASKS, VocFiles, find_files
from phasewise.data.voc_guess import Seen, guessed
from phasewise.data.voc_labels import LABELS, Labels, from_colours, read_labels
from phasewise.data.voc_masks import (
    KINDS,
    MaskFile,
    MaskReading,
    check_mask_values,
    decide_masks,
    mask_header,
)
from phasewise.data.voc_xml import VocObject, WrittenAnnotation, read_annotation
from phasewise.errors import BadSample, Problem, UserError

__all__ = ["ANNOTATIONS", "IMAGES", "LABELS", "MASKS", "check_mask_values", "read_voc"]


@dataclass(frozen=True, slots=True)
class VocSample:
    """One image and what is known about it.

    Attributes:
        name: the image's file name without its extension; of folders per split, with its folder.
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
        masks: how masks are read; by default as published.
    """

    samples: dict[str, list[VocSample]]
    class_names: list[str]
    problems: list[Problem]
    warnings: list[Problem]
    lists: list[str]
    masks: MaskReading = field(default_factory=MaskReading)


def read_voc(
    root: Path | str,
    *,
    split_seed: int,
    group_by: str = AUTO,
    held_out: HeldOut = AS_LISTED,
    coordinates: str = "auto",
    size_tag: str = "auto",
    mask_values: str = "auto",
    colors: Mapping[str, Sequence[int]] | None = None,
) -> VocListing:
    """List and check a data set in VOC layout; of images only headers are read.

    A split is the union of its lists in all of `phasewise.data.voc_files.LIST_FOLDERS`. Masks and
    annotations are used where they exist. Nothing stops at the first bad file. What boxes and masks
    mean is decided once for the whole set, and told where it is not as published; for that a few
    masks are decoded, or all where those hold nothing but 0 and 255.

    Args:
        root: the folder that holds ``JPEGImages``.
        split_seed: of the split by hashed name, where lists are missing.
        group_by: see `phasewise.data.groups.find_groups`.
        held_out: what validates.
        coordinates, size_tag: see `phasewise.data.voc_boxes.decide_boxes`.
        mask_values: see `phasewise.data.voc_masks.decide_masks`; ``none`` looks at no mask.
        colors: red, green and blue by class, of masks in colour.

    Raises:
        UserError: no such layout, unreadable lists or labels, no sample in train or in val, or
            masks that nothing says how to read.
    """
    root = Path(root)
    if mask_values not in KINDS:
        raise UserError(f"data.mask_values={mask_values!r} is none of {', '.join(KINDS)}")
    files = find_files(root)
    labels = read_labels(root)
    if colors:
        labels = from_colours(colors, labels.names if labels else None)
    reader = _Reader(root, files, labels)
    if mask_values == "none":
        files.masks, reader.needed = {}, "no annotation"
    if not files.images:
        held = root / files.folders.images
        raise UserError(f"{held} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    listed = [name for names in files.lists.names.values() for name in names]
    groups = find_groups(group_by, [*listed, *files.images], images=files.images.get)
    splits, overlaps = held_out.resolve(files.lists.names, files.images, split_seed, groups)
    warnings = [*files.warnings, *files.lists.warnings, *overlaps, *_unused(files, splits)]
    found = reader.samples(
        list(dict.fromkeys(name for split in SPLITS for name in splits[split])),
        coordinates,
        size_tag,
    )
    samples = {
        split: [sample for name in splits[split] if (sample := found.get(name)) is not None]
        for split in SPLITS
    }
    usable = list(found.values())
    check_filled(root, samples, files.lists.files, reader.problems)
    names, masks = _classes(reader, usable, mask_values)
    warnings += [*reader.warnings, *_partly_labelled(usable, files, mask_values)]
    return VocListing(samples, names, reader.problems, warnings, files.lists.files, masks)


class _Draft(NamedTuple):
    """An image and what lies beside it, before it is known how the set is read."""

    name: str
    image: Path
    header: Header
    mask: Path | None
    annotated: Annotated | None


@dataclass
class _Reader:
    """What was found wrong so far."""

    root: Path
    files: VocFiles
    labels: Labels | None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    coloured: set[Path] = field(default_factory=set)
    needed: str = "neither a mask nor an annotation"

    def __post_init__(self) -> None:
        self._skipped = len((self.root / "_").as_posix()) - 1

    def samples(
        self, names: Sequence[str], coordinates: str, size_tag: str
    ) -> dict[str, VocSample]:
        """The usable samples by name; of the others, every reason is noted."""
        drafts = [draft for name in names if (draft := self._draft(name)) is not None]
        annotated = [it.annotated for it in drafts if it.annotated is not None]
        boxes = decide_boxes(annotated, coordinates, size_tag)
        self.warnings += boxes.problems(self.files.folders.annotations or ANNOTATIONS)
        bad = {problem.file for problem in self.problems}
        found = {}
        for draft in drafts:
            sample = self._sample(draft, boxes)
            if sample is not None and not (draft.mask and self.name(draft.mask) in bad):
                found[draft.name] = sample
        self._note_twice(list(found.values()))
        return found

    def _note_twice(self, samples: Sequence[VocSample]) -> None:
        twice = [
            it.name
            for it in samples
            if it.objects
            and len({(one.class_name, one.box) for one in it.objects}) < len(it.objects)
        ]
        if twice:
            shown = ", ".join(twice[:3]) + (", ..." if len(twice) > 3 else "")
            reason = f"{len(twice)} of {len(samples)} images have an object twice: it counts twice"
            folder = self.files.folders.annotations or ANNOTATIONS
            self.warnings.append(Problem(folder, f"{reason} ({shown})"))

    def _draft(self, name: str) -> _Draft | None:
        """What there is, or None after noting why it cannot be used."""
        image, mask = self.files.images.get(name), self.files.masks.get(name)
        xml = self.files.annotations.get(name)
        written: WrittenAnnotation | None = None
        try:
            if image is None:
                raise self._no_image(name)
            header = image_header(image, self.name(image))
            if mask is None and xml is None:
                raise BadSample(self.name(image), f"has {self.needed}")
        except BadSample as bad:
            self.problems.append(bad.problem)
            return None
        if mask is not None:
            self._check_mask(mask, header.size, image)
        if xml is not None:
            try:
                written = read_annotation(xml, self.name(xml))
            except BadSample as bad:
                self.problems.append(bad.problem)
                return None
        annotated = written and Annotated(written, header.size, header.orientation)
        return _Draft(name, image, header, mask, annotated)

    def _sample(self, draft: _Draft, boxes: BoxReading) -> VocSample | None:
        objects = None
        if draft.annotated is not None:
            try:
                objects = boxes.objects(draft.annotated, self.labels.names if self.labels else None)
            except BadSample as bad:
                self.problems.append(bad.problem)
                return None
        return VocSample(draft.name, draft.image, draft.mask, objects, draft.header.size)

    def _check_mask(self, path: Path, size: tuple[int, int], image: Path) -> None:
        file = self.name(path)
        try:
            found, coloured = mask_header(path, file)
            if found != size:
                hint = as_stored(found, size, image)
                raise BadSample(file, f"the mask is {by(found)}, its image {by(size)}{hint}")
            if coloured:
                self.coloured.add(path)
        except BadSample as bad:
            self.problems.append(bad.problem)

    def _no_image(self, name: str) -> BadSample:
        listed = self.files.lists.listed_in[name]
        try:
            inside(self.root, name)
        except BadSample as bad:
            return BadSample(name, f"{bad.problem.reason} (listed in {listed})")
        reason = f"listed in {listed}, but there is no such image"
        return BadSample(f"{self.files.folders.images}/{name}", reason)

    def name(self, path: Path) -> str:
        """How messages call a file."""
        # not relative_to(), which takes as long as to open the file
        return path.as_posix()[self._skipped :]


def _classes(
    reader: _Reader, samples: Sequence[VocSample], mask_values: str
) -> tuple[list[str], MaskReading]:
    """The classes, and how masks tell them."""
    folder = reader.files.folders.masks or MASKS
    masks = [
        MaskFile(sample.mask, reader.name(sample.mask), sample.mask in reader.coloured)
        for sample in samples
        if sample.mask is not None
    ]
    in_boxes = {item.class_name for sample in samples for item in sample.objects or ()}
    decided = decide_masks(
        reader.root, folder, masks, labels=reader.labels, in_boxes=in_boxes, kind=mask_values
    )
    reader.warnings += decided.notes
    if masks and in_boxes and reader.labels is None and decided.reading == MaskReading():
        seen = [
            Seen(sample.mask, reader.name(sample.mask), sample.objects)
            for sample in samples
            if sample.mask is not None and sample.objects
        ]
        note = guessed(reader.root, folder, seen, decided.class_names)
        reader.warnings.append(note)
    return decided.class_names, decided.reading


def _unused(files: VocFiles, splits: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Images with labels that no list names, and annotations of no image."""
    used = {name for names in splits.values() for name in names}
    labelled = [name for name in files.images if name in files.annotations or name in files.masks]
    left = sum(name not in used for name in labelled)
    found = []
    if left:
        reason = f"{left} of {len(labelled)} annotated images are in no list: not used"
        found.append(Problem(files.folders.images, reason))
    return found


def _partly_labelled(
    samples: Sequence[VocSample], files: VocFiles, mask_values: str
) -> list[Problem]:
    no_boxes = [sample.name for sample in samples if sample.objects is None]
    no_mask = [sample.name for sample in samples if sample.mask is None]
    kinds = [(ANNOTATIONS, no_boxes, "annotation; they train without boxes")]
    if mask_values != "none":
        kinds.append((MASKS, no_mask, "mask; they train without masks"))
    return [
        Problem(folder, f"{len(names)} of {len(samples)} images have no {what}")
        for folder, names, what in kinds
        if names
    ]
