"""`phasewise.load`: its tables against an independent reading of the records."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest

import phasewise
from phasewise.api.loaded import LoadedStudy
from phasewise.errors import UserError
from tests.conftest import ROOT
from tests.phasewise.study.synthetic import GRID, Settings, Synthetic, clean_score, grid_score


def records(directory: Path) -> dict[str, dict[str, Any]]:
    """What `json` reads, by directory."""
    return {str(it.parent): json.loads(it.read_text()) for it in directory.rglob("record.json")}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two phases and a test; a trial of each seed with gelu failed, one has no record."""

    def score(settings: Settings, seed: int) -> float | str:
        if settings.get("model.activation") == "leaky_relu":
            return ("failed", "missing", "running")[seed]
        return clean_score(settings, seed)

    Synthetic(test=True, score=score).write(tmp_path / "study")
    return tmp_path / "study"


def check_trials(frame: pd.DataFrame, directory: Path) -> None:
    """Every row is its record's, and every record has a row."""
    found = records(directory)
    assert set(frame["directory"]) >= set(found)
    for row in frame.to_dict("records"):
        record = found.get(row["directory"])
        if record is None:
            assert row["status"] == "missing"
            continue
        words = dict(word.split("=", 1) for word in record["overrides"])
        assert row["seed"] == record["seed"] == int(words.pop("seed"))
        for key, text in words.items():
            assert str(row[key]) == text or float(row[key]) == float(text)
        assert row["status"] == record["status"]
        completed = record["status"] == "completed"
        value = record["objective"]["value"] if completed else None
        same(row["value"], value)
        same(row["epoch"], record["objective"]["epoch"])
        test = record["test"] or {}
        scores = record["best"] | {f"last.{k}": v for k, v in record["last"].items()} | test
        scores |= {f"cost.{k}": v for k, v in record["cost"].items()}
        first = list(frame.columns).index("epoch") + 1
        for name in frame.columns[first:-4]:
            same(row[name], scores.pop(name, None))
        assert scores == {}
        assert row["error"] == record["error"] or row["error"] != row["error"]


def same(found: Any, wanted: float | None) -> None:
    assert pd.isna(found) if wanted is None else found == wanted


def test_trials_are_what_the_records_say(directory: Path) -> None:
    frame = phasewise.load(directory).trials
    check_trials(frame, directory)
    assert len(frame) == 9 + 9 + 6
    assert list(frame.columns[:8]) == [
        *("phase", "candidate", "role", "seed", "optimizer.lr", "model.activation", "status"),
        "value",
    ]
    assert frame["optimizer.lr"].dtype == float
    assert dict(frame["status"].value_counts()) == {
        "completed": 21,
        **{"failed": 1, "missing": 1, "running": 1},
    }
    assert frame["phase"].unique().tolist() == ["lr", "activation", "test"]
    assert frame[frame["phase"] == "test"]["role"].tolist() == ["final"] * 3 + ["start"] * 3


def test_phases_and_best_are_what_the_records_decide(directory: Path) -> None:
    study = phasewise.load(directory)
    scores: dict[str, list[float]] = {}
    for place, record in records(directory).items():
        if record["status"] == "completed":
            scores.setdefault(Path(place).name.rpartition(",")[0], []).append(
                record["objective"]["value"]
            )
    means = {name: fmean(values) for name, values in scores.items()}
    phases = study.phases.set_index("phase")
    assert phases.index.tolist() == ["lr", "activation"]
    assert phases["winner"].tolist() == ["optimizer.lr=0.001", "model.activation=gelu"]
    assert phases["value"].tolist() == [means[name] for name in phases["winner"]]
    assert phases["incumbent_value"].tolist() == [means["optimizer.lr=0.001"]] * 2
    assert phases["trials"].tolist() == [9, 9]
    assert phases.loc["activation", "verdict"] == "adopted"
    assert phases.loc["activation", "reason"].startswith("0.6502 against 0.6006")
    best = study.best
    assert (best.phase, best.metric, best.mode) == ("activation", "val/mIoU", "max")
    assert best.overrides == ["optimizer.lr=0.001", "model.activation=gelu"]
    assert best.value == means["model.activation=gelu"]
    assert sorted(best.values.values()) == sorted(scores["model.activation=gelu"])
    record = json.loads((best.directory / "record.json").read_text())
    assert record["objective"]["value"] == max(scores["model.activation=gelu"])
    assert best.test == {"test/mIoU": pytest.approx(best.value - 0.01)}


def test_history_is_what_the_epochs_say(directory: Path) -> None:
    frame = phasewise.load(directory).history
    rows = []
    for place in records(directory):
        file = Path(place) / "metrics.csv"
        text = file.read_text() if file.exists() else ""
        rows += [
            (place, *(float(row[k]) for k in ("epoch", "val/mIoU", "seconds")))
            for row in csv.DictReader(text.splitlines())
        ]
    columns = ["directory", "epoch", "val/mIoU", "seconds"]
    assert sorted(rows) == sorted(frame[columns].itertuples(index=False, name=None))
    assert len(rows) == 12 * 12  # 9 + 3 runs completed
    gelu = frame[frame["model.activation"] == "gelu"]
    assert set(gelu["optimizer.lr"]) == {0.001}


def test_a_frame_is_the_callers_to_change(directory: Path) -> None:
    study = phasewise.load(directory)
    trials = study.trials
    trials["value"] = 0.0
    assert study.trials["value"].max() > 0.6


def test_audit_is_a_frame(directory: Path) -> None:
    from phasewise.analysis.audit import audit
    from phasewise.study.read import read_study

    frame = phasewise.load(directory).audit()
    found = audit(read_study(directory))
    assert found
    assert frame["rule"].tolist() == [one.rule for one in found]
    assert frame["evidence"].tolist() == ["\n".join(one.evidence) for one in found]


