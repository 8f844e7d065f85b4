"""Which configurations nothing beats in two measures at once."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other one dominates, more being better in both.

    A point dominates another one if it is at least as good in both measures and better in one
    (Pareto optimality); of equal points all are kept.

    Args:
        points: (x, y), finite.

    Returns:
        Their indices, by falling x, then rising y.

    >>> pareto_front([(1, 3), (2, 2), (1, 2), (3, 1), (3, 1)])
    [3, 4, 1, 0]
    """
    found: list[int] = []
    order = sorted(range(len(points)), key=lambda row: (-points[row][0], -points[row][1]))
    for row in order:
        if not found or points[row][1] > points[found[-1]][1] or points[row] == points[found[-1]]:
            found.append(row)
    return found
