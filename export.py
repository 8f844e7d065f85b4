"""Exports a trained network to ONNX, TorchScript or torch.export: ``python export.py --help``."""

from __future__ import annotations

from common.exporting.command import main
from studies.winner import winning_run

if __name__ == "__main__":
    main(winning_run)
