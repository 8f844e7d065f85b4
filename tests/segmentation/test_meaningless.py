"""Data on which no comparison of foreground can mean anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phasewise.data.facts import known_facts
from segmentation.data import ImageMaskData


@pytest.mark.parametrize(
    ("train", "val", "why"),
    [
        (1, 0, "no pixel of a validation mask is foreground (data.split_seed=N"),
        (0, 1, "no pixel of a training mask is foreground"),
        (1, 2, "every labelled pixel of the validation masks is foreground (data.foreground="),
        (1, 1, ""),
    ],
)
def test_masks_without_foreground_or_without_ground(
    tmp_path: Path, train: int, val: int, why: str
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for split, kind in (("train", train), ("val", val)):
        for number in range(2):
            name = f"{split}{number}.png"
            Image.new("RGB", (16, 16), (number, 9, 9)).save(tmp_path / "images" / name)
            values = np.zeros((16, 16), np.uint8)
            values[: (0, 8, 16)[kind]] = 255
            Image.fromarray(values).save(tmp_path / "masks" / name)
        (tmp_path / f"{split}.txt").write_text(f"{split}0\n{split}1\n")
    data = ImageMaskData(root=str(tmp_path), image_size=16, cache_dir=str(tmp_path / "cache"))
    data.setup()
    facts = known_facts(data, "val")
    assert facts.get("images without foreground") == (None if val else 2)
    found = data.meaningless(facts)
    if not why:
        assert found == {}
    else:
        assert why in found["val/jaccard"]
        assert "val/loss" not in found
