"""Reader of YOLO's text files: a line for each object, in a file beside or across from its image.

Layouts are those of ultralytics, Roboflow, CVAT, makesense, Label Studio, darknet and LabelImg.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from phasewise.data.annotated import (
    EVERYTHING,
    AnnotatedObject,
    Annotations,
    annotated,
    number,
    sound,
    uncollected,
)
from phasewise.data.images import IMAGE_SUFFIXES, image_size
from phasewise.data.listing import check_folder, folder_names
from phasewise.data.splits import read_list
from phasewise.errors import BadSample, Problem, UserError

KEY = "data.file"
IMAGES, LABELS = "images", "labels"
NAMES = ("classes.txt", "obj.names")
"""A class a line: LabelImg and makesense; darknet and CVAT."""

SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
LAYOUT = (
    f"data.yaml; {IMAGES} with {LABELS} beside it, there perhaps train, val and test, or within "
    "these; or a text file beside each image"
)


@uncollected()
def read_yolo(root: Path | str, *, file: str = "data.yaml") -> Annotations:
    """List and check images with YOLO's text files; of images the headers are read.

    A line is a class by its number, and in fractions of the sides either the box's centre, width
    and height, or the corners of a polygon (three or more), whose box counts. Of an image
    ``.../images/NAME.jpg`` the file is ``.../labels/NAME.txt``, else ``NAME.txt`` beside it; an
    image without it has no object.

    Splits are those of ``train``, ``val`` and ``test`` in ``file``: folders, or lists of images.
    Without that file, the folders of these names; without such, everything is one list.

    Args:
        root: the folder of the data.
        file: ultralytics' YAML, relative to the root, with ``names`` of the classes; without it
            they are looked for in `NAMES`.

    Raises:
        UserError: no images, no text file at all, or a YAML that is none.
    """
    return _Reader(Annotations(check_folder(root, LAYOUT)), file).read()


@dataclass
class _Reader:
    """
    Attributes:
        lists: images by split.
        folders: that hold them, where no YAML names them.
        points: whether key points follow the boxes, as ``kpt_shape`` in the YAML says.
    """

    found: Annotations
    file: str
    lists: dict[str, list[Path]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    points: bool = False

    def read(self) -> Annotations:
        found, root = self.found, self.found.root
        described = (root / self.file).is_file()
        content = self._yaml() if described else {}
        if not described and self.file != "data.yaml":
            raise UserError(f"{KEY}={self.file}: no such file in data.root={root}")
        names = _names(content.get("names"), self.file) if described else self._named()
        self.points = bool(content.get("kpt_shape"))
        count = content.get("nc")
        if names and count is not None and count != len(names):
            reason = f"nc is {count}, and names has {len(names)} classes: names counts"
            found.warnings.append(Problem(self.file, reason))
        self.lists = self._listed(content) if described else self._by_folder()
        images = [path for paths in self.lists.values() for path in paths]
        if not images:
            raise UserError(
                f"data.root={root}: no image was found. Looked for: {LAYOUT}. "
                f"Folders there: {folder_names(root)}"
            )
        labels = {image: self._labels(image) for image in dict.fromkeys(images)}
        if not any(labels.values()):
            first = found.name(images[0])
            raise UserError(
                f"data.root={root}: {len(images)} images, and none has a text file, e.g. {first}: "
                f"neither {self._across(first)} nor {PurePosixPath(first).with_suffix('.txt')}"
            )
        for split, paths in self.lists.items():
            found.lists.setdefault(split, {}).update(dict.fromkeys(map(found.name, paths)))
        for image, file in labels.items():
            with found.noting():
                self._enter(image, file, names)
        if names:
            found.class_names = list(dict.fromkeys(names.values()))
            if same := [name for name, count in Counter(names.values()).items() if count > 1]:
                reason = f"several classes are called {', '.join(same[:3])}: one class each"
                found.warnings.append(Problem(KEY, reason))
        else:
            used = {it.class_name for image in found.images.values() for it in image.objects}
            found.class_names = sorted(used, key=int)
            reason = f"no names of the classes ({self.file}, {', '.join(NAMES)}): called by number"
            found.warnings.append(Problem(KEY, reason))
        found.finish(self.file if described else ", ".join(self.folders))
        return found

    # --- where things are -------------------------------------------------------------------------

    def _yaml(self) -> Mapping[str, Any]:
        try:
            content = yaml.safe_load((self.found.root / self.file).read_text("utf-8-sig"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{KEY}={self.file} cannot be read: {reason}") from None
        if not isinstance(content, Mapping):
            raise UserError(f"{KEY}={self.file}: names, train and val are needed, as ultralytics")
        return content

    def _named(self) -> dict[int, str]:
        for file in NAMES:
            for folder in (".", LABELS, IMAGES, *SPLIT_FOLDERS):
                path = self.found.root / folder / file
                if path.is_file():
                    return dict(enumerate(read_list(path, self.found.name(path)).names))
        return {}

    def _listed(self, content: Mapping[str, Any]) -> dict[str, list[Path]]:
        """The images of the splits that the YAML names."""
        lists: dict[str, list[Path]] = {}
        for key, split in SPLIT_FOLDERS.items():
            value = content.get(key)
            places = value if isinstance(value, list) else [value] if value else []
            for place in places:
                paths = self._images_of(str(place), str(content.get("path") or ""))
                if paths is None:
                    if split != "test":  # exports name a folder that they do not write
                        reason = f"{key}: {place} is not in data.root={self.found.root}"
                        raise UserError(f"{KEY}={self.file}: {reason}")
                    self.found.warnings.append(Problem(self.file, f"{key}: {place} is not there"))
                else:
                    lists.setdefault(split, []).extend(paths)
        if not lists:
            return self._by_folder()
        return lists

    def _images_of(self, place: str, base: str) -> list[Path] | None:
        """The images of a folder or a list that a YAML names, all below the root; None where there
        is none. Paths may be those of another computer, and lead out as Roboflow's do
        (``../train/images``): their ends count."""
        root = self.found.root
        home = (root / self.file).parent
        parts = [p for p in PurePosixPath(place.replace("\\", "/")).parts if p not in ("..", ".")]
        bases = [home / _relative(base), home, root]
        for cut in range(len(parts) if parts[:1] == ["/"] else 1):
            for start in bases:
                path = start.joinpath(*[p for p in parts[cut:] if p != "/"])
                if path.is_dir():
                    return _images_in(path)
                if path.suffix == ".txt" and path.is_file():
                    return self._from_list(path, bases)
        return None

    def _from_list(self, path: Path, bases: Sequence[Path]) -> list[Path]:
        images = []
        for line in read_list(path, self.found.name(path)).names:
            with self.found.noting():
                images.append(self._found(line, bases))
        return images

    def _found(self, line: str, bases: Sequence[Path]) -> Path:
        """The image that a line of a list means: its end counts, as of a folder."""
        parts = [p for p in PurePosixPath(line.replace("\\", "/")).parts if p not in ("..", ".")]
        for cut in range(len(parts)):
            for start in bases:
                path = start.joinpath(*[p for p in parts[cut:] if p != "/"])
                if path.is_file():
                    return path
        raise BadSample(line, "no such file in data.root")

    def _by_folder(self) -> dict[str, list[Path]]:
        root = self.found.root
        splits: dict[str, list[Path]] = {}
        for name, split in SPLIT_FOLDERS.items():
            for place in (f"{name}/{IMAGES}", f"{IMAGES}/{name}", name):
                if (root / place).is_dir() and (images := _images_in(root / place)):
                    splits.setdefault(split, []).extend(images)
                    self.folders.append(place)
                    break
        if splits:
            return splits
        for place in (IMAGES, "obj_train_data", "."):  # the second: CVAT's YOLO 1.1
            if (root / place).is_dir() and (images := _images_in(root / place)):
                self.folders = [place]
                return {EVERYTHING: images}
        return {}

    @staticmethod
    def _across(image: str) -> str:
        """``.../images/a.jpg`` to ``.../labels/a.txt``, by the last folder of that name."""
        before, found, after = f"/{image}".rpartition(f"/{IMAGES}/")
        path = f"{before}/{LABELS}/{after}" if found else f"/{LABELS}/{image}"
        return PurePosixPath(path[1:]).with_suffix(".txt").as_posix()

    def _labels(self, image: Path) -> Path | None:
        across = self.found.root / self._across(self.found.name(image))
        beside = image.with_suffix(".txt")
        return next((path for path in (across, beside) if path.is_file()), None)

    # --- what they say ----------------------------------------------------------------------------

    def _enter(self, image: Path, labels: Path | None, names: Mapping[int, str]) -> None:
        name = self.found.name(image)
        size = image_size(image, name)
        objects = []
        if labels is not None:
            file = self.found.name(labels)
            try:
                lines = labels.read_text("utf-8-sig").splitlines()
            except (OSError, ValueError) as error:
                raise BadSample(file, f"cannot be read: {error}") from None
            rows = ((n, words) for n, line in enumerate(lines, 1) if (words := line.split()))
            objects = [self._object(words, names, size, f"{file}, line {n}") for n, words in rows]
        self.found.images[name] = annotated(name, image, size, objects)

    def _object(
        self, words: Sequence[str], names: Mapping[int, str], size: tuple[int, int], where: str
    ) -> AnnotatedObject:
        values = [number(word, "a number of the line", where) for word in words]
        index, *shares = values
        if index != int(index) or index < 0:
            raise BadSample(where, f"the class {words[0]!r} is no number from 0")
        if names and int(index) not in names:
            raise BadSample(where, f"class {int(index)}; {self.file} names {len(names)} classes")
        if any(not -0.1 <= share <= 1.1 for share in shares[:4]):
            raise BadSample(where, "not fractions of width and height, as YOLO's are")
        class_name = names.get(int(index), str(int(index)))
        width, height = size
        if len(shares) == 4 or (self.points and len(shares) > 4):
            x, y, w, h = shares[:4]
            edges = ((x - w / 2) * width, (y - h / 2) * height,
                     (x + w / 2) * width, (y + h / 2) * height)  # fmt: skip
            return AnnotatedObject(class_name, sound(edges, size, where))
        if len(shares) < 6 or len(shares) % 2:
            what = "class, centre x, y, width, height, or class and corners of a polygon"
            raise BadSample(where, f"{len(words)} numbers; needed: {what}")
        xs, ys = [x * width for x in shares[::2]], [y * height for y in shares[1::2]]
        box = sound((min(xs), min(ys), max(xs), max(ys)), size, where)
        polygon = [value for point in zip(xs, ys, strict=True) for value in point]
        return AnnotatedObject(class_name, box, [polygon])


def _relative(base: str) -> str:
    path = PurePosixPath(base.replace("\\", "/"))
    return "." if path.is_absolute() or ".." in path.parts or ":" in base else path.as_posix()


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder and of those below it, sorted."""
    return sorted(
        Path(place, file)
        for place, _, files in os.walk(folder, followlinks=True)
        for file in files
        if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith(".")
    )


def _names(names: Any, file: str) -> dict[int, str]:
    """Class names by number: ultralytics takes a list or a mapping."""
    if isinstance(names, Mapping) and all(isinstance(key, int) for key in names):
        return {key: str(names[key]) for key in sorted(names)}
    if isinstance(names, list) and all(isinstance(name, str | int | float) for name in names):
        return {index: str(name) for index, name in enumerate(names)}
    if names is None:
        return {}
    raise UserError(f"{KEY}={file}: names must be a list, or a mapping of numbers to names")
