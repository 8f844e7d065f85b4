"""One network of the mean weights of several: ``evaluate.py soup=greedy``."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.optim.swa_utils import update_bn

from phasewise.inference.evaluation.command import main
from phasewise.inference.evaluation.data import open_data, with_data
from phasewise.inference.evaluation.measure import measure
from phasewise.inference.evaluation.soup import average, greedy, renew_batch_norms
from phasewise.inference.prediction.command import main as predict
from phasewise.inference.restore import restore
from tests.conftest import called

TinyRun = Callable[[str], Path]


def test_the_best_first_and_each_that_does_not_harm() -> None:
    """By hand, after recipe 1 of the paper."""
    alone = [0.5, 0.7, 0.6, float("nan"), 0.6]
    asked = []

    def score(places: Any) -> float:
        asked.append(list(places))
        return {(1, 2): 0.7, (1, 2, 4): 0.69, (1, 2, 0): 0.8}[tuple(places)]

    steps = greedy(alone, score, "max")
    assert [step.member for step in steps] == [1, 2, 4, 0]
    assert [step.taken for step in steps] == [True, True, False, True]
    assert [step.average for step in steps] == [0.7, 0.7, 0.69, 0.8]
    assert asked == [[1, 2], [1, 2, 4], [1, 2, 0]]
    losses = greedy([0.5, 0.4], lambda _: 0.45, "min")
    assert [(step.member, step.taken) for step in losses] == [(1, True), (0, False)]
    unsure = greedy([0.5, 0.4], lambda _: float("nan"), "max")
    assert [step.taken for step in unsure] == [True, False]
    assert greedy([float("nan")], score, "max") == []


def test_weights_are_averaged_and_counters_are_not() -> None:
    draws = torch.Generator().manual_seed(0)
    states = [{"w": torch.randn(3, 2, generator=draws), "n": torch.tensor(i)} for i in (5, 7, 9)]
    found = average(states)
    wanted = np.mean([state["w"].numpy().astype(float) for state in states], 0)
    np.testing.assert_allclose(found["w"].numpy(), wanted, rtol=1e-6)
    assert found["w"].dtype == torch.float32
    assert found["n"] == 5


def test_batch_norms_are_measured_as_torch_does() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
    plain = copy.deepcopy(network[:3])
    batches = [torch.randn(size, 3, 8, 8) for size in (4, 4, 2)]
    update_bn(batches, plain)
    renew_batch_norms(network.eval(), [*batches, torch.randn(1, 3, 8, 8)])
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(network[1], name), getattr(plain[1], name))
    assert network[1].momentum == 0.1
    assert not any(module.training for module in network.modules())


def changed(run: Path, place: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a run whose checkpoint differs."""
    shutil.copytree(run, place)
    file = place / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)
    return place


def shaken(scale: float, seed: int = 1) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        draws = torch.Generator().manual_seed(seed)
        for value in content["state_dict"].values():
            if value.is_floating_point() and value.dim() > 1:
                value.add_(scale * torch.randn(value.shape, generator=draws))

    return change


