from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from phasewise.errors import UserError
from phasewise.figures import panels, show, to_png, written


def _figure(value: int = 0) -> Figure:
    figure = Figure(figsize=(4, 2), dpi=50, layout="constrained")
    picture = np.full((8, 8, 3), value, np.uint8)
    for ax in panels(figure, 1, 2).flat:
        show(ax, picture, "cost_$5_or_$x^$.png")  # would be no mathematics that can be read
    return figure


def test_figures_are_written_in_whatever_order_and_are_there_at_the_end(tmp_path: Path) -> None:
    with written() as write:
        for value in range(0, 200, 50):
            write(_figure(value), tmp_path / f"{value}.png")
    for value in range(0, 200, 50):
        path = tmp_path / f"{value}.png"
        assert path.read_bytes() == to_png(_figure(value))
        with Image.open(path) as image:
            assert image.size == (200, 100)
            assert (value, value, value) in {colour for _, colour in image.getcolors(1 << 16)}


def test_one_that_cannot_be_written_is_told_and_the_others_are_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def draw() -> None:
        with written() as write:
            write(_figure(), tmp_path / "file" / "a.png")
            write(_figure(), tmp_path / "b.png")

    with pytest.raises(UserError, match=r"a\.png cannot be written"):
        draw()
    assert (tmp_path / "b.png").is_file()


def test_panels_look_as_axes_do_that_are_only_switched_off() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (16, 12, 3), dtype=np.uint8)
    plain = Figure(figsize=(6, 5), dpi=60, layout="constrained")
    ours = Figure(figsize=(6, 5), dpi=60, layout="constrained")
    for ax in plain.subplots(2, 3).flat:
        ax.imshow(picture)
        ax.set_title("title", fontsize=9)
        ax.set_axis_off()
    for ax in panels(ours, 2, 3).flat:
        show(ax, picture, "title")
    assert to_png(ours) == to_png(plain)
