"""How every benchmark writes its figures: with the machine and the versions they hold for."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def machine() -> dict[str, Any]:
    """Versions, commit, kind of machine and number of cores."""
    from phasewise.records.record import environment

    return environment() | {"cores": os.cpu_count()}


def write(path: Path | None, **content: Any) -> None:
    """Write JSON, with the `machine`; nothing without a path."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine()} | content, indent=2) + "\n")
