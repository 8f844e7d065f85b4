"""The frame of a script: exit codes, and one clear message for whatever ends it early.

Exit codes: 0 done, 1 failed, 2 refused, 130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from phasewise.errors import RunFailedError, UserError, is_out_of_memory, say
from phasewise.project import PACKAGE, ROOT

if TYPE_CHECKING:  # pydantic takes a while, which `train.py --help` has not
    from phasewise.cli.settings import ScriptSettings

Settings = TypeVar("Settings", bound="ScriptSettings")

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Set to 1, tracebacks are shown; Hydra's own switch, as for ``train.py``."""


def run_script(
    kind: type[Settings],
    run: Callable[[Settings, list[str]], object],
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Run a script with the words of the command line, and exit.

    Args:
        kind: its settings.
        run: does what they and the words of their ``SECTIONS`` say.
        argv: the words; None takes them from ``sys.argv``.
    """
    name = kind.SCRIPT
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        say(kind.help_text())
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # drafts of files are removed
    logging.raiseExceptions = False  # where nobody reads on (`| head`), it goes on in silence
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # see phasewise.cli.main
    try:
        run(*kind.parse(words))
    except UserError as error:
        exit_with(name, 2, str(error))
    except KeyboardInterrupt:
        exit_with(name, 130, "interrupted")
    except Exception as error:
        if os.environ.get(FULL_ERROR) == "1":
            traceback.print_exc()
        if is_out_of_memory(error):
            exit_with(name, 1, "out of memory: a smaller batch size needs less")
        what = "" if isinstance(error, RunFailedError) else f"{type(error).__name__}: "
        hint = "" if isinstance(error, RunFailedError) else f"\n{_place(error)}"
        exit_with(name, 1, f"{what}{error}{hint}")
    sys.exit(0)


def _place(error: Exception) -> str:
    """Where an error that nobody foresaw came up: one that does not come back is known by that."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [it for it in frames if _is_ours(Path(it.filename))]
    places = [ours[-1], frames[-1]] if ours else [frames[-1]]
    lines = dict.fromkeys(f"{it.filename}, line {it.lineno}, in {it.name}" for it in places)
    hint = f"{FULL_ERROR}=1 shows all of the way there"
    return "\n".join([*(f"at {line}" for line in lines), hint])


def _is_ours(file: Path) -> bool:
    of_application = file.is_relative_to(ROOT) and "site-packages" not in file.parts
    return of_application or file.is_relative_to(PACKAGE)


def exit_with(name: str, code: int, message: str) -> NoReturn:
    """End the process, and say why."""
    print(f"{name}: {message}", file=sys.stderr)
    sys.exit(code)
