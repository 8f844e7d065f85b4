"""Cameras and recordings that are held out besides identities."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasewise.errors import UserError
from reid.held_out import HeldOutIdentities
from reid.splits import Sample

TRAIN = [
    Sample(f"{i:04d}_c{c}s{i // 5}_0.jpg", Path(), i, c) for i in range(20) for c in range(1, 5)
]
"""Twenty identities seen by four cameras, five in each of four recordings."""


def test_held_out_cameras_ask_and_train_nothing() -> None:
    held = HeldOutIdentities("cameras", 0.2, holdout=["c002"])
    train, query, gallery, notes = held.cut(TRAIN, 0)
    own = {s.identity for s in gallery}
    assert len(own) == 4
    assert {s.camera for s in query} == {2}
    assert {s.camera for s in gallery} == {1, 2, 3, 4}
    assert {s.identity for s in query} == own
    assert {s.camera for s in train} == {1, 3, 4}
    assert {s.identity for s in train} == {*range(20)} - own
    assert (
        notes[0].reason == "held out: 2; 16 training images of identities that train are not used"
    )


def test_held_out_recordings_take_their_identities_along() -> None:
    held = HeldOutIdentities("recordings", 0.2, ["s1"], r"_c[0-9]+(s[0-9]+)_")
    train, query, gallery, _ = held.cut(TRAIN, 0)
    assert {s.identity for s in gallery} == {s.identity for s in query} == {*range(5, 10)}
    assert {s.identity for s in train} == {*range(20)} - {*range(5, 10)}


@pytest.mark.parametrize(
    ("by", "of"),
    [
        ("identities", lambda s: s.identity),
        ("cameras", lambda s: s.camera),
        ("recordings", lambda s: s.identity // 5),
    ],
)
def test_each_validates_in_one_fold(by: str, of: object) -> None:
    assert callable(of)
    cuts = [HeldOutIdentities(by, 0.2, None, r"s\d", 4, k).cut(TRAIN, 0) for k in range(4)]
    asked = [{of(sample) for sample in cut.query} for cut in cuts]
    assert set().union(*asked) == {of(sample) for sample in TRAIN}
    assert sum(map(len, asked)) == len(set().union(*asked))


def test_one_camera_left_is_told_and_one_alone_is_refused() -> None:
    two = [sample for sample in TRAIN if sample.camera in (1, 2)]
    notes = HeldOutIdentities("cameras", 0.2).cut(two, 0).notes
    assert "alone is left to train on, with one image of each identity" in notes[-1].reason
    one = [sample for sample in TRAIN if sample.camera == 1]
    for by in ("cameras", "recordings"):
        with pytest.raises(UserError, match="all training images are of one"):
            HeldOutIdentities(by, 0.2, None, "_c1()").cut(one, 0)
    with pytest.raises(UserError, match="9 is none of the cameras"):
        HeldOutIdentities("cameras", 0.2, ["c9"]).cut(TRAIN, 0)
    with pytest.raises(UserError, match="only 4 cameras to deal"):
        HeldOutIdentities("cameras", 0.2, folds=5).cut(TRAIN, 0)
    validating = {sample.identity for sample in HeldOutIdentities("none", 0.2).cut(TRAIN, 0).query}
    split = [it for it in TRAIN if it.camera == 1 or it.identity in validating]
    with pytest.raises(UserError, match="no identity that trains was seen by another camera than"):
        HeldOutIdentities("cameras", 0.2, ["c1"]).cut(split, 0)
