"""Data sets of the re-identification pipeline: the embedded vehicles, VeRi, Market, folders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from phasewise.data import painting
from phasewise.data.datamodule import SEEN, DataSettings, StoreDataModule
from phasewise.data.images import Resize, read_image
from phasewise.data.listed import Facts, Splits
from phasewise.data.reader import Reader, check_inside, places_of, read_with
from phasewise.data.sampling import BatchSchedule
from phasewise.data.splits import BY_READER, DRAWN
from phasewise.data.store import Arrays, code_key
from phasewise.errors import Problem, UserError
from phasewise.records.content import digest
from reid import bodies, paint, synthetic, vehicles
from reid.held_out import HeldOutIdentities
from reid.readers import read_folder, read_market, read_veri
from reid.sampling import IdentitySchedule
from reid.splits import (
    Listing,
    Sample,
    choose_queries,
    identity_facts,
    not_judged,
    valid_queries,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from phasewise.data.batch import Rows

UNKNOWN_CAMERA = -1
"""What stands in a store where a camera is not known; it is nobody's own camera."""

AUGMENT = ("flip", "translate", "erase")
"""Of training images, where nothing else is asked for."""


class ReidSettings(DataSettings, total=False):
    """What all data sets of this task have; see `ReidData`."""

    validation: str
    validation_fraction: float
    split_seed: int
    holdout: float | Sequence[str | int] | None
    group_by: str | None
    folds: int | None
    fold: int
    sampler: str
    images_per_identity: int


@dataclass(frozen=True)
class _Row:
    """A row of a store."""

    sample: Sample
    label: int
    is_query: bool = False


