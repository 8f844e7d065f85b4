from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from phasewise.errors import UserError
from reid.distances import NotFiniteError, first_equal, rank_from_features
from reid.ranking import NoValidQueryError, count_before, rank_from_distances
from tests.reid.retrieval_reference import Scores, distance_matrix, evaluate


def check(found: dict[str, torch.Tensor], wanted: Scores | None) -> None:
    assert wanted is not None
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].tolist() == pytest.approx(value, abs=1e-12), name


def scene(seed: int, queries: int = 40, gallery: int = 150, ids: int = 12, cameras: int = 4) -> Any:
    """Labels: query ids, gallery ids, query cameras, gallery cameras. Some ids are not in both."""
    draw = np.random.default_rng(seed)
    return (
        draw.integers(0, ids, queries),
        draw.integers(2, ids + 2, gallery),
        draw.integers(0, cameras, queries),
        draw.integers(0, cameras, gallery),
    )


# name: queries, gallery, ids, cameras
SCENES = {
    "usual": (40, 150, 12, 4),
    "sparse": (60, 80, 200, 6),
    "single camera": (30, 60, 6, 1),
    "short gallery": (20, 7, 3, 3),
    "tiny": (3, 4, 3, 2),
    "one identity": (5, 60, 3, 2),
}


@pytest.mark.parametrize("kind", ["hits", "trapezoid"])
@pytest.mark.parametrize("use_cameras", [True, False])
@pytest.mark.parametrize("levels", [0, 1, 4, 300])
@pytest.mark.parametrize("name", SCENES)
def test_scores_against_plain_loops(name: str, levels: int, use_cameras: bool, kind: str) -> None:
    """From no ties at all to nothing but ties."""
    compared = 0
    for seed in range(3):
        labels = scene(seed, *SCENES[name])
        distances = np.random.default_rng(seed + 9).random((len(labels[0]), len(labels[1])))
        if levels:
            distances = np.floor(distances * levels)
        if not use_cameras:
            labels = (*labels[:2], None, None)
        wanted = evaluate(distances, *labels, average_precision=kind)
        if wanted is None:
            with pytest.raises(NoValidQueryError):
                rank_from_distances(distances, *labels, average_precision=kind)
            continue
        compared += 1
        check(rank_from_distances(distances, *labels, average_precision=kind), wanted)
    assert compared or (use_cameras and name == "single camera")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_every_type_of_distance(dtype: torch.dtype) -> None:
    labels = scene(5)
    distances = (torch.rand(40, 150, generator=torch.Generator().manual_seed(5)) * 90).to(dtype)
    wanted = evaluate(distances.double().numpy(), *labels)
    check(rank_from_distances(distances, *map(torch.from_numpy, labels)), wanted)
    check(rank_from_distances(distances.T.contiguous().T, *[x.tolist() for x in labels]), wanted)


def test_what_single_precision_cannot_tell_apart() -> None:
    """Doubles that are one number in float32, some of them infinite there, are still ordered."""
    draw = np.random.default_rng(3)
    labels = scene(3)
    close = 1 + 1e-12 * draw.integers(0, 50, (40, 150))
    huge = 1e300 * draw.integers(1, 50, (40, 150))
    endless = np.where(draw.random((40, 150)) < 0.5, np.inf, -np.inf)
    for distances in (close, huge, endless, np.where(draw.random((40, 150)) < 0.3, close, 2)):
        check(rank_from_distances(distances, *labels), evaluate(distances, *labels))


def test_ties_go_by_gallery_index_by_hand() -> None:
    """Two right of four images at one distance, at ranks 2 and 4; the order matters."""
    found = rank_from_distances(torch.zeros(1, 4), [7], [1, 7, 2, 7])
    assert found["mAP"].item() == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found["mINP"].item() == pytest.approx(2 / 4)
    assert (found["rank1"].item(), found["rank5"].item()) == (0, 1)
    other = rank_from_distances(torch.zeros(1, 4), [7], [7, 7, 2, 1])
    assert other["mAP"].item() == other["mINP"].item() == other["rank1"].item() == 1


def test_trapezoids_by_hand() -> None:
    """Wrong, right, wrong, right: (0 + 1/2) / 2 and (1/3 + 2/4) / 2, each with half the recall."""
    row = torch.tensor([[1.0, 2, 3, 4]])
    found = rank_from_distances(row, [7], [1, 7, 2, 7], average_precision="trapezoid")
    assert found["mAP"].item() == pytest.approx((1 / 4 + 5 / 12) / 2)


def test_a_short_gallery_continues_the_curve() -> None:
    found = rank_from_distances(
        torch.tensor([[1.0, 2, 3]] * 2), [7, 8], [1, 7, 8], [0, 0], [1, 1, 1], max_rank=6
    )
    assert found["cmc"].tolist() == [0, 0.5, 1, 1, 1, 1]
    assert found["rank10"].item() == 1
    assert rank_from_distances(torch.zeros(1, 1), [7], [7], max_rank=1)["cmc"].tolist() == [1]


