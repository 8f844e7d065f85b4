"""Data sets of the multi-task pipeline: the embedded shapes, and folders in PASCAL VOC layout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from torchvision.datasets import VOCSegmentation

from multitask import synthetic
from multitask.class_weights import count_pixels
from multitask.rows import row_arrays, row_fields
from multitask.schema import HEAD_METRICS
from phasewise.data import painting
from phasewise.data.datamodule import DataSettings, StoreDataModule
from phasewise.data.facts import original_sizes
from phasewise.data.held_out import HeldOut
from phasewise.data.images import Resize, read_image
from phasewise.data.listed import Facts, Splits
from phasewise.data.listing import find_layouts
from phasewise.data.reader import Reader, check_inside, places_of, read_with
from phasewise.data.splits import BY_READER, DRAWN, SPLITS
from phasewise.data.store import Arrays, code_key
from phasewise.data.voc import IMAGES, VocListing, VocSample, read_voc
from phasewise.errors import UserError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from phasewise.data.batch import Rows

READ_AT_ONCE = 64
"""Masks of a split that may lie on disk."""


class MultitaskData(StoreDataModule):
    """Images with masks and boxes, see `StoreDataModule` for the arguments."""

    def facts(self, split: str) -> Facts:
        """What masks and boxes hold: shares of labelled pixels, and objects (those that are not
        ``difficult``)."""
        store, names = self.splits.stores[split], self.splits.class_names
        with_mask = store["has_mask"].nonzero().flatten()
        with_boxes = int(store["has_boxes"].sum())
        labels = store["labels"][(store["labels"] >= 0) & ~store["difficult"]]
        found: Facts = {
            "images with masks": len(with_mask),
            "images with boxes": with_boxes,
            "objects": len(labels),
            "objects per image": len(labels) / with_boxes if with_boxes else math.nan,
        }
        if len(with_mask):
            pixels = torch.zeros(len(names), dtype=torch.float64)
            for rows in with_mask.split(READ_AT_ONCE):
                pixels += count_pixels(store.gather(rows, ["mask"])["mask"], len(names))[0]
            labelled = float(pixels.sum())
            shares = [float(one) / labelled if labelled else math.nan for one in pixels]
            found["foreground share"] = 1 - shares[0]
            found["void share"] = 1 - labelled / (len(with_mask) * self.image_size**2)
            found["pixel share"] = dict(zip(names, shares, strict=True))
        counts = torch.bincount(labels, minlength=len(names)).tolist()
        found["objects of the class"] = dict(zip(names[1:], counts[1:], strict=True))
        return found

    def draw_truth(self, axes: Iterable[Axes], rows: Rows, names: Sequence[str]) -> list[Artist]:
        """Masks as colour, boxes as frames."""
        from multitask.figures import class_legend, show_truth

        classes, seen = self.splits.class_names, set[int]()
        for i, (ax, name) in enumerate(zip(axes, names, strict=True)):
            real = rows["labels"][i] > 0
            mask = rows["mask"][i].numpy() if bool(rows["has_mask"][i]) else None
            boxes, labels = rows["boxes"][i][real], rows["labels"][i][real]
            image = rows["image"][i].permute(1, 2, 0).numpy()
            show_truth(ax, image, mask, boxes, labels, classes, name)
            seen |= {*labels.tolist(), *(() if mask is None else np.unique(mask).tolist())}
        return [*class_legend(seen, classes)]

    def meaningless(self, facts: Facts) -> dict[str, str]:
        """Those of masks or boxes that are not there, or show one class only."""
        why = {}
        if not facts["images with masks"]:
            why["segmentation_head"] = "no validation image has a mask"
        elif not facts.get("foreground share"):  # undefined where all is void
            why["segmentation_head"] = "no pixel of a validation mask is of a class"
        if not facts["objects"]:
            why["detection_head"] = "no validation image has an object with a box"
        return {
            metric: f"{reason} (model.{head}=none leaves that head out)"
            for head, reason in why.items()
            for metric in HEAD_METRICS[head]
        }


class ShapesData(MultitaskData):
    """The embedded shapes, drawn by `multitask.synthetic`.

    Args:
        train_images, val_images, test_images: how many.
        draw_seed: which pictures.
        settings: see `StoreDataModule`; by default ``image_size=96`` and ``augment=["flip"]``.
    """

    WHAT = "embedded: drawn shapes"

    def __init__(
        self,
        *,
        train_images: int = 320,
        val_images: int = 80,
        test_images: int = 80,
        draw_seed: int = 0,
        **settings: Unpack[DataSettings],
    ) -> None:
        super().__init__(**(DataSettings(image_size=96, augment=["flip"]) | settings))
        self.counts = dict(zip(SPLITS, (train_images, val_images, test_images), strict=True))
        self.draw_seed = draw_seed

    def read(self) -> Splits:
        """What is drawn in each split."""
        splits = Splits(list(synthetic.CLASS_NAMES), rule=DRAWN)
        source = code_key(painting, synthetic)
        for split, count in self.counts.items():
            self.store_split(
                splits,
                split,
                range(count),
                partial(synthetic.draw_image, split, size=self.image_size, seed=self.draw_seed),
                row_fields(self.image_size, synthetic.MAX_OBJECTS),
                content=[[split, self.draw_seed, i] for i in range(count)],
                meaning=source,
                key={"shapes": source},
                names=[f"{split}-{i:04d}" for i in range(count)],
            )
        return splits


class VocData(MultitaskData):
    """A folder in PASCAL VOC layout, see `phasewise.data.voc.read_voc`.

    Args:
        root: the folder that holds ``JPEGImages``.
        split_seed: of the split by hashed name, where there are no lists.
        group_by: what one split must hold whole, see `phasewise.data.groups.find_groups`.
        validation, holdout, folds, fold: what validates, see `phasewise.data.held_out.HeldOut`.
        coordinates: from which number boxes count pixels: ``auto``, ``one_based``, ``zero_based``.
        size_tag: whether size tags tell which image boxes are for: ``auto``, ``ignore``.
        mask_values: what masks hold: ``auto``, ``indices`` (255 is void), ``binary`` (all but 0 is
            the one class); ``none`` leaves masks out.
        colors: red, green and blue by class, of masks in colour.
        settings: see `StoreDataModule`; by default ``augment=["flip"]``.
    """

    WHAT = "a folder in PASCAL VOC layout"

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
        coordinates: str = "auto",
        size_tag: str = "auto",
        mask_values: str = "auto",
        colors: Mapping[str, Sequence[int]] | None = None,
        **settings: Unpack[DataSettings],
    ) -> None:
        super().__init__(root=root, **(DataSettings(augment=["flip"]) | settings))
        self.split_seed = split_seed
        self.group_by = group_by
        self.held_out = HeldOut(validation, holdout, folds, fold)
        self.folds, self.fold = folds, fold
        self.coordinates = coordinates
        self.size_tag = size_tag
        self.mask_values = mask_values
        self.colors = colors
        self._resize = Resize(self.image_size, self.resize)

    def layout(self) -> Path:
        """The folder that holds ``JPEGImages``."""
        assert self.root is not None
        return self.root

    def listing(self, root: Path) -> VocListing:
        """All samples, their headers and boxes checked."""
        return read_voc(
            root,
            split_seed=self.split_seed,
            group_by=self.group_by,
            held_out=self.held_out,
            coordinates=self.coordinates,
            size_tag=self.size_tag,
            mask_values=self.mask_values,
            colors=self.colors,
        )

    def rule(self, listing: VocListing) -> str:
        """How samples came into their splits, in words."""
        return self.held_out.rule(listing.lists, self.split_seed)

    def read(self) -> Splits:
        """List and check all samples.

        Raises:
            UserError: no such layout, or an empty split.
        """
        root = self.layout()
        listing = self.listing(root)
        rule = self.rule(listing)
        splits = Splits(listing.class_names, listing.problems, listing.warnings, rule=rule)
        # The same for all splits, which may be joined. At least one slot: tensors without
        # elements are an edge case in too many places.
        every = (sample for samples in listing.samples.values() for sample in samples)
        most = max((len(sample.objects or ()) for sample in every), default=0) or 1
        for split, samples in listing.samples.items():
            if samples:
                self._enter(splits, split, samples, listing, root, most)
        return splits

    def facts(self, split: str) -> Facts:
        """Also how large the files are."""
        return {**super().facts(split), **original_sizes(self.splits.listed[split].samples)}

    def _enter(
        self,
        splits: Splits,
        split: str,
        samples: list[VocSample],
        listing: VocListing,
        root: Path,
        most: int,
    ) -> None:
        load = partial(self._load, root=root, listing=listing, most=most)
        masks = listing.masks.key  # None as published: hashes are then those of older versions
        names_and_masks = {"classes": listing.class_names, "masks": masks}
        names = [sample.name for sample in samples]
        fields = row_fields(self.image_size, most)
        self.store_split(
            splits,
            split,
            samples,
            load,
            fields,
            content=[self._content(sample) for sample in samples],
            meaning=listing.class_names if masks is None else names_and_masks,
            key={"classes": listing.class_names, "resize": self.resize}
            | ({} if masks is None else {"masks": masks}),
            names=names,
        )

    def _content(self, sample: VocSample) -> list[Any]:
        """Its files, and its objects as parsed."""
        paths = (path for path in (sample.image, sample.mask) if path is not None)
        objects = [[o.class_name, list(o.box), o.difficult] for o in sample.objects or ()]
        return [[self.contents.key(path) for path in paths], objects, sample.objects is not None]

    def _load(self, sample: VocSample, root: Path, listing: VocListing, most: int) -> Arrays:
        image = read_image(sample.image, sample.image.relative_to(root).as_posix())
        mask = None
        if sample.mask is not None:
            name = sample.mask.relative_to(root).as_posix()
            mask = listing.masks.read(sample.mask, name, len(listing.class_names))
        found = (
            None
            if sample.objects is None
            else [(it.class_name, it.box, it.difficult) for it in sample.objects]
        )
        return row_arrays(self._resize, image, mask, found, listing.class_names, most)


class ReaderData(VocData):
    """Images that a reader of somebody's own lists.

    Args:
        root: the folder that they are below.
        reader: a function, or a mapping of ``_target_`` and its arguments; it takes the folder
            before these and returns a `phasewise.data.voc.VocListing`.
        settings: see `VocData`.
    """

    WHAT = "images that a reader of its own lists"

    def __init__(self, *, root: str, reader: Reader, **settings: Unpack[DataSettings]) -> None:
        super().__init__(root=root, **settings)
        self.reader = reader

    def rule(self, listing: VocListing) -> str:
        """The reader decides."""
        return BY_READER

    def beside_root(self) -> list[Path]:
        """What the reader's arguments name."""
        return places_of(self.reader)

    def listing(self, root: Path) -> VocListing:
        """What the reader lists."""
        found: VocListing = read_with(self.reader, root, VocListing)
        for samples in found.samples.values():
            check_inside(root, (file for it in samples for file in (it.image, it.mask)))
        return found


