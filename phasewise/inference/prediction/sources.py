"""Which images are meant, and what their results are called."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from phasewise.data.images import IMAGE_SUFFIXES
from phasewise.errors import UserError

SUFFIXES = (*IMAGE_SUFFIXES, ".gif")


@dataclass(frozen=True)
class Item:
    """An image.

    Attributes:
        path: where it lies.
        name: how messages and tables call it: below the folder or the pattern's fixed part, with
            slashes; a name that is not UTF-8 with its bytes escaped.
        stem: the same without the ending, unless that would make two of a folder alike: what its
            results are called.
    """

    path: Path
    name: str
    stem: str


def list_images(text: str, key: str, leave_out: Sequence[Path] = ()) -> list[Item]:
    """The images that a person means by a path.

    Args:
        text: a file, whatever its ending; a folder, all images below it; or a pattern of `glob`
            (``**`` stands for any number of folders), all images among what it matches. Files that
            begin with a dot are left out, links are followed.
        key: the setting, for messages.
        leave_out: folders whose files do not count: those of the results.

    Returns:
        By name; at least one.

    Raises:
        UserError: there is nothing, or no image.
    """
    path = Path(text).expanduser()
    if os.path.isfile(path):
        return _items(path.parent, [path])
    if path.is_dir():
        return _of_folder(path, f"{key}={text}", leave_out)
    if os.path.lexists(path):
        raise UserError(f"{key}={text}: neither a file nor a folder")
    if not has_magic(text):
        there = next(parent for parent in path.absolute().parents if parent.exists())
        raise UserError(f"{key}={text}: no such file or folder; {there} is there")
    return _of_pattern(str(path), f"{key}={text}", leave_out)


def title(text: str) -> str:
    """The source's own name: of the file without its ending, of the folder, of the folder where a
    pattern begins."""
    path = Path(text).expanduser()
    if not path.exists():
        path = _fixed_part(str(path))
    resolved = path.resolve()
    return (resolved.name if resolved.is_dir() else resolved.stem) or "images"


def _of_folder(folder: Path, what: str, leave_out: Sequence[Path]) -> list[Item]:
    try:
        found = list(_files_below(folder, {path.resolve() for path in leave_out}))
    except OSError as error:
        raise UserError(f"{what}: {error.filename} cannot be read: {error.strerror}") from error
    images = [path for path in found if path.suffix.lower() in SUFFIXES]
    if not images:
        kinds = ", ".join(SUFFIXES)
        there = f"none of the {len(found)} files below it is an image" if found else "it is empty"
        raise UserError(f"{what}: {there} ({kinds})")
    return _items(folder, images)


def _of_pattern(pattern: str, what: str, leave_out: Sequence[Path]) -> list[Item]:
    matches = [Path(os.path.normpath(match)) for match in glob(pattern, recursive=True)]
    files = [path for path in dict.fromkeys(matches) if path.is_file()]
    results = [path.resolve() for path in leave_out]
    files = [p for p in files if not any(p.resolve().is_relative_to(r) for r in results)]
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not matches:
        raise UserError(f"{what}: the pattern matches nothing")
    if not images:
        there = "files" if files else "folders"
        advice = "" if files else f"; {pattern.rstrip('/')}/* looks into them"
        raise UserError(f"{what}: the pattern matches {there}, but no image{advice}")
    base = _fixed_part(pattern)
    if not all(path.is_relative_to(base) for path in images):  # the pattern climbs up: a/*/../b
        base = Path(os.path.commonpath([path.parent for path in images]))
    return _items(base, images)


def _fixed_part(pattern: str) -> Path:
    """The folder from which a pattern begins to vary."""
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if has_magic(part)), len(parts))
    return Path(os.path.normpath(Path(*parts[:fixed])))


def _files_below(folder: Path, leave_out: set[Path]) -> Iterator[Path]:
    """All files in all folders, links followed, each folder once."""
    seen = set(leave_out)

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _items(base: Path, paths: Iterable[Path]) -> list[Item]:
    relative = {path: path.relative_to(base) for path in paths}
    folded = Counter(_folded(name.with_suffix("")) for name in relative.values())
    ambiguous = {
        name.parent for name in relative.values() if folded[_folded(name.with_suffix(""))] > 1
    }
    items = []
    for path, name in relative.items():
        stem = name if name.parent in ambiguous else name.with_suffix("")
        items.append(Item(path, _text(name), _text(stem)))
    return sorted(items, key=lambda item: item.name)


def _folded(name: Path) -> str:
    """Equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", name.as_posix()).casefold()


def _text(name: Path) -> str:
    return name.as_posix().encode("utf-8", "backslashreplace").decode()
