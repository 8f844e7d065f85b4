"""What masks of a set mean: values, colours, palettes, and the files that name classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from multitask.data import VocData
from phasewise.data.voc import read_voc
from phasewise.data.voc_labels import voc_colours
from phasewise.errors import UserError
from tests.phasewise.data.folders import an_object, annotation, write

DOG, CAT = (255, 0, 124), (36, 179, 83)
LABEL_MAP = (
    "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:255,0,124::\ncat:36,179,83::\n"
)
SIZE = (40, 30)

# The dog's rectangle and the cat's, continuous edges: x1, y1, x2, y2.
PLACES = {"dog": (2, 1, 10, 8), "cat": (20, 11, 34, 25)}

Put = Callable[..., None]


def painted(colours: Mapping[str, Any]) -> np.ndarray:
    """A mask in which each class has its value or colour."""
    depth = np.shape(next(iter(colours.values())))
    mask = np.zeros((SIZE[1], SIZE[0], *depth), np.uint8)
    for name, colour in colours.items():
        x1, y1, x2, y2 = PLACES[name]
        mask[y1:y2, x1:x2] = colour
    return mask


def truth(**indices: int) -> np.ndarray:
    return painted(indices)


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes images with the mask; with boxes of ``boxed`` where they lie."""

    def add(mask: Any, count: int = 4, boxed: tuple[str, ...] = (), suffix: str = ".png") -> None:
        for folder in ("JPEGImages", "SegmentationClass", "Annotations"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for i in range(count):
            Image.new("RGB", SIZE, (i, 0, 0)).save(tmp_path / "JPEGImages" / f"{i}.png")
            image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
            image.save(tmp_path / "SegmentationClass" / f"{i}{suffix}")
            objects = []
            for name in boxed:
                x1, y1, x2, y2 = PLACES[name]
                objects.append(an_object(name, xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2))
            if boxed:
                write(tmp_path / "Annotations" / f"{i}.xml", annotation(*objects, size=SIZE))

    return add


def read(root: Path, **settings: Any) -> Any:
    return read_voc(root, split_seed=0, **settings)


def masks_of(listing: Any) -> list[np.ndarray]:
    samples = [it for part in listing.samples.values() for it in part]
    return [listing.masks.read(it.mask, it.name, len(listing.class_names)) for it in samples]


def check(listing: Any, names: list[str], expected: np.ndarray) -> None:
    assert listing.problems == []
    assert listing.class_names == ["background", *names]
    for mask in masks_of(listing):
        np.testing.assert_array_equal(mask, expected)


def notes(listing: Any) -> list[str]:
    return [str(it) for it in listing.warnings if it.file != "Annotations"]


def refusal(root: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(root, **settings)
    return str(caught.value)


# 0 and 255


@pytest.mark.parametrize("boxed", [("dog",), ()])
def test_0_and_255_only_are_one_class(tmp_path: Path, put: Put, boxed: tuple[str, ...]) -> None:
    put(painted({"dog": 255}), boxed=boxed)
    listing = read(tmp_path)
    name = boxed[0] if boxed else "foreground"
    check(listing, [name], truth(dog=1))
    assert notes(listing) == [
        f"SegmentationClass: all 4 masks hold 0 and 255 only: 255 is {name}, not void; "
        "data.mask_values=indices says otherwise"
    ]


def test_255_is_void_as_soon_as_one_mask_holds_an_index(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": 255}), boxed=("dog",))
    Image.fromarray(painted({"dog": 255, "cat": 1})).save(tmp_path / "SegmentationClass/3.png")
    listing = read(tmp_path)
    assert listing.masks.key is None
    assert {tuple(np.unique(mask)) for mask in masks_of(listing)} == {(0, 255), (0, 1, 255)}


def test_0_and_255_with_several_classes_are_refused(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": 255}), boxed=("dog", "cat"))
    message = refusal(tmp_path)
    assert "all 4 masks hold 0 and 255 only, which is void beside class indices" in message
    assert "there are 2 classes (cat, dog)" in message
    assert "data.mask_values=none leaves masks out" in message
    without = read(tmp_path, mask_values="none")
    assert without.class_names == ["background", "cat", "dog"]
    assert {it.mask for part in without.samples.values() for it in part} == {None}
    void = read(tmp_path, mask_values="indices")
    check(void, ["cat", "dog"], truth(dog=255))


def test_background_only_is_refused(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": 0}), boxed=("dog",))
    assert "all 4 masks are background only" in refusal(tmp_path)


def test_mask_values_says_otherwise(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": 7, "cat": 255}), boxed=("dog",))
    check(read(tmp_path, mask_values="binary"), ["dog"], truth(dog=1, cat=1))
    assert "for one class, and there are 2" in refusal_of_two(tmp_path)
    assert "mask_values='no' is none of auto, indices, binary, none" in refusal(
        tmp_path, mask_values="no"
    )


def refusal_of_two(root: Path) -> str:
    (root / "labels.txt").write_text("dog\ncat\n")
    return refusal(root, mask_values="binary")


def test_classes_that_nothing_names_are_numbered(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": 1, "cat": 3}))
    listing = read(tmp_path)
    check(listing, ["class_1", "class_2", "class_3"], truth(dog=1, cat=3))
    (note,) = notes(listing)
    assert "mask values are class_1, class_2, class_3; labels.txt may" in note


# The order of classes


def test_an_order_that_boxes_contradict_is_refused(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": 1, "cat": 2}), boxed=("dog", "cat"))
    message = refusal(tmp_path)
    assert "100 % of the pixels of 1 in SegmentationClass lie in boxes of dog, 0 % in" in message
    assert "the boxes say: background, dog, cat" in message
    (tmp_path / "labels.txt").write_text("background\ndog\ncat\n")
    check(read(tmp_path), ["dog", "cat"], truth(dog=1, cat=2))


def test_an_order_that_boxes_agree_with_is_told(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": 2, "cat": 1}), boxed=("dog", "cat"))
    listing = read(tmp_path)
    check(listing, ["cat", "dog"], truth(dog=2, cat=1))
    assert "in order (1 = cat, 2 = dog)" in notes(listing)[0]


@pytest.mark.parametrize("file", ["labels.txt", "class_names.txt"])
def test_labelme_names(tmp_path: Path, put: Put, file: str) -> None:
    put(painted({"dog": 1, "cat": 2}), boxed=("dog", "cat"))
    (tmp_path / file).write_text("__ignore__\n_background_\ndog\ncat\n")
    listing = read(tmp_path)
    check(listing, ["dog", "cat"], truth(dog=1, cat=2))
    assert notes(listing) == []


def test_labelmap_with_palettes_and_grey(tmp_path: Path, put: Put) -> None:
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP)
    put(painted({"dog": 1, "cat": 2}), boxed=("dog", "cat"))
    check(read(tmp_path), ["dog", "cat"], truth(dog=1, cat=2))
    assert read(tmp_path).masks.key is None
    # a program has sorted the palette by its own lights
    sorted_ = Image.fromarray(painted({"dog": 2, "cat": 1}))
    sorted_.putpalette([0, 0, 0, *CAT, *DOG])
    put(sorted_, boxed=("dog", "cat"))
    check(read(tmp_path), ["dog", "cat"], truth(dog=1, cat=2))
    # other colours: the order of the lines
    other = Image.fromarray(painted({"dog": 1, "cat": 2}))
    other.putpalette([0, 0, 0, 1, 1, 1, 2, 2, 2])
    put(other, boxed=("dog", "cat"))
    check(read(tmp_path), ["dog", "cat"], truth(dog=1, cat=2))


def test_labelmap_whose_background_is_not_first(tmp_path: Path, put: Put) -> None:
    (tmp_path / "labelmap.txt").write_text("cat:::\nbackground:::\nvoid:::\ndog:::\n")
    mask = painted({"dog": 3, "cat": 2})
    mask[mask == 0] = 1
    mask[0, 0] = 0
    put(mask)
    expected = truth(dog=2, cat=255)
    expected[0, 0] = 1
    check(read(tmp_path), ["cat", "dog"], expected)


# Colours


@pytest.mark.parametrize("boxed", [("dog", "cat"), ()])
def test_masks_in_colour_with_a_labelmap(tmp_path: Path, put: Put, boxed: Any) -> None:
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP)
    put(painted({"dog": DOG, "cat": CAT}), boxed=boxed)
    check(read(tmp_path), ["dog", "cat"], truth(dog=1, cat=2))


def test_colors_names_them_without_a_labelmap(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": DOG, "cat": CAT}))
    message = refusal(tmp_path)
    assert "4 masks are in colour, and nothing says which colour is which class" in message
    assert "Colours: (0, 0, 0), (36, 179, 83), (255, 0, 124)." in message
    assert "data.colors='{NAME: [255, 0, 124]}'" in message
    found = read(tmp_path, colors={"cat": CAT, "dog": DOG})
    check(found, ["cat", "dog"], truth(dog=2, cat=1))
    found = read(tmp_path, colors={"cat": CAT, "void": DOG})
    check(found, ["cat"], truth(dog=255, cat=1))
    (tmp_path / "labels.txt").write_text("dog\ncat\n")
    check(read(tmp_path, colors={"cat": CAT, "dog": DOG}), ["dog", "cat"], truth(dog=1, cat=2))
    for colors, reason in (
        ({"cow": DOG}, "unknown class 'cow'; known are dog, cat"),
        ({"cat": DOG, "dog": DOG}, "cat and dog have the same colour"),
        ({"cat": (1, 2)}, "cat must have red, green and blue"),
        ({"cat": (1, 2, 256)}, "cat must have red, green and blue"),
    ):
        assert reason in refusal(tmp_path, colors=colors)


def test_a_colour_of_no_class_is_told_by_file(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": DOG, "cat": (1, 2, 3)}))
    listing = read(tmp_path, colors={"dog": DOG})
    with pytest.raises(Exception, match=r"196 pixels of colours of no class: \(1, 2, 3\)"):
        masks_of(listing)


def test_published_colours_are_known(tmp_path: Path, put: Put) -> None:
    (tmp_path / "labels.txt").write_text("aeroplane\nbicycle\n")
    put(painted({"dog": (128, 0, 0), "cat": (224, 224, 192)}))
    listing = read(tmp_path)
    check(listing, ["aeroplane", "bicycle"], truth(dog=1, cat=255))
    assert "read as PASCAL VOC's colours" in notes(listing)[0]
    # of the VOC development kit: the sixth class is bus, the twentieth tvmonitor
    colours = voc_colours(21)
    assert colours[0, 128, 128] == 6
    assert colours[0, 64, 128] == 20


def test_colour_whose_channels_are_equal_is_grey(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": (2, 2, 2), "cat": (1, 1, 1)}), boxed=("dog", "cat"))
    check(read(tmp_path), ["cat", "dog"], truth(dog=2, cat=1))
    put(painted({"dog": (255, 255, 255)}), boxed=("dog",))
    check(read(tmp_path), ["dog"], truth(dog=1))


def test_jpeg_masks_in_colour_are_refused_by_file(tmp_path: Path, put: Put) -> None:
    put(painted({"dog": DOG}), suffix=".jpg")
    assert "0.jpg: a JPEG mask" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("dog:1,2\n", "must be name:red,green,blue"),
        ("dog:1,2,999::\n", "must be name:red,green,blue"),
        ("dog:1,2,3::\ncat:1,2,3::\n", "the colour of cat is that of another class"),
        ("dog:1,2,3::\ndog:3,2,1::\n", "names dog more than once"),
        ("# nothing\n", "names 0 classes"),
    ],
)
def test_labelmaps_that_cannot_be_used(tmp_path: Path, put: Put, text: str, reason: str) -> None:
    (tmp_path / "labelmap.txt").write_text(text)
    put(painted({"dog": 1}))
    assert reason in refusal(tmp_path)


# What a run trains on


def test_what_masks_mean_is_part_of_the_data(tmp_path: Path, put: Put) -> None:
    root, cache = tmp_path, str(tmp_path / "cache")
    put(painted({"dog": 255}), boxed=("dog",))
    found: dict[str, Any] = {}
    for kind in ("auto", "indices"):
        data = VocData(root=str(root), mask_values=kind, cache_dir=cache, image_size=40)
        data.setup()
        rows = [store["mask"] for store in data.splits.stores.values()]
        found[kind] = (data.identity().hash, {int(v) for row in rows for v in row.unique()})
    assert found["auto"][1] == {0, 1}
    assert found["indices"][1] == {0, 255}
    assert found["auto"][0] != found["indices"][0]
