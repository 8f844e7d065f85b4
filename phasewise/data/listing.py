"""What the readers of folders have in common: how they check a folder, and how they speak of it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from phasewise.data.opening import special_kind
from phasewise.errors import Problem, UserError

SHOWN = 10
"""How many folders a message names."""


def check_folder(root: Path | str, needed: str) -> Path:
    """``data.root``.

    Raises:
        UserError: it is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"data.root={root} {what}; it must be a folder with {needed}")
    return root


def check_filled(
    root: Path,
    samples: Mapping[str, Collection[object]],
    lists: Sequence[str],
    problems: Sequence[Problem],
) -> None:
    """Nothing can be trained without train, nor selected without val.

    Args:
        root: ``data.root``.
        samples: the usable ones by split.
        lists: the split lists that were read, as messages call them; none = hashed split.
        problems: samples left out, and why.

    Raises:
        UserError: train or val is empty; says what was wrong with its samples, if that is why.
    """
    empty = " and ".join(split for split in ("train", "val") if not samples[split])
    if not empty:
        return
    source = f"Lists read: {', '.join(lists)}" if lists else "No lists; split by hashed name"
    if problems:
        what = f"samples in data.root={root} cannot be used, which leaves {empty} empty"
        raise UserError(what, problems, f"mend them. {source}")
    advice = "List names there, one a line; without any list, images are split by hashed name."
    raise UserError(f"data.root={root} has no sample for {empty}. {source}.\n{advice}")


def folder_names(path: Path) -> str:
    """The names of the folders in ``path`` as a message lists them, or ``none``."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "") or "none"


def find_layouts(root: Path, *folders: str) -> list[Path]:
    """``root`` or the folders at most two levels below it that hold all of ``folders``."""
    places = [root, *sorted(root.glob("*")), *sorted(root.glob("*/*"))]
    return [it for it in places if all((it / folder).is_dir() for folder in folders)]


def no_layout(
    root: Path, lacks: str, looked_for: str, found: Sequence[Path], *more: str
) -> UserError:
    """What to say of a ``data.root`` that is not laid out so.

    Args:
        root: it.
        lacks: the folders that are not there.
        looked_for: the whole layout.
        found: folders near by that are laid out so.
        more: further lines.
    """
    lines = [
        f"data.root={root} has no {lacks}.",
        f"Looked for: {looked_for}. Folders there: {folder_names(root)}.",
    ]
    lines += [f"That layout is in data.root={path}" for path in found[:3]]
    return UserError("\n".join([*lines, *more]))


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a folder with one of the suffixes (lower case, with their dot), sorted.

    Raises:
        UserError: one is a named pipe, a socket or a device: opening it may wait for ever.
    """
    # A dot file such as "._a.jpg" is what macOS adds when it packs a folder.
    found = [
        entry
        for entry in os.scandir(folder)
        if Path(entry.name).suffix.lower() in suffixes and not entry.name.startswith(".")
    ]
    for entry in found:
        if not entry.is_file() and (kind := special_kind(entry.path)):
            raise UserError(f"{entry.path} is a {kind}, no regular file; remove it")
    return sorted(folder / entry.name for entry in found)


def files_by_name(
    root: Path, folder: str, suffixes: Collection[str], warnings: list[Problem]
) -> dict[str, list[Path]]:
    """The files of a folder by their name without extension, in NFC as in the lists.

    Args:
        root: ``data.root``.
        folder: in it; one that is absent has no files.
        suffixes: see `files_in`.
        warnings: where names are noted that are not UTF-8.
    """
    found: dict[str, list[Path]] = {}
    directory = root / folder
    for path in files_in(directory, suffixes) if directory.is_dir() else ():
        if is_text(path.name):
            found.setdefault(unicodedata.normalize("NFC", path.stem), []).append(path)
        else:
            file = ascii(f"{folder}/{path.name}")
            warnings.append(Problem(file, "ignored: its name is not UTF-8"))
    return found


def beside(root: Path | None, pattern: str) -> list[Path]:
    """Where a file, a folder or a pattern relative to the root lies, which may be elsewhere than
    below it; of a pattern, the folder that it begins with."""
    if root is None:
        return []
    plain = takewhile(lambda part: not set("*?[") & set(part), Path(pattern).parts)
    return [root.joinpath(*plain)]


def by(size: tuple[int, int]) -> str:
    """Width and height in pixels as a message has them, ``640x480``."""
    return f"{size[0]}x{size[1]}"


def is_text(name: str) -> bool:
    """Whether a file name is UTF-8: one that is not cannot be written into lists and records."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
