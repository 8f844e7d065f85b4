"""Applies a trained network to images: ``python predict.py --help``."""

from __future__ import annotations

from phasewise.inference.prediction.command import main
from phasewise.study.winner import winning_run

if __name__ == "__main__":
    main(winning_run)