class ReidData(StoreDataModule):
    """Images with identity and camera.

    Rows of a store: ``image`` uint8 (3, S, S); ``label`` int64 (), in train the class, counted
    from 0 in the order of the identities, elsewhere the identity itself; ``camera`` int64 (), -1 =
    unknown; ``is_query`` bool (). In val and test all queries come first, then the gallery. Where
    cameras are known, the gallery holds the queries too, as in VeRi.

    Args:
        validation: what selects the model. ``identities``: some of the training identities, which
            then train nothing; ``cameras``, ``recordings``: also none of these, see
            `reid.held_out.HeldOutIdentities`. ``none``: identities that also train. ``test``: the
            test split.
        validation_fraction: share of the training identities that validate, in (0, 1).
        split_seed: which ones; and of the split of a folder without train, query and gallery.
        holdout, group_by, folds, fold: see `reid.held_out.HeldOutIdentities`.
        sampler: ``random``, or ``identity`` for batches of ``batch_size / images_per_identity``
            identities.
        images_per_identity: of ``sampler=identity``; must divide ``batch_size``.
        settings: see `StoreDataModule`; here ``batch_size`` is 32 and ``augment`` is `AUGMENT`,
            where they are not given. Under ``refit`` what validates trains too, as with
            ``validation=none``.
    """

    def __init__(
        self,
        *,
        validation: str = "identities",
        validation_fraction: float = 0.2,
        split_seed: int = 0,
        holdout: float | Sequence[str | int] | None = None,
        group_by: str | None = None,
        folds: int | None = None,
        fold: int = 0,
        sampler: str = "identity",
        images_per_identity: int = 4,
        root: str | None = None,
        **settings: Unpack[DataSettings],
    ) -> None:
        refit = settings.pop("refit", False)  # not joined: identities get new labels
        known: DataSettings = {"batch_size": 32, "augment": AUGMENT, **settings}
        super().__init__(root=root, **known)
        self.validation = validation
        self.all_identities = refit or validation in ("none", "test")
        self.held_out = HeldOutIdentities(
            validation, validation_fraction, holdout, group_by, folds, fold
        )
        self.folds, self.fold = folds, fold
        self.split_seed = split_seed
        self.sampler = sampler
        self.images_per_identity = images_per_identity
        self._resize = Resize(self.image_size, self.resize)

    @abstractmethod
    def listing(self) -> Listing:
        """All samples, their headers checked."""

    def describe(self) -> dict[str, Any]:
        """Also ``cameras``: whether they are known, of all validation images."""
        known = bool((self.splits.stores["val"]["camera"] >= 0).all())
        return {**super().describe(), "cameras": known}

    def classes(self) -> list[str]:
        """None: identities, of which there may be thousands, are no classes to anybody else."""
        return []

    def facts(self, split: str) -> Facts:
        """How many identities and cameras there are, and what asks for what."""
        store = self.splits.stores[split]
        return {**identity_facts(store["label"], store["camera"], store["is_query"])}

    def draw_truth(self, axes: Iterable[Axes], rows: Rows, names: Sequence[str]) -> list[Artist]:
        """The identity and the camera of each image in its title."""
        texts = []
        for i, name in enumerate(names):
            camera, label = int(rows["camera"][i]), int(rows["label"][i])
            seen_by = "" if camera == UNKNOWN_CAMERA else f", camera {camera}"
            asks = ", query" if bool(rows["is_query"][i]) else ""
            texts.append(f"{name}\nidentity {label}{seen_by}{asks}")
        return super().draw_truth(axes, rows, texts)

    def rule(self) -> str:
        """How identities came into train and test, in words."""
        return ""

    def source_key(self, sample: Sample) -> Any:
        """What the pixels of a sample depend on, besides size and resizing."""
        return self.contents.key(sample.path)

    def pixels(self, sample: Sample) -> np.ndarray:
        """The image, uint8 (3, S, S).

        Raises:
            BadSample: it cannot be decoded.
        """
        square = self._resize.image(read_image(sample.path, sample.name))
        return np.ascontiguousarray(square.transpose(2, 0, 1))

    def read(self) -> Splits:
        """List and check all samples.

        Raises:
            UserError: no such layout, or nothing to validate with.
        """
        found = self.listing()
        splits = Splits([], [*found.problems], [*found.warnings], rule=self.rule())
        if self.validation != "test":
            splits.rule += f"; {self.held_out.rule(self.split_seed)}"
        if self.folds is not None:
            known = [[self.source_key(s), s.identity, s.camera] for s in found.train]
            splits.source = digest(known)
        train, query, gallery = self._validation(found, splits.warnings)
        identities = sorted({sample.identity for sample in train})
        splits.class_names = [found.identity_names.get(i, str(i)) for i in identities]
        classes = {identity: label for label, identity in enumerate(identities)}
        self._store(splits, "train", [_Row(s, classes[s.identity]) for s in train])
        if valid_queries(found.query, found.gallery):
            self._store(splits, "test", _rows(found.query, found.gallery))
        else:
            reason = "no query has its identity in the gallery by another camera: no test"
            splits.warnings.append(Problem("test", reason))
        if self.validation == "test" and "test" in splits.listed:
            splits.listed["val"] = splits.listed["test"]
        if self.validation != "test" and valid_queries(query, gallery):
            self._store(splits, "val", _rows(query, gallery))
        if "val" not in splits.listed and not splits.problems:
            raise UserError(f"{self._place()}: {not_judged(found, self.validation == 'test')}")
        return splits

    def _validation(
        self, found: Listing, warnings: list[Problem]
    ) -> tuple[list[Sample], list[Sample], list[Sample]]:
        """What trains, and query and gallery of validation (not used with ``test``)."""
        kept, query, gallery, notes = self.held_out.cut(found.train, self.split_seed)
        if not self.all_identities:
            warnings += notes
            return kept, query, gallery
        key, reason = f"validation={self.validation}", SEEN
        if self.validation not in ("none", "test"):
            key = "refit=true"
        elif self.validation == "test":
            reason = "selection on the test gallery, as published; figures are optimistic"
        warnings.append(Problem(key, reason))
        return found.train, query, gallery

    def _place(self) -> str:
        return "the data" if self.root is None else f"data.root={self.root}"

    def _store(self, splits: Splits, split: str, rows: Sequence[_Row]) -> None:
        if not rows:
            return
        size = self.image_size
        content = [
            [self.source_key(row.sample), row.label, row.sample.camera, row.is_query]
            for row in rows
        ]
        fields = {
            "image": ((3, size, size), "uint8"),
            "label": ((), "int64"),
            "camera": ((), "int64"),
            "is_query": ((), "bool"),
        }
        names = [row.sample.name for row in rows]
        self.store_split(
            splits,
            split,
            rows,
            self._load,
            fields,
            content=content,
            key={"resize": self.resize},
            names=names,
        )

    def _load(self, row: _Row) -> Arrays:
        camera = row.sample.camera
        return {
            "image": self.pixels(row.sample),
            "label": np.array(row.label, np.int64),
            "camera": np.array(UNKNOWN_CAMERA if camera is None else camera, np.int64),
            "is_query": np.array(row.is_query),
        }

    def setup(self, stage: str | None = None) -> None:
        """Read the data, once, and see whether it fills the batches that are asked for, if it is to
        be trained on.

        Raises:
            UserError: see `StoreDataModule.setup`; or too few identities, also for a batch.
        """
        super().setup(stage)
        if stage not in (None, "fit"):
            return  # nothing is going to be trained
        if len(self.splits.class_names) < 2:
            raise UserError(f"{self._place()}: one identity is left to train on; two are needed")
        self.schedule("train")

    def schedule(self, split: str) -> BatchSchedule:
        """P x K batches of the training split with ``sampler=identity``."""
        if split != "train" or self.sampler != "identity":
            return super().schedule(split)
        return IdentitySchedule(
            self.splits.stores["train"]["label"],
            self.whole_batch // self.images_per_identity,
            self.images_per_identity,
            seed=self.seed,
            **self.place(),
        )


def _rows(query: Sequence[Sample], gallery: Sequence[Sample]) -> list[_Row]:
    asked = [_Row(sample, sample.identity, is_query=True) for sample in query]
    return asked + [_Row(sample, sample.identity) for sample in gallery]


