"""Queries and validation identities."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from reid.readers import read_veri
from reid.splits import Sample, choose_queries, split_identities, valid_queries


def sample(identity: int, camera: int | None, number: int = 0) -> Sample:
    return Sample(f"{identity:04d}_c{camera}_{number}.jpg", Path(), identity, camera)


def test_queries_are_chosen_as_in_veri() -> None:
    pool = [sample(1, 1, 1), sample(1, 1, 0), sample(1, 2), sample(2, 5, 0), sample(2, 5, 1)]
    query, gallery = choose_queries(pool)
    # Identity 2 was seen by one camera only: nothing is left to find.
    assert query == [sample(1, 1, 0), sample(1, 2)]
    assert gallery == sorted(pool, key=lambda one: one.name)
    assert valid_queries(query, gallery) == query


def test_one_unknown_camera_makes_the_rule_useless() -> None:
    pool = [sample(1, 1), sample(1, 2), sample(2, None), sample(3, 1, 0), sample(3, 1, 1)]
    query, gallery = choose_queries(pool)
    assert query == [sample(1, 1), sample(3, 1, 0)]
    assert gallery == [sample(1, 2), sample(2, None), sample(3, 1, 1)]


def brute_force_valid(query: list[Sample], gallery: list[Sample]) -> list[Sample]:
    return [
        q
        for q in query
        if any(
            g.identity == q.identity and (q.camera is None or g.camera != q.camera) for g in gallery
        )
    ]


def test_valid_queries_by_brute_force() -> None:
    pool = [sample(i, c, n) for i in range(5) for c in range(i % 3 + 1) for n in range(2)]
    gallery = [one for one in pool if one.identity != 4]
    assert valid_queries(pool, gallery) == brute_force_valid(pool, gallery)
    unknown = [sample(7, None), sample(8, None)]
    assert valid_queries(unknown, [sample(7, None, 1)]) == [sample(7, None)]


def test_a_fifth_of_the_identities_validates(shared_data: Path) -> None:
    train = read_veri(shared_data / "vehicle_reid_dev").train
    kept, query, gallery = split_identities(train, seed=0)
    left, chosen = ({one.identity for one in part} for part in (kept, gallery))
    assert (len(left), len(chosen)) == (239, 60)
    assert not left & chosen
    assert len(kept) + len(gallery) == len(train)
    # One image by each of two cameras: each is a query that finds the other.
    assert query == gallery
    assert len(valid_queries(query, gallery)) == 120


def test_the_split_depends_on_identities_and_seed_alone() -> None:
    train = [sample(i, c) for i in range(30) for c in (1, 2)]

    def chosen(pool: list[Sample], seed: int, fraction: float = 0.2) -> set[int]:
        return {one.identity for one in split_identities(pool, seed=seed, fraction=fraction)[2]}

    assert chosen(train, 0) == chosen(train[::-1], 0)
    assert chosen(train, 0) != chosen(train, 1)
    assert chosen(train, 0) != set(range(6))  # not the first ones
    assert chosen(train, 0) < chosen(train, 0, 0.5)
    assert len(chosen(train, 0, 0.5)) == 15
    again: dict[int, int] = defaultdict(int)
    for seed in range(200):
        for identity in chosen(train, seed):
            again[identity] += 1
    assert len(again) == 30  # everyone's turn comes
    assert max(again.values()) < 70


def test_somebody_always_trains_and_somebody_validates() -> None:
    train = [sample(i, c) for i in (4, 9) for c in (1, 2)]
    for fraction in (0.01, 0.99):
        kept, query, _ = split_identities(train, seed=0, fraction=fraction)
        assert len({one.identity for one in kept}) == len({one.identity for one in query}) == 1
