"""Where images, annotations and masks of a VOC-like set lie: as published, or as tools leave them.

LabelImg writes XML beside the images, or in a folder beside theirs; Roboflow exports a folder per
split with images and XML in it; labelme puts masks into ``SegmentationClassPNG``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from phasewise.data.images import IMAGE_SUFFIXES
from phasewise.data.listing import check_folder, files_by_name, find_layouts, no_layout
from phasewise.data.splits import Lists, read_lists
from phasewise.errors import Problem

IMAGES, ANNOTATIONS, MASKS = "JPEGImages", "Annotations", "SegmentationClass"
LIST_FOLDERS = ("ImageSets/Main", "ImageSets/Segmentation", "ImageSets")

IMAGE_FOLDERS = ("images", "jpegimages", "image", "imgs", "img")
ANNOTATION_FOLDERS = ("annotations", "annotation", "annots", "xmls", "xml", "labels", "label")
MASK_FOLDERS = (MASKS.lower(), f"{MASKS}png".lower(), "masks", "mask")
"""Names of folders in lower case, the first that is there."""

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The list that a folder of images stands for."""

XML = (".xml",)


class Places(NamedTuple):
    """Folders relative to the root; ``annotations`` and ``masks`` are None where there are none."""

    images: str
    annotations: str | None
    masks: str | None


@dataclass
class VocFiles:
    """The files of a set by sample name, and its lists.

    Attributes:
        folders: how messages call where images, annotations and masks lie.
        images, annotations, masks: the first file of each name.
        lists: those that were read; or folders per split.
        warnings: what is odd.
    """

    folders: Places
    images: dict[str, Path] = field(default_factory=dict)
    annotations: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    lists: Lists = field(default_factory=Lists)
    warnings: list[Problem] = field(default_factory=list)


def find_files(root: Path) -> VocFiles:
    """The files of the set in a folder.

    Raises:
        UserError: it holds none, or nothing about its images; says what is there instead.
    """
    looked_for = f"{IMAGES} with {ANNOTATIONS} or {MASKS} beside it (PASCAL VOC layout)"
    check_folder(root, looked_for)
    published = _published(root)
    parts = [("", published)] if published else _parts(root)
    if not parts:
        raise _no_layout(root, looked_for)
    found = VocFiles(parts[0][1])
    for split, places in parts:
        before = set(found.images)
        _collect(root, places, f"{split}/" if split else "", found)
        if split:
            names = [name for name in found.images if name not in before]
            file = f"{split}/"
            key = SPLIT_FOLDERS[split.lower()]
            found.lists.names.setdefault(key, []).extend(names)
            found.lists.files.append(file)
            found.lists.listed_in |= dict.fromkeys(names, file)
    if published is None:
        found.warnings.insert(0, Problem("data.root", _told(parts)))
    if not parts[0][0]:
        folders = LIST_FOLDERS if published else (*LIST_FOLDERS, ".")
        _read_lists(root, folders, found)
    return found


def _published(root: Path) -> Places | None:
    """The layout of PASCAL VOC, or labelme's."""
    if not (root / IMAGES).is_dir():
        return None
    annotations = ANNOTATIONS if (root / ANNOTATIONS).is_dir() else None
    masks = MASKS if (root / MASKS).is_dir() else None
    beside = f"{MASKS}PNG"
    if (root / beside).is_dir() and not _holds(root / MASKS, IMAGE_SUFFIXES):
        masks = beside
    return Places(IMAGES, annotations, masks) if annotations or masks else None


def _parts(root: Path) -> list[tuple[str, Places]]:
    """Places by folder of a split; by ``""`` where the root has no such folders."""
    whole = _places(root, "")
    if whole is not None:
        return [("", whole)]
    folders = [path.name for path in _folders(root) if path.name.lower() in SPLIT_FOLDERS]
    found = [(name, _places(root, name)) for name in folders]
    return [(name, places) for name, places in found if places is not None]


