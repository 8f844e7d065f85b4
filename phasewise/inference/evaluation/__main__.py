"""``python -m phasewise.inference.evaluation``: what ``evaluate.py`` does, for runs by their
directories, without a checkout."""

from __future__ import annotations

from phasewise.inference.evaluation.command import main

if __name__ == "__main__":
    main(lambda _: None)
