"""Which mask belongs to which image: layouts of folders, and what names have in common."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phasewise.data.images import IMAGE_SUFFIXES
from phasewise.data.listing import files_by_name, files_in, folder_names, is_text
from phasewise.errors import Problem, UserError

IMAGES, MASKS, INSTANCES = "images", "masks", "instances"
MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")

ENDINGS = ("_mask", "-mask", "_masks", "_label", "_labels", "_seg", "_instances", "_instance")
"""What the names of all masks may have behind the names of their images."""

MARKS = (*ENDINGS, "_cp_masks", "_segmentation", "_annotation", "_groundtruth", "_gt")
"""By these, masks are told from images where both lie in one folder."""

NUMBER = re.compile(r"[_-]\d+$")

Named = dict[str, list[Path]]


@dataclass
class Files:
    """Files by the name of their image.

    Attributes:
        images, masks, instances: by name; several paths of a name in ``masks`` are two masks of
            one name, unless ``apart``.
        apart: whether each file of ``masks`` holds one object.
        notes: what is told of it.
    """

    images: Named
    masks: Named
    instances: Named = field(default_factory=dict)
    apart: bool = False
    notes: list[Problem] = field(default_factory=list)


def find_files(root: Path) -> Files | None:
    """The images and masks of a folder.

    Looked for: the folders ``images`` and ``masks``, with or without folders of their own inside;
    a folder for each image with these two, the second with a file for each object (Data Science
    Bowl 2018); both in one folder, masks told by their names.

    Returns:
        None if there is nothing of the kind.

    Raises:
        UserError: no image in ``images``.
    """
    if (root / IMAGES).is_dir() and (root / MASKS).is_dir():
        return _two_folders(root)
    return _a_folder_an_image(root) or _one_folder(root, "") or _one_folder(root, IMAGES)


def _two_folders(root: Path) -> Files:
    notes: list[Problem] = []
    images = files_by_name(root, IMAGES, IMAGE_SUFFIXES, notes)
    masks = files_by_name(root, MASKS, MASK_SUFFIXES, notes)
    instances = files_by_name(root, INSTANCES, MASK_SUFFIXES, notes)
    if not images:
        images, masks = (_below(root / it) for it in (IMAGES, MASKS))
        instances = _below(root / INSTANCES)
    if not images:
        raise UserError(
            f"{root / IMAGES} holds no image ({', '.join(IMAGE_SUFFIXES)}). "
            f"Folders there: {folder_names(root / IMAGES)}"
        )
    found = Files(images, masks, _paired(images, instances, INSTANCES, notes)[0], notes=notes)
    found.masks, found.apart = _paired(images, masks, MASKS, notes)
    return found


def _below(folder: Path, depth: int = 8) -> Named:
    """The images in the folders of a folder, by their name with its folders."""
    found: Named = {}
    for place, folders, _ in os.walk(folder, followlinks=True) if folder.is_dir() else ():
        deep = len(Path(place).relative_to(folder).parts) >= depth
        folders[:] = [] if deep else sorted(it for it in folders if not it.startswith("."))
        for path in files_in(Path(place), MASK_SUFFIXES):
            if is_text(path.name):
                name = path.relative_to(folder).parent.joinpath(path.stem).as_posix()
                found.setdefault(unicodedata.normalize("NFC", name), []).append(path)
    return found


def _a_folder_an_image(root: Path) -> Files | None:
    homes = sorted(it for it in root.iterdir() if it.is_dir() and not it.name.startswith("."))
    homes = [it for it in homes if (it / IMAGES).is_dir() and (it / MASKS).is_dir()]
    images = {it.name: files_in(it / IMAGES, IMAGE_SUFFIXES) for it in homes}
    # Folders called train, val, test with many images each are another layout.
    if not homes or any(len(paths) != 1 for paths in images.values()):
        return None
    masks = {it.name: found for it in homes if (found := files_in(it / MASKS, MASK_SUFFIXES))}
    total = sum(map(len, masks.values()))
    reason = f"{total} files of {len(masks)} images: a folder an image, a mask an object"
    return Files(images, masks, apart=True, notes=[Problem(MASKS, reason)])


def _one_folder(root: Path, folder: str) -> Files | None:
    """Images and masks in one folder, or in the same folders of it."""
    if not (root / folder).is_dir():
        return None
    everything = files_by_name(root, folder or ".", MASK_SUFFIXES, [])
    everything = everything or _below(root / folder, depth=1)
    for mark in MARKS:
        masks = {
            name: paths for name, paths in everything.items() if _bare(name).endswith(mark)
        } or {name: paths for name, paths in everything.items() if _is_before(name, mark)}
        images = {name: paths for name, paths in everything.items() if name not in masks}
        notes: list[Problem] = []
        paired, apart = _paired(images, masks, MASKS, notes)
        if masks and paired is not masks and len(paired) > 1:
            notes.insert(0, Problem(folder or root.name, "images and masks lie in one folder"))
            return Files(images, paired, apart=apart, notes=notes)
    return None


def _bare(name: str) -> str:
    return NUMBER.sub("", name)


def _is_before(name: str, mark: str) -> bool:
    return name.rpartition("/")[2].startswith(f"{mark[1:]}_")


# --- names --------------------------------------------------------------------------------------


def _paired(images: Named, masks: Named, folder: str, notes: list[Problem]) -> tuple[Named, bool]:
    """Masks by the names of their images, and whether each file of several is an object.

    Where no mask is called as an image: all names may have the same before or behind the names of
    their images, or something of their own in the place of what those have; and numbers behind, of
    several masks of an image.
    """
    if not masks or any(name in images for name in masks):
        return masks, False
    for ending in ENDINGS:
        if all(name.endswith(ending) and name != ending for name in masks):
            bare = {name.removesuffix(ending): paths for name, paths in masks.items()}
            if not bare.keys() & images.keys():
                continue
            reason = f"all names end in {ending}; paired with the images without it"
            notes.append(Problem(folder, reason))
            return bare, False
    for before, behind in _patterns(images, masks):
        found = {name: _key(name, before, behind, images) for name in masks}
        if None not in found.values():
            return _grouped(masks, found, f"{before}NAME{behind}", folder, notes)
    return _replaced(images, masks, folder, notes) or (masks, False)


def _patterns(images: Named, masks: Named) -> list[tuple[str, str]]:
    """What may stand before and behind an image's name in those of masks, the least first."""
    found = {("", "")}
    last = {image.rpartition("/")[2] for image in images}
    for name in list(masks)[:4]:
        for text in {name.rpartition("/")[2], _bare(name.rpartition("/")[2])}:
            found |= {
                (text[:start], text[start + len(image) :])
                for image in last
                if (start := text.find(image)) >= 0
            }
    return sorted(found, key=lambda it: (len(it[0]) + len(it[1]), it))


