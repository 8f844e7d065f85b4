"""Numbers in words: the rounding of the whole report is here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from phasewise.report.content import Kind
from phasewise.text import MISSING, duration, format_value

DIGITS = 4

ROUNDING = (
    f"Figures are rounded to {DIGITS} significant digits, times below a minute to 0.1 s and others "
    "to the second; counts are exact. Differences are computed before rounding. The CSV files in "
    "tables/ hold everything unrounded."
)

RECOGNISED = ROUNDING.partition(",")[0]
"""Of it, what reports of all versions have."""

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&])")


def number(value: Any, sign: str = "") -> str:
    """Four significant digits; whole numbers in full.

    >>> number(0.123456), number(2 / 3, "+"), number(1234567), number(98765.4), number(None)
    ('0.1235', '+0.6667', '1,234,567', '98,770', '-')
    """
    if is_missing(value):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:{sign},}"
    if math.isinf(value):
        return str(value)
    rounded = float(f"{value:.{DIGITS - 1}e}")
    if abs(rounded) >= 10 ** (DIGITS - 1):
        return f"{rounded:{sign},.0f}"
    return f"{rounded:{sign}#.{DIGITS}g}"


def percent(value: float | None, sign: str = "+") -> str:
    """What is in percent already.

    >>> percent(5.12345), percent(50.0, ""), percent(None)
    ('+5.123 %', '50.00 %', '-')
    """
    text = number(value, sign)
    return text if text == MISSING else f"{text} %"


def spread(mean: float | None, deviation: float | None) -> str:
    """Mean +- standard deviation, which a single value does not have."""
    text = number(mean)
    return text if text == MISSING or is_missing(deviation) else f"{text} ± {number(deviation)}"


def interval(low: float | None, high: float | None) -> str:
    """A confidence interval."""
    return MISSING if is_missing(low) or is_missing(high) else f"[{number(low)}, {number(high)}]"


def cell(value: Any, kind: Kind) -> str:
    """One cell of a table."""
    if kind == "spread":
        return spread(*value)
    if kind == "interval":
        return MISSING if value is None else interval(*value)
    if kind == "percent":
        return percent(value)
    if kind == "duration":
        return duration(value)
    if kind == "count":
        return number(whole(value))
    return number(value, "+" if kind == "signed" else "") if kind != "text" else plain(value)


def whole(value: Any) -> Any:
    """A float without a fraction as the integer that it is; anything else as it came.

    >>> whole(8.0), whole(8.5), whole(None)
    (8, 8.5, None)
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(value: Any) -> str:
    """A value in one line, as one types it: no Python in it. A text is itself, without quotes.

    >>> plain(True), plain(["flip", None]), plain(0.001), plain("a  b"), plain({"rotate": 5})
    ('true', '[flip,null]', '0.001', 'a b', '{rotate:5}')
    >>> plain(""), plain("1e-3")
    ('', '1e-3')
    """
    return " ".join((value if isinstance(value, str) else format_value(value)).split())


def is_missing(value: Any) -> bool:
    """``None`` or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def shortened(text: str, length: int = 28) -> str:
    """Text that fits on an axis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def listed(items: Sequence[str], most: int = 6) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], most=2)
    ('a, b, c', 'a, b and 1 more')
    """
    if len(items) <= most:
        return ", ".join(items)
    return f"{', '.join(items[:most])} and {len(items) - most} more"


def joined(text: str) -> str:
    """Text whose numbers stay in one line with a percent sign, a plus-minus or their unit, seconds.

    >>> joined("0.4 behind, ± 0.1 (54 % worse, 2 s)").replace("\N{NO-BREAK SPACE}", "_")
    '0.4 behind, ±_0.1 (54_% worse, 2_s)'
    """
    return re.sub(r"(?<=\d) (?=(?:%|s)(?!\w))|(?<=±) ", "\N{NO-BREAK SPACE}", text)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a table too."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))
