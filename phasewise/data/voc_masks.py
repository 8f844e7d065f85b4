"""What the masks of a set in PASCAL VOC layout mean: decided once for all of them.

Published masks hold class indices, and 255 is void. Tools also write 0 and 255 for one class, or
colours (CVAT, datumaro), and which value is which class is then said elsewhere, or nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from phasewise.data.images import UINT8, VOID, image_header, mask_size, read_image, read_mask
from phasewise.data.opening import opened
from phasewise.data.voc_labels import LABELS, Colour, Labels, voc_colours
from phasewise.data.voc_xml import BACKGROUND
from phasewise.errors import BadSample, Problem, UserError

KINDS = ("auto", "indices", "binary", "none")
"""What ``data.mask_values`` may be."""

COLOURED = ("RGB", "RGBA")
"""Modes of masks in colour."""

FOREGROUND = "foreground"
"""The class of masks of one class that nothing names."""

LOOKED_AT = 8
"""So many masks, spread over the set, tell how all of its colours are meant."""

JPEG = (
    "a JPEG mask: compression has altered its class indices; save it as PNG from where it was "
    "drawn, or leave masks out with data.mask_values=none"
)

SHOWN = 5
"""So many classes, values or colours a message names."""


class MaskFile(NamedTuple):
    """A mask: its file, how messages call it, and whether it is in colour."""

    path: Path
    name: str
    coloured: bool


@dataclass(frozen=True)
class MaskReading:
    """How the masks of a set are read; by default as published.

    Attributes:
        values: pairs of a mask value and what it becomes; others stay.
        coloured: whether there are masks in colour.
        colours: pairs of a colour and its class index (or `VOID`); empty: the channels of masks in
            colour are equal, and are the values.
        palettes: whether palettes count by their colours too.
    """

    values: tuple[tuple[int, int], ...] = ()
    coloured: bool = False
    colours: tuple[tuple[Colour, int], ...] = ()
    palettes: bool = False

    @property
    def key(self) -> list[object] | None:
        """JSON-able; None as published."""
        if self == MaskReading():
            return None
        return [self.values, self.coloured, self.colours, self.palettes]

    def read(self, path: Path, name: str, num_classes: int) -> UINT8:
        """Class indices of shape (height, width), upright; 255 is void.

        Raises:
            BadSample: it cannot be decoded, or holds something else.
        """
        mode = image_header(path, name).mode if self.coloured or self.palettes else ""
        if self.colours and (mode in COLOURED or (self.palettes and mode == "P")):
            return self._by_colour(read_image(path, name), name)
        labels = _grey(path, name) if mode in COLOURED else read_mask(path, name)
        if self.values:
            table = np.arange(256, dtype=np.uint8)
            for value, index in self.values:
                table[value] = index
            labels = table[labels]
        check_mask_values(labels, num_classes, name)
        return labels

    def _by_colour(self, image: UINT8, name: str) -> UINT8:
        codes = np.array([_code(colour) for colour, _ in self.colours])
        indices = np.array([index for _, index in self.colours], np.uint8)
        order = codes.argsort()
        codes, indices = codes[order], indices[order]
        found = _codes(image)
        places = np.searchsorted(codes, found).clip(max=len(codes) - 1)
        unknown = found[codes[places] != found]
        if len(unknown):
            shown = ", ".join(_shown(code) for code in np.unique(unknown)[:SHOWN])
            raise BadSample(name, f"{len(unknown)} pixels of colours of no class: {shown}")
        return indices[places]


def check_mask_values(mask: UINT8, num_classes: int, name: str) -> None:
    """Raise ``BadSample`` unless every value is a class index below ``num_classes`` or 255."""
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    wrong = [int(value) for value in values if value >= num_classes and value != VOID]
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        allowed = f"a class index 0..{num_classes - 1} or {VOID} (void)"
        raise BadSample(name, f"mask values {shown} where each must be {allowed}")


def mask_header(path: Path, name: str) -> tuple[tuple[int, int], bool]:
    """Width and height of an upright mask, and whether it is in colour.

    Raises:
        BadSample: it can hold neither class indices nor exact colours.
    """
    try:
        return mask_size(path, name), False
    except BadSample:
        header = image_header(path, name)
        if header.format in ("JPEG", "MPO"):
            raise BadSample(name, JPEG) from None
        if header.mode == "RGBA":
            _check_opaque(path, name)
        if header.mode in COLOURED:
            return header.size, True
        raise


@dataclass
class MaskDecision:
    """How masks are read, and the classes where masks name them.

    Attributes:
        reading: how.
        class_names: background first.
        notes: what was decided.
    """

    reading: MaskReading
    class_names: list[str]
    notes: list[Problem] = field(default_factory=list)


@dataclass
class _Masks:
    """What is known when it is decided."""

    root: Path
    folder: str
    files: Sequence[MaskFile]
    labels: Labels | None
    in_boxes: list[str]
    kind: str
    notes: list[Problem] = field(default_factory=list)

    def note(self, reason: str) -> None:
        self.notes.append(Problem(self.folder, reason))

    def refuse(self, reason: str) -> UserError:
        return UserError(f"data.root={self.root}: {self.folder}: {reason}")


def decide_masks(
    root: Path,
    folder: str,
    files: Sequence[MaskFile],
    *,
    labels: Labels | None,
    in_boxes: Collection[str],
    kind: str = "auto",
) -> MaskDecision:
    """How to read the masks of a set.

    Args:
        root: ``data.root``.
        folder: of the masks, as messages call it.
        files: all of them that can be opened.
        labels: the classes, if a file or ``data.colors`` names them.
        in_boxes: names of classes that boxes have.
        kind: one of `KINDS`; with ``none`` there are no files.

    Raises:
        UserError: they can be read in several ways, or in none; says what decides.
    """
    masks = _Masks(root, folder, files, labels, sorted(in_boxes), kind)
    known = labels.names if labels else [BACKGROUND, *masks.in_boxes]
    if not files:
        if len(known) < 2:
            reason = f"its annotations name 0 classes, and it has no {LABELS}"
            raise UserError(f"data.root={root}: {reason} (one class name per line)")
        return MaskDecision(MaskReading(), known)
    colours, palettes = _colours(masks, known)
    values: Mapping[int, int] = labels.values if labels else {}
    by_value = [it for it in files if not (colours and (it.coloured or palettes))]
    if by_value:
        known, values = _values(masks, by_value, known, values)
    coloured = any(it.coloured for it in files)
    reading = MaskReading(tuple(values.items()), coloured, tuple(colours.items()), palettes)
    return MaskDecision(reading, known, masks.notes)


def _colours(masks: _Masks, known: list[str]) -> tuple[Mapping[Colour, int], bool]:
    """Class index by colour where masks are read so, and whether palettes are."""
    labels, files = masks.labels, masks.files
    coloured = [it for it in files if it.coloured]
    named = labels.colours if labels else {}
    if not coloured:
        palettes = [it for it in _some(files) if image_header(it.path).mode == "P"]
        found = _colours_in(palettes)
        if not named or not found or not all(_in(code, named) for code in found):
            return {}, False
        return named, True
    if named:
        return named, False
    found = _colours_in(_some(coloured))
    if all(_is_grey(code) for code in found):
        masks.note(f"{len(coloured)} masks in colour have equal channels: read as values")
        return {}, False
    published = voc_colours(len(known))
    if len(known) > 1 and all(_in(code, published) for code in found):
        masks.note(f"{len(coloured)} masks in colour: read as PASCAL VOC's colours of the classes")
        return published, False
    if len(coloured) < len(files) / 2:
        return {}, False  # the odd ones, each told when it is decoded
    shown = ", ".join(_shown(code) for code in sorted(found)[: SHOWN + 1])
    example = f"data.colors='{{NAME: [{_shown(max(found)).strip('()')}]}}'"
    raise masks.refuse(
        f"{len(coloured)} masks are in colour, and nothing says which colour is which class. "
        f"Colours: {shown}{', ...' if len(found) > SHOWN + 1 else ''}.\n"
        f"{example} with all classes says it, or a labelmap.txt with lines NAME:R,G,B::"
    )


def _values(
    masks: _Masks, files: list[MaskFile], known: list[str], values: Mapping[int, int]
) -> tuple[list[str], Mapping[int, int]]:
    """The classes, and what mask values become."""
    one_class = [BACKGROUND, FOREGROUND] if len(known) < 2 else known
    way = "data.mask_values=none leaves masks out, for a network that finds boxes only"
    if masks.kind == "binary":
        if len(one_class) > 2:
            raise masks.refuse(
                f"data.mask_values=binary is for one class, and there are {len(known) - 1}"
            )
        return one_class, dict.fromkeys(range(1, 256), 1)
    if masks.kind == "auto" and not values and not _has_index(files):
        if not any(VOID in _values_in(it) for it in files):
            raise masks.refuse(f"all {len(files)} masks are background only.\n{way}")
        if len(one_class) > 2:
            raise masks.refuse(
                f"all {len(files)} masks hold 0 and {VOID} only, which is void beside class "
                f"indices, and there are {len(known) - 1} classes ({_listed(known[1:])}).\n"
                f"{way}; data.mask_values=indices takes {VOID} as void all the same"
            )
        masks.note(
            f"all {len(files)} masks hold 0 and {VOID} only: {VOID} is {one_class[1]}, not void; "
            "data.mask_values=indices says otherwise"
        )
        return one_class, {VOID: 1}
    if len(known) < 2:
        last = max((v for it in files for v in _values_in(it) if v != VOID), default=0)
        if not last:
            raise masks.refuse(f"no mask holds a class index.\n{way}")
        known = [BACKGROUND, *(f"class_{index}" for index in range(1, last + 1))]
        masks.note(f"nothing names the classes: mask values are {_listed(known[1:])}; {LABELS} may")
    return known, values


def _has_index(files: Sequence[MaskFile]) -> bool:
    """Whether a mask holds something between 0 and 255; seldom more than one is looked at."""
    return any(0 < value < VOID for it in files for value in _values_in(it))


# --- What masks hold ------------------------------------------------------------------------------


def _values_in(it: MaskFile) -> frozenset[int]:
    stat = it.path.stat()
    return _cached_values(it.path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=100_000)
def _cached_values(path: Path, changed: int, size: int) -> frozenset[int]:
    """The values of a mask; none of one that cannot be decoded, which is told when it is."""
    try:
        coloured = image_header(path).mode in COLOURED
        labels = _grey(path, str(path)) if coloured else read_mask(path)
    except BadSample:
        return frozenset()
    return frozenset(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist())


def _grey(path: Path, name: str) -> UINT8:
    """The channel of a mask whose three are equal."""
    image = read_image(path, name)
    if (image != image[..., :1]).any():
        raise BadSample(name, "a mask in colour, where others hold class indices")
    return image[..., 0]


def _check_opaque(path: Path, name: str) -> None:
    """See that a mask has no transparent pixel: images are shown over white, and masks are not.

    Raises:
        BadSample: it has, or cannot be decoded.
    """
    with opened(path, name) as image:
        if np.asarray(image.getchannel("A")).min() < 255:
            raise BadSample(name, "a mask with transparent pixels; save it without transparency")


def _some(files: Sequence[MaskFile]) -> list[MaskFile]:
    """At most `LOOKED_AT`, spread over all."""
    step = max(1, len(files) // LOOKED_AT)
    return list(files[::step])[:LOOKED_AT]


def _colours_in(files: Sequence[MaskFile]) -> set[int]:
    found: set[int] = set()
    for it in files:
        try:
            found |= set(np.unique(_codes(read_image(it.path, it.name))).tolist())
        except BadSample:
            continue  # told when it is decoded
    return found


def _codes(image: UINT8) -> npt.NDArray[np.int64]:
    return image.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _code(colour: Colour) -> int:
    return (colour[0] << 16) + (colour[1] << 8) + colour[2]


def _colour(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def _in(code: int, colours: Mapping[Colour, int]) -> bool:
    return _colour(code) in colours


def _is_grey(code: int) -> bool:
    red, green, blue = _colour(code)
    return red == green == blue


def _shown(code: int) -> str:
    return "({}, {}, {})".format(*_colour(int(code)))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
