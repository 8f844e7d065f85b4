"""Decoding the mask files that programs write: grey, palettes, colours, alpha, pages, floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from phasewise.data.images import check_palette
from phasewise.data.opening import opened, upright
from phasewise.data.reading import Layout, layout_of
from phasewise.data.tiff import Raw, Stack, opened_tiff
from phasewise.errors import BadSample

MODES = ("1", "L", "LA", "P", "PA", "I;16", "I;16B", "I", "F", "RGB", "RGBA")

LOSSY = ("JPEG", "MPO", "WEBP")

LARGEST = 65535
"""Of the numbers in a mask that are no colours."""

_PHOTOMETRIC = 262


@dataclass(frozen=True)
class MaskValues:
    """A decoded mask.

    Attributes:
        values: int32 (H, W), upright; colours are ``red << 16 | green << 8 | blue``, of a mask with
            an object a page it is the number of the last page that has the pixel, from 1.
        deep: whether the file has more than 8 bits.
        colour: whether they are colours.
        lossy: whether compression may have altered them.
        apart: ``page`` or ``file`` where each of these holds an object, else empty.
    """

    values: NDArray[np.int32]
    deep: bool = False
    colour: bool = False
    lossy: bool = False
    apart: str = ""

    def counts(self) -> dict[int, int]:
        """Pixels of each value, ascending."""
        if self.colour:
            colours, counts = np.unique(self.values, return_counts=True)
            return dict(zip(colours.tolist(), counts.tolist(), strict=True))
        every = np.bincount(self.values.ravel())
        present = np.flatnonzero(every)
        return dict(zip(present.tolist(), every[present].tolist(), strict=True))


def mask_layout(path: Path, name: str) -> Layout:
    """What a mask file holds, from its header.

    Raises:
        BadSample: it is no image, or cannot be a mask.
    """

    def check(image: Image.Image) -> None:
        if image.mode not in MODES:
            needed = "grey, a palette, one bit or RGB is needed"
            raise BadSample(name, f"a mask of mode {image.mode}; {needed}")
        if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0:
            # Pillow inverts these. Some programs mean the values as stored, others as shown.
            raise BadSample(name, "a TIFF mask whose 0 is white (MinIsWhite) is ambiguous; use PNG")

    layout = layout_of(path, name, check)
    if layout.raw and layout.channels > 1 and not layout.rgb:
        raise BadSample(name, f"a mask of {layout.channels} channels; one is needed")
    return layout


def read_mask_values(path: Path, name: str, page: int | str | None = None) -> MaskValues:
    """Decode a mask, whatever its values mean.

    Palette and grey values are unchanged, but those of 2- and 4-bit grey, which are stretched to
    0..255. Floating-point numbers are whole, or shares that become 0..255. Alpha is the mask where
    the colour of all that is visible is one; else what is transparent is black.

    Args:
        path: the file.
        name: how messages call it.
        page: of a file with several, see `phasewise.data.reading.Reading`; ``mean`` is ``max``.
            None: each holds an object.

    Raises:
        BadSample: it cannot be decoded, or holds what is no mask.
    """
    layout = mask_layout(path, name)
    if layout.raw:
        with opened_tiff(path, name) as stack:
            return _of_stack(stack, layout, page)
    with opened(path, name) as image:
        lossy = _is_lossy(image)
        deep = image.mode.startswith("I")
        turned = upright(image)
        if image.mode in ("LA", "PA", "RGBA"):
            array = _without_alpha(np.array(turned.convert("RGBA")))
        else:
            array = np.array(turned)
            check_palette(image, array, name)
    return _values(array, name, deep=deep, lossy=lossy)


def _is_lossy(image: Image.Image) -> bool:
    compression = image.info.get("compression") if image.format == "TIFF" else None
    return image.format in LOSSY or compression in ("jpeg", "tiff_jpeg", "webp")


def _without_alpha(rgba: Raw) -> Raw:
    """(H, W, 4) uint8 to (H, W, 3) or (H, W), see `read_mask_values`."""
    alpha = rgba[..., 3]
    visible = rgba[alpha > 0][:, :3]
    if alpha.min() < 255 and (visible == visible[:1]).all():
        return alpha
    return np.where((alpha >= 128)[..., None], rgba[..., :3], 0)


def _values(array: Raw, name: str, *, deep: bool, lossy: bool) -> MaskValues:
    if array.ndim == 3 and (array == array[..., :1]).all():
        array = array[..., 0]
    if array.ndim == 3:
        red, green, blue = (array[..., i].astype(np.int32) for i in range(3))
        return MaskValues(red << 16 | green << 8 | blue, colour=True, lossy=lossy)
    if array.dtype.kind == "f":
        array = _whole(array, name)
    if array.size and (array.min() < 0 or array.max() > LARGEST):
        found = f"{array.min()}..{array.max()}"
        raise BadSample(name, f"mask values {found}; 0..{LARGEST} are possible")
    deep = deep or bool(array.size and array.max() > 255)
    return MaskValues(array.astype(np.int32), deep=deep, lossy=lossy)


def _whole(array: Raw, name: str) -> Raw:
    """Floating-point numbers as whole ones."""
    if not np.isfinite(array).all():
        raise BadSample(name, "a mask with numbers that are not finite")
    rounded = np.rint(array)
    if (rounded == array).all():
        return rounded.astype(np.int64)
    if array.min() >= 0 and array.max() <= 1:
        return np.rint(array * 255).astype(np.int64)
    reason = "a mask of floating-point numbers; whole numbers or shares of 0..1 are needed"
    raise BadSample(name, reason)


def _of_stack(stack: Stack, layout: Layout, page: int | str | None) -> MaskValues:
    deep = layout.kind in ("16", "32")

    def one(index: int) -> MaskValues:
        array = stack.page(index)
        array = array[..., 0] if array.shape[2] < 3 else array[..., :3]
        return _values(array, stack.name, deep=deep, lossy=False)

    if layout.pages == 1:
        return one(0)
    if isinstance(page, int):
        if page >= layout.pages:
            raise BadSample(stack.name, f"data.page={page}, of {layout.pages} pages from 0 on")
        return one(page)
    pages = [one(index) for index in range(layout.pages)]
    if page is not None:
        return MaskValues(np.maximum.reduce([it.values for it in pages]), deep=deep)
    names = [f"page {index} of {layout.pages}" for index in range(layout.pages)]
    try:
        return objects_of(pages, names, "page")
    except BadSample as bad:
        reason = f"{bad.problem}; data.page says which page is the mask"
        raise BadSample(stack.name, reason) from None


def objects_of(parts: Sequence[MaskValues], names: Sequence[str], apart: str) -> MaskValues:
    """One mask of several that hold an object each; later ones lie above earlier ones.

    Args:
        parts: of one size; each holds black and one value, or black and white that were blurred.
        names: of them, for messages.
        apart: ``page`` or ``file``.

    Raises:
        BadSample: one holds several objects, or has another size.
    """
    values = np.zeros_like(parts[0].values)
    for number, (part, name) in enumerate(zip(parts, names, strict=True), 1):
        if part.values.shape != values.shape:
            raise BadSample(name, "another size than the first")
        if sum(value > 0 for value in part.counts()) > 1:
            raise BadSample(name, "holds several values, so it is no object")
        values[part.values > 0] = number
    return MaskValues(values, deep=True, apart=apart)
