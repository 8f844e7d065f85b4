"""Samples that a reader of somebody's own lists.

A reader is a function: it takes the folder of the data, and its own arguments by name, and returns
what the task's own readers return. In a config it is a mapping with ``_target_`` and those
arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from phasewise.config.signatures import TARGET
from phasewise.config.targets import build
from phasewise.errors import UserError

KEY = "data.reader"

Reader = Callable[[Path], Any] | Mapping[str, Any]


def read_with(reader: Reader, root: Path, kind: type) -> Any:
    """What a reader lists.

    Args:
        reader: see above.
        root: the folder of the data.
        kind: what it must return.

    Raises:
        UserError: it cannot be imported, raises something, or returns something else.
    """
    if isinstance(reader, Mapping):
        return build(reader, root, where=KEY, kind=kind)
    found = reader(root)
    if not isinstance(found, kind):
        raise UserError(f"{KEY}: returned a {type(found).__name__}, which is no {kind.__name__}")
    return found


def places_of(reader: Reader) -> list[Path]:
    """Files and folders that its arguments name, and that it may look at besides the root's."""
    if not isinstance(reader, Mapping):
        return []
    texts = [
        Path(it).expanduser() for key, it in reader.items() if isinstance(it, str) and key != TARGET
    ]
    return [path for path in texts if path.exists()]


def check_inside(root: Path, files: Iterable[Path | None]) -> None:
    """Samples are told apart, and kept, by their place below the root.

    Raises:
        UserError: a file lies elsewhere.
    """
    for file in files:
        if file is not None and not file.is_relative_to(root):
            raise UserError(f"{KEY}: {file} does not lie below data.root={root}")
