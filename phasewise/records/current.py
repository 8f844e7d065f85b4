"""The record of the job that runs in this process, where a study has begun it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from phasewise.records.record import RunRecord

_current: list[RunRecord] = []


def current_record() -> RunRecord | None:
    """The record that a study began for the function that runs now; it holds the directory's lock.

    ``None`` outside of a study's job.
    """
    return _current[-1] if _current else None


@contextmanager
def recording(record: RunRecord) -> Iterator[None]:
    """While a job's function runs."""
    _current.append(record)
    try:
        yield
    finally:
        _current.remove(record)
