"""Which gallery images come first, against distances done by torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from torch.nn.functional import cosine_similarity

from phasewise.augment.color import normalize
from phasewise.data.images import Resize, read_image
from phasewise.data.reading import AS_IS
from phasewise.errors import UserError
from phasewise.inference.prediction.output import PredictionOutput
from phasewise.inference.prediction.predictor import Reader
from phasewise.inference.prediction.sources import list_images
from phasewise.inference.restore import Restored
from tests.predictors import predictor, untrained

Make = Callable[..., DictConfig]
SIDE = 64


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three queries, and a gallery with a copy of each among others."""
    draw = np.random.default_rng(0)
    queries, gallery = tmp_path / "queries", tmp_path / "gallery"
    queries.mkdir()
    (gallery / "more").mkdir(parents=True)
    for i in range(9):
        small = Image.fromarray(draw.integers(0, 256, (4, 5, 3), np.uint8))
        image = small.resize((70 + i, 60), Image.Resampling.BICUBIC)
        image.save(gallery / "more" / f"{i}.png")
        if i % 3 == 0:
            image.save(queries / f"q{i}.png")
    return queries, gallery


def member(make_config: Make, *words: str) -> Restored:
    cfg = make_config(
        "task=reid", "model.backbone=mobilenet_v3_small", f"data.image_size={SIDE}", *words
    )
    found = untrained(cfg, class_names=["1", "2"], cameras=True)
    # untrained batch norms let nothing but their bias through a network in eval mode
    for layer in found.module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
    return found


def run(found: Restored, folders: tuple[Path, Path], tmp_path: Path, words: str = "") -> list[dict]:
    """The entries of a run, and what the CSV has agrees with them."""
    queries, gallery = folders
    kind = predictor(found, words=f"gallery={gallery} batch_size=16 {words}")
    items = list_images(str(queries), "source")
    entries, rows = kind.run(items, Reader(AS_IS), PredictionOutput(tmp_path / "out", []))
    assert [(row[0], row[2], row[3]) for row in rows["ranking"]] == [
        (entry["file"], match["file"], match["distance"])
        for entry in entries
        for match in entry["ranked"]
    ]
    json.dumps(entries)
    return entries


def features(found: Restored, paths: list[Path]) -> torch.Tensor:
    """Of all images in one batch; batch norms go by it, so that the batch matters."""
    squares = [Resize(SIDE).image(read_image(path)) for path in paths]
    images = normalize(torch.from_numpy(np.stack(squares).transpose(0, 3, 1, 2).copy()))
    return found.module.features(images)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_the_nearest_come_first(
    make_config: Make, folders: tuple[Path, Path], tmp_path: Path, distance: str
) -> None:
    found = member(make_config, f"evaluation.distance={distance}")
    entries = run(found, folders, tmp_path, "top=4")
    queries, gallery = (sorted(folder.rglob("*.png")) for folder in folders)
    asked, there = features(found, queries).double(), features(found, gallery).double()
    for i, entry in enumerate(entries):
        if distance == "cosine":
            expected = 1 - cosine_similarity(asked[i : i + 1], there)
        else:
            expected = torch.cdist(asked[i : i + 1], there)[0]
        order = expected.argsort()[:4]
        assert [match["file"] for match in entry["ranked"]] == [
            f"more/{gallery[row].name}" for row in order
        ]
        near = [match["distance"] for match in entry["ranked"]]
        assert near == pytest.approx(expected[order].tolist(), abs=2e-6)
        assert len(set(near)) == 4


def test_pictures_and_names(make_config: Make, folders: tuple[Path, Path], tmp_path: Path) -> None:
    entries = run(member(make_config), folders, tmp_path, "top=2 pictures=png")
    for entry in entries:
        with Image.open(tmp_path / "out" / entry["ranking"]) as picture:
            assert picture.width > 3 * 160
    assert [entry["ranking"] for entry in entries] == [f"rankings/q{i}.png" for i in (0, 3, 6)]


def test_a_query_is_not_found_in_itself(
    make_config: Make, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    _, gallery = folders
    entries = run(member(make_config), (gallery, gallery), tmp_path, "top=100 pictures=none")
    for entry in entries:
        found = [match["file"] for match in entry["ranked"]]
        assert len(found) == 8
        assert entry["file"] not in found


def test_reranking_is_the_checkpoints(
    make_config: Make, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    from reid.reranking import ReRanking, k_reciprocal_distances

    found = member(make_config, "evaluation.rerank=true")
    entries = run(found, folders, tmp_path, "top=9 pictures=none")
    queries, gallery = (sorted(folder.rglob("*.png")) for folder in folders)
    matrix = k_reciprocal_distances(
        features(found, queries), features(found, gallery), ReRanking(), "cosine"
    )
    for entry, expected in zip(entries, matrix, strict=True):
        near = [match["distance"] for match in entry["ranked"]]
        assert near == pytest.approx(expected.sort().values.tolist(), abs=1e-5)


def test_features_of_several_networks_and_of_mirror_images(
    make_config: Make, folders: tuple[Path, Path]
) -> None:
    first, second = member(make_config), member(make_config, "model.pooling=max")
    image = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    batch = normalize(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    one, two = (it.module.features(batch) for it in (first, second))
    words = f"gallery={folders[1]}"
    joined = predictor(first, second, words=words).embed(list(image))
    cosine = (cosine_similarity(one[:1], one[1:]) + cosine_similarity(two[:1], two[1:])) / 2
    assert float(cosine_similarity(joined[:1], joined[1:])) == pytest.approx(float(cosine))
    both = predictor(first, words=f"{words} flip=true").embed(list(image))
    mean = (one + first.module.features(batch.flip(-1))) / 2
    torch.testing.assert_close(both, mean)


def test_a_gallery_is_needed(make_config: Make) -> None:
    with pytest.raises(UserError, match="gallery=FOLDER must be given"):
        predictor(member(make_config))


def test_distances_must_agree(make_config: Make, folders: tuple[Path, Path]) -> None:
    others = [member(make_config), member(make_config, "evaluation.distance=euclidean")]
    with pytest.raises(UserError, match="an ensemble is of one kind, but the distances of"):
        predictor(*others, words=f"gallery={folders[1]}")
