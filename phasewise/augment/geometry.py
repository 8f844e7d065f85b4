"""Geometry as one homography per image, for the image, its mask and its boxes.

Coordinates are continuous pixel edges: pixel i covers [i, i + 1], the image [0, W] x [0, H].
A matrix (B, 3, 3) maps SOURCE to OUTPUT: (x', y', w') = M (x, y, 1), divided by w'. The warp
inverts it, because each output pixel asks where in the source it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from phasewise.augment.draws import Draws
from phasewise.augment.transfer import send

VOID = 255
"""What a mask says where the output shows nothing of the source."""

MIN_VISIBLE = 0.2
"""A box that keeps less than this fraction of its area inside the image is given up."""

HORIZON = 1e-6
"""Smallest w of a homography: what lies beyond its horizon is sent far outside the image."""


def _affine(scale_x: Tensor, scale_y: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """(B, 3, 3) of x' = scale_x x + shift_x, the same for y; each argument (B,)."""
    zero, one = torch.zeros_like(scale_x), torch.ones_like(scale_x)
    rows = [scale_x, zero, shift_x, zero, scale_y, shift_y, zero, zero, one]
    return torch.stack(rows, 1).unflatten(1, (3, 3))


@cache  # nobody writes into it
def _mirrors(height: int, width: int) -> Tensor:
    """(4, 3, 3): as it is, left and right exchanged, upside down, both."""
    left, right = [1, 0, 0], [-1, 0, width]
    up, down = [0, 1, 0], [0, -1, height]
    matrices = [[x, y, [0, 0, 1]] for y in (up, down) for x in (left, right)]
    return torch.tensor(matrices, dtype=torch.float64)


def _flip(draws: Draws, values: Mapping[str, float]) -> Tensor:
    return _mirrors(draws.height, draws.width)[1:2]


def _vflip(draws: Draws, values: Mapping[str, float]) -> Tensor:
    return _mirrors(draws.height, draws.width)[2:3]


def _translate(draws: Draws, values: Mapping[str, float]) -> Tensor:
    """Resize to round(factor x side) and crop the old size at a whole-pixel offset.

    As torchreid's Random2DTranslation, but for offsets that are all equally likely.
    """
    width, height = (round(values["factor"] * side) for side in (draws.width, draws.height))
    left = draws.below(width - draws.width + 1).double()
    top = draws.below(height - draws.height + 1).double()
    one = torch.ones_like(left)
    return _affine(one * width / draws.width, one * height / draws.height, -left, -top)


def _shift(draws: Draws, values: Mapping[str, float]) -> Tensor:
    """Whole pixels, so that a shift alone does not blur."""
    dx, dy = draws.uniform(-values["fraction"], values["fraction"], 2).unbind(1)
    one = torch.ones_like(dx)
    return _affine(one, one, (dx * draws.width).round(), (dy * draws.height).round())


def _scale(draws: Draws, values: Mapping[str, float]) -> Tensor:
    """Zoom about a point drawn in the image: a zoom out keeps the whole source in the frame,
    a zoom in fills the frame with source."""
    zoom = draws.log_uniform(values["zoom_min"], values["zoom_max"])
    x, y = draws.uniform(0, 1, 2).unbind(1)
    return _affine(zoom, zoom, (1 - zoom) * x * draws.width, (1 - zoom) * y * draws.height)


def _rotate(draws: Draws, values: Mapping[str, float]) -> Tensor:
    angle = torch.deg2rad(draws.uniform(-values["degrees"], values["degrees"]))
    return rotation(angle, draws.height, draws.width)


def rotation(angle: Tensor, height: int, width: int) -> Tensor:
    """(B, 3, 3) of turns about the image's centre; ``angle`` (B,) in radians, > 0 is
    counter-clockwise as one sees it."""
    cos, sin = angle.cos(), angle.sin()
    x, y = width / 2, height / 2
    matrix = _affine(cos, cos, x - cos * x - sin * y, y - cos * y + sin * x)
    matrix[:, 0, 1], matrix[:, 1, 0] = sin, -sin
    return matrix


def shear(amount: Tensor) -> Tensor:
    """(B, 3, 3) that move each row to the left by ``amount`` (B,) x its distance from the top."""
    matrix = torch.eye(3, dtype=torch.float64).repeat(len(amount), 1, 1)
    matrix[:, 0, 1] = -amount
    return matrix


