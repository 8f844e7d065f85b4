"""Folders of weights: which file is taken of them, and how they are filled."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from phasewise.config.weight_files import find_weights, weights_file
from phasewise.errors import UserError, unwritable
from phasewise.storage import remove_drafts, write_whole

ADVICE = "model.pretrained=FOLDER names another folder"

log = logging.getLogger(__name__)


def chosen_file(pretrained: str, names: Sequence[str]) -> str:
    """The file that ``model.pretrained`` names; of a folder it is told which one is taken.

    Args:
        pretrained: a file, or a folder of files.
        names: of the backbone, see `phasewise.config.weight_files.find_weights`.

    Raises:
        UserError: the folder has none, or several.
    """
    found = weights_file(pretrained, names)
    if found is None or not Path(pretrained).expanduser().is_dir():
        return pretrained
    log.info("weights  %s from %s", names[0], found)
    return str(found)


class Download(str):
    """A folder of weights that is being filled; in place of ``pretrained`` of a backbone.

    Attributes:
        brought: names of backbones with the files that they have now, and whether each is new.
    """

    brought: dict[str, tuple[Path, bool]]

    def __new__(cls, folder: str) -> Download:
        """Make the folder if there is none.

        Raises:
            UserError: it cannot be made.
        """
        place = Path(folder).expanduser()
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(place, error, ADVICE) from error
        made = super().__new__(cls, folder)
        made.brought = {}
        return made

    def bring(self, names: Sequence[str], download: Callable[[], Mapping[str, Tensor]]) -> None:
        """Have the weights of a backbone in the folder, as ``NAME.pth`` if they come anew.

        Args:
            names: see `find_weights`; a new file has the last one.
            download: makes the tensors by name.

        Raises:
            UserError: they cannot be downloaded, or the folder cannot be written.
            StorageError: its disk is full or fails.
        """
        try:
            self.brought[names[-1]] = (find_weights(self, names), False)
            return
        except UserError:
            tensors = {key: value.detach().cpu() for key, value in download().items()}
        file = Path(self).expanduser() / f"{names[-1]}.pth"
        remove_drafts(file)  # of a call that was killed: nobody else fills the folder now
        content = io.BytesIO()
        torch.save(tensors, content)
        write_whole(file, content.getbuffer(), ADVICE)
        self.brought[names[-1]] = (file, True)
