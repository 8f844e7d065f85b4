"""What files hold: a hash of their bytes, remembered between runs while nothing touches them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from phasewise.errors import BadSample, UserError
from phasewise.storage import write_whole

FOLDER = "contents"
"""Of ``data.cache_dir``: a file for each root, with what is known of the files below it."""

DIGITS = 32
"""Of SHA-256, in hexadecimal, are kept of a file."""

UNSURE_SECONDS = 2.0
"""A file that was touched so shortly before it was read may be written again within the same tick
of its file system's clock (two seconds on FAT), and nothing would show: it is not remembered."""

Mark = tuple[int, int, int, int]


def digest(content: Any) -> str:
    """16 hexadecimal digits of SHA-256 over something JSON-able."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def mark(path: str | Path) -> Mark:
    """What changes whenever a file's bytes do: size, time of the last write and of the last change
    to the file's entry (which nobody can set back), and which file it is.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


class Contents:
    """Hashes of the files below a folder.

    Args:
        root: the folder; names are relative to it, so that a moved folder has the same contents.
        cache_dir: where hashes are remembered; one that cannot be written is no obstacle.
    """

    def __init__(self, root: Path, cache_dir: Path) -> None:
        self.root = root
        place = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
        self._file = cache_dir / FOLDER / f"{place}.json"
        found = read_json(self._file) or {}  # whatever is damaged is not known
        self._known = {name: known for name, known in found.items() if isinstance(known, list)}
        self._fresh: dict[str, list[Any]] = {}
        self._seen: dict[str, Mark] = {}

    def of(self, name: str) -> str:
        """The hash of a file's bytes.

        Args:
            name: relative to the root, with slashes.

        Raises:
            OSError: it cannot be read.
        """
        path = os.path.join(self.root, name)
        now = mark(path)
        known = self._known.get(name)
        if known is None or tuple(known[:4]) != now:
            known = [*now, _hash(path)]
            touched = max(now[1:3]) / 1e9
            if abs(time.time() - touched) > UNSURE_SECONDS and mark(path) == now:
                self._known[name] = self._fresh[name] = known
        self._seen[name] = now
        return str(known[4])

    def key(self, path: Path) -> list[str]:
        """Name and hash of a file, as `StoreDataModule.store_split` wants them.

        Raises:
            BadSample: it cannot be read.
        """
        name = path.relative_to(self.root).as_posix()
        try:
            return [name, self.of(name)]
        except OSError as error:
            raise BadSample(name, f"cannot be read: {error.strerror}") from None

    def check_unchanged(self) -> None:
        """See whether the files are still those that were hashed; called when they were decoded.

        Raises:
            UserError: one has changed meanwhile.
        """
        for name, before in self._seen.items():
            with suppress(OSError):  # one that is gone has been read, or is a problem already
                if mark(os.path.join(self.root, name)) != before:
                    reason = "changed while it was read; try again when nothing writes there"
                    raise UserError(f"data.root={self.root}: {name} {reason}")

    def save(self) -> None:
        """Remember what was hashed anew."""
        if self._fresh:
            write_json(self._file, (read_json(self._file) or {}) | self._fresh)
            self._fresh = {}


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def read_json(path: Path) -> dict[str, Any] | None:
    """An object that `write_json` wrote; ``None`` where there is none, or not the whole of it."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file in one step; what is only remembered may as well not be."""
    with suppress(UserError):
        write_whole(path, json.dumps(content))
