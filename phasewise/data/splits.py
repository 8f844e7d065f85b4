"""Which sample belongs to which split: lists on disk, or a split by hashed name."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from phasewise.data.groups import KEY, NONE, Groups, known_exports
from phasewise.errors import BadSample, Problem, UserError

SPLITS = ("train", "val", "test")
LISTS = (*SPLITS, "trainval")
"""The lists that are looked for; ``resolve_splits`` turns them into ``SPLITS``."""

_ODD = re.compile(r"[\\:\0]|\.\.")
"""What a name has that may lead elsewhere, or be none."""

DRAWN = "drawn, each split on its own"
"""How samples of embedded data come into their splits."""

BY_READER = "as the reader lists them"
"""The same of data that are listed by a reader from outside."""


class NameList(NamedTuple):
    """The distinct names of a list in their order, and those that it holds more than once."""

    names: list[str]
    duplicates: list[str]


def read_list(path: Path, name: str | None = None) -> NameList:
    """One name per line, whole (spaces inside stay), in NFC.

    A byte order mark, Windows line ends, blank lines and space around a name do not matter. NFC,
    because macOS stores ``ü`` as two characters and most editors write it as one.

    Args:
        path: a text file in UTF-8 (or UTF-16 with its mark, as PowerShell writes it).
        name: how messages call it; the path if not given.

    Raises:
        UserError: it cannot be read or is not text.
    """
    try:
        raw = Path(path).read_bytes()
        marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = raw.decode("utf-16" if marked else "utf-8-sig")
    except OSError as error:
        raise UserError(f"{name or path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{name or path} is not text in UTF-8; save it as UTF-8") from None
    # Not splitlines(), which also cuts at characters that a name may hold.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    counts: dict[str, int] = {}
    for line in lines:
        entry = unicodedata.normalize("NFC", line.strip())
        if entry:
            counts[entry] = counts.get(entry, 0) + 1
    return NameList(list(counts), [entry for entry, count in counts.items() if count > 1])


@dataclass
class Lists:
    """The split lists of a data set.

    Attributes:
        names: of each of `LISTS` that is there, the union of its files.
        files: that were read, relative to the root.
        listed_in: the first of them that holds a name.
        warnings: names that a file holds more than once.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    listed_in: dict[str, str] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)


def read_lists(root: Path, folders: Sequence[str], resolve: Callable[[str], str] = str) -> Lists:
    """Read whatever lists a data set has.

    Args:
        root: ``data.root``.
        folders: where lists may be, relative to it.
        resolve: gives the name that a line of a list means.

    Raises:
        UserError: see `read_list`.
    """
    lists = Lists()
    for folder in folders:
        # asked of the folder, not of each list: a list that appears there is new data
        there = set(os.listdir(root / folder)) if (root / folder).is_dir() else set()
        for key in LISTS:
            file = (PurePosixPath(folder) / f"{key}.txt").as_posix()
            if f"{key}.txt" not in there or not (root / file).is_file():
                continue
            entries, duplicates = read_list(root / file, file)
            counts = Counter(map(resolve, entries))
            duplicates += [name for name, count in counts.items() if count > 1]
            lists.files.append(file)
            lists.names[key] = list(dict.fromkeys([*lists.names.get(key, ()), *counts]))
            for name in counts:
                lists.listed_in.setdefault(name, file)
            lists.warnings += [
                Problem(file, f"lists {name!r} more than once")
                for name in dict.fromkeys(duplicates)
            ]
    return lists


def inside(root: Path, relative: str) -> Path:
    """``root / relative``, which must not lead out of ``root``.

    Links on the way are followed, since people make them on purpose.

    Raises:
        BadSample: ``relative`` is empty or absolute (on any system) or has a ``..`` in it.
    """
    check_inside(relative)
    return root / relative


def check_inside(relative: str) -> None:
    """See that a path does not lead out of the folder that it is relative to.

    Raises:
        BadSample: see `inside`.
    """
    if relative and relative[0] != "/" and not _ODD.search(relative):
        return  # nearly all are plain, and `Path` takes its time
    windows = PureWindowsPath(relative)  # splits at both kinds of slash
    if not relative or "\0" in relative:
        raise BadSample(repr(relative), "not a file name")
    if windows.drive or windows.root or PurePosixPath(relative).is_absolute():
        raise BadSample(relative, "an absolute path; it must be relative to data.root")
    if ".." in windows.parts:
        raise BadSample(relative, "leads out of data.root by '..'")


