"""Exports a trained network to ONNX, TorchScript or torch.export: ``python export.py --help``."""

from __future__ import annotations

from phasewise.inference.exporting.command import main
from phasewise.study.winner import winning_run

if __name__ == "__main__":
    main(winning_run)
