"""Squares of large images: all is covered, and no seam is left."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from phasewise.data.images import PADDING_COLOUR
from phasewise.inference.prediction.tiling import Tiles

SHAPES = [(100, 100), (64, 64), (65, 200), (40, 130), (10, 10), (64, 65)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("overlap", [0, 1, 7, 32, 60])
def test_maps_that_agree_are_joined_to_the_same_map(shape: tuple[int, int], overlap: int) -> None:
    tiles = Tiles(shape, 64, overlap)
    whole = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    padded = torch.zeros(264, 264)
    padded[: shape[0], : shape[1]] = whole
    maps = [padded[top : top + 64, left : left + 64] for top, left in tiles.corners]
    torch.testing.assert_close(tiles.join(maps), whole)


@pytest.mark.parametrize("shape", SHAPES)
def test_squares_overlap_and_stay_inside(shape: tuple[int, int]) -> None:
    corners = Tiles(shape, 64, 16).corners
    for axis in (0, 1):
        starts = sorted({corner[axis] for corner in corners})
        assert starts[0] == 0
        assert starts[-1] == max(0, shape[axis] - 64)
        assert all(b - a <= 48 for a, b in pairwise(starts))


def test_a_small_image_is_padded() -> None:
    image = np.full((10, 20, 3), 7, np.uint8)
    (square,) = Tiles((10, 20), 32, 4).cut(image)
    assert square.shape == (32, 32, 3)
    assert (square[:10, :20] == 7).all()
    assert (square[10:] == PADDING_COLOUR).all()
    assert (square[:, 20:] == PADDING_COLOUR).all()


@pytest.mark.parametrize("reach", [1, 2])
def test_what_a_network_gets_wrong_at_edges_does_not_show(reach: int) -> None:
    """A mean over neighbours that takes what is outside for zeros, as padded convolutions do."""
    image = np.random.default_rng(0).integers(0, 256, (150, 170, 3), np.uint8)

    def network(pixels: np.ndarray) -> torch.Tensor:
        grey = torch.from_numpy(pixels).float().mean(-1)[None]
        return avg_pool2d(grey, 2 * reach + 1, 1, reach)[0]

    tiles = Tiles((150, 170), 64, 16)  # an outer quarter of 4 pixels counts for nothing
    joined = tiles.join([network(square) for square in tiles.cut(image)])
    torch.testing.assert_close(joined, network(image))


def test_between_two_squares_one_fades_into_the_other() -> None:
    tiles = Tiles((64, 64 + 64 - 16), 64, 16)
    assert tiles.corners == [(0, 0), (0, 48)]
    row = tiles.join([torch.zeros(64, 64), torch.ones(64, 64)])[10]
    assert (row[:52] == 0).all()
    assert (row[60:] == 1).all()
    steps = row[52:60].diff()
    torch.testing.assert_close(steps, torch.full((7,), 1 / 8))