def _key(name: str, before: str, behind: str, images: Named) -> str | None:
    """The image whose name is left without these, and without a number."""
    home, slash, last = name.rpartition("/")
    for text in (last, _bare(last)):
        if text.startswith(before) and text.endswith(behind):
            key = home + slash + text.removeprefix(before)[: len(text) - len(before) - len(behind)]
            if key in images:
                return key
    return None


def _grouped(
    masks: Named,
    keys: Mapping[str, str | None],
    pattern: str,
    folder: str,
    notes: list[Problem],
) -> tuple[Named, bool]:
    found: Named = {}
    for name, paths in masks.items():
        found.setdefault(str(keys[name]), []).extend(paths)
    apart = any(_bare(name) != name for name in masks) and len(found) < len(masks)
    if apart:
        reason = f"{len(masks)} files of {len(found)} images ({pattern}_NUMBER): a mask an object"
    else:
        reason = f"all names are {pattern}; paired with the images NAME"
    notes.append(Problem(folder, reason))
    return found, apart


def _replaced(
    images: Named, masks: Named, folder: str, notes: list[Problem]
) -> tuple[Named, bool] | None:
    """Masks that have something of their own in the place of what all images have."""
    image_before, image_behind = _common(images)
    mask_before, mask_behind = _common(masks)

    def middle(name: str, before: str, behind: str) -> str:
        home, slash, last = name.rpartition("/")
        return home + slash + last[len(before) : len(last) - len(behind)]

    by_middle = {middle(name, image_before, image_behind): name for name in images}
    found = {name: middle(name, mask_before, mask_behind) for name in masks}
    keys = set(found.values())
    if len(by_middle) < len(images) or len(keys) < len(masks) or not keys <= by_middle.keys():
        return None
    reason = (
        f"all names are {mask_before}NAME{mask_behind}, those of the images {image_before}NAME"
        f"{image_behind}; paired by NAME"
    )
    notes.append(Problem(folder, reason))
    return {by_middle[found[name]]: paths for name, paths in masks.items()}, False


def _common(names: Named) -> tuple[str, str]:
    """What all begin and end with, without the digits that numbers may share."""
    last = [name.rpartition("/")[2] for name in names]
    before = _common_start(last).rstrip("0123456789")
    behind = _common_start([name[len(before) :][::-1] for name in last])[::-1]
    return before, behind.lstrip("0123456789")


def _common_start(texts: list[str]) -> str:
    first, last = min(texts), max(texts)
    same = (a == b for a, b in zip(first, last, strict=False))
    return first[: next((i for i, equal in enumerate(same) if not equal), len(first))]
