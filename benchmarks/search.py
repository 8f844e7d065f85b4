"""How soon a search finds a good configuration, replayed on a table of real trainings.

    python benchmarks/search.py [--replays 50] [--json FILE]
    python benchmarks/search.py --collect DIR [DIR ...]   # the table anew, from the runs of sweeps

The table (``benchmarks/data/beads_unet.csv``) has the objective after each epoch of every
configuration of a grid, with several seeds. A replay draws one of these seeds, as a study with one
seed would, and is asked how many trials it began, and how many epochs it spent, until the
configuration that led by then was one whose mean over all seeds is within 1 % of the best. What
chooses is the project's own code: the grid, `phasewise.study.sampling`, `phasewise.study.rungs` and
`phasewise.study.selection`.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import results
from scipy.stats import binomtest

from phasewise.analysis.statistics.halving import spearman
from phasewise.records.history import Row, read_history
from phasewise.records.record import read_record
from phasewise.study.asking import MOST_REPEATS
from phasewise.study.journal import SearchPlan
from phasewise.study.results import settings_of
from phasewise.study.rungs import Ladder, Race, deal, epoch_rungs
from phasewise.study.sampling import Sampler
from phasewise.study.search_settings import STARTUP
from phasewise.study.selection import select, value_at
from phasewise.study.space import Dimension, Space

FILE = Path(__file__).parent / "data" / "beads_unet.csv"
KEYS = ("optimizer.lr", "data.batch_size", "loss.name", "model.norm")
NUMBERS = ("optimizer.lr", "data.batch_size")
OBJECTIVE = {"metric": "val/jaccard", "mode": "max"}
NEAR = 0.01
"""So far below the best mean is near enough."""

SUBSET = 36
"""So many of the configurations take part in a replay of halving, so that winners differ."""

PARALLEL = 4
UNTIL = "Until within 1 % of the best"

Settings = dict[str, float | int | bool]
HALVINGS: dict[str, Settings] = {
    "{epochs: 1, factor: 3}": {"epochs": 1, "factor": 3},
    "{epochs: 2, factor: 3}": {"epochs": 2, "factor": 3},
    "{epochs: 3, factor: 3}": {"epochs": 3, "factor": 3},
    "{epochs: 1, factor: 2}": {"epochs": 1, "factor": 2},
    "{epochs: 3, factor: 2}": {"epochs": 3, "factor": 2},
    "{epochs: 1, factor: 3, brackets: 3}": {"epochs": 1, "factor": 3, "brackets": 3},
    "{epochs: 1, factor: 3, asynchronous: true, parallel: 4}": {
        **{"epochs": 1, "factor": 3, "parallel": PARALLEL}
    },
}


@dataclass
class Table:
    """Real trainings.

    Attributes:
        cells: the configurations, as the values of `KEYS`, in the order of a grid.
        seeds: with which each was trained.
        rows: the history of each by cell and seed.
    """

    cells: list[tuple[str, ...]]
    seeds: list[int]
    rows: dict[tuple[int, int], list[Row]]

    @classmethod
    def read(cls, path: Path, seeds: Sequence[int] = ()) -> Table:
        """From a CSV; what lacks one of the seeds is left out.

        Args:
            path: of the file.
            seeds: those that count; without, all that are there.
        """
        found: dict[tuple[tuple[str, ...], int], list[Row]] = {}
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                place = tuple(line[key] for key in KEYS), int(line["seed"])
                row = {"epoch": int(line["epoch"]), OBJECTIVE["metric"]: float(line["val/jaccard"])}
                found.setdefault(place, []).append(row)
        own = list(seeds) or sorted({seed for _, seed in found})
        once = dict.fromkeys(cell for cell, _ in found)
        cells = sorted(
            (cell for cell in once if all((cell, seed) in found for seed in own)),
            key=lambda cell: (float(cell[0]), int(cell[1]), *cell[2:]),
        )
        rows = {(n, seed): found[cell, seed] for n, cell in enumerate(cells) for seed in own}
        return cls(cells, own, rows)

    @cached_property
    def is_grid(self) -> bool:
        """Whether every combination of values is there, so that anything can be asked for."""
        values = [{cell[key] for cell in self.cells} for key in range(len(KEYS))]
        return len(self.cells) == math.prod(map(len, values))

    @cached_property
    def epochs(self) -> int:
        """Of each training."""
        return max(len(rows) for rows in self.rows.values())

    def value(self, cell: int, seeds: Sequence[int], epoch: int | None = None) -> float:
        """What `phasewise.study.halving` would see of a configuration up to an epoch."""
        histories = [self.rows[cell, seed] for seed in seeds]
        return value_at(histories, epoch or self.epochs, OBJECTIVE)

    @cached_property
    def truth(self) -> list[float]:
        """The mean of each configuration over all seeds."""
        return [self.value(cell, self.seeds) for cell in range(len(self.cells))]

    def is_near(self, cell: int) -> bool:
        """Whether a configuration is within 1 % of the best."""
        return self.truth[cell] >= (1 - NEAR) * max(self.truth)


@dataclass(frozen=True)
class Ended:
    """A configuration that ran to its end, after so many trials had begun and epochs been run."""

    cell: int
    trials: int
    epochs: int


def collect(folders: Sequence[Path]) -> None:
    """Write the table from the directories of runs."""
    columns = [*KEYS, "seed", "epoch", "val/jaccard", "val/dice", "val/loss", "seconds"]
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for run in sorted(
            path.parent for folder in folders for path in folder.glob("*/record.json")
        ):
            record = read_record(run)
            if record is None or record.status != "completed":
                continue
            settings = settings_of(record.overrides)
            for row in read_history(run):
                values = [f"{row[name]:.5g}" for name in columns[6:]]
                where = [settings[key] for key in KEYS]
                writer.writerow([*where, record.seed, int(row["epoch"]), *values])


def in_order(table: Table, draw: random.Random) -> Iterator[int]:
    """A grid as somebody typed it: keys in any order, their values in theirs."""
    keys = draw.sample(range(len(KEYS)), len(KEYS))
    values = [list(dict.fromkeys(cell[key] for cell in table.cells)) for key in keys]
    for chosen in product(*values):
        own = dict(zip(keys, chosen, strict=True))
        cell = tuple(own[key] for key in range(len(KEYS)))
        if cell in table.cells:
            yield table.cells.index(cell)


def at_random(table: Table, draw: random.Random) -> list[int]:
    """Each once."""
    return draw.sample(range(len(table.cells)), len(table.cells))


def whole(order: Iterator[int] | Sequence[int], table: Table) -> Iterator[Ended]:
    """One trial after the other, each to its end."""
    for number, cell in enumerate(order, 1):
        yield Ended(cell, number, number * table.epochs)


def asked(table: Table, sampler: str, seed: int, train_seed: int) -> Iterator[int]:
    """Those that a sampler asks for, each once; numbers have their order in the grid's values."""
    values = [list(dict.fromkeys(cell[n] for cell in table.cells)) for n in range(len(KEYS))]
    space = Space(
        [],
        [
            Dimension(key, "int", "", high=len(known) - 1)
            if key in NUMBERS
            else Dimension(key, "choice", "", known)
            for key, known in zip(KEYS, values, strict=True)
        ],
    )
    plan = SearchPlan(sampler, len(table.cells), startup=STARTUP, seed=seed)
    asking, told = Sampler(plan, space, OBJECTIVE["mode"]), set[int]()
    repeats = 0
    while len(told) < len(table.cells):
        # as `phasewise.study.searching` does where a sampler has found its place
        drawn = asking.at_random() if repeats >= MOST_REPEATS else None
        number, chosen = asking.ask(drawn)
        cell = tuple(
            known[int(chosen[key])] if key in NUMBERS else str(chosen[key])
            for key, known in zip(KEYS, values, strict=True)
        )
        row = table.cells.index(cell)
        repeats = repeats + 1 if row in told else 0
        if row not in told:  # what was tried is known, and costs nothing
            yield row
        told.add(row)
        asking.tell(number, table.value(row, [train_seed]))


