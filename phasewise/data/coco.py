"""Reader of COCO's JSON (T.-Y. Lin et al., "Microsoft COCO", 2014) as many tools write it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from phasewise.data.annotated import (
    OBJECT,
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    Box,
    Outline,
    annotated,
    last_parts,
    number,
    sound,
    split_files,
    uncollected,
)
from phasewise.data.coco_boxes import check_boxes
from phasewise.data.frame import Mask
from phasewise.data.listing import check_folder
from phasewise.errors import BadSample, Problem, UserError

KEY = "data.annotations"
DEFAULT = "annotations"
"""What is looked for where nothing is typed; without such a folder `ELSEWHERE`."""

FOLDER_FIRST = ("instances_*.json", "*.json")
ELSEWHERE = ("*/_annotations.coco.json", "*.json")
"""Where exports put their JSON: Roboflow in the folder of each split, others beside the images."""

CROWDS = ("auto", "objects", "ignore")
"""What ``data.crowds`` may be."""

Entry = Mapping[str, Any]


@uncollected()
def read_coco(root: Path | str, *, annotations: str, crowds: str = "auto") -> Annotations:
    """List and check the images that one or several COCO files describe; headers are read.

    Several files are a split each, by the last of the words train, val, test or trainval in their
    path. Images lie below the root or, there, in ``images``, beside their JSON, or in a folder
    (also of ``images``) called as the split or as FOLDER in ``instances_FOLDER.json``.

    An annotation without ``bbox`` has the box of its outline. Where ``width`` and ``height`` of an
    image are those of another size or of the image as stored, see
    `phasewise.data.frame.find_frame`.

    Args:
        root: the folder of the data.
        annotations: relative to the root: a file; a pattern such as ``*/_annotations.coco.json``;
            or a folder, of which ``instances_*.json`` are read, or without such all ``*.json``.
        crowds: what ``iscrowd`` means. ``auto``: objects, in a file where every annotation has it,
            as CVAT writes of brush masks; else several things at once, as in COCO's own.
            ``objects`` and ``ignore``: in all files.

    Raises:
        UserError: no such file, not COCO's JSON, or several files that tell no split.
    """
    if crowds not in CROWDS:
        raise UserError(f"data.crowds={crowds!r} is none of {', '.join(CROWDS)}")
    found = Annotations(check_folder(root, f"the images and {annotations}"))
    files = _files(found, annotations)
    for path, split in files.items():
        _File(found, path, split, crowds).read()
    found.finish(found.name(next(iter(files))) if len(files) == 1 else annotations)
    return found


def outline_mask(outline: Outline, image: AnnotatedImage) -> Mask:
    """The pixels of an object.

    Args:
        outline: of one of the image's objects: polygons, or run lengths, compressed or not.
        image: it.

    Returns:
        bool of shape (height, width) of the upright image.

    Raises:
        BadSample: it is no outline, or of another size.
    """
    from faster_coco_eval.core import mask as coco

    width, height = image.frame.stated
    try:
        decoded = np.asarray(coco.decode(_runs(outline, width, height)), bool)
        mask = decoded.any(2) if decoded.ndim == 3 else decoded
    except Exception as error:  # whatever the C++ behind it makes of damaged run lengths
        raise BadSample(image.name, f"an outline cannot be read: {error}") from None
    if mask.shape != (height, width):
        found = f"{mask.shape[1]}x{mask.shape[0]}"
        raise BadSample(image.name, f"an outline is of {found} pixels, not {width}x{height}")
    return image.frame.mask(mask)


def _runs(outline: Outline, width: int, height: int) -> Any:
    """Compressed run lengths."""
    from faster_coco_eval.core import mask as coco

    if not isinstance(outline, Mapping):
        for polygon in outline:
            # four numbers would be a box, and the last of an odd number would be left out
            if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
                raise ValueError("a polygon is a list of x, y, three times or more")
    else:
        counts = outline["counts"]
        if isinstance(counts, list):
            rows, columns = outline["size"]
            if sum(counts) != rows * columns or min(counts, default=0) < 0:
                raise ValueError("run lengths that do not fill the image")
            return coco.frPyObjects(dict(outline), rows, columns)
        return {"size": list(outline["size"]), "counts": counts}
    return coco.frPyObjects([list(map(float, polygon)) for polygon in outline], height, width)


def outline_box(outline: Outline) -> Box | None:
    """The box of an outline in its own pixels; None of an empty one.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    if isinstance(outline, Mapping):
        from faster_coco_eval.core import mask as coco

        rows, columns = outline["size"]
        x, y, width, height = (float(v) for v in coco.toBbox(_runs(outline, columns, rows)))
        return (x, y, x + width, y + height) if width and height else None
    points = np.array([float(value) for polygon in outline for value in polygon])
    if not len(points):
        return None
    (x1, y1), (x2, y2) = points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)
    return float(x1), float(y1), float(x2), float(y2)


