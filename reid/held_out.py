"""Who of the training images validates: identities, and perhaps cameras or recordings too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from phasewise.data.groups import find_groups
from phasewise.data.held_out import deal, named
from phasewise.data.splits import hashed_split
from phasewise.errors import Problem, UserError
from reid.splits import Sample, choose_queries, split_identities, valid_queries

CAMERAS, RECORDINGS = "cameras", "recordings"


class Parts(NamedTuple):
    """What trains; query and gallery of validation; what is said of it."""

    train: list[Sample]
    query: list[Sample]
    gallery: list[Sample]
    notes: Sequence[Problem] = ()


@dataclass(frozen=True)
class HeldOutIdentities:
    """Cuts validation out of the training images; its identities train nothing.

    ``identities``: some of them. Queries and gallery are all their images, see `choose_queries`.

    ``cameras``: the same identities, but queries are what the held-out cameras saw of them; the
    gallery is all that any camera saw of them, from which the protocol takes what the query's own
    camera saw. Others train, by other cameras only.

    ``recordings``: all identities that a held-out recording shows. Queries and gallery are its
    images; those of the same identities in other recordings are not used.

    Attributes:
        by: one of these, or ``none`` or ``test``, which are cut as ``identities``.
        fraction: of the identities that validates, in (0, 1).
        holdout: which cameras or recordings, or their share; None = ``fraction``.
        group_by: the regular expression that finds the recording in an image's name.
        folds, fold: into how many parts identities, cameras or recordings are dealt, and which of
            them validates; None = by ``fraction`` or ``holdout``.
    """

    by: str
    fraction: float
    holdout: float | Sequence[str | int] | None = None
    group_by: str | None = None
    folds: int | None = None
    fold: int = 0

    def cut(self, train: Sequence[Sample], seed: int) -> Parts:
        """Cut it.

        Args:
            train: two identities or more.
            seed: another seed gives another validation.

        Raises:
            UserError: cameras or recordings are not known, are not as many as are asked for, or
                leave nothing to train on or to find.
        """
        if self.by == CAMERAS:
            return self._cameras(train, seed)
        if self.by == RECORDINGS:
            return self._recordings(train, seed)
        if self.folds is None:
            return Parts(*split_identities(train, seed=seed, fraction=self.fraction))
        names = {str(sample.identity) for sample in train}
        own = set(deal(names, seed, self.folds, what="training identities")[self.fold])
        pool = [sample for sample in train if str(sample.identity) in own]
        kept = [sample for sample in train if str(sample.identity) not in own]
        return Parts(kept, *choose_queries(pool))

    def rule(self, seed: int) -> str:
        """How it is cut, in words."""
        hashed = f"by hashed name, split_seed={seed}"
        share = f"{100 * self.fraction:.0f} % of the training identities"
        what = self.by if self.by in (CAMERAS, RECORDINGS) else "training identities"
        if self.folds is not None:
            which = f"the {what} are dealt into {self.folds} folds {hashed}; one is held out"
        elif isinstance(self.holdout, Sequence):
            which = f"the {what} {', '.join(map(str, self.holdout))} are held out"
        else:
            part = f"{100 * (self.holdout or self.fraction):.0f} %"
            which = f"{part} of the {what}, {hashed}, are held out"
        if self.by == CAMERAS:
            return f"{share} validate, {hashed}, asked for by cameras that train nothing: {which}"
        if self.by == RECORDINGS:
            return f"{which}, with all identities that they show"
        return f"{share} validate, {hashed}" if self.folds is None else which

    def _held(self, there: Iterable[str], seed: int) -> set[str]:
        """Names of the cameras or recordings that validate."""
        items = sorted(set(there))
        key = f"data.validation={self.by}"
        if len(items) == 1:
            reason = f"all training images are of one, {items[0]}: none is left to train on"
            raise UserError(f"{key}: {reason}; data.validation=identities holds out identities")
        if self.folds is not None:
            return set(deal(items, seed, self.folds, what=self.by)[self.fold])
        if isinstance(self.holdout, Sequence):
            bare = self.by == CAMERAS
            asked = [re.sub("^c(?=[0-9])", "", str(it)) if bare else it for it in self.holdout]
            return set(named(asked, items, self.by))
        share = self.holdout or self.fraction
        return set(hashed_split(items, seed, (1 - share, share, 0.0))["val"])

    def _cameras(self, train: Sequence[Sample], seed: int) -> Parts:
        unknown = [sample for sample in train if sample.camera is None]
        if unknown:
            raise UserError(
                f"data.validation={CAMERAS}: nothing says which camera took {len(unknown)} of "
                f"{len(train)} training images ({unknown[0].name})"
            )
        cameras = self._held((str(sample.camera) for sample in train), seed)
        kept, query, gallery = split_identities(train, seed=seed, fraction=self.fraction)
        trains = [sample for sample in kept if str(sample.camera) not in cameras]
        asks = [sample for sample in query if str(sample.camera) in cameras]
        shown = ", ".join(sorted(cameras, key=int))
        if not trains:
            raise UserError(
                f"data.validation={CAMERAS}: no identity that trains was seen by another camera "
                f"than {shown}; hold out fewer with data.holdout"
            )
        if not valid_queries(asks, gallery):
            raise UserError(
                f"data.validation={CAMERAS}: no validation identity was seen by camera {shown} and "
                "by another one, so that val/mAP has no value; choose others with data.holdout, or "
                "a larger data.validation_fraction"
            )
        notes = [_held_out(CAMERAS, shown, len(kept) - len(trains), "of identities that train")]
        left = {sample.camera for sample in trains}
        if len(left) == 1:
            one = f"camera {next(iter(left))} alone is left to train on"
            several = len({sample.identity for sample in trains}) < len(trains)
            why = "no identity is seen by two" if several else "with one image of each identity"
            reason = f"{one}, {why}: nothing there teaches to find it by another one"
            notes.append(Problem(f"validation={CAMERAS}", reason))
        return Parts(trains, asks, gallery, notes)

    def _recordings(self, train: Sequence[Sample], seed: int) -> Parts:
        recording = self._recording_of(train)
        held = self._held(recording.values(), seed)
        inside = [sample for sample in train if recording[sample.name] in held]
        own = {sample.identity for sample in inside}
        trains = [sample for sample in train if sample.identity not in own]
        shown = ", ".join(sorted(held))
        key = f"data.validation={RECORDINGS}: the held-out recordings ({shown})"
        if not trains:
            raise UserError(f"{key} show every training identity; hold out fewer with data.holdout")
        query, gallery = choose_queries(inside)
        if not valid_queries(query, gallery):
            raise UserError(
                f"{key} have no identity that another image of theirs shows (by another camera, "
                "where cameras are known), so that val/mAP has no value; choose others with "
                "data.holdout"
            )
        unused = len(train) - len(inside) - len(trains)
        notes = [_held_out(RECORDINGS, shown, unused, "of their identities in others")]
        return Parts(trains, query, gallery, notes)

    def _recording_of(self, train: Sequence[Sample]) -> Mapping[str, str]:
        names = [sample.name for sample in train]
        groups = find_groups(str(self.group_by), names)
        missing = [name for name in names if name not in groups.of]
        if missing:
            raise UserError(
                f"data.group_by={self.group_by} finds no recording in {len(missing)} of "
                f"{len(names)} names of training images, such as {missing[0]!r}"
            )
        return {name: group.replace("\0", " ").strip() for name, group in groups.of.items()}


def _held_out(what: str, shown: str, unused: int, whose: str) -> Problem:
    left = f"; {unused} training images {whose} are not used" if unused else ""
    return Problem(f"validation={what}", f"held out: {shown}{left}")
