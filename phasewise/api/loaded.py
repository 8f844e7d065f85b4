"""``phasewise.load``: a study, a sweep or a run as tables, read from its records alone."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from phasewise.api import display, tables
from phasewise.api.best import BestConfiguration, best_configuration
from phasewise.project import JOURNAL
from phasewise.study.folders import is_run
from phasewise.study.read import read_study
from phasewise.study.results import StudyResult
from phasewise.study.single import read_run

if TYPE_CHECKING:
    import xarray


class LoadedStudy:
    """A study as far as it had come when it was loaded; `load` it again for what is newer.

    Each table is made when it is asked for, and is the caller's to change.

    Attributes:
        result: the plan with the records of all trials, as reports and audit see it.
    """

    def __init__(self, result: StudyResult) -> None:
        self.result = result

    @property
    def directory(self) -> Path:
        """Of the study; of a single run, its own."""
        return self.result.directory / self.name if self._is_run else self.result.directory

    @property
    def name(self) -> str:
        """As its file says, or its folder."""
        return self.result.plan.name

    @property
    def status(self) -> str:
        """``completed``, ``running``, ``interrupted`` or ``failed``."""
        return self.result.plan.status

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial and phase; see `phasewise.api.tables.trials_table`."""
        return self._trials.copy()

    @property
    def phases(self) -> pd.DataFrame:
        """A row per phase; see `phasewise.api.tables.phases_table`."""
        return tables.phases_table(self.result)

    @property
    def history(self) -> pd.DataFrame:
        """A row per trial and epoch; see `phasewise.api.tables.history_table`."""
        return tables.history_table(self.result)

    @property
    def best(self) -> BestConfiguration | None:
        """The final configuration; None while no phase has decided."""
        return best_configuration(self.result)

    def to_xarray(self, phase: str | None = None) -> xarray.Dataset:
        """The trials as a labelled data set; see `phasewise.api.arrays.to_dataset`.

        Args:
            phase: whose trials; None: of all phases that compare, each trial once.

        Raises:
            UserError: there is no such phase, or xarray is not installed.
        """
        from phasewise.api.arrays import to_dataset

        return to_dataset(self.result, self._trials, phase)

    def audit(self) -> pd.DataFrame:
        """What keeps the results from meaning what they seem to mean, gravest first.

        Columns: ``rule``, ``severity`` (error, warning, note), ``phase`` (missing where it concerns
        the study), ``text``, ``evidence`` (a line each), ``advice``.
        """
        return tables.audit_table(self.result)

    def report(self, output: str | Path | None = None) -> Path:
        """Write the report; returns the path of its page.

        Args:
            output: the folder that it goes to; None: the study's.

        Raises:
            UserError: it cannot be written.
        """
        from phasewise.report.report import build_report, publish
        from phasewise.report.view import StudyView

        place = Path(output or self.directory)
        return publish(build_report(StudyView(self.result), place), place)

    def __repr__(self) -> str:
        return display.as_text(self._head, self.phases, self.best)

    def _repr_html_(self) -> str:
        return display.as_html(self._head, self.phases, self.best, self._trials)

    @property
    def _head(self) -> str:
        trials = self._trials
        done = int((trials["status"] == "completed").sum())
        return f"{self.name}: {self.status}, {done} of {len(trials)} trials completed"

    @cached_property
    def _trials(self) -> pd.DataFrame:
        return tables.trials_table(self.result)

    @property
    def _is_run(self) -> bool:
        return not (self.result.directory / JOURNAL).exists() and is_run(
            self.result.directory / self.name
        )


def load(directory: str | Path) -> LoadedStudy:
    """A study, a sweep or a single run, in any state, from its records.

    Args:
        directory: of it. A copy without ``study.json`` is a study too: the plan is rebuilt from
            the runs' own records.

    Raises:
        UserError: there is no such directory, or it holds no run.

    Example:
        >>> import phasewise
        >>> study = phasewise.load("outputs/studies/demo")  # doctest: +SKIP
        >>> study.trials.groupby("optimizer.lr")["val/mIoU"].mean()  # doctest: +SKIP
    """
    directory = Path(directory).expanduser()
    if directory.is_dir() and is_run(directory) and not (directory / JOURNAL).exists():
        return LoadedStudy(read_run(directory))
    return LoadedStudy(read_study(directory))
