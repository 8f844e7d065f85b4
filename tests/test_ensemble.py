"""Several networks that count as one: ``evaluate.py ensemble=true``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multitask.fusion import fused_detections
from phasewise.inference.evaluation.command import main
from phasewise.inference.prediction.boxes import Boxes, fuse
from phasewise.inference.restore import restore
from reid.distances import joined
from tests.conftest import called, twin

pytestmark = pytest.mark.slow

TinyRun = Callable[[str], Path]


@pytest.fixture(scope="module")
def shaken(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Another network of a task: a tiny run's with other weights."""

    def make(task: str) -> Path:
        place = tmp_path_factory.mktemp("shaken") / task
        shutil.copytree(tiny_run(task), place)
        file = place / "checkpoints" / "best.ckpt"
        content = torch.load(file, weights_only=True)
        draws = torch.Generator().manual_seed(1)
        for name, value in content["state_dict"].items():
            if name.startswith("network.") and value.is_floating_point() and value.dim() > 1:
                value.add_(0.1 * torch.randn(value.shape, generator=draws))
        torch.save(content, file)
        return place

    return make


def figures(folder: Path) -> dict[str, float]:
    content = json.loads((folder / "evaluation.json").read_text())
    return {name: one["value"] for name, one in content["figures"].items()}


