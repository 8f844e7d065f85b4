"""What a task's predictions have in common: images in, results, tables and pictures out."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Generic, TypeVar

import torch
from PIL import Image
from tqdm import tqdm

from phasewise.config.signatures import TARGET
from phasewise.config.trust import known_class, refuse_untrusted, untrusted
from phasewise.data.images import UINT8, Resize, read_image
from phasewise.data.reading import Reading
from phasewise.errors import BadSample, Problem, UserError
from phasewise.inference.prediction.output import PredictionOutput
from phasewise.inference.prediction.settings import PredictionSettings
from phasewise.inference.prediction.sources import Item
from phasewise.inference.prediction.views import View, views
from phasewise.inference.restore import Restored

Result = TypeVar("Result")
Row = Sequence[Any]

THREADS = min(8, os.cpu_count() or 1)


class Reader:
    """Decodes images, some at a time, and notes those that cannot be decoded.

    Args:
        reading: see `phasewise.data.images.read_image`.

    Attributes:
        problems: what could not be read so far.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.problems: list[Problem] = []

    def read(self, item: Item) -> UINT8 | Problem:
        """The image (H, W, 3), or what is wrong with it."""
        try:
            return read_image(item.path, item.name, self.reading)
        except BadSample as bad:
            return bad.problem

    def check(self, items: Sequence[Item]) -> None:
        """Decode all, and keep nothing but the problems."""

        def problem(item: Item) -> Problem | None:
            found = self.read(item)
            return found if isinstance(found, Problem) else None

        with ThreadPoolExecutor(THREADS) as pool:
            found = progress(pool.map(problem, items), "checking", len(items))
            self.problems += [it for it in found if it is not None]

    def batches(
        self, items: Sequence[Item], size: int, what: str
    ) -> Iterator[list[tuple[Item, UINT8]]]:
        """Images ``size`` at a time, those left out that cannot be read; shows a progress bar."""
        with (
            ThreadPoolExecutor(THREADS) as pool,
            tqdm(total=len(items), desc=what, unit="image", disable=None, leave=False) as bar,
        ):
            for start in range(0, len(items), size):
                part = items[start : start + size]
                found = list(zip(part, pool.map(self.read, part), strict=True))
                self.problems += [it for _, it in found if isinstance(it, Problem)]
                sound = [(item, it) for item, it in found if not isinstance(it, Problem)]
                if sound:
                    yield sound
                bar.update(len(part))


def progress(results: Iterator[Result], what: str, total: int) -> Iterator[Result]:
    """The same with a bar on a terminal."""
    yield from tqdm(results, what, total, unit="image", disable=None, leave=False)


class Predictor(ABC):
    """Applies one network of a task, or several as one, to images of any size.

    Args:
        members: the networks, of one task.
        settings: what the person asked for.
        device: where the networks run.

    Raises:
        UserError: the networks do not go together.

    Attributes:
        keys: the settings that this task has besides those of all.
        tables: the CSV files it writes, without their ending, and their columns.
        folders: the folders it writes pictures into.
    """

    keys: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, members: Sequence[Restored], settings: PredictionSettings, device: torch.device
    ) -> None:
        self.members, self.settings, self.device = members, settings, device
        for member in members:
            member.module.to(device)
        self.resizes = [Resize(member.image_size, member.resize) for member in members]
        self.check_members()

    @property
    def tables(self) -> dict[str, Sequence[str]]:
        """See the attributes."""
        return {}

    @property
    def folders(self) -> tuple[str, ...]:
        """See the attributes."""
        return () if self.settings.pictures == "none" else ("overlays",)

    @property
    def reading(self) -> Reading:
        """How images of several pages or channels, or of more than 8 bits, were read in training.

        Raises:
            UserError: the networks saw them in different ways.
        """
        what = "pages, channels and brightness of the images"
        found: Reading = self.alike(what, lambda member: Reading.of_info(member.info))
        return found

    def heading(self) -> dict[str, Any]:
        """What ``predictions.json`` says of all images; here, the names of the classes."""
        return {"classes": self.members[0].class_names}

    def check_members(self) -> None:
        """Refuse networks that do not go together: here, those of different classes."""
        self.alike("classes", lambda member: member.class_names)

    def alike(self, what: str, value: Callable[[Restored], Any]) -> Any:
        """What all networks must agree on.

        Raises:
            UserError: they do not.
        """
        first, *others = self.members
        for other in others:
            if value(other) != value(first):
                raise UserError(
                    f"checkpoint: an ensemble is of one kind, but {what} of {first.checkpoint} are "
                    f"{_short(value(first))}, those of {other.checkpoint} {_short(value(other))}"
                )
        return value(first)

    def views(self, squares: Sequence[UINT8]) -> Iterator[View]:
        """Batches of squares, see `phasewise.inference.prediction.views.views`."""
        settings = self.settings
        return views(squares, settings.batch_size, self.device, flip=settings.flip)

    def sources(self, items: Sequence[Item]) -> Sequence[Item]:
        """Everything that will be read."""
        return items

    @abstractmethod
    def run(
        self, items: Sequence[Item], reader: Reader, output: PredictionOutput
    ) -> tuple[list[dict[str, Any]], dict[str, list[Row]]]:
        """Predict, and write pictures.

        Args:
            items: the source.
            reader: reads them.
            output: takes the pictures.

        Returns:
            An entry of `predictions.json` for each image that could be read, and the rows of the
            tables.
        """