@pytest.mark.slow
def test_a_soup_is_a_network_like_that_of_a_run(
    tiny_run: TinyRun, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("segmentation")
    near = [changed(run, tmp_path / f"near{i}", shaken(0.02, seed=i)) for i in range(3)]
    far = changed(run, tmp_path / "far", shaken(3.0))
    place = tmp_path / "soup"
    words = [
        f"checkpoint=[{','.join(map(str, (far, run, *near)))}]",
        "soup=greedy",
        f"output={place}",
    ]
    words += ["resamples=0", "figures=0", f"data.cache_dir={cache}"]
    code, out, errors = called(main, words, capsys)
    assert code == 0, errors
    content = json.loads((place / "soup.json").read_text())
    taken = {one["checkpoint"]: one["taken"] for one in content["members"]}
    assert 2 <= sum(taken.values()) < len(taken)
    assert not taken[str(far / "checkpoints" / "best.ckpt")]
    assert "networks, chosen on validation data" in out
    chosen = [restore(name).state for name, stays in taken.items() if stays]
    soup = restore(place)
    for name, value in average(chosen).items():
        if "running" not in name and "num_batches" not in name and "threshold" not in name:
            torch.testing.assert_close(soup.state[name], value)
    # its figures are those of a network with these weights, and its objective is validation's
    config = with_data(soup.config, [f"data.cache_dir={cache}"])
    data = open_data(config)
    data.setup()
    for split, figures in (("test", content["figures"]["soup"]), ("val", None)):
        found = measure(soup.rebuilt(config), data, split, "32-true").metrics
        if figures is None:
            metric, value = (content["objective"][key] for key in ("metric", "value"))
            assert found[metric] == pytest.approx(value, abs=1e-6)
        else:
            assert figures == pytest.approx(found, abs=1e-6, nan_ok=True)
    assert content["figures"].keys() == {"soup", "best member", "ensemble"}
    Image.new("RGB", (40, 30), (90, 20, 30)).save(tmp_path / "photo.png")
    words = [f"checkpoint={place}", f"source={tmp_path / 'photo.png'}", f"output={tmp_path / 'p'}"]
    code, _, errors = called(predict, words, capsys)
    assert code == 0, errors
    code, _, errors = called(main, [f"checkpoint={place}", "resamples=0", "figures=0"], capsys)
    assert code == 0, errors


def _set(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        shaken(0.1)(content)
        node = content["phasewise"]["config"]
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = to

    return change


def refitted(content: dict[str, Any]) -> None:
    _set("data", "refit", to=True)(content)
    content["phasewise"]["config"]["objective"]["keep"] = "last"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("model", "activation", to="gelu"), "the network of"),
        (_set("seed", to=1), "random weights of seed=0, that of"),
        (_set("init_from", to="elsewhere"), "the start of"),
        (_set("objective", "metric", to="val/acc50"), "val/acc50 (max)"),
        (refitted, "was trained with data.refit=true"),
        (_set("data", "resize", to="letterbox"), "a soup is scored on the same images"),
    ],
)
def test_what_has_no_mean_is_refused(
    change: Callable[[dict[str, Any]], None],
    reason: str,
    tiny_run: TinyRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tiny_run("localization")
    other = changed(run, tmp_path / "other", change)
    words = [f"checkpoint=[{run},{other}]", "soup=greedy", f"output={tmp_path / 'soup'}"]
    code, out, errors = called(main, words, capsys)
    assert (code, out) == (2, "")
    assert reason in errors and errors.count("\n") == 1, errors
    assert not (tmp_path / "soup").exists()


@pytest.mark.slow
def test_other_dropout_is_the_same_network_and_other_data_are_not(
    tiny_run: TinyRun, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run("localization")
    other = changed(run, tmp_path / "other", _set("model", "dropout_rate", to=0.4))
    words = [f"checkpoint=[{run},{other}]", "soup=greedy", "resamples=0", "figures=0"]
    words += [f"data.cache_dir={cache}"]
    code, _, errors = called(main, [*words, f"output={tmp_path / 'soup'}"], capsys)
    assert code == 0, errors
    code, _, errors = called(main, [*words, f"output={other}"], capsys)
    assert code == 2 and "of a run" in errors  # never over its weights
    code, _, errors = called(main, [*words, f"output={tmp_path / 'b'}", "data.draw_seed=5"], capsys)
    assert code == 2 and "has other training images than these" in errors


def test_words_that_do_not_go_with_a_soup(capsys: pytest.CaptureFixture[str]) -> None:
    for words, reason in (
        (["checkpoint=a", "soup=greedy"], "soup=greedy: needs several checkpoints"),
        (["checkpoint=[a,b]", "soup=greedy", "ensemble=true"], "leave ensemble out"),
        (["checkpoint=[a,b]", "soup=greedy", "mask_size=8"], "for the soup's own evaluation"),
        (["checkpoint=[a,b]", "soup=greed"], "greedy"),
    ):
        code, _, errors = called(main, words, capsys)
        assert code == 2 and reason in errors, errors
