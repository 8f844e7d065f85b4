from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reid.metrics import (
    NotFiniteError,
    NoValidQueryError,
    ReidRetrieval,
    ReRanking,
    mirrored_mean,
    rank_from_distances,
)
from tests.ranks import together
from tests.reid.retrieval_reference import Scores, distance_matrix, evaluate

Rows = dict[str, Tensor]
"""The arguments of `ReidRetrieval.update`, one row per image, with ``index``."""

FEATURES, QUERIES, GALLERY = 8, 25, 90


def images(seed: int, queries: int = QUERIES, gallery: int = GALLERY, kind: str = "random") -> Rows:
    """Queries and gallery, each numbered from 0 and shuffled together."""
    draw = torch.Generator().manual_seed(seed)
    total = queries + gallery
    ids = torch.randint(0, {"sparse": 60, "tiny": 2}.get(kind, 8), (total,), generator=draw)
    features = torch.randn(total, FEATURES, generator=draw)
    if kind == "tied":
        features = features.round().clamp(-1, 1)
    if kind == "perfect":
        features = torch.eye(FEATURES)[ids]
    cameras = torch.randint(0, 1 if kind == "single camera" else 3, (total,), generator=draw)
    is_query = torch.arange(total) < queries
    index = torch.cat([torch.arange(queries), torch.arange(gallery)])
    names = ("features", "ids", "cameras", "is_query", "index")
    order = torch.randperm(total, generator=draw)
    rows = (features, ids, cameras, is_query, index)
    return {name: value[order] for name, value in zip(names, rows, strict=True)}


KINDS = {
    "random": (QUERIES, GALLERY),
    "tied": (QUERIES, GALLERY),
    "sparse": (QUERIES, GALLERY),
    "single camera": (QUERIES, GALLERY),
    "tiny": (2, 3),
    "perfect": (QUERIES, GALLERY),
}


def take(rows: Rows, chosen: slice | Tensor, without: tuple[str, ...] = ()) -> Rows:
    return {name: value[chosen] for name, value in rows.items() if name not in without}


def expected(
    rows: Rows, distance: str = "euclidean", cameras: bool = True, **options: Any
) -> Scores:
    """By plain loops, queries and gallery in the order of their index."""
    parts = []
    for wanted in (True, False):
        mine = (rows["is_query"] == wanted).nonzero().flatten()
        mine = mine[rows["index"][mine].argsort()]
        parts.append([rows[name][mine].numpy() for name in ("features", "ids", "cameras")])
    (queries, query_ids, query_cameras), (gallery, gallery_ids, gallery_cameras) = parts
    if not cameras:
        query_cameras = gallery_cameras = None
    matrix = distance_matrix(queries, gallery, distance)
    found = evaluate(matrix, query_ids, gallery_ids, query_cameras, gallery_cameras, **options)
    return found or {"valid_queries": 0}


def check(found: dict[str, Tensor], wanted: Scores) -> None:
    for name, value in wanted.items():
        assert found[name].tolist() == pytest.approx(value, abs=1e-12), name
    if wanted["valid_queries"] == 0:
        assert found["mAP"].isnan() and found["cmc"].isnan().all()


