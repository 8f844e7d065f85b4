"""Which file of a folder holds the weights of a backbone."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasewise.config.weight_files import find_weights, weights_file
from phasewise.errors import UserError

HUB = "models--timm--resnet18.a1_in1k/snapshots/0123abcd/model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.pth",
        "resnet18.safetensors",
        "hub/checkpoints/resnet18-f37072fd.pth",
        "resnet18.a1_in1k.safetensors",
        HUB,
        "resnet18_features.pt",
    ],
)
def test_files_are_found_by_the_names_that_libraries_give_them(folder: Path, name: str) -> None:
    others = ("resnet18_fc512.pth", "resnet182.pth", "wide_resnet18.pth", "resnet18.txt")
    fill(folder, name, *others, "models--timm--resnet34.a1_in1k/snapshots/1/model.safetensors")
    assert find_weights(folder, ["resnet18"]) == folder / name


def test_the_most_telling_name_goes_first(folder: Path) -> None:
    fill(folder, "resnet50.pth")
    names = ["resnet50_fc512", "resnet50"]
    assert find_weights(folder, names).name == "resnet50.pth"
    fill(folder, "resnet50_fc512-0123abcd.pth")
    assert find_weights(folder, names).name == "resnet50_fc512-0123abcd.pth"


def test_an_exact_name_goes_before_one_with_a_hash(folder: Path) -> None:
    fill(folder, "resnet18-f37072fd.pth", HUB)
    assert find_weights(folder, ["resnet18"]).name == "resnet18-f37072fd.pth"
    fill(folder, "resnet18.pth")
    assert find_weights(folder, ["resnet18"]).name == "resnet18.pth"


def test_what_cannot_be_told_apart_is_refused(folder: Path) -> None:
    fill(folder, "a/resnet18.pth", "b/resnet18.pt")
    with pytest.raises(UserError, match=r"several files fit resnet18: a/resnet18\.pth, b/res"):
        find_weights(folder, ["resnet18"])


def test_it_says_which_names_were_looked_for(folder: Path) -> None:
    fill(folder, "vgg16.pth")
    reason = "no weights for resnet50_fc512 among 1 files; looked for resnet50_fc512 and resnet50"
    with pytest.raises(UserError, match=reason):
        find_weights(folder, ["resnet50_fc512", "resnet50"])


def test_what_a_value_stands_for(folder: Path) -> None:
    fill(folder, "vgg16.pth")
    assert weights_file(False, ["vgg16"]) is None
    assert weights_file(True, ["vgg16"]) is None
    assert weights_file(str(folder / "any.pth"), ["vgg16"]) == folder / "any.pth"
    assert weights_file(str(folder), ["vgg16"]) == folder / "vgg16.pth"
