"""Images that COCO's JSON or YOLO's text files describe: boxes, and masks painted from outlines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from multitask.data import MultitaskData
from multitask.metrics import VOID
from multitask.rows import row_arrays, row_fields
from phasewise.data.annotated import EVERYTHING, AnnotatedImage, Annotations
from phasewise.data.coco import outline_mask, read_coco
from phasewise.data.datamodule import DataSettings
from phasewise.data.facts import original_sizes
from phasewise.data.groups import find_groups
from phasewise.data.held_out import HeldOut
from phasewise.data.images import UINT8, Resize, read_image
from phasewise.data.listed import Facts, Splits
from phasewise.data.listing import beside, check_filled
from phasewise.data.splits import SPLITS
from phasewise.data.store import Arrays
from phasewise.data.voc_xml import BACKGROUND
from phasewise.data.yolo import read_yolo
from phasewise.errors import Problem, UserError


class FilesSettings(DataSettings, total=False):
    """What both data sets have; see `AnnotatedData`."""

    validation: str
    holdout: float | Sequence[str | int] | None
    folds: int | None
    fold: int


class AnnotatedData(MultitaskData):
    """Images with annotated objects. Crowds are difficult objects.

    If any object of the set has an outline, every image has a mask: background, void in the boxes
    of objects without an outline, then the outlines, the smaller over the larger.

    Args:
        root: the folder that they are below.
        split_seed: of the split by hashed name, where nothing else tells the splits.
        group_by: what one split must hold whole, see `phasewise.data.groups.find_groups`.
        validation, holdout, folds, fold: what validates, see `phasewise.data.held_out.HeldOut`.
        settings: see `StoreDataModule`; by default ``augment=["flip"]``.
    """

    def __init__(
        self,
        *,
        root: str,
        split_seed: int = 0,
        group_by: str = "auto",
        validation: str = "auto",
        holdout: float | Sequence[str | int] | None = None,
        folds: int | None = None,
        fold: int = 0,
        **settings: Unpack[DataSettings],
    ) -> None:
        super().__init__(root=root, **(DataSettings(augment=["flip"]) | settings))
        self.split_seed = split_seed
        self.group_by = group_by
        self.held_out = HeldOut(validation, holdout, folds, fold)
        self.folds, self.fold = folds, fold
        self._resize = Resize(self.image_size, self.resize)

    @abstractmethod
    def found(self, root: Path) -> Annotations:
        """All images and their objects, checked."""

    def facts(self, split: str) -> Facts:
        """Also how large the files are."""
        return {**super().facts(split), **original_sizes(self.splits.listed[split].samples)}

    def read(self) -> Splits:
        """List and check all samples.

        Raises:
            UserError: no such annotations, no object, or an empty split.
        """
        assert self.root is not None
        found = self.found(self.root)
        lists = {key: list(names) for key, names in found.lists.items() if key != EVERYTHING}
        everything = list(found.lists.get(EVERYTHING, ()))
        names = [*everything, *(name for listed in lists.values() for name in listed)]
        groups = find_groups(self.group_by, names, images=partial(_file, found))
        parts, notes = self.held_out.resolve(lists, everything, self.split_seed, groups)
        samples = {
            split: [found.images[name] for name in parts[split] if name in found.images]
            for split in SPLITS
        }
        check_filled(self.root, samples, sorted(lists), found.problems)
        classes = _classes(self.root, found)
        rule = self.held_out.rule(sorted(lists), self.split_seed)
        warnings = [*found.warnings, *notes, *_notes(found)]
        splits = Splits(classes, found.problems, warnings, rule=rule)
        outlined = any(it.outline for image in found.images.values() for it in image.objects)
        most = max((len(it.objects) for it in found.images.values()), default=0) or 1
        for split, images in samples.items():
            if images:
                self._enter(splits, split, images, most, outlined)
        return splits

    def _enter(
        self, splits: Splits, split: str, images: list[AnnotatedImage], most: int, outlined: bool
    ) -> None:
        names = splits.class_names
        self.store_split(
            splits,
            split,
            images,
            partial(self._load, class_names=names, most=most, outlined=outlined),
            row_fields(self.image_size, most),
            content=[self._content(image) for image in images],
            meaning=names,
            key={"classes": names, "resize": self.resize, "outlines": outlined},
            names=[image.name for image in images],
        )

    def _content(self, image: AnnotatedImage) -> list[Any]:
        """Its file, its objects, and the pixels that outlines are stated in."""
        objects = [[it.class_name, list(it.box), it.outline, it.is_crowd] for it in image.objects]
        return [self.contents.key(image.image), objects, image.frame.stated, image.frame.turn]

    def _load(
        self, image: AnnotatedImage, class_names: Sequence[str], most: int, outlined: bool
    ) -> Arrays:
        pixels = read_image(image.image, image.name)
        mask = painted(image, class_names) if outlined else None
        objects = [(it.class_name, it.box, it.is_crowd) for it in image.objects]
        return row_arrays(self._resize, pixels, mask, objects, class_names, most)


class CocoData(AnnotatedData):
    """Images described by COCO files, see `phasewise.data.coco.read_coco`.

    Args:
        root: the folder that holds annotations and images.
        annotations: file, folder or pattern, relative to the root.
        crowds: what ``iscrowd`` means: ``auto``, ``objects`` or ``ignore``.
        settings: see `AnnotatedData`.
    """

    WHAT = "images described by COCO files"

    def __init__(
        self,
        *,
        root: str,
        annotations: str = "annotations",
        crowds: str = "auto",
        split_seed: int = 0,
        group_by: str = "auto",
        **settings: Unpack[FilesSettings],
    ) -> None:
        super().__init__(root=root, split_seed=split_seed, group_by=group_by, **settings)
        self.annotations = annotations
        self.crowds = crowds

    def beside_root(self) -> list[Path]:
        """The annotations."""
        return beside(self.root, self.annotations)

    def found(self, root: Path) -> Annotations:
        """See `phasewise.data.coco.read_coco`."""
        return read_coco(root, annotations=self.annotations, crowds=self.crowds)


class YoloData(AnnotatedData):
    """Images with YOLO's text files, see `phasewise.data.yolo.read_yolo`.

    Args:
        root: the folder that holds images and labels.
        file: ultralytics' YAML, relative to the root; need not be there.
        settings: see `AnnotatedData`.
    """

    WHAT = "images with YOLO's text files"

    def __init__(
        self,
        *,
        root: str,
        file: str = "data.yaml",
        split_seed: int = 0,
        group_by: str = "auto",
        **settings: Unpack[FilesSettings],
    ) -> None:
        super().__init__(root=root, split_seed=split_seed, group_by=group_by, **settings)
        self.file = file

    def beside_root(self) -> list[Path]:
        """The YAML."""
        return beside(self.root, self.file)

    def found(self, root: Path) -> Annotations:
        """See `phasewise.data.yolo.read_yolo`."""
        return read_yolo(root, file=self.file)


def painted(image: AnnotatedImage, class_names: Sequence[str]) -> UINT8:
    """The mask of an image: class indices of shape (height, width), 255 is void.

    Raises:
        BadSample: an outline cannot be read.
    """
    mask = np.zeros((image.size[1], image.size[0]), np.uint8)
    shapes = []
    for it in image.objects:
        if it.outline:
            shapes.append((outline_mask(it.outline, image), class_names.index(it.class_name)))
        else:
            x1, y1, x2, y2 = (round(edge) for edge in it.box)
            mask[y1:y2, x1:x2] = VOID
    for shape, index in sorted(shapes, key=lambda pair: -int(pair[0].sum())):
        mask[shape] = index
    return mask


def _file(found: Annotations, name: str) -> Path | None:
    return found.images[name].image if name in found.images else None


def _classes(root: Path, found: Annotations) -> list[str]:
    """Background, then the classes that objects have, in the order of the annotations."""
    there = {it.class_name for image in found.images.values() for it in image.objects}
    if BACKGROUND in there:
        raise UserError(f"data.root={root}: {BACKGROUND} cannot be the class of an object")
    names = [name for name in dict.fromkeys(found.class_names) if name in there]
    names += sorted(there - set(names))
    if not 1 <= len(names) < VOID:
        raise UserError(f"data.root={root}: its annotations name {len(names)} classes of objects")
    return [BACKGROUND, *names]


def _notes(found: Annotations) -> list[Problem]:
    images = found.images.values()
    objects = [it for image in images for it in image.objects]
    empty = sum(not image.objects for image in images)
    bare = sum(not it.outline for it in objects)
    notes = []
    if empty:
        reason = f"{empty} of {len(images)} have no object: they train as background"
        notes.append(Problem("images", reason))
    if bare == len(objects):
        notes.append(Problem("masks", "no object has an outline: images train without masks"))
    elif bare:
        reason = f"{bare} of {len(objects)} objects have no outline: their boxes are void"
        notes.append(Problem("masks", reason))
    return notes