def updated(metric: ReidRetrieval, rows: Rows, size: int = 16, **without: Any) -> ReidRetrieval:
    for start in range(0, len(rows["ids"]), size):
        metric.update(**take(rows, slice(start, start + size), **without))
    return metric


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("average_precision", ["hits", "trapezoid"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_against_plain_loops(kind: str, average_precision: str, distance: str) -> None:
    options = {"average_precision": average_precision, "max_rank": 20}
    for seed in range(3):
        rows = images(seed, *KINDS[kind], kind)
        if kind == "tied" and distance == "cosine":
            rows["features"][:, 1:] = 0  # other cosines tie or not by the last bit
        metric = updated(ReidRetrieval(distance, on_empty="nan", **options), rows)
        check(metric.compute(), expected(rows, distance, **options))
        metric = ReidRetrieval(distance, exclude_same_camera=False, on_empty="nan", **options)
        without_cameras = expected(rows, distance, cameras=False, **options)
        check(updated(metric, rows).compute(), without_cameras)
        metric = updated(
            ReidRetrieval(distance, on_empty="nan", **options), rows, without=("cameras",)
        )
        check(metric.compute(), without_cameras)
    if kind == "perfect":
        assert metric.compute()["mAP"].item() == metric.compute()["mINP"].item() == 1


def test_it_agrees_with_the_function_under_it() -> None:
    rows = images(0)
    rows = take(rows, (rows["index"] + 1000 * ~rows["is_query"]).argsort())
    parts = [
        [rows[n][chosen] for n in ("features", "ids", "cameras")]
        for chosen in (rows["is_query"], ~rows["is_query"])
    ]
    (queries, *query_labels), (gallery, *gallery_labels) = parts
    pairs = zip(query_labels, gallery_labels, strict=True)
    distances = torch.cdist(queries.double(), gallery.double())
    wanted = rank_from_distances(distances, *(x for pair in pairs for x in pair))
    metric = ReidRetrieval()
    metric.update(queries, *query_labels, True)
    metric.update(gallery, *gallery_labels, False)
    found = metric.compute()
    assert list(found) == ["mAP", "mINP", "rank1", "rank5", "rank10", "cmc", "valid_queries"]
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)
    assert found["cmc"].shape == (50,)


def test_queries_that_stand_in_the_gallery() -> None:
    """Without cameras, image ids keep a query from finding itself."""
    rows = take(images(1, 0, 60), slice(None), ("is_query", "index", "cameras"))
    numbers = torch.arange(60) * 3
    metric, naive = ReidRetrieval(), ReidRetrieval()
    for is_query in (True, False):
        metric.update(**rows, is_query=is_query, image_ids=numbers)
        naive.update(**rows, is_query=is_query)
    features, ids = rows["features"].numpy(), rows["ids"].numpy()
    matrix = distance_matrix(features, features, "euclidean")
    wanted = evaluate(matrix, ids, ids, query_images=numbers, gallery_images=numbers)
    check(metric.compute(), wanted)
    assert wanted["rank1"] < naive.compute()["rank1"].item() == 1


def test_images_that_a_sampler_repeats_count_once() -> None:
    rows = images(2)
    again = torch.cat([torch.arange(len(rows["ids"])), torch.arange(0, 60, 2)])
    metric = updated(ReidRetrieval(), take(rows, again))
    check(metric.compute(), expected(rows))
    assert metric.compute()["valid_queries"].item() <= QUERIES
    metric = ReidRetrieval()
    for start in (0, 16):  # the place in the batch is not the place in the set
        some = take(rows, slice(start, start + 16)) | {"index": torch.arange(16)}
        metric.update(**some)
    with pytest.raises(ValueError, match="index 2 was given to images that differ in ids"):
        metric.compute()


def test_it_accumulates_resets_copies_and_pickles() -> None:
    rows = images(3)
    metric = updated(ReidRetrieval(max_rank=1), take(rows, slice(0, 70)))
    early = metric.compute()
    check(early, expected(take(rows, slice(0, 70)), max_rank=1))
    assert early["cmc"].shape == (1,)
    metric = pickle.loads(pickle.dumps(copy.deepcopy(metric)))
    updated(metric, take(rows, slice(70, None)))
    check(metric.compute(), expected(rows, max_rank=1))
    assert metric.compute()["cmc"].shape == (1,)
    metric.reset()
    with pytest.raises(NoValidQueryError, match="no queries"):
        updated(metric, take(rows, ~rows["is_query"])).compute()
    metric.reset()
    check(updated(metric, rows).compute(), expected(rows, max_rank=1))


def test_nothing_at_all() -> None:
    metric = ReidRetrieval(on_empty="nan")
    metric.update(torch.zeros(0, 4), *[torch.zeros(0, dtype=torch.int64)] * 2, is_query=True)
    found = metric.compute()
    assert found["valid_queries"].item() == 0 and math.isnan(found["mAP"].item())
    with pytest.warns(UserWarning, match="before"), pytest.raises(NoValidQueryError):
        ReidRetrieval().compute()


def test_wrong_arguments() -> None:
    ids = torch.zeros(3, dtype=torch.int64)
    features = torch.zeros(3, 4)
    metric = ReidRetrieval()
    wrong = [
        ((features.long(), ids, ids, True), "real"),
        ((features[0], ids, ids, True), "images, channels"),
        ((features, ids[:2], ids, True), "ids must be one integer for each of the 3"),
        ((features, ids, ids.float(), True), "cameras must be one integer"),
        ((features, ids, ids, ids), "is_query"),
        ((features, ids, ids), "is_query"),
    ]
    for arguments, words in wrong:
        with pytest.raises(ValueError, match=words):
            metric.update(*arguments)
    metric.update(features, ids, ids, True)
    with pytest.raises(ValueError, match="5 channels"):
        metric.update(torch.zeros(3, 5), ids, ids, True)
    metric.update(features, ids, None, False)
    with pytest.raises(ValueError, match="some updates had cameras, and some had not"):
        metric.compute()
    metric = ReidRetrieval()
    metric.update(features, ids, None, True)
    metric.update(features * math.nan, ids, None, False)
    with pytest.raises(NotFiniteError, match="3 of 3"):
        metric.compute()
    for options in ({"distance": "l2"}, {"average_precision": "voc"}, {"on_empty": "zero"}):
        with pytest.raises(ValueError, match="must be one of"):
            ReidRetrieval(**options)


def test_mirrored_mean() -> None:
    """Columns weighted 0, 1, 2: the mean over both directions weights them alike."""
    embed = lambda x: (x * torch.arange(3.0)).flatten(1)  # noqa: E731
    images = torch.tensor([[[[1.0, 5, 9]]]])
    assert mirrored_mean(embed, images).tolist() == [[0, 5, (18 + 2) / 2]]
    assert torch.equal(mirrored_mean(embed, images), torch.tensor([[0.0, 5, 10]]))
    pooled = lambda x: embed(x).sum(1, keepdim=True)  # noqa: E731
    torch.testing.assert_close(
        mirrored_mean(pooled, images), mirrored_mean(pooled, images.flip(-1))
    )


# Several processes


def shard(rows: Rows, sharing: str, rank: int) -> Rows:
    """What a process of two evaluates."""
    total = len(rows["ids"])
    if sharing == "interleaved":
        return take(rows, slice(rank, None, 2))
    if sharing == "uneven":
        return take(rows, slice(0, total // 7) if rank else slice(total // 7, None))
    if sharing == "first has none":
        return take(rows, slice(0, total if rank else 0))
    if sharing == "second has none":
        return take(rows, slice(0, 0 if rank else total))
    if sharing == "queries apart":
        return take(rows, rows["is_query"] == bool(rank))
    assert sharing == "padded"  # one image is on both
    return take(rows, slice(0, total // 2 + 1) if not rank else slice(total // 2, None))


SHARINGS = (
    "interleaved",
    "uneven",
    "first has none",
    "second has none",
    "queries apart",
    "padded",
)


def work(rank: int) -> dict:
    found = {}
    for kind, sizes in KINDS.items():
        rows = images(5, *sizes, kind)
        for sharing in SHARINGS:
            metric = ReidRetrieval(on_empty="nan")
            updated(metric, shard(rows, sharing, rank))
            own = sum(map(len, metric.features))
            found[kind, sharing] = metric.compute()
            assert sum(map(len, metric.features)) == own  # each has its own share again
    rows = images(6)
    reranked = updated(ReidRetrieval(reranking=ReRanking(5, 2)), shard(rows, "uneven", rank))
    found["reranked"] = reranked.compute()
    metric = ReidRetrieval()
    updated(metric, shard(rows, "interleaved", rank), without=("index",))
    found["no index"] = metric.compute()
    found["nothing"] = ReidRetrieval(on_empty="nan").compute()
    try:
        updated(ReidRetrieval(), take(rows, ~rows["is_query"])).compute()
    except NoValidQueryError as error:
        found["error"] = str(error)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_processes_equal_one() -> None:
    ranks = together(work)
    for kind, sizes in KINDS.items():
        rows = images(5, *sizes, kind)
        wanted = expected(rows)
        for sharing in SHARINGS:
            for found in ranks:
                check(found[kind, sharing], wanted)
    rows = images(6)
    alone = updated(ReidRetrieval(reranking=ReRanking(5, 2)), rows).compute()
    for found in ranks:
        check(found["no index"], expected(rows))
        for name, value in alone.items():
            assert torch.equal(found["reranked"][name], value)
        assert found["nothing"]["mAP"].isnan()
        assert "no queries" in found["error"]
    assert np.isfinite(alone["mAP"].item())
