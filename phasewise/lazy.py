"""Names of a package that cost an import of torch, and are imported when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any


def lazily(package: str, **where: Sequence[str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Args:
        package: its ``__name__``.
        where: the names by the module below the package that has them.
    """

    def find(name: str) -> Any:
        for module, names in where.items():
            if name in names:
                return getattr(import_module(f"{package}.{module}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