def _crop(draws: Draws, values: Mapping[str, float]) -> Tensor:
    """The ratio is relative to the image's own, so that 1 never distorts."""
    area, ratio = ((values[f"{key}_min"], values[f"{key}_max"]) for key in ("area", "ratio"))
    height, width = draws.window(area, ratio)
    x, y = draws.uniform(0, 1, 2).unbind(1)
    left, top = x * (1 - width) * draws.width, y * (1 - height) * draws.height
    return _affine(1 / width, 1 / height, -left / width, -top / height)


def _perspective(draws: Draws, values: Mapping[str, float]) -> Tensor:
    """Each corner moves inwards by up to distortion x half the side, in x and in y.

    The parametrisation of torchvision's RandomPerspective. Up to a distortion of 2/3 the four
    corners stay convex, so that nothing of the image lies beyond the horizon.
    """
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    inwards = 1 - 2 * corners
    size = torch.tensor([draws.width, draws.height], dtype=torch.float64)
    moved = corners + inwards * draws.uniform(0, values["distortion"] / 2, 4, 2)
    return _square_to(moved * size) @ torch.diag(torch.cat([1 / size, size.new_ones(1)]))


def _square_to(corners: Tensor) -> Tensor:
    """(B, 3, 3) that maps the unit square to ``corners`` (B, 4, 2), given clockwise from (0, 0).

    Heckbert, "Fundamentals of Texture Mapping and Image Warping" (1989), section 2.2.3.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (c.unbind(1) for c in corners.unbind(1))
    dx1, dy1, dx2, dy2 = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    sx, sy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    det = dx1 * dy2 - dx2 * dy1
    g, h = (sx * dy2 - dx2 * sy) / det, (dx1 * sy - sx * dy1) / det
    rows = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0]
    return torch.stack([*rows, g, h, torch.ones_like(g)], 1).unflatten(1, (3, 3))


GEOMETRY: dict[str, Callable[[Draws, Mapping[str, float]], Tensor]] = {
    "flip": _flip,
    "vflip": _vflip,
    "translate": _translate,
    "shift": _shift,
    "scale": _scale,
    "rotate": _rotate,
    "crop": _crop,
    "perspective": _perspective,
}
"""Name -> the homographies of one draw, float64 on the CPU: (B, 3, 3), or (1, 3, 3) for all."""


class Warp:
    """One homography per image, ready to be applied to images, masks and boxes.

    Args:
        matrix: (B, 3, 3) float64 on the CPU, source -> output.
        height, width: of the images, in pixels.
        device: where the images are.
    """

    def __init__(self, matrix: Tensor, height: int, width: int, device: torch.device) -> None:
        horizontal, vertical = matrix[:, 0, 0] < 0, matrix[:, 1, 1] < 0
        mirrored = _mirrors(height, width).index_select(0, horizontal + 2 * vertical)
        self.only_flips = torch.equal(matrix, mirrored)
        self._size = _box_of(height, width, device)
        if self.only_flips:
            self._flipped = {-1: horizontal, -2: vertical}
        else:
            self._matrix = send(matrix, device, torch.float32)
            inverse = torch.linalg.inv(matrix)
            self._all_inside = _frame_inside(inverse, height, width)
            self._grid = _sampling_grid(inverse, height, width, device)

    def flip(self, image: Tensor) -> Tensor:
        """Exact and for any dtype, where ``only_flips``; image or mask (B, ..., H, W)."""
        for dim, flipped in self._flipped.items():
            if flipped.any():
                # Selecting whole images is a plain copy; torch.where costs ten times as much.
                rows = torch.arange(len(image)) + len(image) * flipped
                both = torch.cat([image, image.flip(dim)])
                image = both.index_select(0, send(rows, image.device))
        return image

    def image(self, image: Tensor) -> Tensor:
        """Bilinear, 0 outside the source; (B, C, H, W) float."""
        # Padding by "border" and masking, not by "zeros": that would fade the outermost half pixel
        # of the source, which an enlargement shows.
        out = F.grid_sample(image, self._grid, padding_mode="border", align_corners=False)
        if self._all_inside:
            return out
        x, y = self._grid.unbind(-1)
        inside = x.abs().le_(1).mul_(y.abs().le_(1))
        return out.mul_(inside.unsqueeze(1))

    def mask(self, mask: Tensor) -> Tensor:
        """Nearest, ``VOID`` outside the source; (B, H, W) of whole numbers, dtype kept."""
        shifted = mask.float().sub_(VOID).unsqueeze(1)
        out = F.grid_sample(shifted, self._grid, mode="nearest", align_corners=False)
        return out.squeeze(1).add_(VOID).to(mask.dtype)

    def boxes(self, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The axis-aligned hulls of the warped boxes, clipped to the image.

        Args:
            boxes: (B, M, 4) float as x1, y1, x2, y2 in pixels.
            labels: (B, M), -1 = padding.

        Returns:
            Boxes and labels of the same shapes. A box of whose hull less than ``MIN_VISIBLE`` is
            inside the image becomes padding: zeros and -1.
        """
        hull = self._hull(boxes)
        clipped = hull.clamp(min=0).minimum(self._size)
        visible = _area(clipped)
        keep = (labels >= 0) & (visible > 0) & (visible >= MIN_VISIBLE * _area(hull))
        clipped = clipped.to(boxes.dtype).mul_(keep.unsqueeze(-1))
        return clipped, labels.masked_fill(~keep, -1)

    def _hull(self, boxes: Tensor) -> Tensor:
        if self.only_flips:
            exchanged = send(torch.stack([*self._flipped.values()] * 2, 1), boxes.device)
            return torch.where(exchanged[:, None], self._size - boxes.roll(2, -1), boxes)
        x, y = boxes[..., None, 0::2, None], boxes[..., None, None, 1::2]
        of_x, of_y, shift = self._matrix[:, None, :, :, None, None].unbind(3)
        corners = of_x * x + of_y * y + shift  # (B, M, 3, 2, 2): x, y and w of each
        corners = corners[:, :, :2] / corners[:, :, 2:].clamp(min=HORIZON)
        return torch.cat([corners.amin((3, 4)), corners.amax((3, 4))], -1)


