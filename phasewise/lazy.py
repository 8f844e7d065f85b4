"""Names of a package that cost an import of torch, and are imported when somebody asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any


def lazily(package: str, name: str, where: Mapping[str, Sequence[str]]) -> Any:
    """What a package's ``__getattr__`` returns.

    Args:
        package: its ``__name__``.
        name: asked for.
        where: the names by the module below the package that has them.

    Raises:
        AttributeError: it is none of them.
    """
    for module, names in where.items():
        if name in names:
            return getattr(import_module(f"{package}.{module}"), name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