@pytest.mark.slow
def test_report_is_written(directory: Path, tmp_path: Path) -> None:
    page = phasewise.load(directory).report(tmp_path / "pages")
    assert page == tmp_path / "pages" / "report.html"
    assert "model.activation" in page.read_text()
    assert not (directory / "report.html").exists()
    assert phasewise.load(directory).report() == directory / "report.html"


class Cells(HTMLParser):
    """The cells of all tables of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.inside = tag in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.found += [data] if self.inside and data.strip() else []


def test_it_shows_itself(directory: Path) -> None:
    study = phasewise.load(directory)
    text = repr(study)
    assert text.splitlines()[0] == "synthetic: completed, 21 of 24 trials completed"
    assert text.splitlines()[-2] == (
        "best: val/mIoU 0.6502 (mean of 3 seeds) with optimizer.lr=0.001 model.activation=gelu"
    )
    assert text.splitlines()[-1] == "test: test/mIoU 0.6402"
    cells = Cells()
    cells.feed(study._repr_html_())
    assert "model.activation=gelu" in cells.found
    best = study.trials[study.trials["phase"] == "activation"]["value"].max()
    scores = [cell for cell in cells.found if cell == f"{best:.4g}"]
    assert scores


def without_journal(directory: Path) -> LoadedStudy:
    (directory / "study.json").unlink()
    return phasewise.load(directory)


def moved(directory: Path) -> LoadedStudy:
    target = directory.parent / "moved"
    shutil.move(directory, target)
    return phasewise.load(target)


@pytest.mark.parametrize("change", [without_journal, moved])
def test_a_copy_is_a_study_too(change: Callable[[Path], LoadedStudy], directory: Path) -> None:
    before = phasewise.load(directory)
    after = change(directory)
    check_trials(after.trials, after.directory)
    assert after.best.overrides == before.best.overrides
    assert after.best.value == before.best.value


def test_a_sweep_has_one_phase(tmp_path: Path) -> None:
    Synthetic(phases={"": GRID}, score=grid_score, defaults={}, seeds=[0]).write(tmp_path)
    study = phasewise.load(tmp_path)
    check_trials(study.trials, tmp_path)
    assert study.phases["phase"].tolist() == ["sweep"]
    assert study.trials["phase"].unique().tolist() == ["sweep"]
    assert study.best.value == study.trials["value"].max()


def test_a_run_is_a_sweep_of_one(directory: Path) -> None:
    place = directory / "lr" / "optimizer.lr=0.01,seed=1"
    run = phasewise.load(place)
    assert (run.name, run.directory) == (place.name, place)
    assert len(run.trials) == 1
    record = json.loads((place / "record.json").read_text())
    assert run.best.value == run.trials.loc[0, "val/mIoU"] == record["best"]["val/mIoU"]
    assert run.best.overrides == ["optimizer.lr=0.01"]
    assert len(run.history) == 12
    assert run.report() == place / "report.html"


def test_nothing_is_decided_yet(directory: Path) -> None:
    journal = json.loads((directory / "study.json").read_text())
    for phase in journal["phases"]:
        phase |= {"winner": None, "verdict": None, "status": "pending"}
    (directory / "study.json").write_text(json.dumps(journal))
    study = phasewise.load(directory)
    assert study.best is None
    assert repr(study).splitlines()[-1] == "no phase has decided yet"
    assert study.phases["winner"].isna().all()


@pytest.mark.parametrize("place", ["nowhere", "file", "empty"])
def test_what_is_no_study_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=place):
        phasewise.load(tmp_path / place)


def test_a_grid_has_a_dimension_per_key(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    Synthetic(phases={"": GRID}, score=grid_score, defaults={}, seeds=[0, 1]).write(tmp_path)
    data = phasewise.load(tmp_path).to_xarray()
    keys = ["optimizer.lr", "data.batch_size", "model.architecture", "seed"]
    assert dict(data.sizes) == dict(zip(keys, (3, 3, 3, 2), strict=True))
    assert data.attrs == {"study": "synthetic", "metric": "val/mIoU", "mode": "max"}
    for record in records(tmp_path).values():
        words = dict(word.split("=") for word in record["overrides"])
        place = {
            "optimizer.lr": float(words["optimizer.lr"]),
            "data.batch_size": int(words["data.batch_size"]),
            "model.architecture": words["model.architecture"],
            "seed": record["seed"],
        }
        cell = data.sel(place)
        assert float(cell["value"]) == record["objective"]["value"]
        assert float(cell["cost.seconds"]) == record["cost"]["seconds"]


def test_what_is_no_grid_has_trials(directory: Path) -> None:
    pytest.importorskip("xarray")
    study = phasewise.load(directory)
    data = study.to_xarray()
    assert dict(data.sizes) == {"trial": 15}  # a shared one once
    assert data["value"].values.tolist()[:3] == study.trials["value"].tolist()[:3]
    assert {"optimizer.lr", "model.activation", "seed"} <= set(data.coords)
    assert dict(study.to_xarray("lr").sizes) == {"optimizer.lr": 3, "seed": 3}
    with pytest.raises(UserError, match="phase=rate: not one of lr, activation, test"):
        study.to_xarray("rate")


def test_without_xarray_it_says_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(UserError, match=r"^to_xarray needs xarray: pip install .*\[xarray\]'$"):
        phasewise.load(directory).to_xarray()


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, phasewise; heavy = {'torch', 'pandas', 'hydra', 'numpy'}\n"
        "assert not heavy & sys.modules.keys()\nphasewise.load\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
