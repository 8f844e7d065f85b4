"""Which files and folders are looked at below a folder while something is read there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

LISTED = ("os.listdir", "os.scandir")


@dataclass
class Trace:
    """What was looked at; paths relative to ``root``, with slashes, the root itself as ``.``.

    Attributes:
        beside: files and folders elsewhere that count as well.
        files: opened for reading.
        listed: folders whose entries were listed.
        start: when it began, in seconds since the epoch.
    """

    root: Path
    beside: Sequence[Path] = ()
    files: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    start: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._base = os.path.abspath(self.root)
        self._bases = [self._base, *map(os.path.abspath, self.beside)]

    def note(self, event: str, path: str) -> None:
        """Take down an event of Python's audit hooks."""
        full = os.path.abspath(path)
        if any(full == base or full.startswith(base + os.sep) for base in self._bases):
            name = Path(os.path.relpath(full, self._base)).as_posix()
            (self.listed if event in LISTED else self.files).add(name)

    def folders(self) -> list[str]:
        """Those whose entries decide what is read: the ones above files that were read, the ones
        beside these (a list that is not there would be in one of them) and those that were listed.
        """
        inside = [name for name in self.files if not name.startswith("../")]
        above = {str(parent) for name in inside for parent in Path(name).parents} | {"."}
        beside = {
            Path(name, entry.name).as_posix()
            for name in above
            for entry in os.scandir(os.path.join(self.root, name))
            if entry.is_dir()
        }
        return sorted(above | beside | self.listed)


_open: list[Trace] = []


@contextmanager
def traced(root: Path, beside: Sequence[Path] = ()) -> Iterator[Trace]:
    """Take down what is read below ``root``, and of what lies ``beside`` it, in any thread, by
    anything that opens its files through Python."""
    _install_hook()
    trace = Trace(root, beside)
    _open.append(trace)
    try:
        yield trace
    finally:
        _open.remove(trace)


@cache  # a hook cannot be taken away again; while nothing is traced it does nothing
def _install_hook() -> None:
    sys.addaudithook(_on_event)


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    if not _open or (event != "open" and event not in LISTED):
        return
    path, *more = args
    reads = event != "open" or not more or more[0] is None or "r" in str(more[0])
    if reads and isinstance(path, str | bytes | os.PathLike):
        for trace in tuple(_open):
            trace.note(event, os.fsdecode(path))
