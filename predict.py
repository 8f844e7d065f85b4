"""Applies a trained network to images: ``python predict.py --help``."""

from __future__ import annotations

from common.prediction.command import main
from studies.winner import winning_run

if __name__ == "__main__":
    main(winning_run)
