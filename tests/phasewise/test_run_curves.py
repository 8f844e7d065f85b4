"""The curves that every run leaves."""

from __future__ import annotations

import numpy as np

from phasewise.figures import curves

OBJECTIVE = {"metric": "val/mIoU", "mode": "max"}


def test_terms_of_the_loss_have_panels_and_classes_have_none() -> None:
    rows = [
        {
            "epoch": epoch,
            "lr": 1e-3,
            "train/loss": 500.0 / 10**epoch,
            "val/loss": 600.0 / 10**epoch,
            "train/loss/boxes": 0.5,
            "val/loss/boxes": 0.4,
            "val/mIoU": 0.1 * epoch,
            "val/acc": 0.3,
            "val/IoU/cat": 0.2,
        }
        for epoch in (1, 2, 3)
    ]
    figure = curves(rows, OBJECTIVE, rows[2])
    assert figure is not None
    assert [ax.get_title() for ax in figure.axes] == ["loss", "mIoU", "loss/boxes", "acc"]
    loss, score, *_ = figure.axes
    assert [np.asarray(line.get_ydata()).tolist() for line in loss.lines[:2]] == [
        [row[name] for row in rows] for name in ("train/loss", "val/loss")
    ]
    assert (loss.get_yscale(), score.get_yscale()) == ("log", "linear")
    assert all(float(tick).is_integer() for tick in score.get_xticks())
