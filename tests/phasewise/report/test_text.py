from __future__ import annotations

import doctest
import math

import pytest

from phasewise.report import content, text
from phasewise.report.sections.findings import _against


def test_examples_in_docstrings() -> None:
    for module in (text, content):
        done = doctest.testmod(module)
        assert done.attempted > 0
        assert done.failed == 0


@pytest.mark.parametrize("value", [0.12345, 98765.4321, 3.14159e-7, 1.0, 0.00123456, 9999.96, 0.0])
def test_numbers_keep_four_significant_digits(value: float) -> None:
    shown = float(text.number(value).replace(",", ""))
    assert shown == pytest.approx(value, rel=5.01e-4)
    assert shown == pytest.approx(float(f"{value:.3e}"), rel=1e-12)


def test_missing_values_are_no_numbers() -> None:
    for kind in ("number", "signed", "percent", "duration", "interval"):
        assert text.cell(None, kind) == text.MISSING
    assert text.cell((math.nan, 0.1), "spread") == text.MISSING
    assert text.cell((0.5, math.nan), "spread") == "0.5000"
    assert text.cell((0.5, 0.25), "spread") == "0.5000 ± 0.2500"
    assert text.cell((0.25, 0.75), "interval") == "[0.2500, 0.7500]"
    assert text.number(math.inf) == "inf"
    assert [text.cell(it, "text") for it in ("", "1", " a  b", None)] == ["", "1", "a b", "null"]


def test_counts_are_whole_unless_they_are_means() -> None:
    found = [text.cell(it, "count") for it in (8, 8.0, 8.5, 1234567.0, math.nan, None)]
    assert found == ["8", "8", "8.500", "1,234,567", "-", "-"]


def test_markdown_shows_names_as_they_are() -> None:
    assert text.escape_markdown("a|b_c*<img src=x>\n`x`[y](z)") == (
        r"a\|b\_c\*\<img src=x\> \`x\`\[y\](z)"
    )


def test_rounding_of_float32_is_no_difference() -> None:
    assert _against(0.1412, 0.1412 * (1 + 3e-8), 1) == "the same as"
    assert _against(0.15, 0.1, 1) == "0.05000 (50.00 %) better than"
    assert _against(0.15, 0.1, -1) == "0.05000 (50.00 %) worse than"
