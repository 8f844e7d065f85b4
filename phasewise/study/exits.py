"""How a study in an application that is not this project's ends early: in its own words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from phasewise.cli.script import FULL_ERROR, exit_with
from phasewise.config.help import ADVICE
from phasewise.errors import UserError
from phasewise.storage import storage_error
from phasewise.study.application import is_project


@contextmanager
def exits_plainly(config: DictConfig) -> Iterator[None]:
    """Say what ends a study without a traceback, and exit; this project's own scripts do it.

    Hydra would print where in its code an error came up.

    Args:
        config: what Hydra composed for the sweep as a whole.
    """
    plain = not is_project(config) and os.environ.get(FULL_ERROR) != "1"
    try:
        yield
    except KeyboardInterrupt:
        if not plain:
            raise
        exit_with(str(sys.argv[0]), 130, "interrupted")
    except (UserError, OSError) as error:
        known = error if isinstance(error, UserError) else storage_error(error)
        if not plain or known is None:
            raise
        code = getattr(known, "exit_code", 2)
        if known.advice == ADVICE:  # of this project's own scripts
            known = UserError(known.head, known.problems)
        hint = "\n(where the config has no such key yet: ++study.KEY=VALUE)"
        text = str(known)
        exit_with(str(sys.argv[0]), code, text + (hint if "study." in text else ""))
