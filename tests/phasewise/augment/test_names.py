from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from phasewise.augment.color import COLOR
from phasewise.augment.erase import ERASE
from phasewise.augment.geometry import GEOMETRY
from phasewise.augment.pipeline import Augment
from phasewise.config.augment import AUGMENTATIONS, check_augment, settings
from phasewise.errors import UserError


def test_the_table_is_what_is_implemented() -> None:
    assert {*GEOMETRY, *COLOR, *ERASE, "autoaugment", "blur", "cutmix", "mixup"} == {*AUGMENTATIONS}


def test_the_table_needs_no_torch() -> None:
    code = "import sys, phasewise.config.augment; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["flp"], ["'flp'", "did you mean 'flip'", "allowed: autoaugment, blur", "vflip"]),
        ([{"rotate": {"degree": 5}}], ["rotate", "did you mean 'degrees'", "allowed: degrees, p"]),
        ([{"rotate": {"degrees": 500}}], ["data.augment.rotate.degrees", "500", "from 0 to 180"]),
        ([{"rotate": {"degrees": "ten"}}], ["'ten' is not a number", "from 0 to 180"]),
        ([{"flip": {"p": True}}], ["True is not a number"]),
        ([{"flip": {"p": float("nan")}}], ["nan is not a number"]),
        ([{"cutout": {"holes": 1.5}}], ["1.5", "a whole number from 1 to 16"]),
        ([{"erase": {"area_min": 0.5}}], ["area_min=0.5 is larger than area_max=0.4"]),
        ([{"flip": 0.3}], ["0.3 is not {setting: value}"]),
        (["flip", {"flip": {}}], ["'flip' is listed twice"]),
        ([{"flip": {}, "crop": {}}], ["neither a name nor one {name: settings}"]),
        ([3], ["3 is neither a name"]),
        ("flip", ["'flip' is not a list", "[flip, scale]"]),
        (None, ["None is not a list"]),
    ],
)
def test_what_is_wrong_is_said(entries: object, words: list[str]) -> None:
    problem = str(*check_augment(entries))
    assert all(word in problem for word in words), problem
    with pytest.raises(UserError) as error:
        Augment(entries)  # type: ignore[arg-type]
    assert problem in str(error.value)


def test_all_problems_are_told_at_once() -> None:
    problems = check_augment(["flip", "nope", {"blur": {"sigma_min": -1, "sigmas": 2}}])
    assert len(problems) == 3


def test_what_is_right_is_accepted() -> None:
    entries = ["flip", "crop", {"rotate": {"degrees": 5}}, {"blur": None}]
    assert check_augment(entries) == []
    assert dict(settings(entries))["rotate"] == {"p": 1, "degrees": 5}  # type: ignore[arg-type]
    assert check_augment([]) == []


def test_omegaconf_lists_are_accepted() -> None:
    from omegaconf import OmegaConf

    assert check_augment(OmegaConf.create(["flip", {"rotate": {"degrees": 5}}])) == []
    assert "rotate" in check_augment(OmegaConf.create([{"rotat": {}}]))[0].reason


def test_defaults_are_in_their_own_range() -> None:
    for name, augmentation in AUGMENTATIONS.items():
        given = {key: parameter.default for key, parameter in augmentation.parameters.items()}
        assert check_augment([{name: given}]) == []


PARAMETERS = [(name, key) for name, a in AUGMENTATIONS.items() for key in a.parameters]


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_every_parameter_changes_the_image(name: str, key: str, photos: Tensor) -> None:
    parameters = AUGMENTATIONS[name].parameters
    values = (parameters[key].low, parameters[key].high)
    for end, other in (("_min", "_max"), ("_max", "_min")):
        if key.endswith(end):
            values = (parameters[key].default, parameters[key.replace(end, other)].default)
    base = {"p": 1} if "p" in parameters else {}
    outputs = [
        Augment([{name: {**base, key: value}}])({"image": photos}, seed=0)["image"]
        for value in values
    ]
    assert not torch.equal(*outputs)
