"""The project's own classes by name, as configs and checkpoints name them."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
"""Where the entry scripts and the packages of the project lie."""

CONF = ROOT / "conf"

JOURNAL = "study.json"
"""Of a study or sweep, in its directory."""

HYDRA_VERSION = "1.3"
"""Whose defaults Hydra is asked for."""

Base = TypeVar("Base")


def project_class(name: Any, base: type[Base]) -> type[Base] | None:
    """The subclass of ``base`` that is called ``package.module.Class``, if it is this project's.

    The file is looked for before anything is imported, so that no config can import code
    from elsewhere.
    """
    module_name, _, class_name = str(name).rpartition(".")
    path = ROOT.joinpath(*module_name.split(".")).with_suffix(".py")
    if re.fullmatch(r"\w+(\.\w+)+", module_name) and path.is_file():
        found = getattr(import_module(module_name), class_name, None)
        if isinstance(found, type) and issubclass(found, base):
            return found
    return None
