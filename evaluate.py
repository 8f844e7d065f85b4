"""Evaluates a trained network on a split: ``python evaluate.py --help``."""

from __future__ import annotations

from phasewise.inference.evaluation.command import main
from phasewise.study.winner import winning_run

if __name__ == "__main__":
    main(winning_run)
