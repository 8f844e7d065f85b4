"""Validation that is hard on purpose: whole groups held out, or one fold of several.

Test samples stay what they are, whatever validates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from phasewise.config.help import did_you_mean
from phasewise.data.groups import KEY, Groups, known_exports
from phasewise.data.splits import (
    hashed_split,
    kept_together,
    members_of,
    place_of,
    resolve_splits,
    split_rule,
    straddling,
)
from phasewise.errors import Problem, UserError

AUTO, GROUPS = "auto", "groups"
"""What ``data.validation`` may be."""

SHARE = 0.15
"""Of the samples that are no test, where ``data.holdout`` says nothing; as in `resolve_splits`."""

SHOWN = 10

Notes = list[Problem]


@dataclass(frozen=True)
class HeldOut:
    """What validates, of all that is no test.

    Attributes:
        validation: ``auto``, as lists say, else by hashed name; or ``groups``: whole groups, also
            where lists put them apart.
        holdout: of ``groups``: the names of those that validate, or their share of the samples, in
            (0, 1); None = `SHARE`.
        folds: into how many parts the samples are dealt, of which one validates and the others
            train (k-fold cross-validation); None = no folds.
        fold: which of them validates, counted from 0.
    """

    validation: str = AUTO
    holdout: float | Sequence[str | int] | None = None
    folds: int | None = None
    fold: int = 0

    def resolve(
        self,
        lists: Mapping[str, Sequence[str]],
        everything: Iterable[str],
        seed: int,
        groups: Groups | None = None,
        strata: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, list[str]], Notes]:
        """As `phasewise.data.splits.resolve_splits`, unless something else is asked for: then train
        and val are cut anew, out of all that lists have for train, val or trainval and not for
        test, or, without lists, out of what is no test by hashed name.

        Args:
            lists, everything, seed, groups: see there.
            strata: the class of each name, of which each fold gets its share.

        Raises:
            UserError: see there; there are no groups, or not as many as are to be held out.
        """
        everything = list(everything)
        if groups is None:
            groups = known_exports([*everything, *(it for each in lists.values() for it in each)])
        by_groups = self.validation == GROUPS
        if self.folds is None and not by_groups:
            return resolve_splits(lists, everything, seed, groups)
        pool, test, notes = _pool(lists, everything, seed, groups)
        notes += kept_together(pool, groups)
        if by_groups:
            self._check_groups(pool, groups)
        if self.folds is not None:
            what = "groups" if by_groups else "images, groups counting once"
            parts = deal(pool, seed, self.folds, groups.of, strata, what)
            val = set(parts[self.fold])
        elif isinstance(self.holdout, Sequence):
            members = members_of(set(pool), groups.of)
            shown = {group.replace("\0", " ").strip(): group for group in members}
            val = {
                name for it in named(self.holdout, shown, "groups") for name in members[shown[it]]
            }
        else:
            share = self.holdout or SHARE
            val = set(hashed_split(pool, seed, (1 - share, share, 0.0), groups.of)["val"])
        train = [name for name in pool if name not in val]
        final = {"train": sorted(train), "val": sorted(val), "test": test}
        return final, [*notes, *straddling(final, groups)]

    def _check_groups(self, pool: Sequence[str], groups: Groups) -> None:
        members = members_of(set(pool), groups.of)
        if all(len(names) == 1 for names in members.values()):
            raise UserError(
                f"data.validation={GROUPS}: {KEY}={groups.by} finds no two of {len(pool)} images "
                f"that belong together; {KEY}=REGEX says it by their names"
            )

    def rule(self, files: Sequence[str], seed: int) -> str:
        """How `resolve` went about it, in words.

        Args:
            files: the lists that were read.
            seed: of the hashed split.
        """
        if self.folds is None and self.validation == AUTO:
            return split_rule(files, seed)
        pool = f"listed in {', '.join(files)}" if files else "15 % test, by hashed name"
        hashed = f"by hashed name, split_seed={seed}"
        whole = "groups" if self.validation == GROUPS else ""
        if self.folds is not None:
            dealt = f"dealt into {self.folds} folds{' of whole groups' * bool(whole)}"
            return f"{pool}; all but test {dealt} {hashed}, of which one validates"
        if isinstance(self.holdout, Sequence):
            return f"{pool}; of the others the groups {', '.join(map(str, self.holdout))} validate"
        share = self.holdout or SHARE
        return f"{pool}; {100 * share:.0f} % of the others validate, whole groups {hashed}"


AS_LISTED = HeldOut()


def deal(
    names: Iterable[str],
    seed: int,
    folds: int,
    groups: Mapping[str, str] | None = None,
    strata: Mapping[str, str] | None = None,
    what: str = "",
) -> list[list[str]]:
    """Folds of about the same size, by the order of sha256(seed, name).

    Each goes to the fold that has fewest so far, large groups first and class by class: where all
    groups are of one, the folds differ by at most one name, and by at most one of each class
    (stratified; Kohavi, "A study of cross-validation and bootstrap", IJCAI 1995).

    Args:
        names: repeated names count once.
        seed: another seed gives other folds.
        folds: how many, 2 or more.
        groups: the group of each name, of which a fold gets all; one that is missing is alone.
        strata: the class of each name; of a group that of its first name counts.
        what: are dealt, for a message.

    Returns:
        The names of each fold, sorted.

    Raises:
        UserError: there are fewer groups than folds.
    """
    members = members_of(set(names), groups or {})
    if len(members) < folds:
        raise UserError(f"data.folds={folds}: there are only {len(members)} {what} to deal")
    classes = strata or {}

    def order(group: str) -> tuple[int, str, bytes]:
        own = members[group]
        return -len(own), classes.get(min(own), ""), place_of(group, seed)

    dealt: list[list[str]] = [[] for _ in range(folds)]
    for group in sorted(members, key=order):
        min(dealt, key=len).extend(members[group])
    return [sorted(fold) for fold in dealt]


def named(asked: Sequence[str | int], there: Collection[str], what: str) -> list[str]:
    """Those of ``there`` that ``data.holdout`` names; ``7`` is ``007`` where there is no other.

    Args:
        asked: ``data.holdout``.
        there: what there is.
        what: it is, in words.

    Raises:
        UserError: one is not there, or nothing else would be left to train on.
    """
    key = f"data.holdout=[{','.join(map(str, asked))}]"
    numbers = Counter(map(_number, there))
    known = {it: name for name in there if numbers[it := _number(name)] == 1}
    texts = map(str, asked)
    chosen = [name if name in there else known.get(_number(name)) for name in texts]
    for name, one in zip(map(str, asked), chosen, strict=True):
        if one is None:
            shown = ", ".join(sorted(there)[:SHOWN]) + (", ..." if len(there) > SHOWN else "")
            near = did_you_mean(name, there)
            raise UserError(
                f"{key}: {name} is none of the {what} that may validate ({shown}){near}"
            )
    found = [*dict.fromkeys(it for it in chosen if it is not None)]
    if len(found) == len(there):
        raise UserError(f"{key}: these are all the {what} there are; none is left to train on")
    return found


def _number(name: str) -> str:
    return str(int(name)) if name.isdecimal() else name


def _pool(
    lists: Mapping[str, Sequence[str]], everything: Sequence[str], seed: int, groups: Groups
) -> tuple[list[str], list[str], Notes]:
    """What trains or validates, what tests, and what is said of names in both."""
    if not lists:
        first = hashed_split(everything, seed, groups=groups.of)
        return [*first["train"], *first["val"]], first["test"], []
    test = list(lists.get("test", ()))
    listed = dict.fromkeys(it for key in ("train", "val", "trainval") for it in lists.get(key, ()))
    both = listed.keys() & set(test)
    pool = [name for name in listed if name not in both]
    if not both:
        return pool, test, []
    reason = f"also listed to train or validate, and only used to test ({min(both)})"
    return pool, test, [Problem("test", f"{len(both)} of {len(test)} are {reason}")]
