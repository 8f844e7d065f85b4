"""Where predictions go: every file is replaced in one step, and nobody else's is touched."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from phasewise.errors import UserError
from phasewise.inference.prediction.settings import PredictionSettings
from phasewise.inference.prediction.sources import title
from phasewise.storage import write_whole
from phasewise.text import csv_text

INDEX = "predictions.json"
"""Lists everything; where it lies, the folder is one of predictions."""

FOLDERS = ("overlays", "masks", "rankings")
"""What the folders of pictures are called."""

LONGEST_JPEG = 65_500
"""A JPEG has no side of more pixels."""


class PredictionOutput:
    """A folder of predictions.

    Args:
        folder: need not exist.
        names: of the files and folders in it that will be written, besides `INDEX`.

    Raises:
        UserError: it holds something of such a name that is not a prediction.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        foreign = [name for name in (INDEX, *names) if os.path.lexists(folder / name)]
        if foreign and not _is_ours(folder / INDEX):
            raise UserError(
                f"output={folder}: {', '.join(foreign)} in it would be overwritten, which "
                "predict.py has not made\noutput=DIR chooses another place for the output"
            )

    def index(self, content: Mapping[str, Any]) -> None:
        """Write `INDEX`; the first time before anything else."""
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        self._write(INDEX, text)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write ``name``.csv."""
        self._write(f"{name}.csv", csv_text([columns, *rows]))

    def picture(self, name: str, picture: Image.Image) -> str:
        """Write an image as PNG or JPEG, as the ending says; a side that is too long for JPEG makes
        it PNG.

        Returns:
            Its name below the folder.
        """
        if name.endswith(".jpg") and max(picture.size) > LONGEST_JPEG:
            name = name.removesuffix(".jpg") + ".png"
        file = io.BytesIO()
        if name.endswith(".jpg"):
            picture.save(file, "JPEG", quality=90)
        else:
            picture.save(file, "PNG", compress_level=3)  # half the time of 6, hardly larger
        self._write(name, file.getvalue())
        return name

    def _write(self, name: str, content: str | bytes) -> None:
        write_whole(self.folder / name, content, "output=DIR chooses another place")


def output_folder(settings: PredictionSettings) -> Path:
    """Where a call's results go."""
    if settings.output is not None:
        return Path(settings.output).expanduser()
    return Path("outputs", "predictions", title(settings.source))


def results_in(folder: Path) -> list[Path]:
    """The folders of pictures that an earlier call left in ``folder``."""
    return [folder / name for name in FOLDERS] if _is_ours(folder / INDEX) else []


def _is_ours(index: Path) -> bool:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "predictions" in content
