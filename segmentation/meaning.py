"""What the values of masks mean: decided once for all masks of a set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from phasewise.data.images import UINT8, VOID
from phasewise.errors import BadSample, UserError
from segmentation.masks import MaskValues

KINDS = ("auto", "binary", "instances")
"""What ``data.mask_values`` may be."""

MAX_OBJECTS = int(np.iinfo(np.int16).max)

FEW = 8
"""Class maps have at most so many values besides 0."""

HUES = 4
"""Black and white with more values than this between them were blurred."""

STRAY = 0.01
"""Other values in at most this share of the foreground, beside one, are strays."""

Instances = NDArray[np.int16]


@dataclass(frozen=True)
class Meaning:
    """What mask values mean.

    Attributes:
        kind: ``auto``, each mask by its own values; ``single``, the one value besides 0 is
            foreground; ``void``, 1 is foreground and 255 void; ``nonzero``, all but 0 is
            foreground, and 255 void where the only others are 0 and 1; ``instances``, every value
            but 0 is an object; ``values``, those of ``values`` are foreground; ``threshold``,
            those from ``cut`` on are.
        values: colours are ``red << 16 | green << 8 | blue``.
    """

    kind: str = "auto"
    values: tuple[int, ...] = ()
    cut: int = 0

    @property
    def key(self) -> Any:
        """What a store keeps: a word of `KINDS` where that says the same."""
        words = {"single": "auto", "nonzero": "binary", "auto": "auto", "instances": "instances"}
        if self.kind in words:
            return words[self.kind]
        return [self.kind, list(self.values), self.cut]


AUTO = Meaning()


class Look(NamedTuple):
    """What a mask holds.

    Attributes:
        counts: pixels of each value besides 0.
        ground: pixels of 0.
        pieces: of at most `FEW` values, how many separate pieces the median one has; else 0.
    """

    counts: dict[int, int]
    ground: int
    pieces: float
    deep: bool
    colour: bool
    lossy: bool
    apart: str


class Decision(NamedTuple):
    """What the masks of a set mean, and what to tell (empty: nothing)."""

    meaning: Meaning
    reason: str = ""


def look(mask: MaskValues) -> Look:
    """See what a mask holds."""
    found = mask.counts()
    ground = found.pop(0, 0)
    pieces = 0.0
    if 2 <= len(found) <= FEW and not mask.colour:
        pieces = median(_pieces(mask.values == value) for value in found)
    return Look(found, ground, pieces, mask.deep, mask.colour, mask.lossy, mask.apart)


def _pieces(region: NDArray[np.bool_]) -> int:
    """How many separate pieces a region has that are worth the name."""
    areas = np.bincount(label(region, connectivity=2).ravel())[1:]
    return int((areas >= max(4, 0.05 * areas.max(initial=0))).sum())


# --- one decision for a set ---------------------------------------------------------------------


def decide(looks: Sequence[Look], kind: str, foreground: Any = None) -> Decision:
    """What the masks of a set mean.

    Args:
        looks: at some of its masks, or at all.
        kind: one of `KINDS`, which somebody has said.
        foreground: ``threshold``, ``nonzero``, a value, several, or colours [red, green, blue],
            which somebody has said; None = nobody.

    Raises:
        UserError: it cannot be known; says what would.
    """
    if kind not in KINDS:
        raise UserError(f"data.mask_values={kind!r} is none of {', '.join(KINDS)}")
    filled = [one for one in looks if one.counts]
    if foreground is not None:
        return _as_said(filled, foreground)
    if kind == "instances" or not filled:
        return Decision(Meaning("instances" if kind == "instances" else _kind(kind)))
    if any(one.apart for one in filled):
        return _of_parts(filled)
    if any(one.colour for one in filled):
        return _of_colours(filled, kind)
    return _humps(filled) or _of_values(looks, filled, kind)


def _of_values(looks: Sequence[Look], filled: Sequence[Look], kind: str) -> Decision:
    if lossy := sum(one.lossy and len(one.counts) > 1 for one in filled):
        reason = "compression may have altered their values, and they are not black and white"
        raise UserError(f"{lossy} of {len(filled)} masks are JPEG or WebP: {reason}; use PNG")
    if kind == "binary":
        return Decision(Meaning("nonzero"))
    return _of_numbers(looks, filled)


def _of_parts(filled: Sequence[Look]) -> Decision:
    if filled[0].apart == "file":
        return Decision(Meaning("instances"))  # their names told so
    if not all(one.apart for one in filled):
        raise UserError(f"some masks have an object a page, others one page; {_WAYS}")
    reason = "have several pages, each of which is an object; data.page=max takes them as one mask"
    return Decision(Meaning("instances"), f"{len(filled)} {reason}")


_WAYS = "data.foreground=VALUE, [VALUE,VALUE], threshold or nonzero says what is foreground"


def _kind(kind: str) -> str:
    return "nonzero" if kind == "binary" else "single"


def _as_said(filled: Sequence[Look], foreground: Any) -> Decision:
    totals = _totals(filled)
    if foreground == "nonzero":
        return Decision(Meaning("nonzero"))
    if foreground == "threshold":
        if any(one.colour for one in filled):
            raise UserError("data.foreground=threshold: the masks are colours")
        top = max(totals, default=255)
        return Decision(Meaning("threshold", cut=(max(top, 1) + 1) // 2))
    listed = foreground if isinstance(foreground, list | tuple) else [foreground]
    values = tuple(it if isinstance(it, int) else it[0] << 16 | it[1] << 8 | it[2] for it in listed)
    if missing := [value for value in values if value and value not in totals]:
        colour = any(one.colour for one in filled)
        names = ", ".join(_name(value, colour) for value in missing)
        there = _names(totals, colour)
        raise UserError(f"data.foreground: no mask holds {names}; besides 0 they hold {there}")
    return Decision(Meaning("values", values))


def _of_colours(filled: Sequence[Look], kind: str) -> Decision:
    totals = _totals(filled)
    several = len(totals) > 1
    way = "data.foreground=[[RED,GREEN,BLUE]] says which is foreground"
    if not any(one.ground for one in filled):
        raise UserError(f"masks are colours without black: {_names(totals, True)}; {way}")
    if kind == "binary" or not several:
        what = "every colour but black" if several else _names(totals, True)
        return Decision(Meaning("nonzero"), f"colours; {what} is foreground, black is ground")
    others = "data.mask_values=binary takes all but black, instances each colour as an object"
    raise UserError(f"masks of {len(totals)} colours: {_names(totals, True)}; {way}; {others}")


def _humps(filled: Sequence[Look]) -> Decision | None:
    """Black and white that JPEG, scaling or smoothing has blurred."""
    totals = _totals(filled)
    full = 255 if max(totals) <= 255 else 65535
    low, high = full / 4, 3 * full / 4
    near_white = any(high <= value < max(totals) for value in totals)
    if len(totals) <= HUES or max(totals) < high or not near_white:
        return None
    middle = sum(count for value, count in totals.items() if low <= value < high)
    white = sum(count for value, count in totals.items() if value >= high)
    ground = sum(one.ground for one in filled)
    black = ground + sum(count for value, count in totals.items() if value < low)
    usual = sum(max(one.counts) >= high or max(one.counts) < low for one in filled)
    # numbers of objects are spread evenly, or begin at 1
    if 2 * middle > min(white, black) or usual < 0.8 * len(filled):
        return None
    cut = (full + 1) // 2
    reason = (
        f"black and white with {len(totals) - 1} values between, as JPEG or scaling leaves them; "
        f"{cut} and more is foreground; data.foreground=nonzero takes every value but 0"
    )
    return Decision(Meaning("threshold", cut=cut), reason)


def _of_numbers(looks: Sequence[Look], filled: Sequence[Look]) -> Decision:
    totals = _totals(filled)
    told = sum(len(one.counts) > 1 for one in filled)
    if not told:
        deep = any(one.deep and not {255, 65535} & one.counts.keys() for one in filled)
        return Decision(Meaning("instances" if deep else "single"))
    if set(totals) == {1, VOID} and not any(one.deep for one in filled):
        partly = sum(1 not in one.counts for one in filled)
        reason = f"{partly} hold 0 and 255 only; 1 is foreground and 255 void in all of them"
        return Decision(Meaning("void"), reason if partly else "")
    if strays := _strays(filled, totals):
        return strays
    if not any(one.ground for one in looks):
        raise UserError(
            f"no pixel of {len(looks)} masks is 0 (ground); they hold {_names(totals)}, as trimaps "
            "do; data.foreground=VALUE says which is foreground"
        )
    if _are_classes(filled, totals):
        raise UserError(
            f"masks hold the same values, {_names(totals)}, as maps of classes do; data.foreground="
            f"{max(totals)} or [{','.join(map(str, sorted(totals)))}] says which are foreground, "
            "data.mask_values=instances that each value is an object"
        )
    if _are_noise(filled):
        raise UserError(
            f"masks hold {len(totals)} values, most of them in a few pixels only, as JPEG or "
            f"scaling leaves them; {_WAYS}, data.mask_values=instances that each value is an object"
        )
    force = "data.mask_values=binary or instances decides for all"
    reason = f"{told} of {len(looks)} looked at are read as instance maps, by their values"
    return Decision(Meaning("instances"), f"{reason}; {force}")


def _strays(filled: Sequence[Look], totals: Counter[int]) -> Decision | None:
    """One value in nearly all masks, and a few pixels of others that are no numbers after it."""
    main, pixels = totals.most_common(1)[0]
    others = {value for value in totals if value != main}
    numbered = others <= set(range(1, len(totals) + 1)) and main <= len(totals)
    few = totals.total() - pixels <= STRAY * totals.total()
    common = sum(main in one.counts for one in filled) >= 0.9 * len(filled)
    if numbered or not (few and common):
        return None
    cut = (main + 1) // 2
    count = sum(bool(others & one.counts.keys()) for one in filled)
    number = totals.total() - pixels
    reason = (
        f"{count} of {len(filled)} hold other values than 0 and {main} ({_names(others)}) in "
        f"{number} pixels; {cut} and more is foreground; {_WAYS}"
    )
    return Decision(Meaning("threshold", cut=cut), reason)


def _are_classes(filled: Sequence[Look], totals: Counter[int]) -> bool:
    """Whether few values come back in mask after mask, as numbers of objects do not."""
    if len(totals) > FEW or len(filled) < 3 or any(one.deep for one in filled):
        return False
    several = [one for one in filled if len(one.counts) > 1]
    shared = all(
        sum(value in one.counts for one in filled) >= 0.25 * len(filled) for value in totals
    )
    if sorted(totals) != list(range(1, len(totals) + 1)):
        return shared
    return shared and median(one.pieces for one in several) > 1


def _are_noise(filled: Sequence[Look]) -> bool:
    """Whether most values of most masks are too small for objects."""
    many = [one.counts.values() for one in filled if len(one.counts) > FEW]
    small = sum(2 * sum(count < 4 for count in counts) > len(counts) for counts in many)
    return 2 * small > len(filled)


def _totals(filled: Sequence[Look]) -> Counter[int]:
    totals: Counter[int] = Counter()
    for one in filled:
        totals.update(one.counts)
    return totals


def _names(values: Any, colour: bool = False) -> str:
    shown = sorted(values)
    listed = ", ".join(_name(value, colour) for value in shown[:FEW])
    return listed + (", ..." if len(shown) > FEW else "")


def _name(value: int, colour: bool) -> str:
    return f"[{value >> 16},{value >> 8 & 255},{value & 255}]" if colour else f"{value}"


# --- its use on a mask --------------------------------------------------------------------------


def binary_mask(mask: MaskValues, meaning: Meaning, name: str) -> tuple[UINT8, Instances | None]:
    """A mask as foreground and ground, and as objects if it tells them apart.

    Args:
        mask: decoded.
        meaning: of its values.
        name: how messages call it.

    Returns:
        Mask uint8 (H, W) of 0, 1 and 255 = void; instances int16 (H, W), 0 = none, objects
        numbered from 1 in the order of their values; None where the mask does not tell.

    Raises:
        BadSample: it holds other values than the meaning knows; too many objects.
    """
    values = mask.values
    present = np.array([value for value in mask.counts() if value], np.int32)
    if meaning.kind == "values":
        return np.isin(values, meaning.values).astype(np.uint8), None
    if meaning.kind == "threshold":
        return (values >= meaning.cut).astype(np.uint8), None
    if meaning.kind == "instances":
        return (values > 0).astype(np.uint8), _numbered(values, present, name)
    if meaning.kind == "auto":
        _refuse_inexact(mask, present, name)
        if _tells_objects(present, mask.deep):
            _refuse_soft_edges(values, present, name)
            return (values > 0).astype(np.uint8), _numbered(values, present, name)
    elif meaning.kind == "single" and (len(present) > 1 or (mask.colour and len(present))):
        holds = _names(present.tolist(), mask.colour)
        reason = f"holds {holds}; the others that were looked at hold one value besides 0"
        raise BadSample(name, f"{reason}; {_WAYS}, data.mask_values=instances objects")
    elif meaning.kind == "void" and not set(present.tolist()) <= {1, VOID}:
        holds = _names(present.tolist(), mask.colour)
        raise BadSample(name, f"holds {holds}; others hold 1 (foreground) and 255 (void); {_WAYS}")
    found = (values > 0).astype(np.uint8)
    if meaning.kind == "void" or (not mask.deep and present.tolist() == [1, VOID]):
        found[values == VOID] = VOID
    return found, None


def _refuse_inexact(mask: MaskValues, present: NDArray[np.int32], name: str) -> None:
    if mask.lossy:
        kind = "a JPEG or WebP mask"
        raise BadSample(name, f"{kind}: compression may have altered its values; use PNG")
    if mask.colour and len(present):
        raise BadSample(name, "a colour mask; data.foreground=[[RED,GREEN,BLUE]] says what it is")


def _tells_objects(present: NDArray[np.int32], deep: bool) -> bool:
    """Whether the values that occur besides 0 are numbers of objects."""
    if len(present) > 1:
        return deep or present.tolist() != [1, VOID]
    return deep and len(present) == 1 and present[0] not in (255, 65535)


def _refuse_soft_edges(values: NDArray[np.int32], present: NDArray[np.int32], name: str) -> None:
    """Greys between black and white come from smooth scaling; they are no objects."""
    white, all_of_them = int((values == 255).sum()), int((values > 0).sum())
    if len(present) > 2 and present[-1] == 255 and 2 * white > all_of_them:
        reason = "its edges seem smoothed by scaling; save it with hard edges"
        raise BadSample(name, f"{len(present)} values, most of them 255: {reason}, or {_WAYS}")


def _numbered(values: NDArray[np.int32], present: NDArray[np.int32], name: str) -> Instances:
    if len(present) > MAX_OBJECTS:
        raise BadSample(name, f"{len(present):,} objects; {MAX_OBJECTS:,} are possible")
    number = np.zeros(int(values.max(initial=0)) + 1, np.int16)
    number[present] = np.arange(1, len(present) + 1)
    return number[values]
