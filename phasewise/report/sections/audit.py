"""What keeps the results from meaning what they seem to mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from phasewise.analysis.audit import RULES, Finding
from phasewise.report.content import FindingBlock, Section, Text

PLURAL = {"error": "errors", "warning": "warnings", "note": "notes"}


MOST_LINES = 5
"""Of the evidence of a finding; 200 trials would bury what they are about."""


def audit_section(found: list[Finding]) -> Section:
    """Every finding with its rule, evidence and advice."""
    section = Section("Audit", [Text(f"{len(RULES)} rules were applied: {counted(found)}.")])
    for one in found:
        evidence = [*few(one.evidence), f"Rule {one.rule}: {RULES[one.rule]}"]
        section.blocks.append(FindingBlock(one.text, one.severity, evidence, one.advice))
    return section


def few(lines: Sequence[str]) -> list[str]:
    """The first lines, and how many there are beyond them.

    >>> few(["a", "b"]), few(["a"] * 200)[-1]
    (['a', 'b'], 'and 195 more; the record.json files of the runs and tables/runs.csv have all')
    """
    rest = len(lines) - MOST_LINES
    where = "the record.json files of the runs and tables/runs.csv have all"
    return [*lines[:MOST_LINES], *([f"and {rest} more; {where}"] if rest > 0 else [])]


def counted(found: list[Finding]) -> str:
    """How many findings of each severity.

    >>> counted([])
    'no finding'
    """
    counts = Counter(str(one.severity) for one in found)
    parts = [
        f"{counts[kind]} {kind if counts[kind] == 1 else plural}"
        for kind, plural in PLURAL.items()
        if kind in counts
    ]
    return ", ".join(parts) or "no finding"
