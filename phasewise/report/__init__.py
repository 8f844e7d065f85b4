"""Reports: what the directories of a study tell, as pages, tables and figures."""

from phasewise.report.report import write_report

__all__ = ["write_report"]
