"""docs/notebook.md: its code runs as it stands, section by section."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "notebook.md").read_text()
SECTIONS = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
CODE = re.compile(r"```python\n(.*?)```", re.S)


def test_all_tasks_are_shown() -> None:
    assert list(SECTIONS) == ["Segmentation", "Localization", "Multitask", "Re-identification"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", SECTIONS)
def test_the_code_runs(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a namespace of its own, where a photograph lies; nothing is printed but predictions."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8)
    Image.fromarray(pixels).save("photo.jpg")
    blocks, names = CODE.findall(SECTIONS[title]), dict[str, Any]()
    assert len(blocks) == 3
    for block in blocks:
        assert len([line for line in block.splitlines() if line.strip()]) < 30
        exec(compile(block, f"docs/notebook.md, {title}", "exec"), names)
    assert not names["model"].training
    assert len(list(tmp_path.glob("*.ckpt"))) == 1
