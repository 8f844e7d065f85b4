"""Networks that find what a test has drawn, in the predictors of their tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image, ImageDraw
from torch import Tensor, nn

from phasewise.augment.color import denormalize
from phasewise.config.fingerprint import plain_config
from phasewise.data.images import UINT8
from phasewise.inference.prediction.predictor import predictor_of
from phasewise.inference.prediction.settings import PredictionSettings
from phasewise.inference.restore import Restored
from phasewise.training.build import build_module

RED, GROUND = (255, 0, 0), (40, 90, 60)
SIZES = [(300, 200), (120, 333), (128, 128), (57, 31)]
"""Width and height: wide, tall, the network's own, small and odd."""


def untrained(cfg: DictConfig, name: str = "x.ckpt", **info: Any) -> Restored:
    """What `restore` gives, without a training."""
    config = plain_config(cfg)
    known = {"image_size": cfg.data.image_size, **info}
    torch.manual_seed(0)
    module = build_module(config, known)
    module.eval().requires_grad_(False)
    return Restored(Path(name), config, known, module, module.state_dict())


def predictor(*members: Restored, words: str = "") -> Any:
    """The members' predictor under settings of a command line."""
    settings, _ = PredictionSettings.parse(["checkpoint=x", "source=x", *words.split()])
    kind = predictor_of(members[0])
    return kind(members, settings, torch.device("cpu"))


def drawn(size: tuple[int, int], box: tuple[int, int, int, int]) -> UINT8:
    """A red box x1, y1, x2, y2 (whole pixels from x1 to x2 - 1) on green ground."""
    image = Image.new("RGB", size, GROUND)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=RED)
    return np.asarray(image)


def some_box(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Somewhere off the centre, so that what is mirrored or swapped is noticed."""
    width, height = size
    return width // 8, height // 5, width // 2, height * 9 // 10


class Network(nn.Module):
    """Gives what a function makes of where its input is red, bool (B, S, S)."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        pixels = denormalize(images).float()
        return self.answer(pixels[:, 0] - pixels[:, 1] > 80)


def hulls(red: Tensor) -> Tensor:
    """The box around what is red, (B, 4) as fractions of the side."""
    side = red.shape[-1]
    boxes = []
    for one in red:
        rows, columns = (one.any(axis).nonzero().flatten() for axis in (1, 0))
        edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        boxes.append(torch.stack(edges).float() / side)
    return torch.stack(boxes)


def turned(image: UINT8, path: Path) -> None:
    """Save an image lying on its side, with the EXIF tag that puts it upright."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
