"""Data sets of the localization pipeline: the embedded animals, and folders of images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from localization import animals, paint, synthetic
from localization.readers import (
    fetch_pets,
    find_pets,
    read_coco,
    read_csv,
    read_pets,
    read_voc_boxes,
    read_yolo,
)
from localization.samples import Listing, Sample
from phasewise.data import painting
from phasewise.data.datamodule import DataSettings, StoreDataModule
from phasewise.data.facts import original_sizes
from phasewise.data.held_out import HeldOut
from phasewise.data.images import Resize, read_image
from phasewise.data.listed import Facts, Splits
from phasewise.data.listing import beside
from phasewise.data.reader import Reader, check_inside, places_of, read_with
from phasewise.data.splits import BY_READER, DRAWN, SPLITS
from phasewise.data.store import Arrays, code_key

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from phasewise.data.batch import Rows

BORDER = 1.0
"""Pixels of the square image within which a box touches its border."""


class LocalizationData(StoreDataModule):
    """Images with one box each.

    See `StoreDataModule` for the arguments; here ``batch_size`` is 32 and ``augment``
    ``["flip", "color_jitter"]`` where nothing else is said.

    Rows of a store: ``image`` uint8 (3, S, S); ``boxes`` float32 (1, 4), x1, y1, x2, y2 in pixels;
    ``labels`` int64 (1,), the class in the box, at least 1. Augmentation makes boxes that left the
    image padding: zeros and label -1.
    """

    def __init__(self, *, root: str | None = None, **settings: Unpack[DataSettings]) -> None:
        settings.setdefault("batch_size", 32)
        settings.setdefault("augment", ["flip", "color_jitter"])
        super().__init__(root=root, **settings)

    def facts(self, split: str) -> Facts:
        """How large boxes are, and what is in them."""
        store, names = self.splits.stores[split], self.splits.class_names
        boxes, size = store["boxes"][:, 0], self.image_size
        sides = boxes[:, 2:] - boxes[:, :2]
        shares = sides.prod(1) / size**2
        at_border = (boxes[:, :2] < BORDER).any(1) | (boxes[:, 2:] > size - BORDER).any(1)
        found: Facts = {
            "objects per image": 1,
            "foreground share (in the box)": float(shares.mean()),
            "least share of an image in its box": float(shares.min()),
            "largest share of an image in its box": float(shares.max()),
            "boxes at the border of the image": int(at_border.sum()),
        }
        counts = torch.bincount(store["labels"][:, 0], minlength=len(names)).tolist()
        found["images of the class"] = dict(zip(names[1:], counts[1:], strict=True))
        return found

    def draw_truth(self, axes: Iterable[Axes], rows: Rows, names: Sequence[str]) -> list[Artist]:
        """The box of each image, its class in the title."""
        from localization.figures import show_truth

        for i, (ax, name) in enumerate(zip(axes, names, strict=True)):
            text = f"{name}   {self.splits.class_names[int(rows['labels'][i, 0])]}"
            image = rows["image"][i].permute(1, 2, 0).numpy()
            show_truth(ax, image, rows["boxes"][i, 0].numpy(), text)
        return []

    def _store(
        self,
        splits: Splits,
        split: str,
        samples: Sequence[Any],
        load: Callable[[Any], Arrays],
        **told: Any,
    ) -> None:
        size = self.image_size
        fields = {
            "image": ((3, size, size), "uint8"),
            "boxes": ((1, 4), "float32"),
            "labels": ((1,), "int64"),
        }
        self.store_split(splits, split, samples, load, fields, **told)


class AnimalsData(LocalizationData):
    """The embedded animals, drawn by `localization.synthetic`; ``image_size`` is 64 where nothing
    else is said.

    Args:
        train_images, val_images, test_images: how many.
        draw_seed: which pictures.
        settings: see `LocalizationData`.
    """

    WHAT = "embedded: drawn animals"

    def __init__(
        self,
        *,
        train_images: int = 1200,
        val_images: int = 200,
        test_images: int = 200,
        draw_seed: int = 0,
        **settings: Unpack[DataSettings],
    ) -> None:
        settings.setdefault("image_size", 64)
        super().__init__(**settings)
        self.counts = dict(zip(SPLITS, (train_images, val_images, test_images), strict=True))
        self.draw_seed = draw_seed

    def read(self) -> Splits:
        """What is drawn in each split."""
        splits = Splits(list(synthetic.CLASS_NAMES), rule=DRAWN)
        source = code_key(painting, animals, paint, synthetic)
        for split, count in self.counts.items():
            self._store(
                splits,
                split,
                range(count),
                partial(synthetic.draw_image, split, size=self.image_size, seed=self.draw_seed),
                content=[[split, self.draw_seed, i] for i in range(count)],
                meaning=source,
                key={"animals": source},
                names=[f"{split}-{i:04d}" for i in range(count)],
            )
        return splits


class FilesSettings(DataSettings, total=False):
    """What all data sets of files have that are split here; see `FilesData`."""

    validation: str
    holdout: float | Sequence[str | int] | None
    folds: int | None
    fold: int


class FilesData(LocalizationData):
    """Images on disk, as a reader lists them.

    Args:
        root: the folder that they are below.
        split_seed: of the split by hashed name, where nothing else tells the splits.
        group_by: which images that split keeps together, see `phasewise.data.groups.find_groups`.
        validation, holdout, folds, fold: what validates, see `phasewise.data.held_out.HeldOut`.
        settings: see `LocalizationData`.
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
        super().__init__(root=root, **settings)
        self.split_seed = split_seed
        self.group_by = group_by
        self.held_out = HeldOut(validation, holdout, folds, fold)
        self.folds, self.fold = folds, fold
        self._resize = Resize(self.image_size, self.resize)

    @abstractmethod
    def listing(self, root: Path) -> Listing:
        """All samples, their headers and boxes checked."""

    def facts(self, split: str) -> Facts:
        """Also how large the files are."""
        return {**super().facts(split), **original_sizes(self.splits.listed[split].samples)}

    def read(self) -> Splits:
        """List and check all samples.

        Raises:
            UserError: no such layout.
        """
        assert self.root is not None
        found = self.listing(self.root)
        rule = found.rule or BY_READER
        splits = Splits(found.class_names, [*found.problems], [*found.warnings], rule=rule)
        labels = {name: index for index, name in enumerate(found.class_names)}
        for split, samples in found.samples.items():
            if samples:
                self._enter(splits, split, samples, labels, self.root)
        return splits

    def _enter(
        self,
        splits: Splits,
        split: str,
        samples: Sequence[Sample],
        labels: dict[str, int],
        root: Path,
    ) -> None:
        def load(sample: Sample) -> Arrays:
            image = read_image(sample.image, sample.image.relative_to(root).as_posix())
            box = np.array([sample.box])
            return {
                "image": np.ascontiguousarray(self._resize.image(image).transpose(2, 0, 1)),
                "boxes": self._resize.boxes(box, sample.size),
                "labels": np.array([labels[sample.class_name]], np.int64),
            }

        self._store(
            splits,
            split,
            samples,
            load,
            content=[[self.contents.key(s.image), list(s.box), s.class_name] for s in samples],
            key={"classes": list(labels), "resize": self.resize},
            names=[sample.name for sample in samples],
        )


