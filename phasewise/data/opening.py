"""Opening image files of strangers: limits, what is refused, and which side is up."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from phasewise.errors import BadSample

MAX_PIXELS = 100_000_000
"""Larger images are refused from the header, before a pixel is decoded."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""File names that count as images, compared in lower case."""

# A closed list: some of Pillow's other readers start programs (EPS runs Ghostscript) whatever
# the file is called.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")

TOO_LARGE = f"more pixels than the limit of {MAX_PIXELS:,}"

# Pillow warns at a limit of its own, where MAX_PIXELS decides; and of broken metadata beside sound
# pixels, in words that name no file.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SPECIAL = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def special_kind(path: str | Path) -> str | None:
    """What a path is that is neither a file nor a folder, in words: reading it may never end."""
    try:
        return _SPECIAL.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):
        return None  # opening it will tell


@contextmanager
def opened(path: Path, name: str | None) -> Iterator[Image.Image]:
    """The image with only its header read; whatever goes wrong inside becomes a BadSample."""
    name = name or str(path)
    if kind := special_kind(path):
        raise BadSample(name, f"a {kind}, no regular file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadSample(name, f"{image.width}x{image.height}: {TOO_LARGE}")
            yield image
    except (BadSample, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BadSample(name, TOO_LARGE) from None
    except UnidentifiedImageError:
        empty = Path(path).stat().st_size == 0
        reason = "the file is empty" if empty else f"not an image ({', '.join(FORMATS)})"
        raise BadSample(name, reason) from None
    except FileNotFoundError:
        raise BadSample(name, "no such file") from None
    except Exception as error:
        # Pillow's decoders raise nearly any type on damaged data: OSError, SyntaxError,
        # ValueError, struct.error, EOFError, ...
        raise undecodable(name, error) from None


def undecodable(name: str, error: Exception) -> BadSample:
    """What to say of a file whose decoder failed."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or repr(error)
    return BadSample(name, f"cannot be decoded: {reason.splitlines()[0][:120]}")


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation 1..8 as the header gives it."""
    if image.format == "TIFF":
        return 1  # Pillow applies it to the size on opening and to the pixels on loading
    try:
        # Not image.getexif(): that of PNG decodes the pixels to look for a chunk behind them.
        exif = Image.Image.getexif(image)
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF beside sound pixels: viewers show the image as it lies
        return 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the image the right way up, from its header."""
    width, height = image.size
    return (height, width) if orientation_of(image) >= 5 else (width, height)


def upright(image: Image.Image) -> Image.Image:
    """The image the right way up, decoded."""
    orientation = orientation_of(image)
    image.load()
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