@pytest.mark.parametrize("task", ["multitask", "localization", "segmentation", "reid"])
def test_of_networks_that_compute_the_same_it_scores_the_same(
    task: str,
    tiny_run: TinyRun,
    shaken: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # of a network that has hardly been trained, rounding alone ranks the features
    run = shaken(task) if task == "reid" else tiny_run(task)
    quick = ("split=val", "resamples=20", "figures=0")
    alone, both = tmp_path / "alone", tmp_path / "both"
    code, _, errors = called(main, [f"checkpoint={run}", f"output={alone}", *quick], capsys)
    assert code == 0, errors
    other = twin(run, tmp_path / "twin")
    words = [f"checkpoint=[{run},{other}]", "ensemble=true", f"output={both}", *quick]
    code, out, errors = called(main, words, capsys)
    assert code == 0, errors
    assert "ensemble of 2 networks" in out
    one, two = figures(alone), figures(both)
    wanted = {name for name in one if not name.startswith("val/loss")}
    assert two.keys() == wanted
    if task == "multitask":  # fusion merges what overlaps, whoever found it
        wanted = {name for name in wanted if "IoU" in name or "pixel" in name}
    for name in wanted:
        assert two[name] == pytest.approx(one[name], abs=1e-6, nan_ok=True), name
    members = json.loads((both / "evaluation.json").read_text())["members"]
    wanted = {str(place / "checkpoints" / "best.ckpt") for place in (run, other)}
    assert {one["checkpoint"] for one in members} == wanted


def test_it_scores_the_mean_box(
    tiny_run: TinyRun,
    shaken: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Against a loop over images."""
    from phasewise.inference.evaluation.data import open_data, with_data

    runs = [tiny_run("localization"), shaken("localization")]
    words = [f"checkpoint=[{runs[0]},{runs[1]}]", "ensemble=true", "split=val", "resamples=0"]
    code, _, errors = called(main, [*words, f"output={tmp_path}"], capsys)
    assert code == 0, errors
    members = [restore(run) for run in runs]
    data = open_data(with_data(members[0].config, []))
    data.setup("validate")
    scores = []
    for row in range(len(data.splits.stores["val"])):
        batch = data.prepared("val", torch.tensor([row]), torch.device("cpu"))
        with torch.no_grad():
            boxes = [member.module(batch["image"])["boxes"][0].numpy() for member in members]
        assert np.abs(boxes[0] - boxes[1]).max() > 1e-3
        box = (boxes[0] + boxes[1]) / 2
        true = batch["boxes"][0, 0].numpy() / members[0].image_size
        scores.append(_iou(box, true))
    assert figures(tmp_path)["val/IoU"] == pytest.approx(np.mean(scores), abs=1e-5)


def _iou(one: Any, other: Any) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(areas) - common)


def test_segmentation_has_the_mean_probability_and_threshold(
    tiny_run: TinyRun, shaken: Callable[[str], Path]
) -> None:
    modules: list[Any] = [restore(run).module for run in _runs(tiny_run, shaken, "segmentation")]
    for module, threshold in zip(modules, (0.3, 0.6), strict=True):
        module.metrics.threshold.fill_(threshold)
    images = torch.randn(2, 3, 32, 32)
    outputs = [module(images) for module in modules]
    mean = sum(1 / (1 + np.exp(-each["logits"].numpy().astype(float))) for each in outputs) / 2
    found = modules[0].together(outputs)["logits"].sigmoid().numpy()
    np.testing.assert_allclose(found, mean, atol=1e-6)
    modules[0].join(modules)
    assert float(modules[0].metrics.threshold) == pytest.approx(0.45)


def test_multitask_has_the_mean_probabilities_and_fused_boxes(
    tiny_run: TinyRun, shaken: Callable[[str], Path]
) -> None:
    modules: list[Any] = [restore(run).module for run in _runs(tiny_run, shaken, "multitask")]
    images = torch.randn(2, 3, 32, 32)
    outputs = [module(images) for module in modules]
    together = modules[0].together(outputs)
    logits = [each["segmentation"].double().numpy() for each in outputs]
    powers = [np.exp(each - each.max(1, keepdims=True)) for each in logits]
    mean = sum(each / each.sum(1, keepdims=True) for each in powers) / 2
    found = together["segmentation"].softmax(1).numpy()
    np.testing.assert_allclose(found, mean, atol=1e-5)
    assert modules[0].detections(together) is together["detections"]


def test_detections_are_fused_as_predictions_are() -> None:
    one = ([[0.0, 0, 10, 10], [20, 20, 30, 30]], [0.9, 0.4], [1, 2])
    two = ([[1.0, 0, 10, 10]], [0.5], [1])
    sets = [Boxes(np.array(b), np.array(s), np.array(k)) for b, s, k in (one, two)]
    tensors = [
        {"boxes": torch.tensor(b), "scores": torch.tensor(s), "labels": torch.tensor(k)}
        for b, s, k in (one, two)
    ]
    expected = fuse(sets)
    found = fused_detections(tensors, 100)
    for name, values in zip(("boxes", "scores", "labels"), expected, strict=True):
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-6)
    assert found["boxes"].dtype == torch.float32
    assert len(fused_detections(tensors, 1)["scores"]) == 1
    # by hand: (0.9 * 0 + 0.5 * 1) / 1.4; the second was found by one of two
    assert found["boxes"][0, 0].item() == pytest.approx(0.5 / 1.4, rel=1e-6)
    assert found["scores"].tolist() == pytest.approx([0.7, 0.2])


def test_distances_between_joined_features_are_means() -> None:
    draws = torch.Generator().manual_seed(0)
    parts = [torch.randn(4, size, generator=draws).double() for size in (8, 3)]
    whole = joined(parts, "cosine")
    cosines = [torch.cosine_similarity(part[:1], part) for part in (*parts, whole)]
    torch.testing.assert_close(cosines[2], (cosines[0] + cosines[1]) / 2)
    squares = [(part[:1] - part).square().sum(1) for part in (*parts, joined(parts, "euclidean"))]
    torch.testing.assert_close(squares[2], squares[0] + squares[1])


def _runs(tiny_run: TinyRun, shaken: Callable[[str], Path], task: str) -> Iterator[Path]:
    yield tiny_run(task)
    yield shaken(task)


def test_what_is_no_ensemble_is_refused(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("segmentation")
    code, _, errors = called(main, [f"checkpoint={run}", "ensemble=true"], capsys)
    assert code == 2
    assert "ensemble=true: needs several checkpoints: checkpoint=[a,b,c]" in errors
    other = twin(run, tmp_path / "other")
    file = other / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    content["phasewise"]["config"]["data"]["resize"] = "letterbox"
    torch.save(content, file)
    words = [f"checkpoint=[{run},{other}]", "ensemble=true", "split=val"]
    code, _, errors = called(main, words, capsys)
    assert code == 2
    assert "data.resize of" in errors
    assert not (run / "evaluation").exists()


@pytest.mark.parametrize("ensemble", ["true", "false"])
@pytest.mark.parametrize("again", ["{run}", "{run}/checkpoints/best.ckpt", "{link}", "{copy}"])
def test_one_network_under_two_names_is_refused(
    again: str, ensemble: str, tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, link, copy = tiny_run("localization"), tmp_path / "link", tmp_path / "copy"
    link.symlink_to(run)
    shutil.copytree(run, copy)
    other = again.format(run=run, link=link, copy=copy)
    words = [f"checkpoint=[{run},{other}]", f"ensemble={ensemble}", "split=val"]
    code, out, errors = called(main, words, capsys)
    assert (code, out) == (2, "")
    assert "one network would count twice" in errors
    assert errors.count("\n") == 1
    assert not (run / "evaluation").exists()


def test_a_network_of_other_classes_is_named(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = tiny_run("multitask"), twin(tiny_run("multitask"), tmp_path / "other")
    file = other / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    names = content["phasewise"]["info"]["class_names"]
    names[1], names[2] = names[2], names[1]
    torch.save(content, file)
    code, _, errors = called(main, [f"checkpoint=[{run},{other}]", "ensemble=true"], capsys)
    assert code == 2
    assert errors.startswith(f"evaluate.py: {file}: the data have the classes background, circle")
    assert errors.count("\n") == 1
