"""What ``$REFUSED`` names cannot be imported.

Where this folder is on ``$PYTHONPATH``, Python imports this file first, in children too.
"""

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

refused = set(os.environ["REFUSED"].split(","))


class Refused:
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ModuleNotFoundError(f"{spec.name} is refused here", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class Refuse:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in refused and (spec := PathFinder.find_spec(name, path)):
            spec.loader = Refused()  # type: ignore[assignment]  # its files are there to be read
            return spec
        return None


sys.meta_path.insert(0, Refuse())
