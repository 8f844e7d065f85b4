"""Validation that is hard on purpose: whole groups, or one fold of several."""

from __future__ import annotations

from collections import Counter

import pytest

from phasewise.data.groups import find_groups
from phasewise.data.held_out import HeldOut, deal, named
from phasewise.errors import UserError

NAMES = [f"p{i // 5:02d}/{i % 5}" for i in range(60)]
"""Twelve patients with five images each."""
BY = "^p[0-9]+"
GROUPS = find_groups(BY, NAMES)
LISTS = {"train": NAMES[:43], "val": NAMES[43:52], "test": NAMES[52:]}


def patients(names: list[str]) -> set[str]:
    return {name[:3] for name in names}


@pytest.mark.parametrize("lists", [{}, LISTS], ids=["all", "listed"])
def test_each_sample_validates_in_one_fold_and_the_test_split_stays(
    lists: dict[str, list[str]],
) -> None:
    found = [HeldOut(folds=4, fold=i).resolve(lists, NAMES, 0)[0] for i in range(4)]
    test = found[0]["test"]
    assert all(it["test"] == test for it in found)
    assert sorted(name for it in found for name in it["val"]) == sorted({*NAMES} - {*test})
    for one in found:
        assert sorted([*one["train"], *one["val"], *test]) == NAMES
        assert abs(4 * len(one["val"]) - (60 - len(test))) < 4


def test_folds_keep_groups_together_and_go_by_the_seed() -> None:
    folds = deal(reversed(NAMES), 0, 4, GROUPS.of)
    assert folds == deal(NAMES, 0, 4, GROUPS.of) != deal(NAMES, 1, 4, GROUPS.of)
    assert sum(len(patients(fold)) for fold in folds) == 12
    assert {len(fold) for fold in folds} == {15}


def test_each_fold_has_its_share_of_each_class() -> None:
    classes = {name: "rare" if i % 10 == 0 else f"{i % 2}" for i, name in enumerate(NAMES)}
    counts = [Counter(classes[name] for name in fold) for fold in deal(NAMES, 0, 3, {}, classes)]
    assert all(max(it[c] for it in counts) - min(it[c] for it in counts) <= 1 for c in counts[0])


def test_groups_are_held_out_whole_also_where_lists_put_them_apart() -> None:
    apart = HeldOut().resolve(LISTS, [], 0, GROUPS)[0]
    assert patients(apart["train"]) & patients(apart["val"])
    found = HeldOut("groups").resolve(LISTS, [], 0, GROUPS)[0]
    assert not patients(found["train"]) & patients(found["val"])
    assert sorted([*found["train"], *found["val"]]) == NAMES[:52]
    assert found["test"] == LISTS["test"]
    more = HeldOut("groups", 0.5).resolve(LISTS, [], 0, GROUPS)[0]
    assert len(more["val"]) > 2 * len(found["val"])


def test_groups_are_held_out_by_their_names() -> None:
    groups = find_groups("^p([0-9]+)", NAMES)
    found = HeldOut("groups", [1, "07"]).resolve(LISTS, [], 0, groups)[0]
    assert found["val"] == [*NAMES[5:10], *NAMES[35:40]]


def test_what_tests_never_trains() -> None:
    lists = LISTS | {"train": NAMES[:54]}
    splits, notes = HeldOut(folds=2).resolve(lists, [], 0)
    assert not {*splits["test"]} & {*splits["train"], *splits["val"]}
    assert notes[0].reason.startswith("2 of 8 are also listed to train or validate")


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (HeldOut("groups", folds=20), "only 11 groups to deal"),
        (HeldOut("groups", ["p1x"]), "did you mean p1"),
        (HeldOut("groups", ["p11"]), "p11 is none of the groups that may validate"),
        (HeldOut("groups", [f"p{i:02d}" for i in range(11)]), "none is left to train on"),
    ],
)
def test_what_cannot_be_held_out_is_told(held: HeldOut, text: str) -> None:
    lists = {"train": NAMES[:55], "test": NAMES[55:]}
    with pytest.raises(UserError, match=text):
        held.resolve(lists, [], 0, GROUPS)
    with pytest.raises(UserError, match="finds no two of 55 images that belong together"):
        HeldOut("groups").resolve(lists, [], 0)


def test_a_number_is_found_with_its_zeros_unless_two_have_it() -> None:
    assert named([7], ["007", "008"], "groups") == ["007"]
    assert named([7], ["007", "7"], "groups") == ["7"]
    assert named(["007"], ["007", "7"], "groups") == ["007"]
    with pytest.raises(UserError, match="07 is none of the groups that may validate"):
        named(["07"], ["007", "7"], "groups")