def race_of(table: Table, order: Sequence[int], settings: Settings) -> Race:
    """Halving of some configurations, in an order."""
    factor, brackets = float(settings["factor"]), int(settings.get("brackets", 1))
    rungs = epoch_rungs(int(settings["epochs"]), factor, table.epochs)
    ladder = Ladder(tuple(rungs), factor, brackets)
    parallel = settings.get("parallel")
    race = Race(ladder, OBJECTIVE["mode"], parallel=None if parallel is None else int(parallel))
    names = [" ".join(sorted(table.cells[cell])) for cell in order]
    for cell, bracket in zip(order, deal(names, ladder), strict=True):
        race.enter(cell, bracket)
    return race


def halved(
    table: Table, order: Sequence[int], settings: Settings, seeds: Sequence[int]
) -> Iterator[Ended]:
    """The configurations that halving lets run to their end; epochs are of one seed."""
    race, epochs, begun = race_of(table, order, settings), 0, set[int]()
    amounts = [0, *map(int, race.ladder.amounts)]
    came: dict[int, int] = {}
    while moves := race.wave():
        for move in moves:
            begun.add(move.row)
            epochs += amounts[move.rung + 1] - came.get(move.row, 0)
            came[move.row] = amounts[move.rung + 1]
            race.tell(move.row, move.rung, table.value(move.row, seeds, came[move.row]))
            if move.rung == race.ladder.top:
                yield Ended(move.row, len(begun), epochs)
    # what is left was spent, too
    yield Ended(-1, len(begun), epochs)


