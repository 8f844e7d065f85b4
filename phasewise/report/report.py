"""From the directory of a study to its report. What is heavy is imported only when called."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phasewise.analysis.audit import Finding
    from phasewise.report.content import Report, Section
    from phasewise.report.view import StudyView

PAGE = "report.html"

log = logging.getLogger(__name__)


def write_report(
    directory: str | Path,
    output: str | Path | None = None,
    *,
    refresh: int | None = None,
    formats: Sequence[str] = (),
    sections: Sequence[str] = (),
) -> Path:
    """Write ``report.html``, ``report.md``, ``tables/`` and ``figures/`` of a study.

    Args:
        directory: of a study or sweep, in any state.
        output: where the report goes; the study's own directory if ``None``.
        refresh: seconds after which a browser loads the page anew, while the study runs.
        formats: of `phasewise.report.formats.FORMATS`, what is written beside the pages.
        sections: the only ones that are shown, see `phasewise.report.chosen.choose_sections`.

    Returns:
        The path of the HTML page.

    Raises:
        UserError: the directory holds no run, there is no such section, or the report cannot be
            written.
    """
    from phasewise.report.chosen import choose_sections
    from phasewise.report.view import StudyView
    from phasewise.study.read import read_study

    place = Path(output or directory)
    report = build_report(StudyView(read_study(directory)), place)
    return publish(choose_sections(report, sections), place, refresh, formats)


def write_comparison(
    directory: str | Path,
    other: str | Path,
    output: str | Path | None = None,
    *,
    refresh: int | None = None,
    formats: Sequence[str] = (),
    sections: Sequence[str] = (),
) -> Path:
    """Write the same files about two studies side by side.

    Args:
        directory: of the first study, ``other`` of the second one.
        output: ``compare_OTHER`` in the first study's directory if ``None``.
        refresh: as in `write_report`, and so are ``formats`` and ``sections``.

    Returns:
        The path of the HTML page.

    Raises:
        UserError: a directory holds no run, there is no such section, or the comparison cannot be
            written.
    """
    from phasewise.report.chosen import choose_sections
    from phasewise.report.content import slug
    from phasewise.report.sections.comparison import comparison_report
    from phasewise.report.view import StudyView
    from phasewise.study.read import read_study

    first, second = (StudyView(read_study(one)) for one in (directory, other))
    place = Path(output or Path(directory) / f"compare_{slug(Path(other).resolve().name)}")
    report = choose_sections(comparison_report((first, second)), sections)
    return publish(report, place, refresh, formats)


def publish(
    report: Report, output: Path, refresh: int | None = None, formats: Sequence[str] = ()
) -> Path:
    """Write the files of a report; the pages come last, when all that they show is there.

    What the report before it left in the folder, and this one does not have, is deleted. A document
    that somebody has edited since stays, and is not written over.

    Raises:
        UserError: a file cannot be written, or was edited.
    """
    from phasewise.report import page
    from phasewise.report.content import Figure, Picture, Source, Table
    from phasewise.report.files import TEXT, Folder
    from phasewise.report.formats import write_formats
    from phasewise.report.render import render

    folder = Folder(output)
    before = folder.linked(TEXT) - folder.edited(TEXT, formats)
    blocks = list(page.blocks(report.sections))
    images = render(folder, [one for one in blocks if isinstance(one, Figure | Picture)])
    for block in blocks:
        if isinstance(block, Table):
            folder.table(block)
        elif isinstance(block, Source):
            folder.write(block.path, block.text)
    others, problem = write_formats(formats, folder, report, images)
    folder.write(TEXT, page.markdown(report, images, others))
    for name in others:
        folder.date(f"report.{name}")
    written = folder.write(PAGE, page.html(report, images, refresh if report.is_running else None))
    folder.remove(before - folder.linked(TEXT))
    if problem is not None:
        raise problem
    return written


def build_report(study: StudyView, output: Path) -> Report:
    """The content of a study's report, which will lie in ``output``."""
    from phasewise.analysis.audit import audit
    from phasewise.report.content import Report
    from phasewise.report.figures.style import Colours
    from phasewise.report.sections.appendix import appendix
    from phasewise.report.sections.audit import audit_section
    from phasewise.report.sections.configuration import configuration_section
    from phasewise.report.sections.data import data_section
    from phasewise.report.sections.final import final_pictures
    from phasewise.report.sections.glance import glance_section
    from phasewise.report.sections.hypotheses import hypotheses_section
    from phasewise.report.sections.next import next_section, rounds_section
    from phasewise.report.sections.origin import origin_section
    from phasewise.report.sections.overall import behaviour_section, importance_section
    from phasewise.report.sections.phases import phase_section
    from phasewise.report.sections.published import published_section
    from phasewise.report.sections.summary import facts, summary_section

    colours = Colours(study.swept)
    found: list[Finding] = []

    def audited() -> Section:
        found.extend(audit(study.result))
        return audit_section(found)

    audit_part = _made("Audit", audited)
    parts: dict[str, Callable[[], Section | None]] = {
        "Summary": lambda: summary_section(study, found),
        "Audit": lambda: audit_part,
        "What to ask next": lambda: next_section(study, found),
        "Start": lambda: origin_section(study),
        "Data": lambda: data_section(study),
        "Configuration": lambda: configuration_section(study, output),
        "Hypotheses": lambda: hypotheses_section(study),
        "Phases at a glance": lambda: glance_section(study),
        "Rounds": lambda: rounds_section(study),
        "Beside what was published": lambda: published_section(study),
        **{one.title: partial(phase_section, study, one, colours) for one in study.phases},
        "Predictions of the final configuration": lambda: final_pictures(study),
        "What mattered": lambda: importance_section(study, colours),
        "Behaviour": lambda: behaviour_section(study, colours),
        "Appendix": lambda: appendix(study),
    }
    sections = [_made(title, make) for title, make in parts.items()]
    made = [section for section in sections if section is not None]
    return Report(study.title, facts(study), made, study.plan.status == "running")


def _made(title: str, make: Callable[[], Section | None]) -> Section | None:
    """A section; one that fails on data that nobody foresaw must not cost the report."""
    from phasewise.report.content import Section, Text

    try:
        return make()
    except Exception as error:
        log.error("%s could not be made (%s: %s)", title, type(error).__name__, error)
        text = f"This part could not be made ({type(error).__name__}: {error})."
        return Section(title, [Text(text, "warning")])
