"""Proposals: made where something was planted, and not where nothing was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_ind, ttest_rel

from phasewise.analysis.audit import Finding
from phasewise.analysis.proposals import NothingDecided, Proposal, Proposals, propose
from phasewise.analysis.proposals.edges import beyond
from phasewise.analysis.proposals.proposal import Cell
from phasewise.analysis.statistics.power import pairs_needed
from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.study.read import read_study
from tests.phasewise.analysis.auditing import LR
from tests.phasewise.study.synthetic import CLEAN, Settings, Synthetic, noise, write_config


def proposed(directory: Path, study: Synthetic, **more: Any) -> Proposals:
    study.write(directory)
    return propose(read_study(directory), **more)


def one(found: Proposals, rule: str) -> Proposal:
    (proposal,) = (it for it in found.phases if it.rule == rule)
    return proposal


def test_a_clean_study_leaves_nothing_open(tmp_path: Path) -> None:
    assert proposed(tmp_path, Synthetic(test=True)) == Proposals()


def test_without_a_winner_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(NothingDecided):
        proposed(tmp_path, Synthetic({"": CLEAN["lr"]}, lambda settings, seed: "failed"))


@pytest.mark.parametrize(
    ("best", "values"), [(1e-4, "1e-05,1e-06"), (1e-3, None), (1e-2, "0.1,1.0")]
)
def test_an_optimum_on_the_edge(tmp_path: Path, best: float, values: str | None) -> None:
    def score(settings: Settings, seed: int) -> float:
        return 0.3 + 0.3 * (settings[LR] == best) + 0.001 * noise(settings, seed)

    found = proposed(tmp_path, Synthetic({"rate": CLEAN["lr"]}, score, {}))
    if values is None:
        assert found.phases == ()
        return
    edge = one(found, "edge")
    assert edge.phase() == {"overrides": f"{LR}={values}", "reason": edge.reason}
    assert edge.name == "lr_beyond"
    assert f"the best {LR}, {best!r}, is the" in edge.reason


def test_what_an_earlier_phase_has_tried_beyond_is_no_edge(tmp_path: Path) -> None:
    """The second phase's best is its smallest, below which the first one has been."""

    def score(settings: Settings, seed: int) -> float:
        height = {1e-4: 0.4, 1e-3: 0.6, 1e-2: 0.5, 3e-2: 0.4, 1e-1: 0.3}
        return height[settings.get(LR, 1e-3)] + 0.001 * noise(settings, seed)

    phases = {"first": CLEAN["lr"], "second": f"{LR}=1e-3,3e-2,1e-1"}
    assert proposed(tmp_path, Synthetic(phases, score)).phases == ()


def test_values_that_the_schema_refuses_are_left_out(tmp_path: Path) -> None:
    def score(settings: Settings, seed: int) -> float:
        return 0.3 + 10 * settings[LR] + 0.001 * noise(settings, seed)

    def below_one(cell: Cell) -> bool:
        return float(cell[0].partition("=")[2]) < 1

    study = Synthetic({"rate": CLEAN["lr"]}, score, {})
    assert one(proposed(tmp_path, study, can_run=below_one), "edge").typed() == f"{LR}=0.1"


@pytest.mark.parametrize(
    ("values", "side", "expected"),
    [
        ([1e-4, 1e-3, 1e-2], 1, [0.1, 1.0]),
        ([1e-3, 3e-3, 1e-2], -1, [3.333e-4, 1.111e-4]),
        ([0.0, 0.1, 0.3], 1, [0.9, 2.7]),
        ([0.0, 0.25, 0.5], 1, [0.6667, 0.7778]),  # the distance to 1 by .5 / .75 each time
        ([0.9, 0.95, 0.99], 1, [0.998, 0.9996]),  # by a fifth each time
        ([128, 192, 256], 1, [320, 448]),  # multiples of 64
        ([8, 16, 32], -1, []),  # multiples of 8: none is left
        ([0.0, 0.0001, 0.1], 1, [1.0, 10.0]),  # no leap of more than ten
        ([-1.0, 0.0, 1.0], 1, [2.0, 4.0]),
    ],
)
def test_values_beyond(values: list[float], side: int, expected: list[float]) -> None:
    assert beyond(values, side) == pytest.approx(expected, rel=2e-4)


def _close(settings: Settings, seed: int) -> float:
    """Gelu is .002 better than relu, and seeds' noise as large."""
    gain = 0.002 * (settings.get("model.activation") == "gelu")
    return {1e-3: 0.6}.get(settings[LR], 0.4) + gain + 0.002 * noise(settings, seed)