def reached(table: Table, trace: Iterator[Ended], seed: int) -> tuple[float, float]:
    """Trials and epochs until what leads is near the best; infinite if it never was."""
    best, leader = -math.inf, -1
    for ended in trace:
        if ended.cell < 0:
            break
        value = table.value(ended.cell, [seed])
        if value > best:
            best, leader = value, ended.cell
        if table.is_near(leader):
            return ended.trials, ended.epochs
    return math.inf, math.inf


Method = Callable[[Table, int, int], Iterator[Ended]]


def by_halving(settings: Settings) -> Method:
    """All configurations in a random order."""
    return lambda table, number, seed: halved(
        table, at_random(table, random.Random(number)), settings, [seed]
    )


METHODS: dict[str, Method] = {
    "grid, in order": lambda table, number, seed: whole(
        in_order(table, random.Random(number)), table
    ),
    "random": lambda table, number, seed: whole(at_random(table, random.Random(number)), table),
    "tpe": lambda table, number, seed: whole(asked(table, "tpe", number, seed), table),
    "halving {epochs: 1}": by_halving(HALVINGS["{epochs: 1, factor: 3}"]),
    "hyperband (brackets: 3)": by_halving(HALVINGS["{epochs: 1, factor: 3, brackets: 3}"]),
    "asha (4 at a time)": by_halving(
        HALVINGS["{epochs: 1, factor: 3, asynchronous: true, parallel: 4}"]
    ),
}


def median(values: Sequence[float]) -> str:
    """The median with its 95 % percentile bootstrap interval."""
    found, draw = np.array(values), np.random.default_rng(0)
    samples = found[draw.integers(len(found), size=(2000, len(found)))]
    with np.errstate(invalid="ignore"):  # infinity less infinity
        low, high = np.quantile(
            np.sort(np.median(samples, axis=1)), [0.025, 0.975], method="nearest"
        )
        return f"{np.median(found):.0f} ({low:.0f} to {high:.0f})"


def share(count: int, of: int) -> str:
    """A count with the Wilson interval of its share."""
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return f"{count} of {of} ({interval.low:.0%} to {interval.high:.0%})"


