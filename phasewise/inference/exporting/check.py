"""Whether an exported network says what the original says, on real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from phasewise.augment.color import normalize
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.images import Resize, read_image
from phasewise.data.reading import Reading
from phasewise.errors import RunFailedError, UserError
from phasewise.inference.exporting.formats import Deployed, Outputs
from phasewise.inference.prediction.sources import list_images
from phasewise.inference.restore import Restored

MOST = 8
"""Images that are compared at most."""


class Images(NamedTuple):
    """Normalised images (N, 3, S, S), and what they are."""

    pixels: Tensor
    origin: str


def images_of(path: str, trained: Restored) -> Images:
    """Images of one's own, prepared as those of training.

    Raises:
        UserError: there is none that can be read.
    """
    from phasewise.errors import BadSample

    resize = Resize(trained.image_size, trained.resize)
    files = [item.path for item in list_images(path, "images")][:MOST]
    reading = Reading.of_info(trained.info)
    try:
        squares = [resize.image(read_image(file, reading=reading)) for file in files]
    except BadSample as error:
        raise UserError(f"images={path}: {error}") from error
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    return Images(normalize(pixels), f"{len(files)} images of {path}")


def validation_images(data: StoreDataModule) -> Images:
    """The first ones of the validation split.

    Raises:
        UserError: the data cannot be read.
    """
    data.setup("validate")
    count = min(MOST, len(data.splits.stores["val"]))
    found = data.prepared("val", torch.arange(count), torch.device("cpu"))
    return Images(found["image"], f"{count} validation images")


def drawn_images(size: int) -> Images:
    """Smooth random colours with some noise, the same ones each time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(MOST, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    noisy = smooth + 0.05 * torch.randn(smooth.shape, generator=generator)
    pixels = (255 * noisy).clamp(0, 255).to(torch.uint8)
    return Images(normalize(pixels), f"{MOST} drawn images")


def batches(images: Tensor, batch: int | None) -> list[Tensor]:
    """What is compared: images one by one, in pairs and all at once; or in batches of ``batch``."""
    sizes = [batch, batch] if batch else [1, 2, 5]
    parts, start = [], 0
    for size in sizes:
        rows = torch.arange(start, start + size) % len(images)
        parts.append(images[rows])
        start += size
    return parts


@torch.no_grad()
def compare_outputs(
    network: Deployed,
    run: Callable[[Tensor], Outputs],
    parts: Sequence[Tensor],
    tolerance: float,
) -> dict[str, float]:
    """The largest difference of each output, as a share of its largest value or of 1.

    Raises:
        RunFailedError: it is above the tolerance, or an output differs in shape or is missing.
    """
    worst: dict[str, float] = {}
    for images in parts:
        expected = network(images)
        try:
            found = run(images)
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "")[:200]
            raise RunFailedError(
                f"the exported network fails on {len(images)} images: {reason}\n"
                "batch=N fixes their number"
            ) from error
        for name, value in expected.items():
            other = found.get(name)
            if other is None or other.shape != value.shape:
                there = "missing" if other is None else f"of shape {tuple(other.shape)}"
                raise RunFailedError(
                    f"the exported network's {name} is {there}, not {tuple(value.shape)}, for "
                    f"{len(images)} images; batch=N fixes their number"
                )
            distance = (other - value).abs().max() / value.abs().max().clamp(min=1)
            worst[name] = max(worst.get(name, 0.0), float(distance))
            if not distance <= tolerance:  # NaN is above it too
                raise RunFailedError(
                    f"the exported network's {name} differs by {float(distance):.2g} for "
                    f"{len(images)} images, which is more than tolerance={tolerance:g}; nothing "
                    "was written"
                )
    return worst