def test_gains_within_noise_ask_for_as_many_seeds_as_would_tell(tmp_path: Path) -> None:
    phases = {"activation": "model.activation=relu,gelu"}
    study = Synthetic(phases, _close, {LR: 1e-3, "model.activation": "relu"}, base=[f"{LR}=1e-3"])
    found = proposed(tmp_path, study)
    phase = read_study(tmp_path).phases[0]
    values = [candidate.values for candidate in phase.candidates]
    chosen = phase.plan.winner
    assert chosen is not None
    needed = pairs_needed([values[chosen][seed] - values[1 - chosen][seed] for seed in (0, 1, 2)])
    seeds = one(found, "seeds")
    assert needed is not None
    assert seeds.seeds == tuple(range(min(max(needed, 4), 10)))
    other = phase.label(phase.candidates[1 - chosen])
    assert seeds.typed() == other
    assert f"about {max(needed, 4)} seeds would tell" in seeds.reason


def test_one_run_each_asks_for_three_seeds(tmp_path: Path) -> None:
    found = proposed(tmp_path, Synthetic({"rate": CLEAN["lr"]}, seeds=[0]))
    assert one(found, "seeds").seeds == (0, 1, 2)
    assert one(found, "seeds").typed() == f"{LR}=0.01"  # the second best


def test_best_at_the_last_epoch(tmp_path: Path) -> None:
    def rise(record: RunRecord, rows: list[Row], settings: Settings) -> None:
        del rows[9:]
        record.cost["epochs"] = 9
        record.last = dict(record.best)

    found = proposed(tmp_path, Synthetic({"rate": CLEAN["lr"]}, edit=rise))
    assert one(found, "longer").cells == (
        ("trainer.max_epochs=24",),
        ("trainer.max_epochs=24", f"{LR}=0.01"),
    )


def _crossed(settings: Settings, seed: int) -> float:
    """With momentum the best rate is another one."""
    best = {0.0: -2, 0.9: -3}[settings["optimizer.momentum"]]
    height = {1e-4: -4, 1e-3: -3, 1e-2: -2}[settings[LR]]
    return 0.6 - 0.1 * abs(height - best) + 0.001 * noise(settings, seed)


def _parallel(settings: Settings, seed: int) -> float:
    height = {1e-4: 0.4, 1e-3: 0.6, 1e-2: 0.5}[settings[LR]]
    return height + 0.1 * settings["optimizer.momentum"] + 0.001 * noise(settings, seed)


@pytest.mark.parametrize(("score", "is_there"), [(_crossed, True), (_parallel, False)])
def test_an_interaction_asks_for_its_small_grid(tmp_path: Path, score: Any, is_there: bool) -> None:
    grid = {"grid": f"{CLEAN['lr']} optimizer.momentum=0.0,0.9"}
    found = proposed(tmp_path, Synthetic(grid, score, {}))
    rules = [it.rule for it in found.phases]
    assert ("interaction" in rules) == is_there
    if is_there:
        cells = found.phases[0].cells
        keys = {word.partition("=")[0] for cell in cells for word in cell}
        assert keys == {LR, "optimizer.momentum"}
        ran = {(f"{LR}={a}", f"optimizer.momentum={b}") for a in CLEAN["lr"] for b in (0.0, 0.9)}
        assert 0 < len(cells) <= 8
        assert not ran & set(cells)


def test_keys_that_never_mattered_are_told_and_no_phase(tmp_path: Path) -> None:
    phases = {"rate": CLEAN["lr"], "width": "model.width=8,16,32"}
    found = proposed(
        tmp_path, Synthetic(phases, _wide, {LR: 1e-3, "model.width": 16}, range(10, 16))
    )
    assert [it.partition(" stays")[0] for it in found.told] == ["model.width"]
    assert not any("model.width" in it.typed() for it in found.phases if it.rule != "seeds")


