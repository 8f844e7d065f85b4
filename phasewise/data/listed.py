"""The samples of a data set's splits: listed, and then decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from phasewise.config.identity import DataIdentity
from phasewise.data.store import Arrays, Fields, Store, build_store
from phasewise.errors import SHOWN, Problem, UserError
from phasewise.records.content import digest

Facts = dict[str, float | dict[str, float]]
"""Numbers about a split by what they are, in words; of each class, a mapping by its name."""


@dataclass(frozen=True)
class Folds:
    """Of which cross-validation a run is: into how many folds samples were dealt, which validates,
    and a hash of all samples, the same for all folds."""

    folds: int
    fold: int
    pool: str


@dataclass
class DataSummary:
    """What a run's record says of its data."""

    counts: dict[str, int]
    split_hash: str
    identity: DataIdentity
    rejected: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    folds: Folds | None = None

    def as_dict(self) -> dict[str, Any]:
        """The form in which ``record.json`` keeps it."""
        return {
            "counts": self.counts,
            "split_hash": self.split_hash,
            "hash": self.identity.hash,
            "hashes": dict(self.identity.hashes),
            "rejected": [problem.as_dict() for problem in self.rejected],
            "warnings": [problem.as_dict() for problem in self.warnings],
            **({} if self.folds is None else asdict(self.folds)),
        }


@dataclass
class Listed:
    """The samples of a split, not yet decoded; see `StoreDataModule.store_split`."""

    samples: Sequence[Any]
    load: Callable[[Any], Arrays]
    fields: Fields
    content: Sequence[Any]
    meaning: Any
    key: Mapping[str, Any]
    names: Sequence[str]

    @property
    def hash(self) -> str:
        """Of what the samples are: names, bytes and labels, in their order, pieces of one only
        once."""
        return digest([self.meaning, list(dict.fromkeys(self.digests))])

    @cached_property
    def digests(self) -> list[str]:
        """A hash of each sample."""
        return [digest(one) for one in self.content]

    @property
    def manifest(self) -> dict[str, str]:
        """A short hash by name; one name may stand for several samples, as a query in a gallery."""
        found: dict[str, str] = {}
        for name, one in zip(self.names, self.digests, strict=True):
            found[name] = found.get(name, "") + one[:8]
        return found


@dataclass
class Splits:
    """What `StoreDataModule.read` returns.

    ``listed``: the samples of each split, ``test`` may be missing. ``stores``: the same, decoded,
    and ``names`` of their rows, for messages and figures; both are filled by `setup`.
    ``class_names``: index to name. ``rule``: how samples came into their splits, in words.
    ``source``: of data whose labels depend on the split, a hash of what may train or validate.
    """

    class_names: list[str]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    listed: dict[str, Listed] = field(default_factory=dict)
    stores: dict[str, Store] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    rule: str = ""
    source: str = ""

    @property
    def pool(self) -> str:
        """A hash of all samples, whichever of them validate."""
        parts = [it for split, it in self.listed.items() if split != "test"]
        seen = sorted(
            {f"{n}:{d}" for it in parts for n, d in zip(it.names, it.digests, strict=True)}
        )
        test = self.listed["test"].hash if "test" in self.listed else ""
        return digest([self.source or seen, test])[:12]


def decode(splits: Splits, image_size: int, cache_dir: Path, ram_limit_mb: float) -> None:
    """Build the stores, or take them from the cache; one for splits that are the same.

    Args:
        splits: listed; gains stores, the names of their rows, and what cannot be decoded.
        image_size, cache_dir, ram_limit_mb: see `StoreDataModule`.
    """
    done: dict[int, str] = {}
    known = set(splits.problems)  # an image may be in two splits, or in several tiles
    for split, listed in splits.listed.items():
        if (same := done.setdefault(id(listed), split)) != split:
            splits.stores[split] = splits.stores[same]
            splits.names[split] = splits.names[same]
            continue
        store, rows, problems = build_store(
            listed.samples,
            listed.load,
            listed.fields,
            key={**listed.key, "image_size": image_size, "content": listed.content},
            cache_dir=cache_dir,
            ram_limit_mb=ram_limit_mb,
            desc=f"decoding {split} images",
        )
        splits.stores[split] = store
        splits.names[split] = [listed.names[row] for row in rows]
        splits.problems += [it for it in dict.fromkeys(problems) if it not in known]
        known |= set(problems)


def same_but_for_case(class_names: Sequence[str]) -> list[Problem]:
    """A note on classes that may be one, written in two ways."""
    written: dict[str, list[str]] = {}
    for name in class_names:
        written.setdefault(" ".join(name.casefold().split()), []).append(name)
    return [
        Problem("classes", f"{' and '.join(map(repr, names))} are read as {len(names)} classes")
        for names in written.values()
        if len(names) > 1
    ]


def refuse_unusable(
    problems: Sequence[Problem], counts: Mapping[str, int], root: Path | None, on_bad: str
) -> None:
    """See whether there is something to train on, and nothing wrong that stops a run.

    Args:
        problems: of samples.
        counts: how many of each split can be used.
        root: folder of the data, where there is one.
        on_bad: whether a problem is an ``error``, or samples are left out (``skip``).

    Raises:
        UserError: it is not so.
    """
    what = "samples"
    if root is not None:
        what += f" in data.root={root}"
    what += " cannot be used"
    mend = "mend or remove them"
    if len(problems) > SHOWN:
        mend += " (record.json lists all)"
    empty = " and ".join(split for split in ("train", "val") if not counts.get(split))
    if empty and problems:
        raise UserError(f"{what}, which leaves {empty} empty", problems, mend)
    if empty:
        raise UserError(f"there is no sample for {empty}")
    if problems and on_bad == "error":
        raise UserError(what, problems, f"{mend}, or train on the rest with data.on_bad=skip")