class Voc2012Data(VocData):
    """PASCAL VOC 2012 from an existing VOCdevkit, or downloaded by torchvision.

    Args:
        root: a VOCdevkit, the folder of VOC 2012, or the one they lie in.
        download: fetch it (2 GB) where ``root`` does not hold it.
        split_seed: see `VocData`.
        settings: see `StoreDataModule`; by default ``image_size=256`` and
            ``augment=["flip", "scale"]``.
    """

    WHAT = "PASCAL VOC 2012"

    def __init__(
        self,
        *,
        root: str = "data/voc2012",
        download: bool = False,
        split_seed: int = 0,
        **settings: Unpack[DataSettings],
    ) -> None:
        own = DataSettings(image_size=256, augment=["flip", "scale"]) | settings
        super().__init__(
            root=root,
            split_seed=split_seed,
            coordinates="one_based",
            size_tag="ignore",
            mask_values="indices",
            **own,
        )
        self.download = download

    def layout(self) -> Path:
        """The folder of the year 2012 below ``root``.

        Raises:
            UserError: it is not there, or could not be downloaded.
        """
        assert self.root is not None
        found = find_layouts(self.root, IMAGES)
        if not found and self.download:
            self._fetch(self.root)
            found = find_layouts(self.root, IMAGES)
        if not found:
            raise UserError(
                f"data.root={self.root}: no VOC 2012 (JPEGImages, VOC2012/JPEGImages or "
                "VOCdevkit/VOC2012/JPEGImages); data.download=true fetches it there (2 GB)"
            )
        named = [path for path in found if path.name == "VOC2012"]
        return (named or found)[0]

    @staticmethod
    def _fetch(root: Path) -> None:
        try:
            VOCSegmentation(root, year="2012", image_set="trainval", download=True)
        except Exception as error:  # whatever the network, the archive or the disk may raise
            raise UserError(
                f"VOC 2012 could not be downloaded into {root} ({type(error).__name__}: {error}). "
                "Without internet, put an existing VOCdevkit there, or give its folder as data.root"
            ) from error
