"""Which images belong together: copies of one photograph must not be split apart.

Where they are, what is validated on has been trained on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from phasewise.errors import UserError

KEY = "data.group_by"
AUTO, NONE, NEAR = "auto", "none", "near"
"""What ``data.group_by`` may be, beside a regular expression or the name of a column."""

EXPORTS = (
    re.compile(r"(?P<of>.+)\.rf\.[0-9A-Za-z]{8,}"),
    re.compile(r".*_original_(?P<of>.+)_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
)
"""What the tools call augmented copies that is nothing else: Roboflow ``NAME_jpg.rf.HASH.jpg``,
Augmentor ``FOLDER_original_NAME.jpg_UUID.jpg``. Compared with the name without folders and
extension."""


@dataclass(frozen=True)
class Groups:
    """The groups of some names.

    Attributes:
        by: ``data.group_by`` as it was given.
        of: the group of each name; a name that is missing is alone.
        why: what the names of a group have in common, in words.
    """

    by: str = NONE
    of: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def together(self) -> dict[str, list[str]]:
        """The names of each group of several, in their order."""
        counts = Counter(self.of.values())
        found: dict[str, list[str]] = {}
        for name, group in self.of.items():
            if counts[group] > 1:
                found.setdefault(group, []).append(name)
        return found


def known_exports(names: Iterable[str]) -> Groups:
    """Groups by what annotation tools call copies of one photograph, see `EXPORTS`."""
    found = {}
    for name in names:
        last = name.rsplit("/", 1)[-1]
        # a plain test first: nearly all names are of no export
        if ".rf." not in last and "_original_" not in last:
            continue
        stems = (last, PurePosixPath(last).stem)  # VOC's names have no extension any more
        matches = (pattern.fullmatch(stem) for stem in stems for pattern in EXPORTS)
        match = next((it for it in matches if it is not None), None)
        if match is not None:
            found[name] = match["of"]
    return Groups(AUTO, found, "named as Roboflow or Augmentor name copies of one photograph")


def find_groups(
    by: str,
    names: Iterable[str],
    *,
    images: Callable[[str], Path | None] | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> Groups:
    """The groups of a data set.

    Args:
        by: ``auto`` (see `known_exports`), ``none``, ``near`` (see
            `phasewise.data.near.near_duplicates`), the name of a column, or a regular expression
            that is searched in each name: its groups in brackets, or without such all that it
            matches, are what the names of a group have in common.
        names: all that may be split.
        images: the file of a name, for ``near``; None where there is none.
        columns: by the names of columns, what stands there for a name.

    Raises:
        UserError: ``by`` is none of these, or nothing that it says is found.
    """
    names = list(dict.fromkeys(names))
    if by == AUTO:
        return known_exports(names)
    if by == NONE:
        return Groups()
    if by == NEAR:
        if images is None:
            raise UserError(f"{KEY}={NEAR}: these data have no images to compare")
        from phasewise.data.near import near_duplicates

        files = {name: path for name in names if (path := images(name)) is not None}
        return Groups(by, near_duplicates(files), "images that look alike")
    column = next((it for it in columns or () if it.casefold() == by.casefold()), None)
    if columns is not None and column is not None:
        cells = {name: cell for name in names if (cell := columns[column].get(name))}
        return Groups(by, cells, f"the same in the column {column}")
    return Groups(by, _matched(by, names, columns), f"what {by} finds in their names is the same")


def _matched(
    by: str, names: list[str], columns: Mapping[str, Mapping[str, str]] | None
) -> dict[str, str]:
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise UserError(f"{KEY}={by} is no regular expression: {error}") from None
    found = {}
    for name in names:
        if match := pattern.search(name):
            found[name] = "\0".join(it or "" for it in match.groups()) or match[0]
    if not found and names:
        columned = f" and is no column ({', '.join(columns)})" if columns else ""
        raise UserError(
            f"{KEY}={by} is found in none of {len(names)} names, such as {names[0]!r}{columned}"
        )
    return found
