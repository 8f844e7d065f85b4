"""What keeps the figures from meaning what they seem to mean."""

from __future__ import annotations

from collections import Counter

from reporting.content import Finding, Section, Text
from studies.audit import RULES
from studies.audit import Finding as Found

PLURAL = {"error": "errors", "warning": "warnings", "note": "notes"}


def audit_section(found: list[Found]) -> Section:
    """Every finding with its rule, evidence and advice."""
    section = Section("Audit", [Text(f"{len(RULES)} rules were applied: {counted(found)}.")])
    for one in found:
        evidence = [*one.evidence, f"Rule {one.rule}: {RULES[one.rule]}"]
        section.blocks.append(Finding(one.text, one.severity, evidence, one.advice))
    return section


def counted(found: list[Found]) -> str:
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