def test_junk_and_distractors() -> None:
    """Junk (-1) before the right image takes nothing away; a distractor (0) does."""
    row = torch.tensor([[1.0, 2, 3]])
    assert rank_from_distances(row, [7], [-1, -1, 7])["mAP"].item() == 1
    assert rank_from_distances(row, [7], [-1, 0, 7])["mAP"].item() == 1 / 2
    with pytest.raises(NoValidQueryError):
        rank_from_distances(row, [-1], [-1, 0, 7])
    labels = scene(8)
    labels[1][::3] = -1
    labels[0][::5] = -1
    distances = np.random.default_rng(8).random((40, 150))
    check(rank_from_distances(distances, *labels), evaluate(distances, *labels))


@pytest.mark.parametrize("use_cameras", [True, False])
def test_the_query_itself_is_left_out(use_cameras: bool) -> None:
    """Queries that stand in the gallery too, under any camera, find themselves first."""
    labels = scene(2)
    draw = np.random.default_rng(2)
    distances = draw.random((40, 150))
    images = draw.permutation(150)
    mine = draw.choice(150, 40, replace=False)
    labels[1][mine] = labels[0]
    distances[np.arange(40), mine] = 0
    if not use_cameras:
        labels = (*labels[:2], None, None)
    options = {"query_images": images[mine], "gallery_images": images}
    wanted = evaluate(distances, *labels, **options)
    check(rank_from_distances(distances, *labels, **options), wanted)
    known = wanted["mAP"]
    assert rank_from_distances(distances, *labels)["mAP"].item() > known


def test_perfect_and_worst() -> None:
    ids = np.repeat(np.arange(5), 4)
    cameras = np.tile([0, 1, 2, 3], 5)
    apart = (ids[:, None] != ids[None]).astype(float)
    found = rank_from_distances(apart, ids, ids, cameras, cameras)
    assert all(found[name].item() == 1 for name in ("mAP", "mINP", "rank1", "rank5", "rank10"))
    assert found["valid_queries"].item() == 20
    worst = rank_from_distances(-apart, ids, ids, cameras, cameras)
    assert worst["mAP"].item() == pytest.approx(np.mean([1 / 17, 2 / 18, 3 / 19]))
    assert worst["mINP"].item() == pytest.approx(3 / 19)
    assert worst["rank10"].item() == 0


# Nothing to rank