class ReaderData(FilesData):
    """Images that a reader of somebody's own lists.

    Args:
        root: the folder that they are below.
        reader: a function, or a mapping of ``_target_`` and its arguments; it takes the folder
            before these and returns a `localization.samples.Listing`.
        settings: see `LocalizationData`.
    """

    WHAT = "images that a reader of its own lists"

    def __init__(self, *, root: str, reader: Reader, **settings: Unpack[DataSettings]) -> None:
        super().__init__(root=root, **settings)
        self.reader = reader

    def beside_root(self) -> list[Path]:
        """What the reader's arguments name."""
        return places_of(self.reader)

    def listing(self, root: Path) -> Listing:
        """What the reader lists."""
        found: Listing = read_with(self.reader, root, Listing)
        check_inside(root, (it.image for split in found.samples.values() for it in split))
        return found


class VocBoxesData(FilesData):
    """A folder in PASCAL VOC layout, see `localization.readers.read_voc_boxes`.

    Args:
        root: the folder that holds JPEGImages.
        object: which object of an image: ``largest``, or ``only`` (several are refused).
        coordinates: from which number boxes count pixels: ``auto``, ``one_based``, ``zero_based``.
        size_tag: whether size tags tell which image boxes are for: ``auto``, ``ignore``.
        split_seed, group_by: see `FilesData`.
        settings: see `FilesData`.
    """

    WHAT = "a folder in PASCAL VOC layout"

    def __init__(
        self,
        *,
        root: str,
        object: str = "largest",
        coordinates: str = "auto",
        size_tag: str = "auto",
        split_seed: int = 0,
        group_by: str = "auto",
        **settings: Unpack[FilesSettings],
    ) -> None:
        super().__init__(root=root, split_seed=split_seed, group_by=group_by, **settings)
        self.pick = object
        self.coordinates = coordinates
        self.size_tag = size_tag

    def listing(self, root: Path) -> Listing:
        """See `localization.readers.read_voc_boxes`."""
        return read_voc_boxes(
            root,
            pick=self.pick,
            split_seed=self.split_seed,
            group_by=self.group_by,
            held_out=self.held_out,
            coordinates=self.coordinates,
            size_tag=self.size_tag,
        )