def _places(root: Path, base: str) -> Places | None:
    """What lies in a folder, in whichever folders of its own."""
    place = root / base
    images = base or "." if _holds(place, IMAGE_SUFFIXES) else _named(root, base, IMAGE_FOLDERS)
    if images is None:
        return None
    candidates = [images, base or ".", _named(root, base, ANNOTATION_FOLDERS)]
    nested = _named(root, candidates[-1], ("xmls",)) if candidates[-1] else None
    annotations = next(
        (it for it in [*candidates, nested] if it is not None and _holds(root / it, XML)), None
    )
    masks = _named(root, base, MASK_FOLDERS)
    return Places(images, annotations, masks) if annotations or masks else None


def _named(root: Path, base: str, names: Sequence[str]) -> str | None:
    """The folder in ``base`` that is called by the first of these names, in any case."""
    place = root / base
    found = {path.name.lower(): path.name for path in _folders(place)}
    name = next((found[name] for name in names if name in found), None)
    return name and (PurePosixPath(base) / name).as_posix()


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _holds(place: Path, suffixes: Sequence[str]) -> bool:
    """Whether a file of such a name lies in it; the first one decides."""
    files = place.iterdir() if place.is_dir() else ()
    return any(it.suffix.lower() in suffixes and not it.name.startswith(".") for it in files)


def _collect(root: Path, places: Places, prefix: str, found: VocFiles) -> None:
    images = _files(root, places.images, IMAGE_SUFFIXES, found.warnings)
    for folder, suffixes, into in (
        (places.annotations, XML, found.annotations),
        (places.masks, IMAGE_SUFFIXES, found.masks),
    ):
        if folder is not None:
            for name, path in _files(root, folder, suffixes, found.warnings).items():
                into.setdefault(prefix + _without_suffix(name, images), path)
    found.images |= {prefix + name: path for name, path in images.items()}


def _files(
    root: Path, folder: str, suffixes: Sequence[str], warnings: list[Problem]
) -> dict[str, Path]:
    """The first file of each name."""
    found = files_by_name(root, folder, suffixes, warnings)
    for first, *others in found.values():
        warnings += [
            Problem(path.relative_to(root).as_posix(), f"ignored: {first.name} is used")
            for path in others
        ]
    return {name: paths[0] for name, paths in found.items()}


def _without_suffix(name: str, images: dict[str, Path]) -> str:
    """The image's name, of files that are called by its whole name: ``a.jpg.xml``."""
    if name in images:
        return name
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES and path.stem in images else name


def _read_lists(root: Path, folders: Sequence[str], found: VocFiles) -> None:
    """Lists of names; those with an extension, or of paths, are taken as their file's."""
    changed: list[str] = []

    def resolve(entry: str) -> str:
        if entry in found.images:
            return entry
        file = PureWindowsPath(entry).name  # splits at both kinds of slash
        name = _without_suffix(file, found.images)
        if name not in found.images or ".." in PureWindowsPath(entry).parts:
            return entry
        changed.append(entry)
        return name

    found.lists = read_lists(root, folders, resolve)
    if changed:
        reason = f"{len(changed)} entries have an extension or a folder: taken as names of images"
        found.warnings.append(Problem(found.lists.files[0], f"{reason} ({changed[0]})"))


def _told(parts: Sequence[tuple[str, Places]]) -> str:
    split, places = parts[0]
    where = [f"images in {places.images}"]
    where += [f"XML in {places.annotations}"] if places.annotations else []
    where += [f"masks in {places.masks}"] if places.masks else []
    text = f"no {IMAGES}: read as " + ", ".join(where)
    if split:
        text += f", and so on for {', '.join(name for name, _ in parts)}"
    return text


def _no_layout(root: Path, looked_for: str) -> Exception:
    images = (root / IMAGES).is_dir()
    lacks = f"{ANNOTATIONS} and no {MASKS}" if images else IMAGES
    advice = (
        f"Move or link the images to {IMAGES}, their XML files to {ANNOTATIONS}, masks to {MASKS}."
    )
    found = [] if images else find_layouts(root, IMAGES) or list(_nearby(root))
    return no_layout(root, lacks, looked_for, found, *([] if found else [advice]))


def _nearby(root: Path) -> Iterator[Path]:
    """Folders in the root that could be read."""
    for path in _folders(root):
        if _parts(path):
            yield path
