from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from phasewise.records.record import RunRecord
from phasewise.report.content import Figure
from phasewise.report.files import Folder
from phasewise.report.files import Image as Drawn
from phasewise.report.report import write_report
from tests.phasewise.study.synthetic import Row, Settings, Synthetic

HYPOTHESES = [
    {"claim": "gelu is best", "key": "model.activation", "best": ["gelu"]},
    {"claim": "<b>rising</b> rates help", "key": "optimizer.lr", "order": [1e-3, 1e-2]},
]


def with_pictures(record: RunRecord, rows: list[Row], settings: Settings) -> None:
    record.baselines["majority"]["test/mIoU"] = 0.2
    folder = record.directory / "figures"
    folder.mkdir(parents=True)
    for name in ("best", "worst", "curves", "test_best"):
        Image.new("RGB", (64, 48), "navy").save(folder / f"{name}.png")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure is the same dot: three quarters of the time of a report are matplotlib's."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")

    def figure(folder: Folder, figure: Figure) -> Drawn:
        path = f"figures/{figure.name}.png"
        folder.write(path, file.getvalue())
        return Drawn("data:,", "data:,", path, 1, 1)

    monkeypatch.setattr(Folder, "figure", figure)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two phases with three seeds, tested."""
    directory = tmp_path_factory.mktemp("studies") / "clean"
    Synthetic(edit=with_pictures, test=True, journal={"hypotheses": HYPOTHESES}).write(directory)
    return directory


@pytest.fixture(scope="session")
def report(study: Path) -> Path:
    """The folder of its report."""
    return write_report(study).parent
