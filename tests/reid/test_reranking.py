from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from reid.metrics import ReidRetrieval
from reid.ranking import rank_from_distances
from reid.reranking import ReRanking, k_reciprocal_distances


def dense(queries: np.ndarray, gallery: np.ndarray, k1: int, k2: int, weight: float) -> np.ndarray:
    """Zhong et al. 2017 from the equations, on full matrices and with sets."""
    points = np.concatenate([queries, gallery]).astype(np.float64)
    total, count = len(points), len(queries)
    original = np.array([[((a - b) ** 2).sum() for b in points] for a in points])
    original /= original.max(1, keepdims=True)
    order = [sorted(range(total), key=lambda j: (j != i, original[i, j], j)) for i in range(total)]

    def mutual(i: int, k: int) -> set[int]:
        """R(i, k): the neighbours of i that have i as a neighbour; i itself is the first of k+1."""
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    encoding = np.zeros((total, total))
    for i in range(total):
        base = mutual(i, k1)
        grown = set(base)
        for j in base:
            friends = mutual(j, round(k1 / 2))
            if len(friends & base) > 2 / 3 * len(friends):
                grown |= friends
        for j in grown:
            encoding[i, j] = np.exp(-original[i, j])
        encoding[i] /= encoding[i].sum()
    encoding = np.array([encoding[order[i][:k2]].mean(0) for i in range(total)])
    found = np.empty((count, len(gallery)))
    for i in range(count):
        for j in range(len(gallery)):
            a, b = encoding[i], encoding[count + j]
            jaccard = 1 - np.minimum(a, b).sum() / np.maximum(a, b).sum()
            found[i, j] = (1 - weight) * jaccard + weight * original[i, count + j]
    return found


def crowd(seed: int, queries: int, gallery: int, size: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 5, (queries + gallery,), generator=draw)
    features = torch.randn(queries + gallery, size, generator=draw)
    features += 1.0 * torch.randn(5, size, generator=draw)[ids]
    return features[:queries], features[queries:], ids


@pytest.mark.parametrize("small_blocks", [False, True])
@pytest.mark.parametrize(
    ("k1", "k2", "weight"), [(20, 6, 0.3), (7, 1, 0.0), (3, 5, 0.8), (1, 2, 0.5), (200, 100, 0.3)]
)
def test_distances_against_full_matrices(
    k1: int, k2: int, weight: float, small_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there are fewer images than neighbours are asked for."""
    if small_blocks:
        for name, size in (("_DISTANCES", 150), ("_ROWS", 7), ("_FEATURES", 20)):
            monkeypatch.setattr(f"reid.reranking.{name}", size)
    for seed, sizes in enumerate([(15, 50), (1, 30), (5, 1)]):
        queries, gallery, _ = crowd(seed, *sizes)
        found = k_reciprocal_distances(queries, gallery, ReRanking(k1, k2, weight))
        wanted = dense(queries.numpy(), gallery.numpy(), k1, k2, weight)
        assert found.shape == sizes
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_cosine_is_euclidean_on_the_sphere() -> None:
    queries, gallery, _ = crowd(3, 15, 50)
    found = k_reciprocal_distances(queries, gallery * 3, ReRanking(8, 3), "cosine")
    unit = [
        x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (queries, gallery)
    ]
    np.testing.assert_allclose(found, dense(*unit, 8, 3, 0.3), atol=1e-6)
    plain = k_reciprocal_distances(queries, gallery, ReRanking(8, 3))
    assert (plain - found).abs().max() > 0.01


@pytest.mark.parametrize("k2", [1, 3])
def test_identical_images(k2: int) -> None:
    """More copies than neighbours, and nothing but copies: finite, and as on full matrices."""
    queries, gallery, _ = crowd(4, 10, 40)
    gallery[5:20] = queries[2] = gallery[0]
    found = k_reciprocal_distances(queries, gallery, ReRanking(6, k2))
    wanted = dense(queries.numpy(), gallery.numpy(), 6, k2, 0.3)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert k_reciprocal_distances(gallery[5:10], gallery[5:20]).isfinite().all()


@pytest.mark.parametrize("junk", [False, True])
def test_the_metric_re_ranks(junk: bool) -> None:
    queries, gallery, ids = crowd(5, 20, 80)
    cameras = torch.arange(100) % 3
    stray = torch.randn(30, 6, generator=torch.Generator().manual_seed(6)) if junk else gallery[:0]
    metric, plain = ReidRetrieval(reranking=ReRanking(8, 3)), ReidRetrieval()
    for one in (metric, plain):
        one.update(queries, ids[:20], cameras[:20], True)
        one.update(stray, torch.full((len(stray),), -1), cameras[: len(stray)], False)
        one.update(gallery, ids[20:], cameras[20:], False)
    wanted = rank_from_distances(
        dense(queries.numpy(), gallery.numpy(), 8, 3, 0.3),
        ids[:20],
        ids[20:],
        cameras[:20],
        cameras[20:],
    )
    found = metric.compute()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, msg=name)
    assert found["mAP"] > plain.compute()["mAP"]  # what it is for


@pytest.mark.parametrize("settings", [{"k1": 0}, {"k2": 0}, {"original_weight": 1.5}])
def test_wrong_settings(settings: dict) -> None:
    with pytest.raises(ValueError, match="re-ranking needs"):
        ReRanking(**settings)
