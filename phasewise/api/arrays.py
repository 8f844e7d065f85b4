"""The trials of a study as an xarray data set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from phasewise.analysis.statistics.frame import COMPARING, all_keys
from phasewise.api.tables import SWEEP
from phasewise.errors import UserError
from phasewise.project import install_command
from phasewise.study.results import StudyResult

if TYPE_CHECKING:
    import xarray

PLACE = ("phase", "candidate", "role")


def to_dataset(study: StudyResult, trials: pd.DataFrame, phase: str | None) -> xarray.Dataset:
    """A labelled array for each column of a table of trials.

    Dimensions are the keys that vary and ``seed`` where these trials fill the grid, each cell once;
    else there is one, ``trial``, and keys and seed are its coordinates.

    Args:
        study: that they are of.
        trials: from `phasewise.api.tables.trials_table`.
        phase: whose trials; None: of all phases that compare, each trial once.

    Raises:
        UserError: there is no such phase, or xarray is not installed.
    """
    try:
        import xarray  # noqa: F401
    except ImportError:
        raise UserError(f"to_xarray needs xarray: {install_command('xarray')}") from None
    names = [one.plan.name or SWEEP for one in study.phases]
    wanted = [n for n, p in zip(names, study.phases, strict=True) if p.plan.kind in COMPARING]
    if phase is not None:
        if phase not in names:
            raise UserError(f"phase={phase}: not one of {', '.join(names)}")
        wanted = [phase]
    frame = trials[trials["phase"].isin(wanted)].drop_duplicates("directory")
    keys = [key for key in all_keys(study) if frame[key].nunique() > 1]
    data = _cells(frame, [*keys, "seed"])
    data.attrs = {"study": study.plan.name, **study.plan.objective}
    return data


def _cells(frame: pd.DataFrame, dims: list[str]) -> xarray.Dataset:
    frame = frame.copy()
    frame["epoch"] = frame["epoch"].astype(float)
    texts = [name for name in frame if isinstance(frame[name].dtype, pd.StringDtype)]
    frame[texts] = frame[texts].astype(object)
    size = math.prod(frame[name].nunique() for name in dims)
    full = len(frame) == size and not frame.duplicated(dims).any()
    if not full:
        return frame.reset_index(drop=True).rename_axis("trial").to_xarray().set_coords(dims)
    return frame.drop(columns=[*PLACE]).set_index(dims).to_xarray()
