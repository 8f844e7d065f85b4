"""Drawing results into images at their own size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from phasewise.data.images import UINT8

Colour = tuple[int, int, int]

OPACITY = 0.45
DARK, WHITE = (32, 32, 32), (255, 255, 255)


def eight_bits(colour: Sequence[float]) -> Colour:
    """Fractions of red, green and blue in 0..255."""
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


def tint(image: UINT8, regions: Mapping[Colour, NDArray[np.bool_]]) -> UINT8:
    """A copy of the image (H, W, 3) with regions (H, W) coloured."""
    painted = image.copy()
    for colour, where in regions.items():
        mixed = (1 - OPACITY) * painted[where] + OPACITY * np.array(colour)
        painted[where] = mixed.astype(np.uint8)
    return painted


def line_width(size: tuple[int, int]) -> int:
    """Of frames in an image of that size, in pixels."""
    return max(2, round(min(size) / 160))


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: it has most alphabets."""
    return ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size
    )


def frame(picture: Image.Image, box: Sequence[float], colour: Colour, text: str = "") -> None:
    """A box x1, y1, x2, y2 in pixels, its text inside the image at the box's upper left corner."""
    width = line_width(picture.size)
    x1, y1, x2, y2 = (round(value) for value in box)
    corners = (x1, y1, max(x2 - 1, x1), max(y2 - 1, y1))
    draw = ImageDraw.Draw(picture)
    draw.rectangle(corners, outline=DARK, width=width + 2)  # seen on ground of the frame's colour
    draw.rectangle(corners, outline=colour, width=width)
    if text:
        label(picture, (x1, y1), text, colour)


def label(picture: Image.Image, corner: tuple[int, int], text: str, colour: Colour = DARK) -> None:
    """A line of text on a coloured ground with its upper left corner there, moved into the image as
    far as it fits."""
    letters = font(max(11, round(min(picture.size) / 32)))
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=letters)
    pad = max(2, (bottom - top) // 5)
    width, height = round(right - left) + 2 * pad, round(bottom - top) + 2 * pad
    x = max(0, min(corner[0], picture.width - width))
    y = max(0, min(corner[1], picture.height - height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    bright = sum(weight * part for weight, part in zip((0.3, 0.59, 0.11), colour, strict=True))
    ink = DARK if bright > 140 else WHITE
    draw.text((x + pad - left, y + pad - top), text, fill=ink, font=letters)


def gallery_strip(
    cells: Sequence[tuple[UINT8, str]], side: int = 160, columns: int = 11
) -> Image.Image:
    """Images (H, W, 3) side by side, the first one in a frame, each with a caption of two lines.

    Args:
        cells: image and caption, with a line break.
        side: of the square that each image is fitted into, in pixels.
        columns: images per row.
    """
    gap, letters = 6, font(11)
    caption = 2 * 14
    rows = -(-len(cells) // columns)
    cell = side + gap
    size = (min(len(cells), columns) * cell + gap, rows * (cell + caption) + gap)
    strip = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(strip)
    for i, (pixels, text) in enumerate(cells):
        x, y = gap + i % columns * cell, gap + i // columns * (cell + caption)
        small = ImageOps.contain(Image.fromarray(pixels), (side, side))
        strip.paste(small, (x + (side - small.width) // 2, y + (side - small.height) // 2))
        if i == 0:
            draw.rectangle((x - 3, y - 3, x + side + 2, y + side + 2), outline=DARK, width=3)
        for row, line in enumerate(text.split("\n")):
            draw.text((x, y + side + 3 + 13 * row), fit_text(line, letters, side), DARK, letters)
    return strip


def fit_text(text: str, letters: ImageFont.FreeTypeFont, width: int) -> str:
    """The end of a text, where names differ, as far as it fits into so many pixels."""
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(f"…{text}") > width:
        text = text[1:]
    return f"…{text}"
