"""The page in a real browser: headless Chromium, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phasewise.report.content import Column, Figure, FindingBlock, Report, Section, Table
from phasewise.report.report import publish
from tests.phasewise.report.test_page import drawing

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_shows_its_sections_and_figures(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url[:40]))
    page.goto((report / "report.html").as_uri())
    titles = page.locator("h2").all_inner_texts()
    assert titles[:2] == ["Summary", "Audit"]
    assert titles[-1] == "Appendix"
    widths = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert len(widths) >= 15
    assert min(widths) > 0
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    # nothing sticks out, on a phone either: what is wide scrolls within itself
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(13, 17, 23)",
        }[scheme]
    )
    chosen = page.locator("#figure_final img").evaluate("one => one.currentSrc")
    shown = page.locator("#figure_final img").get_attribute("src")
    assert (chosen == shown) == (scheme == "light")
    assert page.locator("nav a").first.is_visible() == (width == 1280), "folded on a phone"
    # every entry of the contents leads somewhere
    links = page.locator("nav a").evaluate_all("all => all.map(one => one.hash.slice(1))")
    assert all(page.locator(f"[id='{link}']").count() == 1 for link in links)
    page.close()


def test_rules_stay_with_the_cells_that_stay_in_sight(browser: Any, tmp_path: Path) -> None:
    columns = [Column("key"), *(Column(f"{n} title", "number") for n in range(16))]
    wide = Table("wide", "wide", columns)
    for row in range(30):
        wide.add(f"row {row}", *(row + n / 7 for n in range(16)))
    publish(Report("title", [], [Section("One", [wide])]), tmp_path)
    page = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme="light")
    page.goto((tmp_path / "report.html").as_uri())
    table = page.locator(".scroll").first
    table.evaluate("one => one.scrollTo(200, 33)")
    head = table.locator("th").first.bounding_box()
    image = Image.open(BytesIO(page.screenshot())).convert("RGB")
    bottom = round(head["y"] + head["height"]) - 1
    for x in (round(head["x"]) + 9, 300):  # in the first column, and beside it
        column = [image.getpixel((x, y)) for y in range(bottom - 1, bottom + 300)]
        rules = [y for y, colour in enumerate(column) if colour == (209, 217, 224)]
        assert rules[0] <= 2, "the head's own"
        assert len(rules) == pytest.approx(300 / 33, abs=2), "a rule below each row"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_is_white_and_shows_what_is_folded(browser: Any, tmp_path: Path, scheme: str) -> None:
    wide = Table(
        "wide", "wide", [Column("key"), *(Column(f"{n} title", "number") for n in range(16))]
    )
    for row in range(70):
        wide.add(f"row {row}", *(row + n / 7 for n in range(16)))
    note = FindingBlock("a note", "note", ["its evidence"], "advice")
    figure = Figure("plot", "plot", drawing)
    publish(Report("title", [], [Section("One", [wide, note, figure])]), tmp_path)
    width = 680  # of A4 between its margins
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto((tmp_path / "report.html").as_uri())
    height = "all => all.map(one => one.getBoundingClientRect().height)"
    before = page.locator("details:not(nav *)").evaluate_all(height)
    page.emulate_media(media="print", color_scheme=scheme)
    after = page.locator("details:not(nav *)").evaluate_all(height)
    assert len(after) == 2
    assert all(open > 1.5 * closed for open, closed in zip(after, before, strict=True))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    tables = page.locator(".scroll")
    cut = "all => all.map(one => one.scrollWidth > one.clientWidth + 1)"
    assert not any(tables.evaluate_all(cut)), "nothing can be scrolled on paper"
    # whole on the screen, in parts on paper, each of which names its rows
    assert [table.is_visible() for table in tables.all()] == [False, True, True]
    heads = [table.locator("th").all_inner_texts() for table in tables.all()]
    assert [head[0] for head in heads] == ["key"] * 3
    assert heads[1][1:] + heads[2][1:] == heads[0][1:]
    image = page.locator("#figure_plot img")
    assert image.evaluate("one => one.currentSrc") == image.get_attribute("src")
    assert not page.locator("nav").is_visible()
    page.close()
