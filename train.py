"""Trains one model, or with ``-m`` several: ``python train.py --help``."""

from __future__ import annotations

from common.cli import main

if __name__ == "__main__":
    main("common.run:run")
