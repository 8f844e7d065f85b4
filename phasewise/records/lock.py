"""One process at a time in a run directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from phasewise.errors import UserError, unwritable

LOCK = ".lock"
"""Stays in the directory: a lock file that is removed can be held twice."""

_held: set[Path] = set()

log = logging.getLogger(__name__)


def holds(directory: str | Path) -> bool:
    """Whether this process holds a run directory, as whoever called what runs here may do."""
    return Path(directory).resolve() in _held


@contextmanager
def locked(directory: str | Path, *, wait: bool) -> Iterator[bool]:
    """Hold a run directory, which is made if need be; a process that dies holds it no longer.

    Args:
        directory: of the run.
        wait: for a process that holds it.

    Yields:
        Whether there was one to wait for.

    Raises:
        UserError: the directory cannot be written; or another process holds it, without ``wait``.
    """
    path = Path(directory) / LOCK
    lock = FileLock(path)
    waited = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        if not wait:
            raise UserError(
                f"{directory}: another process trains here; when it has ended, this command goes "
                "on from there; hydra.run.dir=DIR chooses another place"
            ) from error
        waited = True
    except OSError as error:
        raise unwritable(path, error) from error
    if waited:
        log.info("waiting for another process that trains in %s", directory)
        lock.acquire()
    _held.add(path.parent.resolve())
    try:
        yield waited
    finally:
        _held.discard(path.parent.resolve())
        lock.release()


def is_held(directory: str | Path) -> bool:
    """Whether a process works in a directory; ``True`` where that cannot be told."""
    path = Path(directory) / LOCK
    try:
        if path.exists():
            FileLock(path).acquire(blocking=False).lock.release()
    except (Timeout, OSError):
        return True
    return False


def wait_until_free(directory: str | Path) -> None:
    """Return when no other process holds a run directory."""
    if (Path(directory) / LOCK).exists():
        with locked(directory, wait=True):
            pass