def test_no_valid_query_is_told() -> None:
    labels = [7, 7, 9], [7, 8], [0, 0, 0], [0, 1]
    with pytest.raises(NoValidQueryError, match=r"of 3 queries, 1 have an id.*2 find only") as told:
        rank_from_distances(torch.zeros(3, 2), *labels)
    assert isinstance(told.value, ValueError) and isinstance(told.value, UserError)
    with pytest.raises(NoValidQueryError, match="no queries"):
        rank_from_distances(torch.zeros(0, 2), [], [7, 8])
    with pytest.raises(NoValidQueryError, match="of 3 queries, 3 have an id"):
        rank_from_distances(torch.zeros(3, 0), [7, 7, 9], [])
    found = rank_from_distances(torch.zeros(3, 2), *labels, max_rank=4, on_empty="nan")
    assert found["valid_queries"].item() == 0
    assert found["cmc"].shape == (4,) and found["cmc"].isnan().all()
    names = ("mAP", "mINP", "rank1", "rank5", "rank10")
    assert all(math.isnan(found[name].item()) for name in names)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((torch.zeros(2, 3), [1, 2], [1, 2]), {}, "shape"),
        ((torch.zeros(2, 2), [1, 2], [1, 2], [0, 0]), {}, "both or none"),
        ((torch.zeros(2, 2), [1, 2], [1, 2], [0, 0], [0]), {}, "2 and 1 entries"),
        ((torch.zeros(2, 2), [1.0, 2.0], [1, 2]), {}, "integer"),
        ((torch.zeros(2, 2), [1, 2], [1, 2]), {"average_precision": "area"}, "trapezoid"),
        ((torch.zeros(2, 2), [1, 2], [1, 2]), {"on_empty": "zero"}, "on_empty"),
        ((torch.zeros(2, 2), [1, 2], [1, 2]), {"max_rank": 0}, "max_rank"),
        ((torch.tensor([[0.0, 1], [math.nan, 1]]), [1, 2], [1, 2]), {}, "query 1 hold NaN"),
    ],
)
def test_wrong_arguments(arguments: tuple, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rank_from_distances(*arguments, **options)


# Features


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", SCENES)
def test_features_against_plain_loops(
    name: str, distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in many small blocks: of gallery features, of distances and of queries."""
    for seed, sizes in enumerate([(), (64, 97, 5), (1, 1, 1)]):
        for key, size in zip(("_PRODUCT", "_SCORES", "_QUERIES"), sizes, strict=False):
            monkeypatch.setattr(f"reid.distances.{key}", size)
        labels = scene(seed, *SCENES[name])
        draw = np.random.default_rng(seed)
        queries, gallery = (
            (draw.normal(size=(len(ids), 16)) + 0.2 * np.eye(16)[ids % 16]).astype(np.float32)
            for ids in labels[:2]
        )
        gallery[::4] = gallery[len(gallery) // 2]  # copies
        matrix = distance_matrix(queries, gallery, distance)
        tensors = torch.from_numpy(queries), torch.from_numpy(gallery)
        options = {"distance": distance, "on_empty": "nan"}
        found = rank_from_features(*tensors, *labels, **options)
        wanted = evaluate(matrix, *labels)
        if wanted is None:
            assert name in ("single camera", "tiny") and found["valid_queries"].item() == 0
        else:
            check(found, wanted)
        check(rank_from_features(*tensors, *labels[:2], **options), evaluate(matrix, *labels[:2]))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_identical_features_tie_exactly(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies all over a gallery whose size is no round number, as wide as real features are."""
    monkeypatch.setattr("reid.distances._SCORES", 10_000)
    draw = torch.Generator().manual_seed(0)
    gallery = torch.randn(7, 512, generator=draw)[torch.randint(7, (1003,), generator=draw)] + 50
    queries = torch.randn(6, 512, generator=draw) + 50
    ids = torch.randint(0, 9, (1009,), generator=draw).numpy()
    matrix = distance_matrix(queries.numpy(), gallery.numpy(), distance)
    assert len(np.unique(matrix[0])) == 7
    found = rank_from_features(queries, gallery, ids[:6], ids[6:], distance=distance)
    check(found, evaluate(matrix, ids[:6], ids[6:]))


def test_a_collapsed_network_and_zero_features() -> None:
    ids = np.arange(30) % 4
    wanted = evaluate(np.zeros((10, 20)), ids[:10], ids[10:])
    for value in (0.0, 0.37):
        for distance in ("euclidean", "cosine"):
            features = torch.full((30, 8), value)
            parts = features[:10], features[10:], ids[:10], ids[10:]
            check(rank_from_features(*parts, distance=distance), wanted)


def test_reduced_precision_does_not_matter() -> None:
    """Under autocast, and with features of half precision, ranks are those of the numbers given."""
    labels = scene(4)
    features = torch.randn(190, 32, generator=torch.Generator().manual_seed(4)).bfloat16()
    parts = features[:40], features[40:]
    matrix = distance_matrix(parts[0].float().numpy(), parts[1].float().numpy(), "euclidean")
    with torch.autocast("cpu", torch.bfloat16):
        check(rank_from_features(*parts, *labels), evaluate(matrix, *labels))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("row", [0, 25])
def test_features_that_are_not_finite(value: float, row: int) -> None:
    features = torch.ones(30, 8)
    features[row, 3] = value
    ids = np.zeros(30, int)
    with pytest.raises(NotFiniteError, match="features of 1 of"):
        rank_from_features(features[:10], features[10:], ids[:10], ids[10:])


def test_wrong_features() -> None:
    ids = [0, 0, 0]
    with pytest.raises(ValueError, match="channels"):
        rank_from_features(torch.zeros(3, 4), torch.zeros(3, 5), ids, ids)
    with pytest.raises(ValueError, match="2 queries and 3"):
        rank_from_features(torch.zeros(2, 4), torch.zeros(3, 4), ids, ids)
    with pytest.raises(ValueError, match="euclidean, cosine"):
        rank_from_features(torch.zeros(3, 4), torch.zeros(3, 4), ids, ids, distance="manhattan")
    with pytest.raises(ValueError, match="images, channels"):
        rank_from_features(torch.zeros(3), torch.zeros(3, 4), ids, ids)


def test_first_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.tensor([[0.0, 1], [2, 3], [-0.0, 1], [2, 3], [3, 2], [2, 3]])
    for dtype in (torch.float32, torch.float64):
        assert first_equal(features.to(dtype)).tolist() == [0, 1, 0, 1, 4, 1]
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.zeros(2, dtype=torch.int64))
    same = first_equal(features).tolist()  # every hash clashes or nearly so: never a wrong pair
    assert all((features[i] == features[j]).all() for i, j in enumerate(same))


def test_counting_across_stretches() -> None:
    """Ranks in stretches of the gallery add up to those in the whole."""
    draw = np.random.default_rng(0)
    for levels in (3, 500, 10**9):
        row = np.floor(draw.random(500) * levels)
        positions = np.sort(draw.choice(500, 100, replace=False))
        ignored = np.setdiff1d(draw.choice(500, 50, replace=False), positions)
        whole = count_before(row, 0, row[positions], positions, ignored)
        parts = sum(
            count_before(row[a : a + 70], a, row[positions], positions, ignored)
            for a in range(0, 500, 70)
        )
        kept = [j for j in range(500) if j not in ignored]
        wanted = [sum((row[j], j) < (row[p], p) for j in kept) for p in positions]
        assert whole.tolist() == parts.tolist() == wanted