def test_of_a_sample_all_comparisons_count_that_the_report_shows(tmp_path: Path) -> None:
    widths = {1e-4: (8, 16, 32), 1e-3: (8, 16, 32, 64), 1e-2: (32, 64)}
    scores: dict[float, dict[int, float]] = {rate: {} for rate in widths}

    def score(settings: Settings, seed: int) -> float | str:
        rate, width = settings[LR], settings["model.width"]
        if width not in widths[rate]:
            return "missing"
        scores[rate][width] = 0.5 + 0.1 * noise(settings, seed)
        return scores[rate][width]

    grid = {"search": "optimizer.lr=1e-4,1e-3,1e-2 model.width=8,16,32,64"}
    plan = Synthetic(grid, score, {LR: 1e-3, "model.width": 8}, [0]).write(tmp_path)
    plan.phases[0].sampled_from = 100
    plan.write()
    low, middle, high = (scores[rate] for rate in widths)
    pairs = [(one, middle) for one in (low, high)]
    tests = [ttest_rel([*one.values()], [two[width] for width in one]) for one, two in pairs]
    tests.append(ttest_ind([*low.values()], [*high.values()], equal_var=False))
    p = min(1.0, 3 * min(float(test.pvalue) for test in tests))
    (told,) = [it for it in propose(read_study(tmp_path)).told if it.startswith(LR)]
    assert told.endswith(f"(smallest p = {p:.2g}, Holm-corrected)")


def _wide(settings: Settings, seed: int) -> float:
    return {1e-4: 0.4, 1e-3: 0.6, 1e-2: 0.5}[settings[LR]] + 0.001 * noise(settings, seed)


HINTS = [
    {"overrides": f"{LR}=1e-3,3e-3", "source": "everybody"},
    {"overrides": "model.dropout_rate=0.0,0.2", "source": "Srivastava 2014"},
    {"overrides": "data.augment=[flip],[flip,rotate]", "source": "Ronneberger 2015"},
    {"overrides": "model.unknown=1,2", "source": "nobody"},
]


def test_keys_never_tried_that_the_task_names(tmp_path: Path) -> None:
    """What was varied, what has this value, and what the config lacks are not asked for."""
    Synthetic({"rate": CLEAN["lr"]}).write(tmp_path)
    more = {"task.worth_trying": HINTS, "model.dropout_rate": 0.2, "data.augment": ["flip"]}
    for place in tmp_path.rglob("record.json"):
        words = json.loads(place.read_text())["overrides"]
        rate = next(float(word.partition("=")[2]) for word in words if word.startswith(LR))
        write_config(place.parent, {LR: rate, "trainer.max_epochs": 12} | more)
    found = propose(read_study(tmp_path)).phases
    assert [(it.name, it.typed()) for it in found] == [
        ("dropout_rate", "model.dropout_rate=0.0"),
        ("augment", "data.augment=[flip,rotate]"),
    ]
    assert found[0].reason.endswith("Srivastava 2014")


def test_remedies_of_the_audit(tmp_path: Path) -> None:
    def finding(rule: str, phase: str = "activation") -> Finding:
        return Finding(rule, "warning", f"it is {rule}", (), "", phase)

    drawn = Synthetic(test=True)  # nothing is kept of weights that were drawn
    assert proposed(tmp_path / "drawn", drawn, found=[finding("worse_than_start")]).phases == ()
    study = Synthetic(test=True, defaults=drawn.defaults | {"model.pretrained": True})
    by_test = [finding("worse_than_start", "test")]  # which nothing is chosen by
    assert proposed(tmp_path, study, found=by_test).phases == ()
    found = proposed(
        tmp_path,
        study,
        found=[finding("saturated"), finding("worse_than_start")],
        can_run=lambda cell: not any("recordings" in word for word in cell),
    )
    judged, tuned = found.phases
    assert (judged.rule, judged.settings) == ("validation", ("data.validation=cameras",))
    assert len(judged.cells) == 2
    assert tuned.cells[0] == ("finetuning.interpolate=[0.25,0.5,0.75,1]",)
    assert tuned.cells[-1][1] == f"{LR}=0.0001"


def test_what_lost_and_came_back_is_no_rival_of_itself(tmp_path: Path) -> None:
    """With one run each, the first phase's second best is what the second phase chose again."""

    def score(settings: Settings, seed: int) -> float:
        rate, activation = settings.get(LR, 1e-3), settings.get("model.activation", "relu")
        low, high = (0.5, 0.6) if activation == "relu" else (0.8, 0.7)
        return {1e-3: high, 1e-2: low}[rate]

    phases = {
        "rate": f"{LR}=1e-3,1e-2",
        "activation": "model.activation=relu,gelu",
        "again": f"{LR}=1e-3,1e-2",
    }
    found = proposed(tmp_path, Synthetic(phases, score, seeds=[0]))
    seeds = one(found, "seeds")
    assert seeds.cells == ((f"{LR}=0.001",), ("model.activation=relu",))
    assert seeds.reason.count(" better than ") == 2  # no word of the first phase's gain, given up