def search_table(table: Table, replays: int) -> list[list[str]]:
    """Trials and epochs to come near the best, method by method."""
    lines = [["", "trials", "epochs", "reached"]]
    for name, method in METHODS.items():
        found = [
            reached(table, method(table, number, seed), seed)
            for number in range(replays)
            for seed in [table.seeds[number % len(table.seeds)]]
        ]
        trials, epochs = zip(*found, strict=True)
        done = sum(map(math.isfinite, trials))
        lines.append([name, median(trials), median(epochs), f"{done} of {replays}"])
    return lines


def winner_of(table: Table, cells: Sequence[int], seeds: Sequence[int]) -> int:
    """What a study would adopt of these."""
    values = [{seed: table.value(cell, [seed]) for seed in seeds} for cell in cells]
    chosen = select(values, None, mode=OBJECTIVE["mode"], seeds=seeds).winner
    assert chosen is not None
    return cells[chosen]


def saving_table(table: Table, replays: int) -> list[list[str]]:
    """Epochs that halving saves, and how often its winner is that of all run to the end.

    Both go by the means over the seeds of the table.
    """
    lines = [["", "epochs saved", "the same winner", "within 1 % of it"]]
    for name, settings in HALVINGS.items():
        saved, same, near = [], 0, 0
        for number in range(replays):
            order = at_random(table, random.Random(number))[:SUBSET]
            *ended, last = halved(table, order, settings, table.seeds)
            ours = winner_of(table, [it.cell for it in ended], table.seeds)
            full = winner_of(table, order, table.seeds)
            saved.append(1 - last.epochs / (len(order) * table.epochs))
            same += ours == full
            near += table.truth[ours] >= (1 - NEAR) * table.truth[full]
        lines.append([name, f"{fmean(saved):.0%}", share(same, replays), share(near, replays)])
    return lines


def agreement_table(table: Table) -> list[list[str]]:
    """How the ranks after some epochs agree with those at the end."""
    columns = [[seed] for seed in table.seeds] + ([table.seeds] if len(table.seeds) > 1 else [])
    heads = [f"seed {seed}" for seed in table.seeds] + ["their mean"]
    lines = [["after", *heads[: len(columns)]]]
    for epoch in range(1, table.epochs):
        line = [f"{epoch} epoch{'s' * (epoch > 1)}"]
        for seeds in columns:
            cells = range(len(table.cells))
            pairs = [(table.value(c, seeds, epoch), table.value(c, seeds)) for c in cells]
            found = spearman(pairs)
            assert found is not None
            assert found.interval is not None
            low, high = found.interval
            line.append(f"{found.value:.2f} ({low:.2f} to {high:.2f})")
        lines.append(line)
    return lines


def show(title: str, lines: Sequence[Sequence[str]]) -> None:
    """As Markdown."""
    print(f"\n{title}\n")
    head, *rest = lines
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for line in rest:
        print(f"| {' | '.join(line)} |")


def main() -> None:
    """Replay, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replays", type=int, default=50)
    parser.add_argument("--collect", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.collect:
        collect(args.collect)
    whole_grid, repeated = Table.read(FILE, [0]), Table.read(FILE)
    shown = {"one seed": whole_grid} | ({"all seeds": repeated} if len(repeated.seeds) > 1 else {})
    written = {}
    for name, table in shown.items():
        near = sum(map(table.is_near, range(len(table.cells))))
        print(
            f"\n{name}: {len(table.cells)} configurations x {len(table.seeds)} seeds x "
            f"{table.epochs} epochs; best {max(table.truth):.4f}, {near} are within 1 % of it"
        )
        tables = {
            **({UNTIL: search_table(table, args.replays)} if table.is_grid else {}),
            f"Halving of {SUBSET} configurations": saving_table(table, args.replays),
            "Rank correlation with the end": agreement_table(table),
        }
        for title, lines in tables.items():
            show(title, lines)
        written[name] = {"configurations": len(table.cells), "near": near} | tables
    results.write(args.json, replays=args.replays, **written)


if __name__ == "__main__":
    main()
