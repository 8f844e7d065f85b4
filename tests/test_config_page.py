"""docs/config.md is what conf/ and the schemas say now."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from docs.config import page
from phasewise.config.defaults import composed
from tests.conftest import ROOT
from tests.keys import CHOSEN

PAGE = ROOT / "docs" / "config.md"


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_page_is_up_to_date(text: str) -> None:
    assert text == page(), "docs/config.md is out of date: `make docs` makes it anew"


@pytest.mark.parametrize("choice", [("task=multitask", "data=voc"), ("task=reid", "optimizer=sgd")])
def test_every_key_of_a_run_is_there(choice: tuple[str, ...], text: str) -> None:
    config, _ = composed(choice)
    keys = {
        f"{section}.{key}" if isinstance(node, dict) else section
        for section, node in config.items()
        for key in (node if isinstance(node, dict) else "-")
    }
    assert len(keys) > 60
    assert {key for key in keys - CHOSEN if f"| `{key}` |" not in text} == {
        "task.module",
        # a table of its own
    }
    assert all(f"| `{one['overrides']}` |" in text for one in config["task"]["worth_trying"])


@pytest.mark.parametrize(
    "row",
    [
        "| `data.resize` | `stretch` | stretch, letterbox |",
        "| `model.stride` | `8` | 8, 16, 32 | of the backbone's map that the head looks at",
        "| `optimizer=sgd` | `optimizer.momentum` | `0.9` | a number in [0, 1) |",
        "| `study.adopt` | `best` | best, significant |",
        "| `data=voc` | `data.root` | must be given |  | the folder that holds JPEGImages |",
        "| `rotate` | rotate about the centre |",
        "Other defaults: `data=beads` `optimizer=adamw` `scheduler=onecycle` ",
        "`val/count_error` (less is better)",
    ],
)
def test_what_a_row_says(row: str, text: str) -> None:
    assert row in text


def test_tables_are_tables(text: str) -> None:
    """As many cells in each row as in the one above it; a bar in a text would add one."""
    for above, below in pairwise(text.splitlines()):
        if above.startswith("|") and below.startswith("|"):
            bars = [len(re.findall(r"(?<!\\)\|", line)) for line in (above, below)]
            assert bars[0] == bars[1], below
