"""Readers of localization data: PASCAL VOC, a table, COCO, YOLO, and the heads of the Oxford pets.

They list images with one box each and check headers and boxes; nothing is decoded. Whatever is
wrong is noted per file, and nothing stops at the first.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from torchvision.datasets import OxfordIIITPet

from localization.samples import Collector, Listing
from localization.tables import Table, read_table
from phasewise.data.annotated import (
    EVERYTHING,
    OBJECT,
    AnnotatedObject,
    Annotations,
    annotated,
    last_parts,
    sound,
    split_files,
    uncollected,
)
from phasewise.data.coco import read_coco as read_coco_annotations
from phasewise.data.frame import Frame
from phasewise.data.groups import AUTO, NEAR, NONE
from phasewise.data.held_out import AS_LISTED, HeldOut
from phasewise.data.images import IMAGE_SUFFIXES, image_size
from phasewise.data.listing import check_folder, files_in
from phasewise.data.splits import SPLITS
from phasewise.data.voc import ANNOTATIONS, LABELS, MASKS, read_voc
from phasewise.data.voc_xml import parse_annotation
from phasewise.data.yolo import read_yolo as read_yolo_annotations
from phasewise.errors import BadSample, Problem, UserError

PETS_FOLDER = "oxford-iiit-pet"
"""What torchvision calls the folder that it unpacks the archives in."""

PETS_IMAGES, PETS_BOXES = "images", "annotations/xmls"


# --- PASCAL VOC -----------------------------------------------------------------------------------


def read_voc_boxes(
    root: Path | str,
    *,
    pick: str,
    split_seed: int,
    group_by: str = AUTO,
    held_out: HeldOut = AS_LISTED,
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
        group_by: see `phasewise.data.groups.find_groups`.
        held_out: what validates.
        coordinates, size_tag: see `phasewise.data.voc_boxes.decide_boxes`.

    Raises:
        UserError: see `phasewise.data.voc.read_voc`.
    """
    found = read_voc(
        root,
        split_seed=split_seed,
        group_by=group_by,
        held_out=held_out,
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
    collector.rule = held_out.rule(found.lists, split_seed)
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


def read_pets(
    root: Path | str,
    *,
    split_seed: int,
    group_by: str = AUTO,
    held_out: HeldOut = AS_LISTED,
) -> Listing:
    """List and check the Oxford-IIIT pets (Parkhi et al., "Cats and Dogs", 2012) as unpacked.

    About half of the images have the box of a head; the others are not used. All are split
    70/15/15 by hashed name, since the published test split has no boxes.

    Args:
        root: the folder that holds ``images`` and ``annotations/xmls``, or the one above it.
        split_seed: of the split.
        group_by: see `phasewise.data.groups.find_groups`.
        held_out: what validates.

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
    return collector.listing(
        collector.split({EVERYTHING: names}, split_seed, group_by, held_out=held_out)
    )


# --- tables ---------------------------------------------------------------------------------------

TABLE = "boxes.csv"
"""What is looked for where nothing is typed; without it `TABLES_ELSEWHERE`."""

SIDES = ("width", "height", "image_width", "image_height", "area")
"""Columns of a table that say no more than the others."""

TABLES_ELSEWHERE = ("*/_annotations.csv", "_annotations.csv")
"""Where Roboflow puts its tables."""


@uncollected()
def read_csv(
    root: Path | str,
    *,
    file: str,
    pick: str = "largest",
    split_seed: int,
    group_by: str = AUTO,
    held_out: HeldOut = AS_LISTED,
) -> Listing:
    """List and check the images that a table names, with a row for each box.

    Columns, in any order and case: ``file``, relative to the root; ``xmin``, ``ymin``, ``xmax``
    and ``ymax`` in pixels counted from 0, the latter two where the box has ended (0, 0, width,
    height is the whole image); and if there, ``class``, ``width`` and ``height`` of the image, and
    ``split`` with train, val or test. Separated by commas or tabs; or by semicolons, and then
    numbers may have a decimal comma. Without ``split``, 70/15/15 by hashed name; without val rows,
    val is 15 % of train. A row without numbers is an image without an object.

    Other tools' tables are read as they are, see `localization.tables`, and boxes in fractions of
    the sides where no number of the table is above 1. Their images may lie in ``images``, beside
    the table, or in a folder called as the split. Several tables are a split each, as in
    `phasewise.data.coco.read_coco`.

    Args:
        root: the folder of the data.
        file: the table, relative to the root; a pattern for several.
        pick: see `read_voc_boxes`.
        split_seed: of the split by hashed name.
        group_by: see `phasewise.data.groups.find_groups`; it may name a column.
        held_out: what validates.

    Raises:
        UserError: no such file, not a table, or columns are missing.
    """
    found = Annotations(check_folder(root, f"the images and {file}"))
    files = _tables(found, file)
    columns: dict[str, dict[str, str]] = {}
    for path, split in files.items():
        _read_table(found, path, split, columns if group_by not in (AUTO, NEAR, NONE) else None)
    names = list(map(str, files))
    found.finish(names[0] if len(names) == 1 else file)
    return _listing(found, pick, split_seed, group_by, held_out, columns)


def _tables(found: Annotations, file: str) -> dict[str, str]:
    """The split by table, relative to the root."""
    root = found.root
    if set("*?[") & set(file):
        return {found.name(p): it for p, it in split_files(root, file, "data.file", ".csv").items()}
    if file == TABLE and not (root / file).exists():
        for pattern in TABLES_ELSEWHERE:
            if any(root.glob(pattern)):
                files = _tables(found, pattern) if "*" in pattern else {pattern: EVERYTHING}
                reason = f"no such file; read instead: {', '.join(files)}"
                found.warnings.append(Problem(f"data.file={file}", reason))
                return files
    return {file: EVERYTHING}


def _read_table(
    found: Annotations, file: str, split: str, columns: dict[str, dict[str, str]] | None
) -> None:
    """Enter the images of a table, and what stands in its other columns into ``columns``."""
    table = read_table(found.root, file, found.problems)
    rows: dict[str, list[dict[str, str]]] = {}
    for row in table.rows:
        name = row[table.dialect.file].replace("\\", "/")
        if "//" in name or "./" in name or name.endswith("/"):
            name = PurePosixPath(name).as_posix()
        rows.setdefault(unicodedata.normalize("NFC", name), []).append(row)
    # only our own table has a place for its files: others are found near by
    beside = PurePosixPath(file).parent
    word = split if split in SPLITS else PurePosixPath(file).stem.split("_")[0]
    folders = [".", "images", str(beside), str(beside / "images"), word, f"images/{word}"]
    folders, ends = list(dict.fromkeys(folders)), last_parts(rows)
    fractions = _are_fractions(table)
    if fractions:
        reason = "no number of a box is above 1: taken as fractions of width and height"
        if table.dialect.is_size:
            reason += f", {' and '.join(table.dialect.edges[:2])} as the upper left corner"
        found.warnings.append(Problem(file, reason))
    if columns is None and (unused := _unused(table)):  # else one of them tells groups
        reason = f"no column is called as a class: all boxes are of one; not used: {unused}"
        found.warnings.append(Problem(file, reason))
    for listed, mine in rows.items():
        with found.noting():
            home = _split_of(listed, mine, split)
            found.lists.setdefault(home, {})[listed] = None
            path = found.find_listed(listed, folders, ends)
            name = unicodedata.normalize("NFC", found.name(path))
            if name != listed:
                del found.lists[home][listed]
                found.lists[home][name] = None
            if columns is not None:
                for column, cell in mine[0].items():
                    columns.setdefault(column, {})[name] = cell
            width, height = table.dialect.stated or ("", "")
            stated = mine[0].get(width), mine[0].get(height)
            frame = found.frame(stated, path, listed, table.file)
            size = frame.size
            drawn_in = (1, 1) if fractions else frame.stated
            objects = [_row_object(table, row, drawn_in, listed) for row in mine]
            boxes = [it for it in objects if it is not None]
            frame = Frame((1, 1), size) if fractions else frame
            found.images[name] = annotated(name, path, size, boxes, frame)


def _unused(table: Table) -> str:
    """Columns that may hold the class, where none is known to."""
    dialect = table.dialect
    if dialect.classes or not dialect.edges or not table.rows:
        return ""
    used = {dialect.file, *dialect.edges, *dialect.stated, *SIDES, "split", ""}
    return ", ".join(column for column in table.rows[0] if column not in used)


def _are_fractions(table: Table) -> bool:
    """Whether all boxes are within 0..1, and one is more than a point of that."""
    seen = False
    for row in table.rows:
        if not table.dialect.is_empty(row):
            try:
                box = table.dialect.box(row, "")
            except BadSample:
                continue
            if min(box) < 0 or max(box) > 1:
                return False
            seen |= max(box) > 0
    return seen


def _row_object(
    table: Table, row: Mapping[str, str], size: tuple[int, int], name: str
) -> AnnotatedObject | None:
    if table.dialect.is_empty(row):
        return None
    box = sound(table.dialect.box(row, name), size, name)
    return AnnotatedObject(table.dialect.class_of(row) or OBJECT, box)


def _split_of(name: str, rows: Sequence[Mapping[str, str]], split: str) -> str:
    if "split" not in rows[0] or split != EVERYTHING:
        return split
    said = list(dict.fromkeys(row["split"].lower() for row in rows))
    if len(said) > 1:
        raise BadSample(name, f"its {len(rows)} rows are of different splits: {', '.join(said)}")
    if said[0] not in SPLITS:
        raise BadSample(name, f"split {rows[0]['split'][:40]!r} is none of {', '.join(SPLITS)}")
    return said[0]


# --- COCO and YOLO --------------------------------------------------------------------------------


def read_coco(
    root: Path | str,
    *,
    annotations: str,
    pick: str,
    split_seed: int,
    crowds: str = AUTO,
    group_by: str = AUTO,
    held_out: HeldOut = AS_LISTED,
) -> Listing:
    """List and check the images that one or several COCO files describe.

    One file is split 70/15/15 by hashed name; several are a split each, see
    `phasewise.data.coco.read_coco`; without val, as `phasewise.data.splits.resolve_splits`.

    Args:
        root, annotations, crowds: see there.
        pick: see `read_voc_boxes`.
        split_seed: of the split by hashed name.
        group_by: see `phasewise.data.groups.find_groups`.
        held_out: what validates.

    Raises:
        UserError: see `phasewise.data.coco.read_coco`.
    """
    found = read_coco_annotations(root, annotations=annotations, crowds=crowds)
    return _listing(found, pick, split_seed, group_by, held_out)


def read_yolo(
    root: Path | str,
    *,
    file: str,
    pick: str,
    split_seed: int,
    group_by: str = AUTO,
    held_out: HeldOut = AS_LISTED,
) -> Listing:
    """List and check images with YOLO's text files, see `phasewise.data.yolo.read_yolo`.

    Args:
        root, file: see there.
        pick: see `read_voc_boxes`.
        split_seed: of the split by hashed name, where neither the file nor folders tell the splits.
        group_by: see `phasewise.data.groups.find_groups`.
        held_out: what validates.

    Raises:
        UserError: see there.
    """
    found = read_yolo_annotations(root, file=file)
    return _listing(found, pick, split_seed, group_by, held_out)


def _listing(
    found: Annotations,
    pick: str,
    split_seed: int,
    group_by: str,
    held_out: HeldOut,
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> Listing:
    """One object of each image."""
    collector = Collector(found.root, found.problems, found.warnings)
    for it in found.images.values():
        objects = [(one.class_name, one.box) for one in it.objects if not one.is_crowd]
        with collector.noting():
            collector.add(it.name, it.image, it.size, objects, pick)
    lists = {split: list(names) for split, names in found.lists.items()}
    return collector.listing(collector.split(lists, split_seed, group_by, columns, held_out))
