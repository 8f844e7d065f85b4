"""Writes the report of a study or sweep, or compares two: ``python report.py --help``."""

from __future__ import annotations

from phasewise.report.command import main

if __name__ == "__main__":
    main()
