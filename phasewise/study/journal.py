"""``study.json``: what a study planned, where its trials lie and what it decided.

Written anew, atomically, whenever something was decided. It holds no metrics: those are in the
records of the runs. A sweep (``-m``) leaves one too, with a single phase.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from phasewise.project import JOURNAL
from phasewise.records.schema import validate
from phasewise.storage import write_whole
from phasewise.study.halved import Halved
from phasewise.study.space import Dimension

SCHEMA = 1

Kind = Literal["grid", "combinations", "rerun", "search", "test"]
Verdict = Literal["adopted", "kept", "within_noise", "undecided"]
"""``adopted``: a challenger won. ``kept``: the incumbent is best, or tied. ``within_noise``: a
challenger has the better mean, but the study adopts significant gains only. ``undecided``: no
candidate has a result, or none against which a gain could be tested."""

log = logging.getLogger(__name__)


@dataclass
class Trial:
    """One run: a candidate with one seed.

    ``directory`` is below the study's; it lies in an earlier phase where that one computed the
    same. ``fingerprint`` is the identity that a record there must have to be this trial's, see
    `phasewise.records.record.RunRecord.is_of`. ``data`` is the key of its data in the journal's.
    """

    seed: int
    directory: str
    fingerprint: str
    data: str = ""


@dataclass
class Candidate:
    """A configuration that a phase tries, once per seed.

    Attributes:
        overrides: what the phase adds to its ``base``; no seed.
        trials: one per seed; none where ``refused`` says why the settings do not go together.
        epochs: after how many epochs, or at which value of the key of `Halved`, halving stopped it;
            ``None`` if it did not.
        bracket: of halving.
        rungs: its runs at the values of that key below the last, one per seed, whether or not it
            came so far.
        infeasible: the requirements that it violates, each with its value.
        fallen: the objectives in which it falls too far below the incumbent, each with both values
            (``choose: guarded``).
    """

    overrides: list[str]
    trials: list[Trial] = field(default_factory=list)
    refused: str | None = None
    epochs: int | float | None = None
    bracket: int = 0
    rungs: list[list[Trial]] = field(default_factory=list)
    infeasible: list[str] = field(default_factory=list)
    fallen: list[str] = field(default_factory=list)


@dataclass
class SearchPlan:
    """Who asks for the candidates of a phase, and from where; see `phasewise.study.searching`.

    Attributes:
        sampler: its name, see `phasewise.study.search_settings.SAMPLERS`.
        trials: so many are asked for, beside the incumbent.
        parallel: of a batch.
        startup: so many are drawn at random before the sampler goes by results.
        seed: of the sampler.
        library: which version of it asks.
        fixed: overrides that all its trials have.
        space: where it searches, key by key.
        repeated: how often it asked for what had been tried already.
        ended: why it asked for fewer; empty while it has not.
    """

    sampler: str
    trials: int
    parallel: int = 1
    startup: int = 0
    seed: int = 0
    library: str = ""
    fixed: list[str] = field(default_factory=list)
    space: list[Dimension] = field(default_factory=list)
    repeated: int = 0
    ended: str = ""


@dataclass
class OutOfHours:
    """That the time of a phase was up: decided once, and kept by later calls.

    Attributes:
        key: whose limit it was, ``study.max_hours`` or the phase's.
        limit: of it; another limit is decided anew.
        hours: how much the trials had taken then.
        left: directories of trials that did not begin.
    """

    key: str
    limit: float
    hours: float
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        taken = f"they have taken {self.hours:.3g} hours together ({self.key}={self.limit:g})"
        return f"no more trials begin, for {taken}; what is known decides"


@dataclass
class Branch:
    """What a phase did for one level of a key, see `Phase.per`.

    Attributes:
        level: the value of that key, as text.
        candidates: indices of those that have it.
        incumbent: index of the one that the branch started from, ``None`` if there is none.
        winner: index of the one that a following phase of branches starts from, ``None`` while not
            decided, or where none has a result.
        verdict, reason: of that decision, as in `Phase`.
        repeated, ended: of a search, in this branch alone, as in `SearchPlan`.
    """

    level: str
    candidates: list[int]
    incumbent: int | None = None
    winner: int | None = None
    verdict: Verdict | None = None
    reason: str = ""
    repeated: int = 0
    ended: str = ""


@dataclass
class Phase:
    """One comparison.

    Attributes:
        name: also the folder of its trials; empty for a sweep, whose trials lie in the study's.
        seeded: whether its trials have a word ``seed=``; those of a plain sweep have none.
        base: the overrides that all its trials share, earlier winners included.
        declared: the values of each swept key as typed, whether or not they ever ran.
        sampled_from: size of the grid that ``sample`` drew from.
        incumbent: index of the candidate that equals ``base``, ``None`` if there is none.
        winner: index of the candidate that later phases start from, ``None`` while not decided.
        reason: the decision in words.
        p_value: of the test behind ``adopt=significant``.
        epochs_saved: by successive halving, over all trials.
        halving: how it halves, and what that cost; ``None`` if it does not, or of older versions.
        search: who asks for its candidates, where they are not all known beforehand.
        out_of_hours: that its time was up, if it was.
        objectives: ``metric`` and ``mode`` of each where there are several, ``objective`` first.
        choose: how they choose, see `phasewise.study.objectives`: ``weighted`` with a weight per
            metric, ``guarded`` with a tolerance per metric but the first, or ``pareto``.
        require: constraints on a candidate's means, see `phasewise.study.constraints`.
        front: the candidates on the Pareto front of the objectives.
        source: ``from`` as typed; ``None`` where it starts from the phase before it.
        per: the key of whose levels each has a branch; empty where there are none.
        branches: these, in the order in which the levels came up.
        why: the ``reason`` that its file gives for running it.
        round: of ``study.follow_up``, from 1; 0 for what the study's file has.
    """

    name: str
    kind: Kind
    objective: dict[str, str]
    seeds: list[int]
    seeded: bool = True
    base: list[str] = field(default_factory=list)
    declared: dict[str, list[str]] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    status: Literal["pending", "running", "completed"] = "pending"
    sampled_from: int | None = None
    incumbent: int | None = None
    winner: int | None = None
    verdict: Verdict | None = None
    reason: str = ""
    p_value: float | None = None
    epochs_saved: int = 0
    halving: Halved | None = None
    search: SearchPlan | None = None
    out_of_hours: OutOfHours | None = None
    objectives: list[dict[str, str]] = field(default_factory=list)
    choose: dict[str, dict[str, float]] = field(default_factory=dict)
    require: list[str] = field(default_factory=list)
    front: list[int] = field(default_factory=list)
    source: str | None = None
    per: str = ""
    branches: list[Branch] = field(default_factory=list)
    why: str = ""
    round: int = 0

    def rivals(self) -> list[Branch]:
        """Who is held against whom while it runs: its branches; where it has none, one without a
        level, of all candidates."""
        return self.branches or [Branch("", [*range(len(self.candidates))], self.incumbent)]

    @property
    def planned_trials(self) -> int:
        """How many there are, or will be where they are asked for one after the other."""
        there = sum(len(one.trials) for one in self.candidates)
        if self.search is None:
            return there
        ended = self.search.ended  # of all branches
        left = (
            0 if ended or it.ended else max(self.search.trials - (len(it.candidates) - 1), 0)
            for it in self.rivals()  # beside the incumbent of each
        )
        return there + sum(left) * len(self.seeds)


@dataclass
class Origin:
    """The study that another one starts from, see `phasewise.study.origin`.

    Attributes:
        directory: of that study, as typed.
        study, budget: which it is.
        phase: the one whose winner counts; empty for a sweep's.
        run: of that winner, below ``directory``.
        words: what the starting configuration takes from it, as overrides.
        kept: what differs there and is set by the new study itself, for people.
    """

    directory: str
    study: str
    budget: str
    phase: str
    run: str
    words: list[str]
    kept: list[str]


@dataclass
class Journal:
    """The content of ``study.json``.

    Attributes:
        directory: of the study; not part of the file.
        command: the words typed.
        context: hash of what decides the configs of trials; while it is the same, so are they.
        files: texts of these configs that may name files, whose content is part of ``context``.
        data: the sections ``data`` of these configs, by a key that trials name.
        base: overrides of the starting configuration.
        phases: in order; those whose turn has not come have the plan's candidates, made from
            ``base``. The last one may be of kind ``test``: the final (index 0) and, if it is
            another one, the starting configuration on test data.
        hypotheses: as stated in the study's file.
        published: what others have measured, by phase and candidate, from there too; see
            `phasewise.study.published`. ``published_conditions``: under which conditions.
        reported: whether the report shows all of this.
        origin: the study whose winner this one starts from, if there is one.
        last: the phase whose winner is the final configuration, where several phases have none
            after them; empty before that is decided, and where only one can be. ``last_reason``:
            why, in words.
        rounds_ended: why there were no more rounds of ``study.follow_up``; empty without any.
    """

    directory: Path
    name: str
    task: str
    command: list[str]
    objective: dict[str, str]
    seeds: list[int]
    base: list[str] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    status: Literal["running", "completed", "failed", "interrupted"] = "running"
    budget: str = "full"
    adopt: str = "best"
    refit: bool = False
    context: str = ""
    files: list[str] = field(default_factory=list)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    hypotheses: list[Any] = field(default_factory=list)
    published: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    published_conditions: str | None = None
    reported: bool = False
    origin: Origin | None = None
    last: str = ""
    last_reason: str = ""
    rounds_ended: str = ""

    def write(self) -> None:
        """Replace the file in one step.

        Raises:
            StorageError: its disk is full or fails.
        """
        content = {"schema": SCHEMA} | vars(self)
        del content["directory"]
        # a search writes it for each batch: `asdict` would copy all of it first
        text = json.dumps(content, indent=1, ensure_ascii=False, default=vars) + "\n"
        write_whole(self.directory / JOURNAL, text)

    def latest_first(self) -> list[Phase]:
        """The phases that compare, from the last one; before them, the one that the study chose
        among several last ones."""
        phases = [phase for phase in reversed(self.phases) if phase.kind != "test"]
        return sorted(phases, key=lambda phase: not self.last or phase.name != self.last)

    def trials(self) -> Iterator[tuple[Phase, Candidate, Trial]]:
        """All of them, in order; one that several phases share comes several times."""
        for phase in self.phases:
            for candidate in phase.candidates:
                for trial in candidate.trials:
                    yield phase, candidate, trial


def load_journal(directory: str | Path) -> Journal:
    """The journal of a study.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is none; the message says what is wrong.
    """
    content = json.loads((Path(directory) / JOURNAL).read_bytes())
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"no JSON object of schema {SCHEMA}")
    return validate(Journal, {**content, "directory": directory})


def read_journal(directory: str | Path) -> Journal | None:
    """The journal of a study; ``None``, with a warning if there is a damaged one, where none is."""
    try:
        return load_journal(directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s is not a study's journal (%s)", Path(directory) / JOURNAL, error)
        return None
