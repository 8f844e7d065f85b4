"""Where a study begins that starts from the winner of another one."""

from __future__ import annotations

from phasewise.report.content import Bullets, Column, Section, Table, Text
from phasewise.report.view import StudyView
from phasewise.study.naming import parse_override
from phasewise.study.origin import origin_name


def origin_section(study: StudyView) -> Section | None:
    """Which study's winner it is, and what was taken from it; None of a study that has none."""
    origin = study.plan.origin
    if origin is None:
        return None
    text = f"The starting configuration is {origin_name(origin)}."
    if origin.study:
        scale = f", budget {origin.budget}" if origin.budget != "full" else ""
        text = text[:-1] + f": run {origin.run} of the study {origin.study}{scale}."
    section = Section("Start", [Text(text)])
    if origin.words:
        caption = "What the starting configuration takes from that winner: all that differs from "
        caption += "what this study's own file says."
        table = Table("start", caption, [Column("key"), Column("value")])
        for override in map(parse_override, origin.words):
            table.add(override.key_or_group, override.get_value_element_as_str())
        section.blocks.append(table)
    if origin.kept:
        what = "Different there, and set by this study's own file, its budget or its command line:"
        section.blocks += [Text(what), Bullets(origin.kept)]
    return section
