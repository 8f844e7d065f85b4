"""Readers of localization data: PASCAL VOC, a CSV, COCO, and the heads of the Oxford pets.

They list images with one box each and check headers and boxes; nothing is decoded. Whatever is
wrong is noted per file, and nothing stops at the first.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from torchvision.datasets import OxfordIIITPet

from localization.samples import (
    EVERYTHING,
    OBJECT,
    Collector,
    Found,
    Listing,
    number,
    sound,
)
from phasewise.data.images import IMAGE_SUFFIXES, image_size
from phasewise.data.listing import by, check_folder, files_in
from phasewise.data.splits import SPLITS, split_rule
from phasewise.data.voc import ANNOTATIONS, LABELS, MASKS, read_voc
from phasewise.data.voc_xml import parse_annotation
from phasewise.errors import BadSample, Problem, UserError

COLUMNS = ("file", "xmin", "ymin", "xmax", "ymax")
EDGES = COLUMNS[1:]

PETS_FOLDER = "oxford-iiit-pet"
"""What torchvision calls the folder that it unpacks the archives in."""

PETS_IMAGES, PETS_BOXES = "images", "annotations/xmls"


# --- PASCAL VOC -----------------------------------------------------------------------------------


def read_voc_boxes(
    root: Path | str,
    *,
    pick: str,
    split_seed: int,
    coordinates: str = "auto",
    size_tag: str = "auto",
) -> Listing:
    """List and check a data set in PASCAL VOC layout, see `phasewise.data.voc.read_voc`.

    Masks are not looked at.

    Args:
        root: the folder that holds ``JPEGImages``.
        pick: of several objects take the ``largest``; or the ``only`` one, and several are a
            problem.
        split_seed: of the split by hashed name, where lists are missing.
        coordinates, size_tag: see `phasewise.data.voc_boxes.decide_boxes`.

    Raises:
        UserError: see `phasewise.data.voc.read_voc`.
    """
    found = read_voc(
        root,
        split_seed=split_seed,
        coordinates=coordinates,
        size_tag=size_tag,
        mask_values="none",
    )
    # What is said there of missing masks and annotations is about other tasks.
    warnings = [w for w in found.warnings if w.file not in (MASKS, ANNOTATIONS, LABELS)]
    collector = Collector(Path(root), [*found.problems], warnings)
    for sample in dict.fromkeys(sample for split in SPLITS for sample in found.samples[split]):
        with collector.noting():
            objects = [(item.class_name, item.box) for item in sample.objects or ()]
            collector.add(sample.name, sample.image, sample.size, objects, pick)
    names = {split: [sample.name for sample in found.samples[split]] for split in SPLITS}
    collector.rule = split_rule(found.lists, split_seed)
    return collector.listing(names, found.class_names)


# --- Oxford-IIIT pets -----------------------------------------------------------------------------


def find_pets(root: Path | str) -> Path | None:
    """``root`` or the folder in it that holds ``images`` and ``annotations/xmls``."""
    homes = (Path(root), Path(root) / PETS_FOLDER)
    return next(
        (h for h in homes if (h / PETS_IMAGES).is_dir() and (h / PETS_BOXES).is_dir()), None
    )


def fetch_pets(root: Path | str) -> None:
    """Download the Oxford-IIIT pets (800 MB) into ``root`` by torchvision.

    Raises:
        UserError: without internet or space, or because another thing of their name is there.
    """
    try:
        OxfordIIITPet(root, download=True)
    except Exception as error:  # whatever the network, the archive or the disk may raise
        raise UserError(
            f"The Oxford pets could not be downloaded into {root} ({type(error).__name__}: "
            f"{error}). Without internet, put {PETS_IMAGES} and {PETS_BOXES} there, or give their "
            "folder as data.root"
        ) from error


def read_pets(root: Path | str, *, split_seed: int) -> Listing:
    """List and check the Oxford-IIIT pets (Parkhi et al., "Cats and Dogs", 2012) as unpacked.

    About half of the images have the box of a head; the others are not used. All are split
    70/15/15 by hashed name, since the published test split has no boxes.

    Args:
        root: the folder that holds ``images`` and ``annotations/xmls``, or the one above it.
        split_seed: of the split.

    Raises:
        UserError: they are not there.
    """
    home = find_pets(root)
    if home is None:
        raise UserError(
            f"data.root={root} has no Oxford pets ({PETS_IMAGES} and {PETS_BOXES}, there or in "
            f"{PETS_FOLDER}); data.download=true fetches them there (800 MB)"
        )
    collector = Collector(Path(root))
    images = {path.stem: path for path in files_in(home / PETS_IMAGES, IMAGE_SUFFIXES)}
    annotations = files_in(home / PETS_BOXES, (".xml",))
    for path in annotations:
        with collector.noting():
            image = images.pop(path.stem, None)
            if image is None:
                raise BadSample(collector.name(path), f"no image in {PETS_IMAGES} is called so")
            size = image_size(image, collector.name(image))
            read = parse_annotation(path, collector.name(path), size=size)
            objects = [(item.class_name, item.box) for item in read.objects]
            collector.add(path.stem, image, size, objects, "largest")
    if images:
        count = f"{len(images)} of {len(images) + len(annotations)} images"
        reason = f"{count} have no box in {PETS_BOXES}: not used"
        collector.warnings.append(Problem(PETS_IMAGES, reason))
    names = [path.stem for path in annotations]
    return collector.listing(collector.split({EVERYTHING: names}, split_seed))


# --- CSV ------------------------------------------------------------------------------------------


def read_csv(root: Path | str, *, file: str, split_seed: int) -> Listing:
    """List and check the images that a CSV names, with a row and a box each.

    Columns, in any order and case: ``file``, relative to the root; ``xmin``, ``ymin``, ``xmax``
    and ``ymax`` in pixels counted from 0, the latter two where the box has ended (0, 0, width,
    height is the whole image); and if there, ``class``, and ``split`` with train, val or test.
    Separated by commas; or by semicolons, and then numbers may have a decimal comma. Without
    ``split``, 70/15/15 by hashed name; without val rows, val is 15 % of train.

    Args:
        root: the folder of the data.
        file: the CSV, relative to the root.
        split_seed: of the split by hashed name.

    Raises:
        UserError: no such file, not a table, or columns are missing.
    """
    collector = Collector(check_folder(root, f"the images and {file}"))
    found: dict[str, list[dict[str, str]]] = {}
    for row in _rows(collector, file):
        name = PurePosixPath(row["file"].replace("\\", "/")).as_posix()
        found.setdefault(unicodedata.normalize("NFC", name), []).append(row)
    lists: dict[str, list[str]] = {}
    for name, rows in found.items():
        with collector.noting():
            lists.setdefault(_csv_split(name, rows), []).append(name)
            path = collector.find(name)
            size = image_size(path, name)
            box = sound([number(rows[0][key], key, name) for key in EDGES], size, name)
            collector.add(name, path, size, [(rows[0].get("class") or OBJECT, box)])
    return collector.listing(collector.split(lists, split_seed))


def _rows(collector: Collector, file: str) -> Iterator[dict[str, str]]:
    """Cells by column, without space around them; lines without a file are noted."""
    text = _csv_text(collector.root, file)
    header = text.partition("\n")[0]
    separator = ";" if header.count(";") > header.count(",") else ","
    # Not pandas: it drops what is too long for the header, and all that follows an open quote.
    lines = csv.reader(
        StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    try:
        columns = [cell.strip().lower() for cell in next(lines, [])]
        _check_columns(file, columns)
        for line in lines:
            cells = [cell.strip() for cell in line]
            if not any(cells):  # spreadsheets append lines of separators
                continue
            row = dict.fromkeys(columns, "") | dict(zip(columns, cells, strict=False))
            if separator == ";":
                row |= {key: row[key].replace(",", ".") for key in EDGES}
            if any(cells[len(columns) :]) or not row["file"]:
                what = "more cells than the header" if row["file"] else "no file"
                collector.problems.append(Problem(f"{file}, line {lines.line_num}", what))
            else:
                yield row
    except csv.Error as error:
        raise UserError(f"{file}, line {lines.line_num}: not a table ({error})") from None


def _check_columns(file: str, columns: list[str]) -> None:
    missing = [column for column in COLUMNS if column not in columns]
    twice = [column for column, count in Counter(columns).items() if column and count > 1]
    if missing or twice:
        what = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(twice)} twice"
        needed = f"needed: {', '.join(COLUMNS)}; possible: class, split"
        raise UserError(f"{file} {what}. Its columns: {', '.join(columns)}; {needed}")


def _csv_text(root: Path, file: str) -> str:
    try:
        raw = (root / file).read_bytes()
        wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return raw.decode("utf-16" if wide else "utf-8-sig").lstrip()
    except UnicodeDecodeError:
        raise UserError(f"data.file={file} is not text in UTF-8; save it as CSV UTF-8") from None
    except OSError as error:
        others = ", ".join(sorted(path.name for path in root.glob("*.csv"))[:10]) or "none"
        reason = f"{error.strerror}. CSV files in data.root={root}: {others}"
        raise UserError(f"data.file={file} cannot be read: {reason}") from None


def _csv_split(name: str, rows: list[dict[str, str]]) -> str:
    if len(rows) > 1:
        raise BadSample(name, f"{len(rows)} rows; there must be one box per image")
    if "split" not in rows[0]:
        return EVERYTHING
    split = rows[0]["split"]
    if split.lower() not in SPLITS:
        raise BadSample(name, f"split {split[:40]!r} is none of {', '.join(SPLITS)}")
    return split.lower()


# --- COCO -----------------------------------------------------------------------------------------


def read_coco(root: Path | str, *, annotations: str, pick: str, split_seed: int) -> Listing:
    """List and check the images that one or several COCO files describe.

    One file is split 70/15/15 by hashed name. Several are a split each, by the last of the words
    train, val, test or trainval in their path; without val, as
    `phasewise.data.splits.resolve_splits`.
    Images lie below the root or, there, in ``images``, beside their JSON, or in a folder (also of
    ``images``) called as the split or as FOLDER in ``instances_FOLDER.json``. Crowds do not count.

    Args:
        root: the folder of the data.
        annotations: relative to the root: a file; a pattern such as ``*/_annotations.coco.json``;
            or a folder, of which ``instances_*.json`` are read, or without such all ``*.json``.
        pick: see `read_voc_boxes`.
        split_seed: of the split by hashed name.

    Raises:
        UserError: no such file, not COCO's JSON, or several files that tell no split.
    """
    collector = Collector(check_folder(root, f"the images and {annotations}"))
    lists: dict[str, dict[str, None]] = {}
    for split, path in _coco_files(collector, annotations):
        names = _coco_names(collector, path, split, pick)
        lists.setdefault(split, {}).update(dict.fromkeys(names))
    everything = {split: list(names) for split, names in lists.items()}
    return collector.listing(collector.split(everything, split_seed))


def _coco_files(collector: Collector, annotations: str) -> Iterator[tuple[str, Path]]:
    root, key = collector.root, f"data.annotations={annotations}"
    place = root / annotations
    if place.is_dir():
        found = sorted(place.glob("instances_*.json")) or sorted(place.glob("*.json"))
    elif place.is_file() or Path(annotations).is_absolute():
        found = [place] * place.is_file()
    else:
        found = sorted(root.glob(annotations))
    if not found:
        others = sorted(collector.name(path) for path in root.rglob("*.json"))[:10]
        there = f"JSON files there: {', '.join(others) or 'none'}"
        raise UserError(f"{key}: no such file in data.root={root}. {there}")
    for path in found:
        words = re.findall("(?<![a-z])(?:trainval|train|val|test)", collector.name(path).lower())
        if len(found) > 1 and not words:
            raise UserError(
                f"{key}: {len(found)} files, a split each, but {collector.name(path)} has none of "
                "train, val and test in its name"
            )
        yield (words[-1] if len(found) > 1 else EVERYTHING), path


def _coco_names(collector: Collector, path: Path, split: str, pick: str) -> list[str]:
    """Add the images of one file, and return their names, those of unusable ones too."""
    file = collector.name(path)
    images, annotations, categories = _coco_lists(path, file)
    classes = {_id(entry, "id"): str(entry.get("name") or OBJECT) for entry in categories}
    objects: dict[Hashable, list[dict[str, Any]]] = {}
    for entry in annotations:
        if not entry.get("iscrowd"):
            objects.setdefault(_id(entry, "image_id"), []).append(entry)
    places = [".", "images"]
    if path.is_relative_to(collector.root):
        places.append(collector.name(path.parent))
    for folder in (path.stem.removeprefix("instances_"), split):
        places += [folder, f"images/{folder}"]
    names: list[str] = []
    files = Counter(str(entry.get("file_name")) for entry in images)
    ids = Counter(_id(entry, "id") for entry in images)
    for entry in images:
        listed, key = entry.get("file_name"), _id(entry, "id")
        mine = objects.pop(key, [])
        with collector.noting():
            if not listed or not isinstance(listed, str) or key is None:
                raise BadSample(file, f"an image lacks file_name or id: {str(entry)[:60]}")
            if files[listed] > 1 or ids[key] > 1:
                raise BadSample(listed, f"{file} has its file_name or its id more than once")
            image = collector.find(listed.replace("\\", "/"), dict.fromkeys(places))
            names.append(collector.name(image))
            size = image_size(image, names[-1])
            found = [_coco_object(each, classes, size, names[-1]) for each in mine]
            collector.add(names[-1], image, size, found, pick)
            declared = (entry.get("width", size[0]), entry.get("height", size[1]))
            if declared != size:
                reason = f"{file} says {by(declared)}, the image is {by(size)}"
                collector.warnings.append(Problem(names[-1], reason))
    if objects:
        reason = f"annotations of images that it does not list: {sum(map(len, objects.values()))}"
        collector.warnings.append(Problem(file, reason))
    return names


def _coco_lists(path: Path, file: str) -> list[list[dict[str, Any]]]:
    """Images, annotations and categories."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {error}") from None
    content = content if isinstance(content, Mapping) else {}
    lists = [content.get("images"), content.get("annotations"), content.get("categories", [])]
    for entries in lists:
        if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
            raise UserError(f"{file} is not COCO's: lists of images and annotations are needed")
    return lists


def _coco_object(
    entry: Mapping[str, Any], classes: Mapping[Hashable, str], size: tuple[int, int], name: str
) -> Found:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise BadSample(name, f"annotation {entry.get('id')}: bbox must be [x, y, width, height]")
    x, y, width, height = (
        number(v, k, name) for v, k in zip(box, ("x", "y", "width", "height"), strict=True)
    )
    category = _id(entry, "category_id")
    if classes and category not in classes:
        raise BadSample(name, f"annotation {entry.get('id')}: unknown category {category}")
    return classes.get(category, OBJECT), sound((x, y, x + width, y + height), size, name)


def _id(entry: Mapping[str, Any], key: str) -> Hashable:
    value = entry.get(key)
    return value if isinstance(value, int | float | str) else None
