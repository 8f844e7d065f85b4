"""The DataModule that all tasks share: read once, keep decoded, gather, augment on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict

import lightning as L
import torch
from torch import Tensor

from phasewise.augment.pipeline import Augment
from phasewise.augment.transfer import send
from phasewise.config.identity import DataIdentity
from phasewise.config.trust import refuse_foreign
from phasewise.data.batch import Batch, Rows, resized
from phasewise.data.block import Block
from phasewise.data.groups import NEAR
from phasewise.data.joined import JoinedStore
from phasewise.data.listed import (
    DataSummary,
    Facts,
    Folds,
    Listed,
    Splits,
    decode,
    refuse_unusable,
    same_but_for_case,
)
from phasewise.data.look_alikes import look_alikes
from phasewise.data.prefetch import Prefetcher
from phasewise.data.resources import free_memory
from phasewise.data.sampling import (
    BatchSchedule,
    IndexBatch,
    IndexLoader,
    InParts,
    evaluated_rows,
)
from phasewise.data.seeding import derive
from phasewise.data.splits import SPLITS
from phasewise.data.store import Arrays, Fields
from phasewise.errors import Problem
from phasewise.records.content import Contents, digest
from phasewise.records.trace import Trace, traced

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SEEN = "the validation samples are seen in training; validation figures are optimistic"

DEVICE_SHARE = 0.4
"""A split moves to a GPU as a whole when it takes at most this share of the free memory."""


class DataSettings(TypedDict, total=False):
    """What all data sets have; see `StoreDataModule`."""

    image_size: int
    resize: str
    batch_size: int
    augment: Sequence[str | Mapping[str, Any]]
    on_bad: str
    check: bool
    cache_dir: str
    ram_limit_mb: float
    seed: int
    refit: bool
    image_size_schedule: Sequence[tuple[int, int | Sequence[int]]] | None


class StoreDataModule(L.LightningDataModule, ABC):
    """Batches from stores of decoded images.

    The loader yields indices; rows are gathered where the store lies (a GPU, if it fits) and
    augmented there. A task's data set implements `read` and nothing else.

    Args:
        image_size: side of the images in pixels.
        resize: ``stretch`` or ``letterbox``.
        batch_size: images per step and device.
        augment: transforms of training images, see `phasewise.config.augment`.
        on_bad: ``error`` or ``skip``.
        check: whether ``train.py`` only looks at them, see `phasewise.training.data_check`.
        cache_dir: where decoded images are kept.
        ram_limit_mb: larger splits stay on disk.
        seed: of order and augmentation.
        refit: the validation samples train too; validation figures are then optimistic.
        root: folder of the data, for data sets that have one.
        image_size_schedule: pairs of an epoch (from 1) and the size of training images from then
            on, or several, of which each batch draws one; None = always ``image_size``.

    Attributes:
        parts: how many batches the rows of one are dealt into in training, see `InParts`.
        overfit_batches: so many batches train, the same images in each epoch; 0 = all.
        contents: hashes of the files below ``root``; only for data sets that have one.
        trace: what was looked at below ``root`` to list the samples.
    """

    folds: int | None = None
    """Of cross-validation, where samples are dealt into such; ``fold`` validates."""
    fold: int = 0

    WHAT: ClassVar[str] = ""
    """What kind of data these are, in words, for reports."""

    def __init__(
        self,
        *,
        image_size: int = 128,
        resize: str = "stretch",
        batch_size: int = 16,
        augment: Sequence[str | Mapping[str, Any]] = (),
        on_bad: str = "error",
        check: bool = False,
        cache_dir: str = "outputs/cache",
        ram_limit_mb: float = 4096,
        seed: int = 0,
        refit: bool = False,
        root: str | None = None,
        image_size_schedule: Sequence[tuple[int, int | Sequence[int]]] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.root = Path(root).expanduser() if root else None
        self.image_size = image_size
        self.resize = resize
        self.batch_size = batch_size
        self.on_bad = on_bad
        self.check = check
        self.cache_dir = Path(cache_dir).expanduser()
        self.ram_limit_mb = ram_limit_mb
        self.seed = seed
        self.refit = refit
        self.image_size_schedule = image_size_schedule or [(1, image_size)]
        self.parts = 1
        self.overfit_batches = 0
        self._augment = Augment(augment)
        self._normalize = Augment([])
        self.contents = Contents(self.root or Path(), self.cache_dir)
        self.trace: Trace | None = None
        self._read: Splits | None = None
        self._is_decoded = False
        self._prefetcher = Prefetcher()
        self._train_batches = Block(self._train_batch)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        weights_only: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """See Lightning; ``weights_only`` is true unless said otherwise.

        Raises:
            UserError: under ``weights_only``, an augmentation or a reader that it has kept is code
                from outside of this project, and the caller does not give that argument.
        """
        if weights_only is not False:
            content = torch.load(checkpoint_path, map_location="cpu", weights_only=True)
            if hasattr(checkpoint_path, "seek"):
                checkpoint_path.seek(0)  # an open file, which is read again
            kept = content.get(cls.CHECKPOINT_HYPER_PARAMS_KEY) or {}
            refuse_foreign(checkpoint_path, kept, type(None), kwargs)
        return super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, weights_only, **kwargs
        )

    @abstractmethod
    def read(self) -> Splits:
        """List and check the samples of all splits; problems are collected, not raised."""

    def beside_root(self) -> list[Path]:
        """Files and folders that `read` looks at and that may lie elsewhere than ``root``."""
        return []

    def store_split(
        self,
        splits: Splits,
        split: str,
        samples: Sequence[Any],
        load: Callable[[Any], Arrays],
        fields: Fields,
        *,
        content: Sequence[Any],
        key: Mapping[str, Any],
        names: Sequence[str],
        meaning: Any = None,
    ) -> None:
        """Enter the samples of a split into ``splits``; `setup` decodes them.

        Args:
            splits: what `read` will return.
            split: the name.
            samples, load, fields: see `phasewise.data.store.build_store`.
            content: of each sample, JSON-able: the names and hashes of its files
                (``self.contents.key``) or what it is drawn from, and its labels. It says which
                data a run's figures belong to, so nothing that only decides how they are used.
            key: JSON-able: the settings that the arrays depend on as well, without the image size.
            names: of the samples.
            meaning: of the labels of all samples, e.g. the names of the classes.
        """
        splits.listed[split] = Listed(samples, load, fields, content, meaning, key, names)

    def _list(self) -> Splits:
        """The samples, listed once."""
        if self._read is None:
            with ExitStack() as stack:
                if self.root is not None and self.root.is_dir():
                    self.trace = stack.enter_context(traced(self.root, self.beside_root()))
                self._read = self.read()
            self._read.warnings += same_but_for_case(self._read.class_names)
            if self.root is not None:
                self.contents.save()
        return self._read

    def identity(self) -> DataIdentity:
        """Which samples there are, by their content; nothing is decoded for it."""
        splits = self._list()
        return DataIdentity(
            {split: it.hash for split, it in splits.listed.items()},
            {split: len(it.samples) for split, it in splits.listed.items()},
            rejected=bool(splits.problems),
        )

    def check_listed(self) -> None:
        """See what can be known before anything is decoded.

        Raises:
            UserError: see `setup`.
        """
        refuse_unusable(self._list().problems, self.identity().counts, self.root, self.on_bad)

    def manifest(self) -> dict[str, dict[str, str]]:
        """A hash of each sample by split and name."""
        return {split: listed.manifest for split, listed in self._list().listed.items()}

    def setup(self, stage: str | None = None) -> None:
        """Read the data, once.

        Raises:
            UserError: samples that cannot be used, under ``on_bad=error``; or nothing is left.
        """
        splits = self._list()
        if not self._is_decoded:
            decode(splits, self.image_size, self.cache_dir, self.ram_limit_mb)
            if self.root is not None:
                self.contents.check_unchanged()
            self._is_decoded = True
            if getattr(self, "group_by", NEAR) != NEAR:  # else nothing could be done about it
                splits.warnings += look_alikes(splits)
            if self.refit and self._count("train") and self._count("val"):
                self._train_on_all(splits)
        counts = {split: self._count(split) for split in SPLITS}
        refuse_unusable(splits.problems, counts, self.root, self.on_bad)

    @staticmethod
    def _train_on_all(splits: Splits) -> None:
        splits.stores["train"] = JoinedStore(splits.stores["train"], splits.stores["val"])
        splits.names["train"] = splits.names["train"] + splits.names["val"]
        splits.warnings.append(Problem("refit=true", SEEN))

    @property
    def is_read(self) -> bool:
        """Whether it is known what there is, usable or not."""
        return self._is_decoded

    def _count(self, split: str) -> int:
        assert self._read is not None
        return len(self._read.stores.get(split, ()))

    @property
    def splits(self) -> Splits:
        """What was read."""
        if not self._is_decoded:
            self.setup()
        assert self._read is not None
        return self._read

    def describe(self) -> dict[str, Any]:
        """What a network must know of the data, as plain containers: ``class_names`` and
        ``image_size``; a task adds its own. Checkpoints keep it."""
        return {"class_names": self.splits.class_names, "image_size": self.image_size}

    def classes(self) -> list[str]:
        """Names of the classes, for reports."""
        return list(self.splits.class_names)

    def facts(self, split: str) -> Facts:
        """Numbers about a split that was read, for reports; a task tells its own."""
        return {}

    def draw_truth(self, axes: Iterable[Axes], rows: Rows, names: Sequence[str]) -> list[Artist]:
        """Draw images and what is known of them; a task draws its own.

        Args:
            axes: one for each image, see `phasewise.figures.panels`.
            rows: of `gather`, on the CPU.
            names: of the images.

        Returns:
            What a legend shows.
        """
        from phasewise.figures import show

        for ax, image, name in zip(axes, rows["image"], names, strict=False):
            show(ax, image.permute(1, 2, 0).numpy(), name)
        return []

    def meaningless(self, facts: Facts) -> dict[str, str]:
        """Metrics that cannot mean anything on validation data of these `facts`, with why; a task
        tells its own."""
        return {}

    def summary(self) -> DataSummary:
        """Counts, problems and hashes of what is in which split, for the record."""
        names = {split: self.splits.names.get(split, []) for split in SPLITS}
        return DataSummary(
            counts={split: len(members) for split, members in names.items()},
            split_hash=digest(names),
            identity=self.identity(),
            rejected=self.splits.problems,
            warnings=self.splits.warnings,
            folds=None if self.folds is None else Folds(self.folds, self.fold, self.splits.pool),
        )

    def has_test(self) -> bool:
        """Whether there is a test split with a sample in it."""
        self.setup()
        return bool(self._count("test"))

    def _loader(self, split: str) -> IndexLoader:
        schedule = self.schedule(split)
        if split == "train" and self.parts > 1:
            return IndexLoader(InParts(schedule, self.parts))
        return IndexLoader(schedule)

    @property
    def whole_batch(self) -> int:
        """Training images whose parts go through the network one after the other."""
        return self.batch_size * self.parts

    def schedule(self, split: str) -> BatchSchedule:
        """Which rows of a split form which batch on this device; in training, a whole one."""
        train = split == "train"
        count = len(self.splits.stores[split])
        if train and self.overfit_batches:
            count = min(count, self.overfit_batches * self.whole_batch * self.place()["world_size"])
        return BatchSchedule(
            count,
            self.whole_batch if train else self.batch_size,
            shuffle=train,
            seed=self.seed,
            **self.place(),
        )

    def evaluated_rows(self, split: str) -> Tensor:
        """Rows (n,) of ``val`` or ``test`` that the trainer evaluates, of all devices; all where it
        limits nothing, or there is none. Trivial predictors are compared on these."""
        limit = getattr(self.trainer, f"limit_{split}_batches", None)
        devices = self.place()["world_size"]
        return evaluated_rows(len(self.splits.stores[split]), self.batch_size, limit, devices)

    def place(self) -> dict[str, int]:
        """``rank`` and ``world_size``: the place of this process among the devices."""
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def train_dataloader(self) -> IndexLoader:
        """Shuffled indices of the training split."""
        return self._loader("train")

    def val_dataloader(self) -> IndexLoader:
        """Indices of the validation split in order."""
        return self._loader("val")

    def test_dataloader(self) -> IndexLoader:
        """Indices of the test split in order."""
        return self._loader("test")

    def predict_dataloader(self) -> IndexLoader:
        """Indices of the test split, without one of the validation split."""
        return self._loader(self._predicted)

    @property
    def _predicted(self) -> str:
        return "test" if self._count("test") else "val"

    def _split_in_use(self) -> str:
        assert self.trainer is not None
        if self.trainer.training:
            return "train"
        if self.trainer.predicting:
            return self._predicted
        return "test" if self.trainer.testing else "val"

    def transfer_batch_to_device(
        self, batch: IndexBatch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Gather the rows, on the device if the split lives there; augment those of training,
        normalise all."""
        split = self._split_in_use()
        if split == "train":
            return Batch(self._train_batches.take(batch, device))
        return Batch(self._normalize(self._rows(split, batch, device), batch.seed))

    def _train_batch(self, batch: IndexBatch, device: torch.device) -> Rows:
        rows = self._rows("train", batch, device)
        return self._augment(resized(rows, self.train_size(batch.seed)), batch.seed)

    def _rows(self, split: str, batch: IndexBatch, device: torch.device) -> Rows:
        following = batch.following[0].index if batch.following else None
        return self.gather(split, batch.index, device, following)

    def train_size(self, seed: int) -> int:
        """Side of the images of a training batch in pixels, from its seed and the epoch."""
        epoch = self.trainer.current_epoch + 1 if self.trainer else 1
        sizes = [size for start, size in self.image_size_schedule if start <= epoch][-1]
        if isinstance(sizes, int):
            return sizes
        return sizes[derive(seed, "size") % len(sizes)]

    def train_sizes(self) -> set[int]:
        """All sides of the images of a training batch in pixels, whatever the epoch."""
        steps = (sizes for _, sizes in self.image_size_schedule)
        return {size for sizes in steps for size in ([sizes] if isinstance(sizes, int) else sizes)}

    def gather(
        self, split: str, index: Tensor, device: torch.device, following: Tensor | None = None
    ) -> Rows:
        """Rows ``index`` of a split on ``device``, images still uint8, ``index`` beside them.

        Args:
            split: the name.
            index: (B,), on the CPU.
            device: where they are wanted. A GPU that has room takes the whole split, once.
            following: the ``index`` of the next call, if it is known, to be fetched already.
        """
        store = self.splits.stores[split]
        if store.device != device and store.nbytes <= DEVICE_SHARE * free_memory(device):
            store = self.splits.stores[split] = store.to(device)
        if store.device == device:
            rows = store.gather(send(index, device))
        else:
            rows = self._prefetcher.gather(store, index, following)
        rows["index"] = index
        return {key: send(value, device) for key, value in rows.items()}

    def teardown(self, stage: str) -> None:
        """Nothing is fetched any more."""
        self._prefetcher.close()
        self._train_batches.clear()

    def prepared(self, split: str, index: Tensor, device: torch.device) -> Batch:
        """Rows ``index`` of a split as evaluation sees them, for figures and baselines."""
        return Batch(self._normalize(self.gather(split, index, device), 0))
