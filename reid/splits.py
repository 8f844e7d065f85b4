"""Samples, and who of them trains, asks and is searched for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from phasewise.data.splits import hashed_split
from phasewise.errors import Problem


@dataclass(frozen=True)
class Sample:
    """One image of one vehicle (or person).

    Attributes:
        name: its file below ``data.root``, with slashes, in NFC.
        path: the file.
        identity: as the file name gives it; in a gallery -1 is junk and 0 a distractor (Market).
        camera: None where it is not known.
    """

    name: str
    path: Path
    identity: int
    camera: int | None


@dataclass(frozen=True)
class Listing:
    """What a reader found.

    Attributes:
        train, query, gallery: the usable samples, sorted by name.
        problems: samples left out, and why.
        warnings: what is odd but used.
        identity_names: how identities are called where that is not their number.
    """

    train: list[Sample]
    query: list[Sample]
    gallery: list[Sample]
    problems: list[Problem]
    warnings: list[Problem]
    identity_names: dict[int, str] = field(default_factory=dict)


def choose_queries(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Query and gallery out of one pool of images, each sorted by name.

    As in VeRi-776: of each identity and camera the first image by name is a query, provided that
    another camera saw that identity too; all images, queries included, are the gallery, from which
    the protocol leaves out those of the query's identity and camera. If any camera is not known,
    that rule cannot be applied: then the first image of each identity is its query, provided that
    there is another, and the gallery is all the rest.
    """
    ordered = sorted(samples, key=lambda sample: sample.name)
    known = all(sample.camera is not None for sample in ordered)
    seen: dict[int, set[int | str | None]] = {}
    for sample in ordered:
        key = sample.camera if known else sample.name
        seen.setdefault(sample.identity, set()).add(key)
    first: dict[tuple[int, int | None], Sample] = {}
    for sample in ordered:
        if len(seen[sample.identity]) > 1:
            first.setdefault((sample.identity, sample.camera if known else None), sample)
    query = sorted(first.values(), key=lambda sample: sample.name)
    if known:
        return query, ordered
    chosen = {sample.name for sample in query}
    return query, [sample for sample in ordered if sample.name not in chosen]


def identity_facts(labels: Tensor, cameras: Tensor, is_query: Tensor) -> dict[str, float]:
    """Numbers about a split, for reports.

    Args:
        labels: int64 (N,), an identity each.
        cameras: int64 (N,), below 0 where it is not known.
        is_query: bool (N,); False throughout in training.

    Returns:
        Numbers by what they are, in words. Where there are queries, ``identities`` are those that
        are asked for: a gallery also holds images of nobody, and of others.
    """
    queries = int(is_query.sum())
    people = len(labels[is_query].unique() if queries else labels.unique())
    found: dict[str, float] = {"identities": people}
    if (known := cameras[cameras >= 0].unique()).numel():
        found["cameras"] = len(known)
    if queries:
        return found | {"queries": queries, "gallery images": len(labels) - queries}
    return found | {"images per identity": len(labels) / people if people else math.nan}


def split_identities(
    train: Sequence[Sample], *, seed: int, fraction: float = 0.2
) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Validation without the test set: some identities of the training set.

    Args:
        train: two identities or more.
        seed: another seed gives other validation identities.
        fraction: of the identities, in (0, 1); at least one, never all. Which, is decided by hash:
            their order does not matter, and those of a smaller fraction are part of a larger one.

    Returns:
        The samples that still train; query and gallery of the others, see `choose_queries`.
    """
    identities = {str(sample.identity) for sample in train}
    chosen = set(hashed_split(identities, seed, (1 - fraction, fraction, 0.0))["val"])
    kept = [sample for sample in train if str(sample.identity) not in chosen]
    query, gallery = choose_queries([s for s in train if str(s.identity) in chosen])
    return kept, query, gallery


def valid_queries(query: Sequence[Sample], gallery: Sequence[Sample]) -> list[Sample]:
    """The queries with something to find: their identity, seen by another camera."""
    cameras: dict[int, set[int | None]] = {}
    for sample in gallery:
        cameras.setdefault(sample.identity, set()).add(sample.camera)
    return [
        sample
        for sample in query
        if (there := cameras.get(sample.identity))
        and (sample.camera is None or there - {sample.camera})
    ]


def not_judged(found: Listing, by_test: bool) -> str:
    """Why no query can be found again, and what helps: nothing that leads back here.

    Args:
        found: where ``val/mAP`` has no value.
        by_test: whether the test split was to select; else some training identities.
    """
    judged = [*found.query, *found.gallery] if by_test else found.train
    what, who = ("test", "query") if by_test else ("training", "validation identity")
    seen: dict[int, set[int]] = {sample.identity: set() for sample in judged}
    for sample in judged:
        seen[sample.identity] |= set() if sample.camera is None else {sample.camera}
    cameras = set().union(*seen.values())
    if len(cameras) == 1:
        reason = f"the names of all {len(judged)} {what} images say camera {min(cameras)}"
    elif cameras and all(len(own) == 1 for own in seen.values()):
        reason = f"by their names, one camera alone sees each of the {len(seen)} {what} identities"
    elif cameras:
        reason = f"no {who} is seen by another camera"
    else:
        reason = f"no {who} has another image to be found"
    if cameras:
        reason += ", and a query can only be found by another one"
    ways = " or ".join(_ways_to_judge(found, by_test)) or "data with more images of an identity"
    return f"{reason}, so that val/mAP has no value; choose {ways}"


def _ways_to_judge(found: Listing, by_test: bool) -> list[str]:
    """Settings with which some query can be found again."""
    ways = []
    if valid_queries(*choose_queries(found.train)):
        ways.append(
            "data.validation=identities" if by_test else "a larger data.validation_fraction"
        )
    if not by_test and valid_queries(found.query, found.gallery):
        ways.append("data.validation=test")
    if all(sample.camera is None for sample in found.train):
        return ways
    asked = {(sample.identity, sample.path.name) for sample in found.query}
    others = {(s.identity, s.path.name) for s in found.gallery} - asked
    if by_test and {identity for identity, _ in asked} & {identity for identity, _ in others}:
        ways.append("data.cameras=ignore: any other image of its identity then counts")
    elif len({sample.identity for sample in found.train}) < len(found.train):
        also = " with data.validation=identities" if by_test else ""
        ways.append(f"data.cameras=ignore{also}: any other image of its identity then counts")
    return ways
