"""What keeps the results from meaning what they seem to mean."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from phasewise.analysis.audit import RULES, Finding
from phasewise.report.content import FindingBlock, Section, Text
from phasewise.study.results import ONLY

PLURAL = {"error": "errors", "warning": "warnings", "note": "notes"}


MOST_LINES = 5
"""Of the evidence of a finding; 200 trials would bury what they are about."""


def audit_section(found: list[Finding]) -> Section:
    """An entry per rule that found something, errors first, with its evidence and advice."""
    section = Section("Audit", [Text(f"{len(RULES)} rules were applied: {counted(found)}.")])
    section.blocks += [entry(findings) for findings in by_rule(found).values()]
    return section


def by_rule(found: list[Finding]) -> dict[str, list[Finding]]:
    """The findings of each rule, as `phasewise.analysis.audit.audit` orders them: gravest first."""
    groups: dict[str, list[Finding]] = {}
    for one in found:
        groups.setdefault(one.rule, []).append(one)
    return groups


def entry(findings: Sequence[Finding]) -> FindingBlock:
    """What one rule found, at least once; it is as grave as the gravest."""
    first = findings[0]
    meaning = f"Rule {first.rule}: {RULES[first.rule]}"
    if len(findings) == 1:
        evidence = [*few(first.evidence), meaning]
        return FindingBlock(capital(first.text), first.severity, evidence, first.advice)
    rows: list[tuple[str, str, str]] = []
    said: set[str] = set()
    for same in _by_evidence(findings):
        # shared by phases, it is the only configuration of some of them only
        one = next((each for each in same if ONLY not in each.text), same[0])
        grade = f"{one.severity}: " if one.severity != first.severity else ""
        what = grade + _likewise(one.text.removeprefix(f"phase {one.phase}: "), said)
        start, *rest = few(one.evidence) or [""]
        names = ", ".join(dict.fromkeys(each.phase for each in same if each.phase))
        rows += [(names, what, start), *(("", "", line) for line in rest)]
    title = f"{RULES[first.rule].rstrip('.')} ({len(findings)} times)"
    advice = "; ".join(dict.fromkeys(one.advice for one in findings))
    return FindingBlock(title, first.severity, [f"Rule {first.rule}"], advice, rows)


def _likewise(text: str, said: set[str]) -> str:
    """A sentence about a number of trials; of one that was ``said`` already the number alone.

    >>> said = set()
    >>> _likewise("4 trials found nothing", said), _likewise("3 trials found nothing", said)
    ('4 trials found nothing', '3 trials, likewise')
    """
    found = re.match(r"(\d+ \w+) (.+)", text)
    if found is None:
        return text
    known = found[2] in said
    said.add(found[2])
    return f"{found[1]}, likewise" if known else text


def _by_evidence(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Those that are as grave and rest on the same are one row: a winner that stays is found in
    each phase anew."""
    groups: dict[object, list[Finding]] = {}
    for i, one in enumerate(findings):
        groups.setdefault((one.severity, tuple(one.evidence) or i), []).append(one)
    return [*groups.values()]


def capital(text: str) -> str:
    """A sentence with its first letter large, unless it begins with a key or a path.

    >>> capital("phase 2: no gain"), capital("optimizer.lr has no effect")
    ('Phase 2: no gain', 'optimizer.lr has no effect')
    """
    word = text.partition(" ")[0].rstrip(":,.")
    return text[:1].upper() + text[1:] if word.isalpha() else text


def few(lines: Sequence[str]) -> list[str]:
    """The first lines, and how many there are beyond them.

    >>> few(["a", "b"]), few(["a"] * 200)[-1]
    (['a', 'b'], 'and 195 more; the record.json files of the runs and tables/runs.csv have all')
    """
    if len(lines) == MOST_LINES + 1:  # the line about the rest would take its place
        return [*lines]
    rest = len(lines) - MOST_LINES
    where = "the record.json files of the runs and tables/runs.csv have all"
    return [*lines[:MOST_LINES], *([f"and {rest} more; {where}"] if rest > 0 else [])]


def counted(found: list[Finding]) -> str:
    """How many rules found something, by the gravest that each found.

    >>> counted([])
    'no finding'
    """
    counts = Counter(str(findings[0].severity) for findings in by_rule(found).values())
    parts = [
        f"{counts[kind]} {kind if counts[kind] == 1 else plural}"
        for kind, plural in PLURAL.items()
        if kind in counts
    ]
    return ", ".join(parts) or "no finding"
