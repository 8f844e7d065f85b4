"""Readers of re-identification data: VeRi-776, Market-1501, and folders named by identity.

They list images, take identity and camera from names, and check headers; nothing is decoded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path

from phasewise.data.images import IMAGE_SUFFIXES, image_size
from phasewise.data.listing import (
    check_folder,
    files_in,
    find_layouts,
    folder_names,
    is_text,
    no_layout,
)
from phasewise.data.splits import hashed_split, inside, read_list
from phasewise.errors import BadSample, Problem, UserError
from reid.splits import Listing, Sample, choose_queries, valid_queries

PARTS = ("train", "query", "gallery")


@dataclass(frozen=True)
class _Layout:
    """A published layout: three folders of images named by identity and camera."""

    title: str
    data: str  # its file in conf/data
    folders: tuple[str, str, str]  # as PARTS
    lists: tuple[str, str, str]  # as PARTS; "" = none
    homes: tuple[str, ...]  # the folder's usual names, inside data.root
    example: str
    junk: bool  # whether identities -1 and 0 mean "nobody in particular"


VERI = _Layout(
    title="VeRi-776",
    data="veri",
    folders=("image_train", "image_query", "image_test"),
    lists=("name_train.txt", "name_query.txt", "name_test.txt"),
    homes=("VeRi", "VeRi-776", "veri", "veri776"),
    example="0002_c002_00030600_0.jpg",
    junk=False,
)
MARKET = _Layout(
    title="Market-1501",
    data="market",
    folders=("bounding_box_train", "query", "bounding_box_test"),
    lists=("", "", ""),
    homes=("Market-1501-v15.09.15", "Market-1501", "market1501"),
    example="0002_c1s1_000451_03.jpg",
    junk=True,
)

# Digits are few enough for int64, and none but 0-9.
_NAME = re.compile(r"(-?[0-9]{1,9})_c([0-9]{1,9})(?:s[0-9]+)?(?=[_.])", re.IGNORECASE)
_CAMERA = re.compile(r"(?:^|_)c([0-9]{1,9})(?:s[0-9]+)?(?=[_.])", re.IGNORECASE)


def read_veri(root: Path | str, *, ignore_cameras: bool = False) -> Listing:
    """List and check a data set in VeRi-776 layout.

    The gallery is ``image_test``. Where ``name_train.txt``, ``name_query.txt`` or
    ``name_test.txt`` exist, they say which images of the folder are used.

    Args:
        root: the folder that holds ``image_train``, or the one above it.
        ignore_cameras: take all as unknown.

    Raises:
        UserError: no such layout, or an unreadable list.
    """
    return _read_layout(Path(root), VERI, ignore_cameras)


def read_market(root: Path | str, *, ignore_cameras: bool = False) -> Listing:
    """List and check a data set in Market-1501 layout.

    Junk (-1) and distractors (0) stay in the gallery with these numbers and train nothing.

    Args:
        root: the folder that holds ``bounding_box_train``, or the one above it.
        ignore_cameras: take all as unknown.

    Raises:
        UserError: no such layout.
    """
    return _read_layout(Path(root), MARKET, ignore_cameras)


def read_folder(root: Path | str, *, split_seed: int, ignore_cameras: bool = False) -> Listing:
    """List and check a data set with one folder per identity.

    Either ``train/ID``, ``query/ID`` and ``gallery/ID``; or just ``ID``: then the identities are
    split 70/30 by hash into train and test, and the test images by `choose_queries`. Identities
    are numbers if all folders are called by different ones, else the folders' places in sorted
    order. Cameras are known if all file names hold one, as ``_c3`` or ``_c3s1``, unless they are
    ignored.

    Raises:
        UserError: no such layout, or fewer than two identities.
    """
    root = Path(root)
    check_folder(root, "one folder per identity")
    _check_not_published(root)
    reader = _Reader(root, ignore_cameras)
    present = [part for part in PARTS if (root / part).is_dir()]
    if present and len(present) < len(PARTS):
        missing = " and no ".join(part for part in PARTS if part not in present)
        advice = "all of train, query and gallery are needed, or none"
        raise UserError(f"data.root={root} has {' and '.join(present)}, but no {missing}; {advice}")
    found = {part: reader.identities(root / part) for part in present or [""]}
    if not any(images for folders in found.values() for images in folders.values()):
        raise UserError(_no_folders(root))
    numbers = _numbers(name for folders in found.values() for name in folders)
    cameras = reader.cameras(
        path.name for folders in found.values() for images in folders.values() for path in images
    )
    parts = {
        part: [
            Sample(reader.name(path), path, numbers[name], cameras.get(path.name))
            for name, images in folders.items()
            for path in images
        ]
        for part, folders in found.items()
    }
    parts = {part: reader.sound(samples) for part, samples in parts.items()}
    if not present:
        parts = _split(root, parts[""], split_seed)
    names = {number: name for name, number in numbers.items() if name != str(number)}
    return reader.listing(parts, {part: part for part in PARTS}, names)


# --- reading --------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """What was found wrong so far."""

    root: Path
    ignore_cameras: bool
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def name(self, path: Path) -> str:
        return unicodedata.normalize("NFC", path.relative_to(self.root).as_posix())

    def images(self, folder: Path) -> dict[str, Path]:
        """The images of a folder by file name in NFC, sorted."""
        found: dict[str, Path] = {}
        for path in files_in(folder, IMAGE_SUFFIXES):
            key = unicodedata.normalize("NFC", path.name)
            if not is_text(path.name):
                self.warn(ascii(path.name), "ignored: its name is not UTF-8")
            elif key in found:
                self.warn(self.name(path), "ignored: another file has the same name in NFC")
            else:
                found[key] = path
        return dict(sorted(found.items()))

    def warn(self, file: str, reason: str) -> None:
        self.warnings.append(Problem(file, reason))

    def sound(self, samples: Iterable[Sample]) -> list[Sample]:
        """Those whose header can be read, sorted by name; the others are noted."""
        usable = []
        for sample in sorted(samples, key=lambda sample: sample.name):
            try:
                image_size(sample.path, sample.name)
            except BadSample as bad:
                self.problems.append(bad.problem)
            else:
                usable.append(sample)
        return usable

    def named(self, folder: Path, names: Path | None, layout: _Layout) -> list[Sample]:
        """The samples of a folder of a published layout, as its list has them."""
        images = self.images(folder)
        if not images:
            reason = f"holds no image ({', '.join(IMAGE_SUFFIXES)})"
            self.problems.append(Problem(self.name(folder), reason))
        if names is not None and names.is_file():
            images = self.listed(images, folder, names)
        samples = []
        for key, path in images.items():
            match = _NAME.match(key)
            if match is None or (int(match[1]) < 0 and not layout.junk):
                reason = f"no identity and camera in its name, expected {layout.example}"
                self.problems.append(Problem(self.name(path), reason))
            else:
                camera = None if self.ignore_cameras else int(match[2])
                samples.append(Sample(self.name(path), path, int(match[1]), camera))
        return self.sound(samples)

    def listed(self, images: dict[str, Path], folder: Path, names: Path) -> dict[str, Path]:
        """Those images that the list names."""
        file = self.name(names)
        entries, duplicates = read_list(names, file)
        for entry in duplicates:
            self.warn(file, f"lists {entry!r} more than once")
        for entry in entries:
            if entry in images:
                continue
            try:
                inside(folder, entry)
                reason = f"listed in {file}, but there is no such image"
                bad = BadSample(f"{self.name(folder)}/{entry}", reason)
            except BadSample as outside:
                bad = BadSample(entry, f"{outside.problem.reason} (listed in {file})")
            self.problems.append(bad.problem)
        left = sorted(images.keys() - set(entries))
        if left:
            self.warn(self.name(folder), f"{_are(left)} not in {file}: not used")
        return {entry: images[entry] for entry in entries if entry in images}

    def identities(self, folder: Path) -> dict[str, list[Path]]:
        """Images by the name of the folder that they lie in."""
        found: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or not path.is_dir():
                continue
            if not is_text(path.name):
                self.warn(ascii(path.name), "ignored: its name is not UTF-8")
                continue
            images = list(self.images(path).values())
            if images:
                found.setdefault(unicodedata.normalize("NFC", path.name), []).extend(images)
            else:
                self.warn(self.name(path), "ignored: holds no image")
        loose = self.images(folder)
        if loose:
            place = self.name(folder) if folder != self.root else "data.root"
            self.warn(place, f"{_are(loose)} in no identity's folder: not used")
        if not found and folder != self.root:
            self.problems.append(Problem(self.name(folder), "holds no folder with images"))
        return found

    def cameras(self, names: Iterable[str]) -> dict[str, int]:
        """Cameras by file name; none unless every name holds one."""
        if self.ignore_cameras:
            return {}
        found = {name: _CAMERA.search(name) for name in names}
        cameras = {name: int(match[1]) for name, match in found.items() if match}
        if 0 < len(cameras) < len(found):
            lacking = sorted(found.keys() - cameras.keys())
            reason = f"{_are(lacking, 'name', 'names')} without a camera (as in _c3): none is used"
            self.warn("cameras", reason)
            return {}
        return cameras

    def without_copies(
        self, query: Sequence[Sample], gallery: Sequence[Sample], folder: str
    ) -> list[Sample]:
        """The gallery less the queries: only cameras tell that a query is not its own answer."""
        asked = {(sample.identity, sample.path.name): sample.path for sample in query}
        copies = set()
        for sample in gallery:
            path = asked.get((sample.identity, sample.path.name))
            if path is not None and cmp(path, sample.path, shallow=False):
                copies.add(sample.name)
        if copies:
            reason = f"{_are(sorted(copies))} queries too, and cameras are not known: not used"
            self.warn(folder, reason)
        return [sample for sample in gallery if sample.name not in copies]

    def listing(
        self,
        parts: Mapping[str, list[Sample]],
        folders: Mapping[str, str],
        names: dict[int, str] | None = None,
    ) -> Listing:
        """The result, after a look at how the parts fit together."""
        train, query, gallery = (parts[part] for part in PARTS)
        names = names or {}
        if any(sample.camera is None for sample in query):
            gallery = self.without_copies(query, gallery, folders["gallery"])
        tested = {sample.identity for sample in (*query, *gallery)}
        shared = sorted({sample.identity for sample in train} & tested)
        if shared:
            who = _are([names.get(i, str(i)) for i in shared], "identity", "identities")
            reason = f"{who} also in {folders['query']} or {folders['gallery']}: the test is known"
            self.warn(folders["train"], reason)
        there = {sample.identity for sample in gallery}
        valid = {sample.name for sample in valid_queries(query, gallery)}
        for sample in query:
            if sample.name not in valid:
                how = "by another camera " if sample.identity in there else ""
                who = names.get(sample.identity, str(sample.identity))
                reason = f"identity {who} is not in {folders['gallery']} {how}".rstrip()
                self.warn(sample.name, f"{reason}: this query counts for nothing")
        return Listing(train, query, gallery, self.problems, self.warnings, names)


def _read_layout(root: Path, layout: _Layout, ignore_cameras: bool) -> Listing:
    home = _home(root, layout)
    reader = _Reader(root, ignore_cameras)
    lists = [home / name if name else None for name in layout.lists]
    parts = {
        part: reader.named(home / folder, names, layout)
        for part, folder, names in zip(PARTS, layout.folders, lists, strict=True)
    }
    folders = dict(zip(PARTS, layout.folders, strict=True))
    if layout.junk:
        for part in ("train", "query"):
            nobody = [sample.name for sample in parts[part] if sample.identity <= 0]
            if nobody:
                who = _are([Path(name).name for name in nobody])
                reader.warn(folders[part], f"{who} of identity -1 or 0: not used")
            parts[part] = [sample for sample in parts[part] if sample.identity > 0]
    return reader.listing(parts, folders)


def _home(root: Path, layout: _Layout) -> Path:
    """The folder with the layout's three folders: ``root``, or its usual name inside.

    Raises:
        UserError: it is neither; says what is there.
    """
    needed = f"{', '.join(layout.folders)} ({layout.title} layout)"
    check_folder(root, needed)
    for home in (root, *(root / name for name in layout.homes)):
        if _has(home, layout):
            return home
    missing = [folder for folder in layout.folders if not (root / folder).is_dir()]
    others = [
        f"data.root is in {other.title} layout: data={other.data}"
        for other in (VERI, MARKET)
        if _has(root, other)
    ]
    found = find_layouts(root, *layout.folders)
    raise no_layout(root, " and no ".join(missing), needed, found, *others)


def _has(home: Path, layout: _Layout) -> bool:
    return all((home / folder).is_dir() for folder in layout.folders)


def _check_not_published(root: Path) -> None:
    """`image_train` and the like are no identities."""
    for layout in (VERI, MARKET):
        for home in (root, *(root / name for name in layout.homes)):
            if _has(home, layout):
                raise UserError(f"data.root={root} is in {layout.title} layout: data={layout.data}")


def _no_folders(root: Path) -> str:
    loose = [p for p in root.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
    lines = [
        f"data.root={root} has no folder with images.",
        "Looked for: train/ID, query/ID and gallery/ID, or just ID, with the images of identity ID "
        f"inside. Folders there: {folder_names(root)}. Images there: {len(loose)}.",
    ]
    for home in find_layouts(root, *PARTS):
        if home != root:  # whose folders are empty
            return "\n".join([*lines, f"That layout is in data.root={home}"])
    for home in find_layouts(root):
        if any(path.suffix.lower() in IMAGE_SUFFIXES for path in home.glob("*/*")):
            return "\n".join([*lines, f"Folders with images are in data.root={home}"])
    return "\n".join(lines)


def _numbers(names: Iterable[str]) -> dict[str, int]:
    """A number for each folder name."""
    ordered = sorted(set(names))
    if all(re.fullmatch("[0-9]{1,9}", name) for name in ordered):
        numbers = {name: int(name) for name in ordered}
        if len(set(numbers.values())) == len(ordered):
            return numbers
    return {name: number for number, name in enumerate(ordered)}


def _split(root: Path, samples: list[Sample], seed: int) -> dict[str, list[Sample]]:
    """Train, query and gallery out of one folder."""
    identities = {str(sample.identity) for sample in samples}
    if len(identities) < 2:
        raise UserError(f"data.root={root} holds {len(identities)} identity; two are needed")
    tested = set(hashed_split(identities, seed, (0.7, 0.3, 0.0))["val"])
    query, gallery = choose_queries([s for s in samples if str(s.identity) in tested])
    train = [sample for sample in samples if str(sample.identity) not in tested]
    return {"train": train, "query": query, "gallery": gallery}


def _are(things: Collection[str], noun: str = "image", plural: str = "images") -> str:
    """As in "3 images (a, b, c) are"."""
    shown = ", ".join(list(things)[:3]) + (", ..." if len(things) > 3 else "")
    noun, verb = (noun, "is") if len(things) == 1 else (plural, "are")
    return f"{len(things)} {noun} ({shown}) {verb}"
