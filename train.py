"""Trains one model, or with ``-m`` several: ``python train.py --help``."""

from __future__ import annotations

from phasewise.cli.main import main

if __name__ == "__main__":
    main("phasewise.training.run:run")
