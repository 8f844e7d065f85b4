"""Where things lie, in a checkout of the project and where the package is installed; the project's
own classes by name, as configs and checkpoints name them.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

PACKAGE = Path(__file__).resolve().parent

APPLICATION_VARIABLE = "PHASEWISE_APPLICATION"
"""Tells processes that workers run in which application they belong to, see `tell_children`."""


def _checkout() -> Path | None:
    """The checkout that this package lies in; None where it is installed."""
    parent = PACKAGE.parent
    return parent if (parent / "train.py").is_file() and (parent / "conf").is_dir() else None


def _application() -> Path:
    """The folder of the script that was started.

    Where that is a library's (``python -m pytest``, a launcher's worker) or there is none (a
    notebook), the application is the one of the parent process, else the checkout, else the
    present folder.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script is not None:
        file = Path(script).resolve()
        library = ("stdlib", "purelib", "platlib", "scripts")
        folders = [PACKAGE, *(Path(sysconfig.get_path(name)).resolve() for name in library)]
        if not any(file.is_relative_to(folder) for folder in folders):
            return file.parent
    if APPLICATION_VARIABLE in os.environ:
        return Path(os.environ[APPLICATION_VARIABLE])
    return _checkout() or Path.cwd()


APPLICATION = _application()
"""Where the code lies that is being run: its repository is the one that a record names."""

ROOT = _checkout() or APPLICATION
"""Where ``conf/``, the entry scripts and the packages of the tasks lie. Of an application that uses
the installed package, any of them may be missing."""

CONF = ROOT / "conf"

JOURNAL = "study.json"
"""Of a study or sweep, in its directory."""

HYDRA_VERSION = "1.3"
"""Whose defaults Hydra is asked for."""

Base = TypeVar("Base")


def install_command(extra: str) -> str:
    """What brings the packages of an extra: in a checkout no copy of it that would grow old."""
    what = "-e '.[{}]'" if _checkout() else "'phasewise[{}]'"
    return f"pip install {what.format(extra)}"


def tell_children() -> None:
    """Let the processes that this one starts, whatever starts them, know the application."""
    os.environ[APPLICATION_VARIABLE] = str(APPLICATION)


def module_environment() -> dict[str, str]:
    """Environment of a child ``python -m phasewise...`` that imports what this process imports.

    It sees neither another copy of the package nor whatever lies in the folder where one works.
    """
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    own = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", APPLICATION_VARIABLE: str(APPLICATION)}
    return os.environ | own


def is_shipped(name: Any) -> bool:
    """Whether something comes with this project by its dotted name: with the engine or a task,
    which has a schema. Other packages that lie beside the project are a user's own."""
    package = str(name).partition(".")[0]
    return package == PACKAGE.name or (ROOT / package / "schema.py").is_file()


def project_class(name: Any, base: type[Base]) -> type[Base] | None:
    """The subclass of ``base`` that is called ``package.module.Class``, if it is this project's.

    The file is looked for before anything is imported, so that no config can import code
    from elsewhere.
    """
    if not is_shipped(name):
        return None
    module_name, _, class_name = str(name).rpartition(".")
    root = PACKAGE.parent if module_name.startswith(f"{PACKAGE.name}.") else ROOT
    path = root.joinpath(*module_name.split(".")).with_suffix(".py")
    if re.fullmatch(r"\w+(\.\w+)+", module_name) and path.is_file():
        found = getattr(import_module(module_name), class_name, None)
        if isinstance(found, type) and issubclass(found, base):
            return found
    return None