class CsvData(FilesData):
    """Images named by a table, see `localization.readers.read_csv`.

    Args:
        root: the folder that the table's file names are relative to.
        file: the table, or a pattern for one per split, relative to the root.
        object: which object of an image: ``largest``, or ``only`` (several are refused).
        split_seed, group_by: see `FilesData`; group_by may name a column.
        settings: see `FilesData`.
    """

    WHAT = "images named by a table"

    def __init__(
        self,
        *,
        root: str,
        file: str = "boxes.csv",
        object: str = "largest",
        split_seed: int = 0,
        group_by: str = "auto",
        **settings: Unpack[FilesSettings],
    ) -> None:
        super().__init__(root=root, split_seed=split_seed, group_by=group_by, **settings)
        self.file = file
        self.pick = object

    def beside_root(self) -> list[Path]:
        """The table."""
        return beside(self.root, self.file)

    def listing(self, root: Path) -> Listing:
        """See `localization.readers.read_csv`."""
        return read_csv(
            root,
            file=self.file,
            pick=self.pick,
            split_seed=self.split_seed,
            group_by=self.group_by,
            held_out=self.held_out,
        )


class CocoData(FilesData):
    """Images described by COCO files, see `localization.readers.read_coco`.

    Args:
        root: the folder that holds annotations and images.
        annotations: file, folder or pattern, relative to the root.
        object: which object of an image: ``largest``, or ``only`` (several are refused).
        crowds: what ``iscrowd`` means: ``auto``, ``objects`` or ``ignore``.
        split_seed, group_by: see `FilesData`.
        settings: see `FilesData`.
    """

    WHAT = "images described by COCO files"

    def __init__(
        self,
        *,
        root: str,
        annotations: str = "annotations",
        object: str = "largest",
        crowds: str = "auto",
        split_seed: int = 0,
        group_by: str = "auto",
        **settings: Unpack[FilesSettings],
    ) -> None:
        super().__init__(root=root, split_seed=split_seed, group_by=group_by, **settings)
        self.annotations = annotations
        self.pick = object
        self.crowds = crowds

    def beside_root(self) -> list[Path]:
        """The annotations."""
        return beside(self.root, self.annotations)

    def listing(self, root: Path) -> Listing:
        """See `localization.readers.read_coco`."""
        return read_coco(
            root,
            annotations=self.annotations,
            pick=self.pick,
            split_seed=self.split_seed,
            crowds=self.crowds,
            group_by=self.group_by,
            held_out=self.held_out,
        )


class YoloData(FilesData):
    """Images with YOLO's text files, see `localization.readers.read_yolo`.

    Args:
        root: the folder that holds images and labels.
        file: ultralytics' YAML, relative to the root; need not be there.
        object: which object of an image: ``largest``, or ``only`` (several are refused).
        split_seed, group_by: see `FilesData`.
        settings: see `FilesData`.
    """

    WHAT = "images with YOLO's text files"

    def __init__(
        self,
        *,
        root: str,
        file: str = "data.yaml",
        object: str = "largest",
        split_seed: int = 0,
        group_by: str = "auto",
        **settings: Unpack[FilesSettings],
    ) -> None:
        super().__init__(root=root, split_seed=split_seed, group_by=group_by, **settings)
        self.file = file
        self.pick = object

    def beside_root(self) -> list[Path]:
        """The YAML."""
        return beside(self.root, self.file)

    def listing(self, root: Path) -> Listing:
        """See `localization.readers.read_yolo`."""
        return read_yolo(
            root,
            file=self.file,
            pick=self.pick,
            split_seed=self.split_seed,
            group_by=self.group_by,
            held_out=self.held_out,
        )


class PetsData(FilesData):
    """The heads of the Oxford-IIIT pets, see `localization.readers.read_pets`.

    Here ``image_size`` is 192 where nothing else is said.

    Args:
        root: the folder that holds oxford-iiit-pet, or will.
        download: fetch them (800 MB) where ``root`` does not hold them.
        split_seed, group_by: see `FilesData`.
        settings: see `FilesData`.
    """

    WHAT = "the heads of the Oxford-IIIT pets"

    def __init__(
        self,
        *,
        root: str,
        download: bool = False,
        split_seed: int = 0,
        group_by: str = "auto",
        **settings: Unpack[FilesSettings],
    ) -> None:
        settings.setdefault("image_size", 192)
        super().__init__(root=root, split_seed=split_seed, group_by=group_by, **settings)
        self.download = download

    def listing(self, root: Path) -> Listing:
        """See `localization.readers.read_pets` and `localization.readers.fetch_pets`."""
        if self.download and find_pets(root) is None:
            fetch_pets(root)
        return read_pets(
            root, split_seed=self.split_seed, group_by=self.group_by, held_out=self.held_out
        )