def hashed_split(
    names: Iterable[str],
    seed: int,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    groups: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Split by the order of sha256(seed, name), so the order of ``names`` does not matter.

    Train is never empty; val gets at least one of two or more names; test may be empty. The names
    of a group stay together, in the order of the group's own name: then the fractions are met as
    nearly as whole groups allow.

    Args:
        names: repeated names count once.
        seed: another seed gives another split.
        fractions: of train, val and test; their sum is 1.
        groups: the group of each name; one that is missing is alone.

    Returns:
        The names of each of ``SPLITS``, sorted.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions {fractions} are not shares of 1")
    members = members_of(set(names), groups or {})
    order = sorted(members, key=lambda name: place_of(name, seed))
    count = sum(map(len, members.values()))
    val, order = _taken(order, members, max(1, _rounded(count * fractions[1])))
    if not val and len(order) > 1:  # each group is larger than that
        least = min(order, key=lambda group: len(members[group]))
        val, order = [least], [group for group in order if group != least]
    test, order = _taken(order, members, _rounded(count * fractions[2]))
    parts = (order, val, test)
    return {
        split: sorted(name for group in part for name in members[group])
        for split, part in zip(SPLITS, parts, strict=True)
    }


def place_of(name: str, seed: int) -> bytes:
    """Where a name, or a group, stands in the order by hash."""
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def members_of(names: set[str], groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by group; one that is alone is a group of its own name."""
    if not groups:
        return {name: [name] for name in names}
    counts = Counter(groups[name] for name in names if name in groups)
    found: dict[str, list[str]] = {}
    for name in names:
        group = groups.get(name)
        # "\0" is in no file name: a group that is called as some other file is another one
        key = name if group is None or counts[group] == 1 else f"\0{group}"
        found.setdefault(key, []).append(name)
    return found


def _taken(
    order: list[str], members: Mapping[str, list[str]], target: int
) -> tuple[list[str], list[str]]:
    """The first groups that bring their names nearest to ``target``, and the others, at least one
    of them."""
    taken: list[str] = []
    left: list[str] = []
    count = 0
    for group in order:
        size = len(members[group])
        if count + size / 2 <= target and len(taken) < len(order) - 1:
            taken.append(group)
            count += size
        else:
            left.append(group)
    return taken, left


def _rounded(value: float) -> int:
    return int(value + 0.5)


def resolve_splits(
    lists: Mapping[str, Sequence[str]],
    everything: Iterable[str],
    seed: int,
    groups: Groups | None = None,
) -> tuple[dict[str, list[str]], list[Problem]]:
    """The final splits from whichever lists exist.

    Train and val lists are used as they are, and so is a test list. A missing val (or train) is
    what trainval holds beyond the other; else val is 15 % of train or trainval by hashed name.
    Without any list, everything is split 70/15/15 by hashed name. What is split by name keeps
    groups together; lists are never changed for their sake.

    Args:
        lists: names by list, keys out of ``LISTS``.
        everything: all names there are, used where ``lists`` is empty.
        seed: of the hashed split.
        groups: of the names; `phasewise.data.groups.known_exports` if not given.

    Returns:
        The names of each of ``SPLITS`` (train is empty where only val or test is listed), and
        a warning for each name in two of them, for groups that were kept together, and for groups
        that lists put apart.

    Raises:
        UserError: all that is to be split is one group.
    """
    if not lists:
        everything = list(everything)
        groups = known_exports(everything) if groups is None else groups
        return hashed_split(everything, seed, groups=groups.of), kept_together(everything, groups)
    if groups is None:
        groups = known_exports(name for names in lists.values() for name in names)
    train, val, both = (list(lists.get(key, ())) for key in ("train", "val", "trainval"))
    if "train" in lists and "val" not in lists:
        val = _beyond(both, train)
    elif "train" not in lists:
        train = _beyond(both, val)
    notes = []
    if "val" not in lists and not val:
        notes += kept_together(train, groups)
        split = hashed_split(train, seed, (0.85, 0.15, 0.0), groups.of)
        train, val = split["train"], split["val"]
    final = {"train": train, "val": val, "test": list(lists.get("test", ()))}
    return final, [*_overlaps(final), *notes, *straddling(final, groups)]


def kept_together(names: Sequence[str], groups: Groups) -> list[Problem]:
    """What is said of groups in a split by hashed name."""
    grouped = members_of(set(names), groups.of).values() if groups.of else ()
    members = [it for it in grouped if len(it) > 1]
    if not members:
        empty = f"no two of {len(names)} images are of one group ({groups.why})"
        return [Problem(f"{KEY}={groups.by}", empty)] if groups.by not in ("auto", NONE) else []
    count, largest = sum(map(len, members)), max(map(len, members))
    if largest == len(set(names)):
        raise UserError(
            f"{KEY}={groups.by}: all {count} images are of one group ({groups.why}), and it cannot "
            f"be split. {KEY}={NONE} splits them all the same; {KEY}=REGEX tells groups otherwise"
        )
    reason = f"{count} of {len(names)} images are in {len(members)} groups ({groups.why})"
    reason += f", the largest of {largest}; each is in one split only. {KEY}={NONE} parts them"
    return [Problem(f"{KEY}={groups.by}", reason)]


def straddling(splits: Mapping[str, Sequence[str]], groups: Groups) -> list[Problem]:
    """What is said of groups that lists put into several splits."""
    homes: dict[str, set[str]] = {}
    if groups.of:
        for split, names in splits.items():
            for name in names:
                if name in groups.of:
                    homes.setdefault(groups.of[name], set()).add(split)
    found = {group: there for group, there in homes.items() if len(there) > 1}
    if not found:
        return []
    where = " and ".join(it for it in SPLITS if any(it in there for there in found.values()))
    first = next(iter(found)).replace("\0", " ")
    reason = (
        f"{len(found)} groups of images ({groups.why}), e.g. {first}, are in {where}, as listed"
    )
    return [Problem(f"{KEY}={groups.by}", f"{reason}: figures on copies are too good")]


def split_rule(files: Sequence[str], seed: int) -> str:
    """How `resolve_splits` went about it, in words.

    Args:
        files: the lists that were read.
        seed: of the hashed split.
    """
    hashed = f"by hashed name, split_seed={seed}"
    if not files:
        return f"70/15/15 {hashed}"
    text = f"listed in {', '.join(files)}"
    names = {PurePosixPath(file).stem for file in files}
    if "val" not in names and not {"train", "trainval"} <= names:
        text += f"; 15 % of train validate, {hashed}"
    return text


def _beyond(names: Sequence[str], known: Sequence[str]) -> list[str]:
    excluded = set(known)
    return [name for name in names if name not in excluded]


def _overlaps(splits: Mapping[str, Sequence[str]]) -> list[Problem]:
    homes: dict[str, list[str]] = {}
    for split, names in splits.items():
        for name in names:
            homes.setdefault(name, []).append(split)
    return [
        Problem(name, f"is in {' and '.join(found)}")
        for name, found in homes.items()
        if len(found) > 1
    ]
