"""Disks that are full or fail: told from other errors, and without half-written files of ours."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from phasewise.errors import CONTINUES, FAULTS, OTHER_DIRECTORY, StorageError, unwritable

FREE_MB = 50
"""Disk space that a run must find, in MB: logs, records and a small checkpoint."""

WORDS = (
    os.strerror(errno.ENOSPC),
    os.strerror(errno.EDQUOT),
    "No usable temporary directory",  # tempfile's, which has tried to write into each
    "PytorchStreamWriter failed writing",
    "database or disk is full",  # SQLite's
    "disk I/O error",
    "SIGBUS",  # of a worker: a mapped file has no block on the disk, or a bad one
)
"""What errors say that are no OSError, or have lost its number on the way."""


def storage_error(error: BaseException | None, places: Sequence[Path] = ()) -> StorageError | None:
    """The fault of a disk that ``error`` comes from, as it is told to a person.

    Args:
        error: its causes and contexts count as well; an interrupt is never a fault.
        places: where the writing may have been; of them, the fullest is named where the error
            names no file.

    Returns:
        None where there is no such fault.
    """
    if not isinstance(error, Exception):
        return None
    chain = list(causes(error))
    known_faults = [it for it in chain if isinstance(it, StorageError)]
    if known_faults:
        return known_faults[-1]  # the first in time
    faults = [it for it in chain if _is_fault(it)]
    return StorageError(_message(faults[-1], places)) if faults else None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was caused by, and so on, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_fault(error: BaseException) -> bool:
    known = isinstance(error, OSError) and error.errno in FAULTS
    return known or any(word in str(error) for word in WORDS)


def _message(error: BaseException, places: Sequence[Path]) -> str:
    named = getattr(error, "filename", None)
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0]
    if isinstance(named, str | bytes | os.PathLike):
        place: Path | None = Path(os.fsdecode(named))
    else:
        place = min(places, key=lambda path: free_bytes(path) or 0, default=None)
    if place is None:
        return f"{reason}\n{CONTINUES}"
    return f"{place}: {reason}{_free(place, getattr(error, 'errno', None))}\n{CONTINUES}"


def _free(place: Path, number: int | None) -> str:
    """How much room there is, where that is the reason."""
    free = free_bytes(place)
    return f" ({amount(free)} free there)" if number == errno.ENOSPC and free is not None else ""


def free_bytes(place: Path) -> int | None:
    """What is free where ``place`` is or will be; None where that cannot be told."""
    place = place.absolute()
    with suppress(OSError):
        there = next(path for path in (place, *place.parents) if path.exists())
        disk = shutil.disk_usage(there)
        return disk.free if disk.total else None
    return None


def amount(size: float) -> str:
    """Bytes as people read them: ``"3.2 MB"``, ``"240.0 GB"``."""
    if size < 1e5:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def check_room(place: Path, needed: int, what: str, advice: str) -> None:
    """Refuse to begin what will not fit.

    Args:
        place: a file or folder, there or not.
        needed: bytes.
        what: needs them.
        advice: what else one may do.

    Raises:
        StorageError: there are fewer free.
    """
    free = free_bytes(place)
    if free is not None and free < needed:
        room = f"{amount(needed)} are needed, and {amount(free)} are free in {place}"
        raise StorageError(f"{what}: {room}\n{advice}; {CONTINUES}")


def write_whole(
    path: Path, content: str | bytes | memoryview, advice: str = OTHER_DIRECTORY
) -> None:
    """Replace a file in one step: whatever happens meanwhile, it is the old one or the new one.

    Args:
        path: its folder need not exist.
        content: text is UTF-8.
        advice: what a person may do where it cannot be written.

    Raises:
        StorageError: the disk is full or fails; the file is as it was.
        UserError: it cannot be written for another reason.
    """
    data = content.encode() if isinstance(content, str) else content
    # beside the target, because a rename is atomic only within one file system
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in FAULTS:
            raise unwritable(path, error, advice) from error
        room = f"{amount(len(data))} are needed"
        if error.errno == errno.ENOSPC and (free := free_bytes(path)) is not None:
            room += f", {amount(free)} are free there"
        raise StorageError(f"{path}: {error.strerror} ({room})\n{CONTINUES}") from error


def remove_drafts(*paths: Path) -> None:
    """Remove what killed processes have left of ``write_whole``; nobody may be writing these."""
    for path in paths:
        for draft in path.parent.glob(f".{path.name}.[0-9]*"):
            draft.unlink(missing_ok=True)
