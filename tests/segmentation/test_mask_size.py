"""Masks that are compared at a coarser size: ``evaluate.py mask_size=``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from phasewise.inference.evaluation.command import main
from phasewise.inference.evaluation.data import open_data
from phasewise.inference.restore import restore
from tests.conftest import called

TinyRun = Callable[[str], Path]
QUICK = ("split=val", "resamples=0", "figures=2")


def _figures(folder: Path) -> dict[str, float]:
    content = json.loads((folder / "evaluation.json").read_text())
    return {name: one["value"] for name, one in content["figures"].items()}


def test_scores_at_half_the_size(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("segmentation")
    words = [f"checkpoint={run}", f"output={tmp_path}", *QUICK, "mask_size=16"]
    code, out, errors = called(main, words, capsys)
    assert code == 0, errors
    assert "masks of 32 pixels compared at 16" in out
    found = _figures(tmp_path)

    trained = restore(run)
    opened = open_data(trained.config, trained.checkpoint)
    opened.setup("validate")
    module = trained.module.eval()
    batch = opened.prepared("val", torch.arange(4), torch.device("cpu"))
    with torch.no_grad():
        fine = module(batch["image"])["logits"].sigmoid()
    coarse = fine.unfold(1, 2, 2).unfold(2, 2, 2).mean((3, 4))
    true = batch["mask"][:, 1::2, 1::2] == 1
    positive = coarse >= module.metrics.threshold
    hits, union = (positive & true).sum(), (positive | true).sum()
    assert found["val/jaccard"] == pytest.approx((hits / union).item(), abs=5e-3)
    shared, either = (coarse * true).sum(), (coarse + true.float() - coarse * true).sum()
    assert found["val/soft_jaccard"] == pytest.approx(
        ((shared + 1) / (either + 1)).item(), rel=1e-4
    )
    assert found["val/truth/foreground"] == pytest.approx(true.float().mean().item())
    assert "val/loss" not in found  # which is of the images' own size, as trivial predictors are
    assert json.loads((tmp_path / "evaluation.json").read_text())["baselines"] == {}
    assert not (tmp_path / "figures").exists()


def test_at_the_images_own_size_nothing_changes(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, found = tiny_run("segmentation"), []
    for name, more in (("plain", ()), ("same", ("mask_size=32",))):
        words = [f"checkpoint={run}", f"output={tmp_path / name}", *QUICK, *more]
        assert called(main, words, capsys)[0] == 0
        found.append(_figures(tmp_path / name))
    plain = {name: value for name, value in found[0].items() if not name.startswith("val/loss")}
    assert plain == found[1]


@pytest.mark.parametrize(
    ("task", "size", "told"),
    [
        ("segmentation", 20, "mask_size=20: does not divide data.image_size=32"),
        ("segmentation", 64, "mask_size=64: does not divide data.image_size=32"),
        ("localization", 16, "mask_size=16: there are no masks that this task compares alone"),
    ],
)
def test_sizes_that_are_none(
    task: str,
    size: int,
    told: str,
    tiny_run: TinyRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [f"checkpoint={tiny_run(task)}", f"output={tmp_path}", *QUICK, f"mask_size={size}"]
    code, _, errors = called(main, words, capsys)
    assert code != 0
    assert told in errors
