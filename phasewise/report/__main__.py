"""``python -m phasewise.report DIR``: what ``report.py`` does, without a checkout."""

from __future__ import annotations

from phasewise.report.command import main

if __name__ == "__main__":
    main(program="python -m phasewise.report")
