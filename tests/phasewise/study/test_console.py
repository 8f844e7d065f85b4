"""What a study says on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phasewise.records.record import RunRecord
from phasewise.study.console import candidate_label, print_trials
from phasewise.study.journal import Candidate, Phase, Trial
from tests.phasewise.study.synthetic import write_config

VALUES = {"relu": (0.1, 0.9), "gelu": (0.6, 0.6)}
"""The best single run is not of the best configuration."""


def shown(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    values: Any = VALUES,
    judges: str | None = "same",
    **phase: Any,
) -> tuple[list[str], str]:
    """The rows with a star, and the line below the table."""
    records, candidates = [], []
    for name, found in values.items():
        word = f"model.activation={name}"
        trials = [Trial(seed, f"{word},seed={seed}", "f") for seed in range(len(found))]
        candidates.append(Candidate([word], trials))
        for seed, value in enumerate(found):
            record = RunRecord(
                directory=tmp_path / trials[seed].directory,
                task="toy",
                fingerprint="f",
                overrides=[word, f"seed={seed}"],
                seed=seed,
                objective={"metric": "val/x", "mode": "max", "value": value, "epoch": 1},
                status="completed",
                data={"hashes": {"val": judges or name}},
            )
            records.append(record)
    goal = {"metric": "val/x", "mode": "max"}
    seeds = list(range(len(found)))
    settings = {"name": "act", "kind": "grid", "objective": goal, "seeds": seeds} | phase
    print_trials(Phase(candidates=candidates, **settings), records, tmp_path)
    lines = capsys.readouterr().out.strip().splitlines()
    stars = [" ".join(line.split()[1:3]) for line in lines[:-1] if line.startswith("*")]
    return stars, lines[-1].partition(";")[0]


def test_the_star_is_the_adopted_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for settings, told in {
        ("act", "adopted"): "* adopted, each of its seeds",
        ("act", "kept"): "* kept, the incumbent, each of its seeds",
        ("", "adopted"): "* the best mean of val/x, each of its seeds",
    }.items():
        name, verdict = settings
        found = shown(tmp_path, capsys, name=name, winner=1, verdict=verdict)
        assert found == (["gelu 0", "gelu 1"], told)


def test_the_star_of_a_test_is_the_final_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(tmp_path, capsys, {"gelu": (0.6,), "relu": (0.9,)}, name="test", kind="test")
    assert found == (["gelu 0.6000"], "* the final configuration")


def test_before_a_decision_it_is_the_best_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(tmp_path, capsys) == (["relu 1"], "* the best run so far")


def test_in_a_sweep_without_seeds_it_is_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(tmp_path, capsys, {"gelu": (0.6,), "relu": (0.9,)}, name="", winner=1)
    assert found == (["relu 0.9000"], "* the best val/x")


def test_the_configuration_before_is_told_by_its_values(tmp_path: Path) -> None:
    candidates = [
        Candidate(["model.norm=group"], [Trial(0, "a", "")]),
        Candidate([], [Trial(0, "b", "")]),
    ]
    phase = Phase("act", "grid", {}, [0], declared={"model.norm": ["group", "none"]})
    phase.candidates = candidates
    assert candidate_label(phase, candidates[0], tmp_path) == "model.norm=group"
    assert candidate_label(phase, candidates[1], tmp_path) == "the configuration before"
    write_config(tmp_path / "b", {"model.norm": "batch"})
    told = "the configuration before (model.norm=batch)"
    assert candidate_label(phase, candidates[1], tmp_path) == told


def test_no_star_among_runs_that_different_samples_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(tmp_path, capsys)[0] == ["relu 1"]
    found = shown(tmp_path, capsys, judges=None)
    assert found == ([], "no star, for different validation samples judged")
