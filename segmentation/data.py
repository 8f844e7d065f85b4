"""Data sets of the segmentation pipeline: the embedded beads, and folders of images and masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch

from phasewise.data import painting
from phasewise.data.brightness import BITS
from phasewise.data.datamodule import DataSettings, StoreDataModule
from phasewise.data.facts import known_facts, original_sizes
from phasewise.data.held_out import HeldOut
from phasewise.data.images import Resize
from phasewise.data.listed import Facts, Splits
from phasewise.data.reader import Reader, check_inside, places_of, read_with
from phasewise.data.reading import AS_IS, Reading
from phasewise.data.splits import BY_READER, DRAWN, SPLITS
from phasewise.data.store import Arrays, code_key
from segmentation import objects, optics, synthetic
from segmentation.image_mask import Listing, Sample, load, read_image_mask, tile
from segmentation.looking import understood
from segmentation.metrics import VOID
from segmentation.schema import SegmentationConfig

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from phasewise.data.batch import Rows

Fields = dict[str, tuple[tuple[int, ...], str]]

CLASS_NAMES = ["background", "foreground"]

READ_AT_ONCE = 64
"""Masks of a split that may lie on disk."""

AUGMENT = ["flip", "vflip"]
"""Where nothing else is asked for."""


class SegmentationSettings(DataSettings, total=False):
    """What all data sets of this task have; see `SegmentationData`."""

    min_area: int
    min_distance: int


class SegmentationData(StoreDataModule):
    """Images with binary masks; in evaluation splits also which object a pixel belongs to.

    Args:
        min_area: objects of fewer pixels are not counted.
        min_distance: least distance of the centres of touching objects in pixels.
        settings: see `StoreDataModule`.

    Attributes:
        reading: see `phasewise.data.images.read_image`.
    """

    reading = AS_IS

    def __init__(
        self,
        *,
        min_area: int = 8,
        min_distance: int = 3,
        root: str | None = None,
        **settings: Unpack[DataSettings],
    ) -> None:
        super().__init__(root=root, **settings)
        self.min_area = min_area
        self.min_distance = min_distance

    def describe(self) -> dict[str, Any]:
        """Also how files of several pages or channels, or of more than 8 bits, are read."""
        return {**super().describe(), "reading": self.reading.as_dict()}

    def facts(self, split: str) -> Facts:
        """Shares of pixels, foreground of the labelled ones; and of splits that are looked at the
        objects as they are counted, see ``min_area`` and ``min_distance``."""
        store = self.splits.stores[split]
        foreground = void = objects = empty = 0
        for rows in torch.arange(len(store)).split(READ_AT_ONCE):
            found = store.gather(rows, [name for name in (*store.keys(),) if name != "image"])
            foreground += int((found["mask"] == 1).sum())
            void += int((found["mask"] == VOID).sum())
            empty += int((found["mask"] != 1).flatten(1).all(1).sum())
            if "instances" in found:
                objects += sum(int((one.unique() > 0).sum()) for one in found["instances"])
        pixels = len(store) * self.image_size**2
        shares: Facts = {
            "foreground share": foreground / (pixels - void) if pixels > void else math.nan,
            "void share": void / pixels,
        }
        if empty:
            shares["images without foreground"] = empty
        if "instances" in store:
            shares |= {"objects": objects, "objects per image": objects / len(store)}
        return shares

    def draw_truth(self, axes: Iterable[Axes], rows: Rows, names: Sequence[str]) -> list[Artist]:
        """Foreground and what is unlabelled as colour, objects by their number."""
        from segmentation.figures import show_truth, truth_legend

        for i, (ax, name) in enumerate(zip(axes, names, strict=True)):
            objects = len(rows["instances"][i].unique()) - 1 if "instances" in rows else 0
            text = f"{name}   {objects} objects" if objects > 0 else name
            show_truth(ax, rows["image"][i].permute(1, 2, 0).numpy(), rows["mask"][i].numpy(), text)
        return [*truth_legend()]

    def meaningless(self, facts: Facts) -> dict[str, str]:
        """All that compare with foreground, where there is none, or nothing else."""
        share = facts.get("foreground share")
        other = "data.split_seed=N draws another split, lists choose one"
        if not share:
            why = f"no pixel of a validation mask is foreground ({other})"
        elif share == 1:
            which = "data.foreground=VALUE says which mask values are"
            why = f"every labelled pixel of the validation masks is foreground ({which})"
        elif not known_facts(self, "train").get("foreground share"):
            why = f"no pixel of a training mask is foreground ({other})"
        else:
            return {}
        apart = ("val/loss", "val/count_error")
        return {name: why for name in SegmentationConfig.METRICS if name not in apart}

    def _store(
        self,
        splits: Splits,
        split: str,
        samples: Sequence[Any],
        load: Callable[[Any], Arrays],
        **told: Any,
    ) -> None:
        size = self.image_size
        fields: Fields = {"image": ((3, size, size), "uint8"), "mask": ((size, size), "uint8")}
        if split != "train":  # training does without objects: a third of the memory
            fields["instances"] = ((size, size), "int16")

        def chosen(sample: Any) -> Arrays:
            loaded = load(sample)
            return {name: loaded[name] for name in fields}

        self.store_split(splits, split, samples, chosen, fields, **told)


class BeadsData(SegmentationData):
    """The embedded beads, drawn by `segmentation.synthetic`.

    Args:
        train_images, val_images, test_images: how many.
        beads: mean number per image.
        draw_seed: which pictures.
    """

    WHAT = "embedded: drawn bright-field images of microbeads"

    def __init__(
        self,
        *,
        train_images: int = 48,
        val_images: int = 16,
        test_images: int = 16,
        beads: int = 109,
        draw_seed: int = 0,
        **settings: Unpack[SegmentationSettings],
    ) -> None:
        known: SegmentationSettings = {"image_size": 256, "batch_size": 4, "augment": AUGMENT}
        super().__init__(**(known | settings))
        self.counts = dict(zip(SPLITS, (train_images, val_images, test_images), strict=True))
        self.beads = beads
        self.draw_seed = draw_seed

    def read(self) -> Splits:
        """What is drawn in each split."""
        splits = Splits(CLASS_NAMES, rule=DRAWN)
        source = code_key(painting, synthetic, optics)
        for split, count in self.counts.items():
            draw = partial(
                synthetic.draw_image,
                split,
                size=self.image_size,
                seed=self.draw_seed,
                beads=self.beads,
            )
            self._store(
                splits,
                split,
                range(count),
                draw,
                content=[[split, self.draw_seed, self.beads, i] for i in range(count)],
                meaning=source,
                key={"beads": source},
                names=[f"{split}-{i:04d}" for i in range(count)],
            )
        return splits


class ImageMaskData(SegmentationData):
    """A folder of images and masks, see `segmentation.image_mask`.

    Args:
        root: the folder that holds images and masks.
        mask_values: ``auto``, ``binary`` or ``instances``.
        foreground: which mask values are, see `segmentation.meaning.decide`.
        page, channels: of images with several, see `phasewise.data.reading.Reading`.
        intensity: black and white of images of more than 8 bits, or ``auto``, see
            `phasewise.data.brightness.range_of`.
        tile_size: side of the squares that images are cut into, in their pixels; None = whole.
        tile_overlap: share by which training tiles overlap.
        split_seed: of the split by hashed name, where there are no lists.
        group_by: what that split must hold whole, see `phasewise.data.groups.find_groups`.
        validation, holdout, folds, fold: what validates, see `phasewise.data.held_out.HeldOut`.
    """

    WHAT = "a folder of images and masks"

    def __init__(
        self,
        *,
        root: str,
        mask_values: str = "auto",
        foreground: Any = None,
        page: int | str | None = None,
        channels: Sequence[int] | str | None = None,
        intensity: str | Sequence[float] = "auto",
        tile_size: int | None = None,
        tile_overlap: float = 0.0,
        split_seed: int = 0,
        group_by: str = "auto",
        validation: str = "auto",
        holdout: float | Sequence[str | int] | None = None,
        folds: int | None = None,
        fold: int = 0,
        **settings: Unpack[SegmentationSettings],
    ) -> None:
        known: SegmentationSettings = {"image_size": 256, "augment": AUGMENT}
        super().__init__(root=root, **(known | settings))
        self.mask_values = mask_values
        self.foreground = foreground
        if foreground is not None and not isinstance(foreground, int | str):
            self.foreground = [it if isinstance(it, int) else list(it) for it in foreground]
        black, white = (None, None) if isinstance(intensity, str) else intensity
        chosen = channels if isinstance(channels, str) or channels is None else tuple(channels)
        self.asked = Reading(page, chosen, black, white)
        self.tile_size = tile_size
        self.tile_overlap = tile_overlap
        self.split_seed = split_seed
        self.group_by = group_by
        self.held_out = HeldOut(validation, holdout, folds, fold)
        self.folds, self.fold = folds, fold
        self._resize = Resize(self.image_size, self.resize)

    def listing(self, root: Path) -> Listing:
        """All samples, their headers checked."""
        return read_image_mask(
            root,
            split_seed=self.split_seed,
            kind=self.mask_values,
            foreground=self.foreground,
            reading=self.asked,
            group_by=self.group_by,
            held_out=self.held_out,
        )

    def rule(self, listing: Listing) -> str:
        """How samples came into their splits, in words."""
        return self.held_out.rule(listing.lists, self.split_seed)

    def facts(self, split: str) -> Facts:
        """Also how large the files are, and how many images the tiles are of."""
        samples = self.splits.listed[split].samples
        found = {**super().facts(split), **original_sizes(samples)}
        return found | ({"whole images": len({s.image for s in samples})} if self.tile_size else {})

    def read(self) -> Splits:
        """List and check all samples.

        Raises:
            UserError: no such layout, or an empty split.
        """
        assert self.root is not None
        listing = self.listing(self.root)
        rule = self.rule(listing)
        splits = Splits(CLASS_NAMES, listing.problems, listing.warnings, rule=rule)
        for split, samples in listing.samples.items():
            if samples:
                self.reading = samples[0].reading  # one for all images
                self._enter(splits, split, samples)
        return splits

    def _enter(self, splits: Splits, split: str, samples: list[Sample]) -> None:
        assert self.root is not None
        root = self.root
        key = samples[0].meaning.key  # one for all masks
        as_ever = self.foreground is None and isinstance(key, str)
        if self.tile_size is not None:
            overlap = self.tile_overlap if split == "train" else 0.0
            samples = tile(samples, self.tile_size, overlap)
        self._store(
            splits,
            split,
            samples,
            partial(
                load,
                root=root,
                resize=self._resize,
                min_area=self.min_area,
                min_distance=self.min_distance,
                objects=split != "train",
            ),
            content=[self._content(sample) for sample in samples],
            meaning=self.mask_values if as_ever else key,
            key={
                "tiles": [[sample.tile, sample.seen] for sample in samples],
                "resize": self.resize,
                "mask_values": key,
                "objects": [code_key(objects), self.min_area, self.min_distance],
            },
            names=[sample.name for sample in samples],
        )

    def _content(self, sample: Sample) -> list[Any]:
        """Its files and how they are read; the same for all tiles of an image."""
        return [
            [path and self.contents.key(path) for path in sample.paths],
            _in_key(sample.reading),
        ]


def _in_key(reading: Reading) -> Any:
    """As stores have it that were made when there were but grey images of so many bits."""
    for bits in BITS:
        if reading == Reading(black=0, white=2**bits - 1):
            return bits
    return 16 if reading == AS_IS else reading.as_dict()


class ReaderData(ImageMaskData):
    """Images and masks that a reader of somebody's own lists.

    Args:
        root: the folder that they are below.
        reader: a function, or a mapping of ``_target_`` and its arguments; it takes the folder
            before these and returns a `segmentation.image_mask.Listing`.
        settings: see `ImageMaskData`.
    """

    WHAT = "images and masks that a reader of its own lists"

    def __init__(self, *, root: str, reader: Reader, **settings: Any) -> None:
        super().__init__(root=root, **settings)
        self.reader = reader

    def rule(self, listing: Listing) -> str:
        """The reader decides."""
        return BY_READER

    def beside_root(self) -> list[Path]:
        """What the reader's arguments name."""
        return places_of(self.reader)

    def listing(self, root: Path) -> Listing:
        """What the reader lists."""
        found: Listing = read_with(self.reader, root, Listing)
        for samples in found.samples.values():
            files = (file for it in samples for file in it.paths)
            check_inside(root, files)
        listed = found.samples
        if self.asked != AS_IS:
            listed = {
                split: [replace(sample, reading=self.asked) for sample in part]
                for split, part in listed.items()
            }
        known, remarks = understood(listed, self.mask_values, self.foreground)
        return replace(found, samples=known, warnings=[*found.warnings, *remarks])