def _files(found: Annotations, annotations: str) -> dict[Path, str]:
    root = found.root
    if annotations == DEFAULT and not (root / DEFAULT).exists():
        for pattern in ELSEWHERE:
            if any(root.glob(pattern)):
                files = split_files(root, pattern, KEY, ".json", FOLDER_FIRST)
                reason = f"no such folder; read instead: {', '.join(map(found.name, files))}"
                found.warnings.append(Problem(f"{KEY}={DEFAULT}", reason))
                return files
    files = split_files(root, annotations, KEY, ".json", FOLDER_FIRST)
    if len(files) == 1:
        (path,) = files
        others = [it for it in sorted(path.parent.parent.glob(f"*/{path.name}")) if it != path]
        if path.parent != root and path.is_relative_to(root) and others:
            there = ", ".join(map(found.name, others))
            reason = f"there is also {there}, not read; {KEY}=*/{path.name} takes each as a split"
            found.warnings.append(Problem(found.name(path), reason))
    return files


@dataclass
class _File:
    """One JSON."""

    found: Annotations
    path: Path
    split: str
    crowds: str

    def __post_init__(self) -> None:
        self.file = self.found.name(self.path)
        self.images, annotations, categories = _lists(self.path, self.file)
        self.classes = self._classes(categories)
        if odd := check_boxes(annotations, self.file):
            self.found.warnings.append(Problem(self.file, odd))
        marked = [bool(entry.get("iscrowd")) for entry in annotations]
        self.counted = self.crowds == "objects" or (self.crowds == "auto" and all(marked))
        self._note_crowds(sum(marked), len(marked))
        self.objects: dict[Hashable, list[Entry]] = {}
        for entry in annotations:
            self.objects.setdefault(_id(entry, "image_id"), []).append(entry)
        listed = [str(entry.get("file_name")) for entry in self.images]
        self.last_parts = last_parts(listed)
        self.counts = Counter(listed), Counter(_id(entry, "id") for entry in self.images)
        self.folders = self._folders()

    def _classes(self, categories: Sequence[Entry]) -> dict[Hashable, str]:
        """Names by id.

        Raises:
            UserError: an id has two names.
        """
        classes: dict[Hashable, str] = {}
        for entry in categories:
            key, name = _id(entry, "id"), str(entry.get("name") or OBJECT)
            if classes.setdefault(key, name) != name:
                what = f"category id {key} is {classes[key]!r} and {name!r}"
                raise UserError(f"{self.file}: {what}; each needs an id of its own")
        counts = Counter(classes.values())
        if same := [name for name, count in counts.items() if count > 1]:
            reason = f"several categories are called {', '.join(same[:3])}: one class each"
            self.found.warnings.append(Problem(self.file, reason))
        return classes

    def _note_crowds(self, crowds: int, total: int) -> None:
        if not crowds or self.crowds != "auto":
            return
        if self.counted:
            reason = f"all {total} annotations are crowds (iscrowd=1), as CVAT writes of brush "
            reason += "masks: they count as objects; data.crowds=ignore leaves them out"
        else:
            reason = f"{crowds} of {total} annotations are crowds (iscrowd=1) and not used; "
            reason += "data.crowds=objects counts them, which may be CVAT's brush masks"
        self.found.warnings.append(Problem(self.file, reason))

    def _folders(self) -> list[str]:
        places = [".", "images"]
        if self.path.is_relative_to(self.found.root):
            beside = PurePosixPath(self.found.name(self.path.parent))
            places += [str(beside), str(beside / "images")]
        for folder in (self.path.stem.removeprefix("instances_"), self.split):
            places += [folder, f"images/{folder}"]
        return list(dict.fromkeys(places))

    def read(self) -> None:
        """Add its images; of those that cannot be used, their names."""
        found = self.found
        found.class_names = list(dict.fromkeys([*found.class_names, *self.classes.values()]))
        known = [_id(entry, "id") for entry in self.images]
        if self.objects and known and not self.objects.keys() & set(known):
            wanted, there = repr(next(iter(self.objects))), repr(known[0])
            reason = f"no annotation is of an image that it lists: image_id {wanted}, id {there}"
            raise UserError(f"{self.file}: {reason}")
        for entry in self.images:
            mine = self.objects.pop(_id(entry, "id"), [])
            with found.noting():
                self._enter(entry, mine)
        if self.objects:
            count = sum(map(len, self.objects.values()))
            reason = f"annotations of images that it does not list: {count}"
            found.warnings.append(Problem(self.file, reason))

    def _enter(self, entry: Entry, mine: Sequence[Entry]) -> None:
        listed, key = entry.get("file_name"), _id(entry, "id")
        if not listed or not isinstance(listed, str) or key is None:
            raise BadSample(self.file, f"an image lacks file_name or id: {str(entry)[:60]}")
        if self.counts[0][listed] > 1 or self.counts[1][key] > 1:
            raise BadSample(listed, f"{self.file} has its file_name or its id more than once")
        image = self.found.find_listed(listed, self.folders, self.last_parts)
        name = self.found.name(image)
        self.found.lists.setdefault(self.split, {})[name] = None
        frame = self.found.frame((entry.get("width"), entry.get("height")), image, name, self.file)
        objects = [it for each in mine if (it := self._object(each, frame.stated, name))]
        self.found.images[name] = annotated(name, image, frame.size, objects, frame)

    def _object(self, entry: Entry, size: tuple[int, int], name: str) -> AnnotatedObject | None:
        """An object; of a crowd that does not count, None if anything is wrong with it."""
        crowd = bool(entry.get("iscrowd")) and not self.counted
        try:
            category = _id(entry, "category_id")
            outline = entry.get("segmentation") or None
            box = _box(entry, outline, size, name)
            if self.classes and category not in self.classes:
                raise BadSample(name, f"annotation {entry.get('id')}: unknown category {category}")
        except BadSample:
            if crowd:
                return None
            raise
        return AnnotatedObject(self.classes.get(category, OBJECT), box, outline, crowd)


def _box(entry: Entry, outline: Any, size: tuple[int, int], name: str) -> Box:
    box = entry.get("bbox")
    if not box and outline:
        try:
            found = outline_box(outline)
        except Exception as error:  # damaged run lengths, or something else in their place
            reason = f"annotation {entry.get('id')}: no bbox, and no outline ({error})"
            raise BadSample(name, reason) from None
        if found is None:
            raise BadSample(name, f"annotation {entry.get('id')}: no bbox, and an empty outline")
        return sound(found, size, name)
    if not isinstance(box, list) or len(box) != 4:
        raise BadSample(name, f"annotation {entry.get('id')}: bbox must be [x, y, width, height]")
    x, y, width, height = (
        number(v, k, name) for v, k in zip(box, ("x", "y", "width", "height"), strict=True)
    )
    return sound((x, y, x + width, y + height), size, name)


def _lists(path: Path, file: str) -> list[list[dict[str, Any]]]:
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


def _id(entry: Entry, key: str) -> Hashable:
    value = entry.get(key)
    return value if isinstance(value, int | float | str) else None
