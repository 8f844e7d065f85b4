"""Wrong values of the keys that say how files are read are refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from phasewise.errors import UserError


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("data.page=-1", "data.page=-1: must be null, a page counted from 0, max or mean"),
        ("data.page=min", "must be null, a page counted from 0, max or mean"),
        ("data.channels=[0,1,2,3]", "one to three channels counted from 0"),
        ("data.channels=[]", "one to three channels counted from 0"),
        ("data.intensity=[5,1]", "must be auto or [BLACK,WHITE], the first below the second"),
        ("data.intensity=bits", "must be auto or [BLACK,WHITE]"),
        ("data.foreground=some", "must be null, a mask value as 255, several as [1,2], colours"),
        ("data.foreground=[[256,0,0]]", "must be null, a mask value as 255"),
        ("data.foreground=-1", "must be null, a mask value as 255"),
        (
            "data.foreground=255 data.mask_values=instances",
            "data.foreground=255: data.mask_values=instances says it already",
        ),
    ],
)
def test_wrong_values(
    make_config: Callable[..., DictConfig], tmp_path: Path, word: str, told: str
) -> None:
    words = ("task=segmentation", "data=image_mask", f"data.root={tmp_path}", *word.split())
    with pytest.raises(UserError) as error:
        make_config(*words)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "word",
    [
        *("data.page=0", "data.page=max", "data.channels=[2,0]", "data.channels=mean"),
        *("data.intensity=[0,4095]", "data.intensity=[-0.5,0.5]", "data.foreground=[1,2]"),
        *("data.foreground=threshold", "data.foreground=[[255,0,0]]", "data.foreground=0"),
    ],
)
def test_right_values(make_config: Callable[..., DictConfig], tmp_path: Path, word: str) -> None:
    make_config("task=segmentation", "data=image_mask", f"data.root={tmp_path}", word)
