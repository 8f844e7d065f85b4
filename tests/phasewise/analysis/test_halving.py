"""What halving saved and what it may have cost."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr, t, ttest_ind

from phasewise.analysis.audit import audit
from phasewise.analysis.statistics.halving import (
    hours_saved,
    rung_summaries,
    spearman,
    stopped_value,
)
from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.report.report import write_report
from phasewise.study.halved import Halved
from phasewise.study.journal import Trial
from phasewise.study.read import read_study
from phasewise.study.results import PhaseResult, settings_of
from tests.phasewise.study.synthetic import Settings, Synthetic, noise

LR = "optimizer.lr"
RATES = "optimizer.lr=1e-6,1e-5,1e-4,1e-3,1e-2,1e-1"
STOPPED = {1e-6: 2, 1e-5: 2, 1e-4: 6}
"""After how many of 12 epochs halving stopped three of the six; 1e-3 is the incumbent's."""


def height(gap: float, jitter: float, settings: Settings, seed: int) -> float:
    """Each rate is better than the one before by ``gap``."""
    return 0.5 + gap * math.log10(settings.get(LR, 1e-3)) + jitter * noise(settings, seed)


def written(directory: Path, gap: float, jitter: float = 0.0, seeds: int = 3) -> Path:
    """A study of one phase that halved after 2 and 6 of 12 epochs."""

    def pause(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        if epochs := STOPPED.get(settings.get(LR, 1e-3)):
            del rows[epochs:]
            record.status, record.best, record.last = "paused", {}, {}
            record.objective |= {"value": None, "epoch": None}
            record.cost |= {"epochs": epochs, "seconds_per_epoch": 3600.0}

    study = Synthetic(
        {"rate": RATES},
        lambda settings, seed: height(gap, jitter, settings, seed),
        seeds=range(seeds),
        edit=pause,
    )
    plan = study.write(directory)
    (phase,) = plan.phases
    for one in phase.candidates:
        one.epochs = STOPPED.get(settings_of(one.overrides)[LR])
    saved = (10 + 10 + 6) * seeds
    phase.halving = Halved("epochs", [2, 6, 12], 2, full=72 * seeds, spent=72 * seeds - saved)
    phase.epochs_saved = saved
    plan.write()
    return directory


def phase_of(directory: Path) -> PhaseResult:
    return read_study(directory).phases[0]


def test_rungs_say_who_came_and_who_went_on(tmp_path: Path) -> None:
    phase = phase_of(written(tmp_path, gap=0.05))
    first, second = rung_summaries(phase)
    assert (first.seen, first.on, second.seen, second.on) == (6, 4, 4, 3)
    assert first.rank is not None
    assert (first.rank.value, first.rank.pairs) == (pytest.approx(1), 3)
    assert first.rank.interval is None  # of three
    assert not first.close
    assert hours_saved(phase) == (10 + 10 + 6) * 3


def test_what_was_dropped_within_noise_is_found_by_a_t_test(tmp_path: Path) -> None:
    """The noise is the difference at which a t-test with the same pooled variance gives .05."""
    phase = phase_of(written(tmp_path, gap=0.0005, jitter=0.01))
    first, _ = rung_summaries(phase)
    at = [
        [float(trial.history()[1]["val/mIoU"]) for trial in one.trials] for one in phase.candidates
    ]
    pooled = np.mean([np.var(values, ddof=1) for values in at])
    freedom = sum(len(values) - 1 for values in at)
    statistic = first.noise / math.sqrt(pooled * 2 / 3)
    assert 2 * t.sf(statistic, freedom) == pytest.approx(0.05)
    assert {one.dropped for one in first.close} <= {0, 1}
    for one in first.close:
        assert one.gap == pytest.approx(np.mean(at[one.kept]) - np.mean(at[one.dropped]))
        assert one.gap <= one.noise
    two = [at[0], at[1]]  # the usual test, where all the variance is theirs
    own = math.sqrt(np.mean([np.var(values, ddof=1) for values in two]) * 2 / 3)
    gap = np.mean(two[0]) - np.mean(two[1])
    assert 2 * t.sf(abs(gap) / own, 4) == pytest.approx(ttest_ind(*two).pvalue)


def test_the_audit_tells_it_and_the_report_shows_it(tmp_path: Path) -> None:
    found = audit(read_study(written(tmp_path / "close", gap=0.0005, jitter=0.01)))
    (dropped,) = [it for it in found if it.rule == "dropped_within_noise"]
    assert dropped.phase == "rate"
    assert "halving dropped" in dropped.text
    assert "within the noise of seeds" in dropped.text
    assert re.match(r"optimizer\.lr=1e-0[56]: at 2 epochs \S+ behind ", dropped.evidence[0])
    assert "study.phases.rate.halving.epochs=6" in dropped.advice
    far = audit(read_study(written(tmp_path / "far", gap=0.05, jitter=0.001)))
    assert "dropped_within_noise" not in {it.rule for it in far}
    write_report(tmp_path / "close")
    text = (tmp_path / "close" / "report.md").read_text()
    assert "Halving after 2, 6 of 12 epochs, about 1/2 go on." in text
    assert "78 epochs saved by halving, of 216 (36 %), about 3d 06h 00m of" in text
    assert "Dropped within noise, the closest first:" in text
    assert "stopped after 2 epochs at 0." in text


def test_with_one_seed_nobody_knows(tmp_path: Path) -> None:
    directory = written(tmp_path, gap=0.0005, jitter=0.01, seeds=1)
    assert all(
        math.isnan(one.noise) and not one.close for one in rung_summaries(phase_of(directory))
    )
    assert "dropped_within_noise" not in {it.rule for it in audit(read_study(directory))}
    write_report(directory)
    assert "With one seed nothing tells" in (directory / "report.md").read_text()


def test_rungs_of_a_key_are_read_from_their_own_runs(tmp_path: Path) -> None:
    """What a stopped one scored is that of its last rung, and no result of the phase."""
    plan = Synthetic(
        {"rate": RATES, "lower": "optimizer.lr=1e-5,1e-4"}, seeds=[0], score=low
    ).write(tmp_path)
    rate, lower = plan.phases
    rate.halving = Halved("model.width", [8, 16], 3, full=96, spent=60)
    for one in rate.candidates:
        one.rungs = [[Trial(0, "gone", "none")]]
    stopped = rate.candidates[1]
    stopped.epochs, stopped.rungs = 8, [[replace(lower.candidates[0].trials[0])]]
    stopped.trials = [Trial(0, "rate/never", "none")]
    plan.write()
    phase = phase_of(tmp_path)
    one = phase.candidates[1]
    assert stopped_value(phase, one) == low({LR: 1e-5}, 0)
    assert one.values == {}
    assert one.has_outcome
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "stopped at model.width=8 at 0." in text


def low(settings: Settings, seed: int) -> float:
    return height(0.05, 0.0, settings, seed)


def test_spearman_and_its_interval() -> None:
    draw = np.random.default_rng(0)
    pairs = [tuple(row) for row in draw.normal(size=(12, 2))]
    found = spearman(pairs)
    assert found is not None
    assert found.value == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
    assert spearman(pairs[:1]) is None
    assert spearman([(1.0, 2.0), (1.0, 3.0)]) is None  # all equal
    # a normal pair with correlation r has Spearman's 6 / pi * asin(r / 2)
    truth, inside = 6 / math.pi * math.asin(0.35), 0
    for _ in range(1000):
        x, e = draw.normal(size=(2, 40))
        one = spearman([*zip(x, 0.7 * x + math.sqrt(0.51) * e, strict=True)])
        assert one is not None
        assert one.interval is not None
        inside += one.interval.low <= truth <= one.interval.high
    assert 925 <= inside <= 975
