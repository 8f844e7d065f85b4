"""Which of its sections a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from phasewise.config.help import did_you_mean
from phasewise.errors import UserError
from phasewise.report.content import Report, Section


def choose_sections(report: Report, names: Sequence[str]) -> Report:
    """The report with these sections only, in its own order.

    Args:
        report: with all of them.
        names: their titles, in any case; of ``Phase 2: rate`` also ``Phase 2`` or ``rate``. None
            stand for all.

    Raises:
        UserError: it has no such section.
    """
    if not names:
        return report
    titles = [section.title for section in report.sections]
    wanted = set()
    for name in names:
        found = {section.title for section in report.sections if name.casefold() in _names(section)}
        if not found:
            near = did_you_mean(name, titles)
            raise UserError(f"--sections: no section {name!r}; there are {', '.join(titles)}{near}")
        wanted |= found
    return replace(report, sections=[it for it in report.sections if it.title in wanted])


def _names(section: Section) -> set[str]:
    """What a section may be called."""
    title = section.title.casefold()
    first, colon, name = title.partition(": ")
    return {title, first, name} if colon else {title}
