"""How values, times and tables are written wherever text is made of them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

MISSING = "-"

_LIKE_OTHER_TYPE = re.compile(
    r"true|false|null|[-+]?\.?\d[\d_]*(\.\d*)?(e[-+]?\d+)?|", re.IGNORECASE
)


def format_value(value: Any) -> str:
    """A value as one types it after ``key=``.

    >>> format_value(True), format_value(["flip", None]), format_value({"rotate": "5"})
    ('true', '[flip,null]', "{rotate:'5'}")
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(format_value, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{format_value(item)}" for key, item in value.items()) + "}"
    text = str(value)
    return f"'{text}'" if isinstance(value, str) and _LIKE_OTHER_TYPE.fullmatch(text) else text


def format_metric(value: float | None) -> str:
    """Four decimals, for terminals."""
    return MISSING if value is None or math.isnan(value) else f"{value:.4f}"


def duration(seconds: float | None) -> str:
    """Seconds, minutes, hours and days.

    >>> duration(4.26), duration(45), duration(642), duration(3 * 3600 + 125), duration(None)
    ('4.3 s', '45 s', '10m 42s', '3h 02m 05s', '-')
    """
    if seconds is None or math.isnan(seconds):
        return MISSING
    if seconds < 59.95:
        return f"{seconds} s" if isinstance(seconds, int) else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, of_day = divmod(hours, 24)
    if days > 1:
        return f"{days}d {of_day:02d}h {minutes:02d}m"
    return f"{hours}h {minutes:02d}m {rest:02d}s" if hours else f"{minutes}m {rest:02d}s"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Lines of a table for terminals: the first column on the left, the others on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'>' if i else '<'}{widths[i]}}" for i, cell in enumerate(row)).rstrip()
        for row in rows
    )


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """The text of a CSV file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