@dataclass(frozen=True)
class _Drawn(Sample):
    """A sample that is no file."""

    shot: int = 0


class VehiclesData(ReidData):
    """The embedded vehicles, drawn by `reid.synthetic`.

    Args:
        train_identities, test_identities: how many vehicles.
        cameras: how many see each of them; two or more.
        shots: images by each camera.
        draw_seed: which pictures.
        settings: see `ReidData`; here ``image_size`` is 96, where it is not given.
    """

    WHAT = "embedded: drawn vehicles"

    def __init__(
        self,
        *,
        train_identities: int = 60,
        test_identities: int = 30,
        cameras: int = 6,
        shots: int = 2,
        draw_seed: int = 0,
        **settings: Unpack[ReidSettings],
    ) -> None:
        known: ReidSettings = {"image_size": 96, **settings}
        super().__init__(**known)
        self.train_identities = train_identities
        self.test_identities = test_identities
        self.cameras = cameras
        self.shots = shots
        self.draw_seed = draw_seed
        self._source = code_key(painting, bodies, vehicles, paint, synthetic)

    def listing(self) -> Listing:
        """Vehicles that train, and others that test."""
        first = self.train_identities
        query, gallery = choose_queries(self._drawn(range(first, first + self.test_identities)))
        return Listing(self._drawn(range(first)), query, gallery, [], [])

    def rule(self) -> str:
        """Nobody is in both."""
        return DRAWN

    def _drawn(self, identities: range) -> list[Sample]:
        return [
            _Drawn(f"{identity:04d}_c{camera:03d}_{shot:03d}", Path(), identity, camera, shot)
            for identity, camera, shot in product(
                identities, range(self.cameras), range(self.shots)
            )
        ]

    def source_key(self, sample: Sample) -> Any:
        """The drawing code and what is drawn."""
        return [self._source, self.draw_seed, sample.name]

    def pixels(self, sample: Sample) -> np.ndarray:
        """The drawing, uint8 (3, S, S)."""
        assert isinstance(sample, _Drawn)
        assert sample.camera is not None
        return synthetic.draw_image(
            sample.identity, sample.camera, sample.shot, size=self.image_size, seed=self.draw_seed
        )


class FilesData(ReidData):
    """Images in folders.

    Args:
        root: the folder that holds them.
        cameras: ``auto``, as their names have them, or ``ignore``: none is known. Then a query's
            answers may be by its own camera.
        settings: see `ReidData`.
    """

    def __init__(
        self, *, root: str, cameras: str = "auto", **settings: Unpack[ReidSettings]
    ) -> None:
        super().__init__(root=root, **settings)
        self.ignore_cameras = cameras == "ignore"

    def rule(self) -> str:
        """Lists or folders say it."""
        return "train, query and gallery as the folder has them"


class VeriData(FilesData):
    """A folder in VeRi-776 layout, see `reid.readers.read_veri`."""

    WHAT = "a folder in VeRi-776 layout"

    def listing(self) -> Listing:
        """All samples, their headers checked."""
        assert self.root is not None
        return read_veri(self.root, ignore_cameras=self.ignore_cameras)


class MarketData(FilesData):
    """A folder in Market-1501 layout, see `reid.readers.read_market`."""

    WHAT = "a folder in Market-1501 layout"

    def listing(self) -> Listing:
        """All samples, their headers checked."""
        assert self.root is not None
        return read_market(self.root, ignore_cameras=self.ignore_cameras)


class FolderData(FilesData):
    """One folder per identity, see `reid.readers.read_folder`."""

    WHAT = "a folder for each identity"

    def rule(self) -> str:
        """See `reid.readers.read_folder`."""
        if self.root is not None and (self.root / "train").is_dir():
            return super().rule()
        return f"30 % of the identities test, by hashed name, split_seed={self.split_seed}"

    def listing(self) -> Listing:
        """All samples, their headers checked."""
        assert self.root is not None
        return read_folder(
            self.root, split_seed=self.split_seed, ignore_cameras=self.ignore_cameras
        )


class ReaderData(ReidData):
    """Images that a reader of somebody's own lists.

    Args:
        root: the folder that they are below.
        reader: a function, or a mapping of ``_target_`` and its arguments; it takes the folder
            before these and returns a `reid.splits.Listing`.
        settings: see `ReidData`.
    """

    WHAT = "images that a reader of its own lists"

    def __init__(self, *, root: str, reader: Reader, **settings: Unpack[ReidSettings]) -> None:
        super().__init__(root=root, **settings)
        self.reader = reader

    def rule(self) -> str:
        """The reader decides."""
        return BY_READER

    def beside_root(self) -> list[Path]:
        """What the reader's arguments name."""
        return places_of(self.reader)

    def listing(self) -> Listing:
        """What the reader lists."""
        assert self.root is not None
        found: Listing = read_with(self.reader, self.root, Listing)
        samples = (*found.train, *found.query, *found.gallery)
        check_inside(self.root, (sample.path for sample in samples))
        return found
