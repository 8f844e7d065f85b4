"""What tuning is worth: one task's test figures of defaults, a preset, and several ways to tune.

    python benchmarks/tuning.py --task segmentation [--keys 4] [--epochs 6] [--seeds 5]
                                [--out DIR] [--json FILE] [data=... KEY=VALUE ...]

All ways know the same keys and values, the first ``--keys`` that ``task.worth_trying`` names. A
study of phases looks at one after the other; random search and TPE get as many trials over all of
them together as that took, follow-up rounds as many hours. No trial sees test data: each way ends
with a configuration, which is then trained and tested with each of ``--seeds``. A call that is
repeated with the same ``--out`` goes on where it was.

``preset=strong`` has settings of its own, also epochs; on a machine without internet give
``--strong model.pretrained=FILE`` (words of that row alone).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import hydra
import results
import yaml
from results import ROOT

import phasewise
from phasewise.analysis.statistics.intervals import t_interval


def _train(words: Sequence[str], log: Path) -> None:
    command = [sys.executable, "train.py", "-m", *words]
    with log.open("w", encoding="utf-8") as out:
        subprocess.run(command, cwd=ROOT, stdout=out, stderr=out, check=True)


def _cost(place: Path) -> dict[str, Any]:
    """What a study took."""
    trials = phasewise.load(place).trials.drop_duplicates("directory")
    seconds = trials["cost.seconds"].dropna()  # of those that were not run, for the time was up
    return {"trials": len(seconds), "hours": float(seconds.sum()) / 3600}


class Contest:
    """The ways of tuning one task, each in a folder of its own below one.

    Args:
        task: a task.
        out: that folder.
        words: overrides of all ways: data, epochs.
        keys: how many keys are tuned.
        seeds: with how many each final configuration is tested.
    """

    def __init__(self, task: str, out: Path, words: Sequence[str], keys: int, seeds: int) -> None:
        self.out = out
        self.words = [f"task={task}", *words]
        self.seeds = f"study.seeds={[*range(seeds)]}".replace(" ", "")
        with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = hydra.compose("config", [*self.words, "hydra/sweeper=basic"])
        self.metric = str(config.objective.metric).replace("val/", "test/")
        self.tried = [one.overrides for one in config.task.worth_trying[:keys]]
        (out / "conf" / "study").mkdir(parents=True, exist_ok=True)

    def tuned(self, name: str, study: Mapping[str, Any]) -> dict[str, Any]:
        """The row of a study."""
        file = {"study": {"name": name, **study}, "hydra": {"mode": "MULTIRUN"}}
        text = f"# @package _global_\n{yaml.safe_dump(file)}"
        (self.out / "conf" / "study" / f"{name}.yaml").write_text(text, encoding="utf-8")
        words = ["--config-dir", str(self.out / "conf"), f"study={name}", *self.words]
        place = self.out / name
        _train([*words, "test=false", f"hydra.sweep.dir={place}"], self.out / f"{name}.log")
        best = phasewise.load(place).best
        assert best is not None, f"{name}: no trial has a result"
        around = {*self.words, f"study={name}", "test=false"}
        return _cost(place) | self.tested(name, [it for it in best.overrides if it not in around])

    def tested(self, name: str, overrides: Sequence[str]) -> dict[str, Any]:
        """The test figures of a configuration over the seeds, with their 95 % interval (t)."""
        place = self.out / f"{name}_test"
        words = [*self.words, *overrides, self.seeds, "test=true", f"hydra.sweep.dir={place}"]
        _train(words, self.out / f"{name}_test.log")
        found = phasewise.load(place).trials[self.metric]
        assert len(found) == found.count() > 1, f"{name}: not all seeds were tested"
        low, high = t_interval([*found])
        return {self.metric: fmean(found), "+-": (high - low) / 2, "configuration": [*overrides]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="segmentation")
    parser.add_argument("--keys", type=int, default=4)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "benchmarks" / "tuning")
    parser.add_argument("--strong", nargs="*", default=[], help="words of preset=strong alone")
    parser.add_argument("--json", type=Path)
    parser.add_argument("words", nargs="*", help="overrides of all ways")
    args = parser.parse_intermixed_args()
    words = [*args.words, "figures.images=0"]
    epochs = [f"trainer.max_epochs={args.epochs}"] if args.epochs else []
    out = args.out.absolute() / args.task
    contest = Contest(args.task, out, [*words, *epochs], args.keys, args.seeds)
    rows = {"defaults": {"trials": 0, "hours": 0.0} | contest.tested("defaults", ())}
    strong = Contest(args.task, out, words, args.keys, args.seeds)
    row = strong.tested("strong", ["preset=strong", *args.strong])
    rows["preset=strong"] = {"trials": 0, "hours": 0.0} | row
    phases = {f"p{number}": words for number, words in enumerate(contest.tried, 1)}
    rows["phases"] = contest.tuned("phases", {"phases": phases})
    count, hours = rows["phases"]["trials"], rows["phases"]["hours"]
    for sampler in ("random", "tpe"):
        space = {"sampler": sampler, "trials": count}
        search = {"overrides": " ".join(contest.tried), "search": space}
        rows[sampler] = contest.tuned(sampler, {"phases": {"search": search}})
    follow = {"phases": {"p1": contest.tried[0]}, "follow_up": {"rounds": 3}, "max_hours": hours}
    rows["follow-up"] = contest.tuned("rounds", follow)
    print(results.machine())
    print(f"{'':<16}{'trials':>7}{'hours':>7}  {contest.metric} over {args.seeds} seeds")
    for name, row in rows.items():
        figure = f"{row[contest.metric]:.3f} ± {row['+-']:.3f}"
        print(f"{name:<16}{row['trials']:>7}{row['hours']:>7.2f}  {figure}")
    results.write(args.json, repeats=args.seeds, task=args.task, rows=rows)


if __name__ == "__main__":
    main()
