"""Sequential hyper-parameter tuning that can be trusted. Importing this imports nothing heavy.

`load` makes tables of what a study, a sweep or a run left; `run_study` runs a study of a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewise.lazy import lazily

if TYPE_CHECKING:
    from phasewise.api.function import run_study
    from phasewise.api.loaded import load

__all__ = ["load", "run_study"]

__getattr__ = lazily(__name__, **{"api.loaded": ["load"], "api.function": ["run_study"]})