@cache  # nobody writes into it
def _box_of(height: int, width: int, device: torch.device) -> Tensor:
    """(4,): the lower right corner of an image, for both corners of a box to be compared with."""
    return torch.tensor([width, height] * 2, dtype=torch.float32, device=device)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


def _frame_inside(inverse: Tensor, height: int, width: int) -> bool:
    """Whether the whole frame of every image shows source: its four corners decide."""
    size = torch.tensor([[width], [height]], dtype=torch.float64)
    corners = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]], dtype=torch.float64)
    source = inverse @ (corners * torch.cat([size, size.new_ones(1, 1)]))
    position = source[:, :2] / (source[:, 2:] * size)
    rounding = 1e-9
    inside = (position >= -rounding) & (position <= 1 + rounding) & (source[:, 2:] > 0)
    return bool(inside.all())


def _sampling_grid(inverse: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """(B, H, W, 2): where in the source each output pixel's centre lies, -1 and 1 at the edges.

    Sums of a row and a column, not ``affine_grid``: that knows no perspective, and its matrix
    product would be rounded to TF32 where the user allows it, a tenth of a pixel.
    """
    to_unit = torch.tensor(
        [[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]], dtype=torch.float64
    )
    inverse = to_unit @ inverse @ torch.linalg.inv(to_unit)
    is_affine = bool((inverse[:, 2, :2] == 0).all())
    inverse = send(inverse, device, torch.float32)
    x, y = (torch.arange(1, 2 * n, 2, device=device) / n - 1 for n in (width, height))
    across = inverse[:, :, 0, None] * x
    down = inverse[:, :, 1, None] * y + inverse[:, :, 2, None]
    # x and y each contiguous: half the time of pairs, here and where they are read
    grid = inverse.new_empty(len(inverse), 2, height, width).permute(0, 2, 3, 1)
    for row in (0, 1):
        torch.add(across[:, row, None, :], down[:, row, :, None], out=grid[..., row])
    if not is_affine:
        w = (across[:, 2, None, :] + down[:, 2, :, None]).clamp_(min=HORIZON)
        for row in (0, 1):
            grid[..., row].div_(w)
    return grid