class ImagePredictor(Predictor, Generic[Result]):
    """A predictor whose results are about one image each."""

    @property
    def images_at_once(self) -> int:
        """How many are read before they are predicted."""
        return self.settings.batch_size

    @abstractmethod
    def predict(self, images: Sequence[UINT8]) -> list[Result]:
        """Images (H, W, 3) of any sizes to results in their own pixels."""

    @abstractmethod
    def entry(self, result: Result) -> dict[str, Any]:
        """What JSON keeps of a result."""

    @abstractmethod
    def rows(self, name: str, size: tuple[int, int], result: Result) -> dict[str, list[Row]]:
        """What the tables keep of a result.

        Args:
            name: of the image.
            size: its width and height.
            result: what was predicted.
        """

    def mask(self, result: Result) -> Image.Image | None:
        """The result as a mask of the image's size, if it is one."""
        return None

    @abstractmethod
    def overlay(self, image: UINT8, result: Result) -> Image.Image:
        """The image with the result drawn in."""

    def run(
        self, items: Sequence[Item], reader: Reader, output: PredictionOutput
    ) -> tuple[list[dict[str, Any]], dict[str, list[Row]]]:
        """See `Predictor.run`."""
        entries: list[dict[str, Any]] = []
        rows: dict[str, list[Row]] = {name: [] for name in self.tables}

        def write(item: Item, image: UINT8, result: Result) -> dict[str, str]:
            return self._write(output, item, image, result)

        with ThreadPoolExecutor(THREADS) as pool:
            for batch in reader.batches(items, self.images_at_once, "predicting"):
                images = [image for _, image in batch]
                with torch.inference_mode():
                    results = self.predict(images)
                files = pool.map(write, (item for item, _ in batch), images, results)
                for (item, image), result, written in zip(batch, results, files, strict=True):
                    height, width = image.shape[:2]
                    size = {"width": width, "height": height}
                    entries.append({"file": item.name, **size, **self.entry(result), **written})
                    for table, found in self.rows(item.name, (width, height), result).items():
                        rows[table] += found
        return entries, rows

    def _write(
        self, output: PredictionOutput, item: Item, image: UINT8, result: Result
    ) -> dict[str, str]:
        """Write the pictures of a result; their names below the folder."""
        written = {}
        mask = self.mask(result)
        if mask is not None:
            written["mask"] = output.picture(f"masks/{item.stem}.png", mask)
        if self.settings.pictures != "none":
            name = f"overlays/{item.stem}.{self.settings.pictures}"
            written["overlay"] = output.picture(name, self.overlay(image, result))
        return written


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def predictor_of(trained: Restored) -> type[Predictor]:
    """What applies a network to images of any size, as ``task.predictor`` of its config names it.

    Raises:
        UserError: its task has none, it is no predictor, or it is code that nobody trusts.
    """
    name = trained.config["task"].get("predictor")
    if name is None:
        raise UserError(f"task={trained.task} makes no predictions of images")
    node = {"task": {"predictor": {TARGET: name}}}
    refuse_untrusted(trained.checkpoint, untrusted(node, object, trained.trust))
    kind = known_class(name, Predictor, trained.trust)  # type: ignore[type-abstract]
    if kind is None:
        raise UserError(f"{trained.checkpoint}: its task.predictor={name} is no Predictor")
    return kind
