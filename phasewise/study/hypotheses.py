"""What a study's file may claim (``study.hypotheses``), and what is wrong with a claim beforehand.

`phasewise.analysis.statistics.hypotheses` answers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, model_validator

from phasewise.config.fields import Text, message, wrong
from phasewise.config.help import did_you_mean, not_one_of, settings_error
from phasewise.config.signatures import is_foreign
from phasewise.errors import Problem
from phasewise.study.journal import Journal, Phase
from phasewise.study.measures import MEASURES, OBJECTIVE
from phasewise.study.results import Setting, typed
from phasewise.study.written import Written

ASKS = ("best", "highest", "lowest", "order", "against")
"""What a hypothesis asks, exactly one of them."""

Conditions = Annotated[
    dict[Text, Any],
    Field(min_length=1),
    message("must be keys with their values, e.g. {model.architecture: unet}"),
]
Change = Annotated[
    float, Field(allow_inf_nan=False), message("must be a number, in percent; less is negative")
]


class Earlier(Written):
    """Trials of this study: the winner of a phase, or all that have the values of ``where``."""

    EXAMPLE = "{phase: rate}"
    phase: Text | None = None
    where: Conditions | None = None

    @model_validator(mode="after")
    def names_some(self) -> Earlier:
        """At least one of the two."""
        if self.phase is None and self.where is None:
            raise wrong("phase or where must be given", key="phase")
        return self


class Hypothesis(Written):
    """A claim that the report answers; it asks one of `ASKS`.

    Attributes:
        claim: in words.
        key: whose values are compared.
        measure: ``objective``, one of `phasewise.study.measures.MEASURES` or a metric of the
            task, at the best epoch.
        phase: only trials of this one.
        where: only trials that have these values of other keys; a list is several values.
        best: the best mean is at one of these values.
        highest, lowest: so is the largest or smallest mean, whether that is good or not.
        order: the means rise from the first of these values to the last.
        effect_of: ``{KEY: [a, b]}``: what is compared is how much the measure changes from a to b,
            all else equal: an interaction of the two keys.
        spread_over: keys: what is compared is how far the measure spreads over their values.
        against: another run or study, by its directory, or trials of this study.
        at_most, at_least: with ``against``: the change of the measure in percent.
    """

    EXAMPLE: ClassVar[str] = "{claim: TEXT, key: optimizer.lr, best: [0.001]}"

    claim: Text
    key: Text | None = None
    measure: Text = OBJECTIVE
    phase: Text | None = None
    where: Conditions | None = None
    best: list[Any] | None = None
    highest: list[Any] | None = None
    lowest: list[Any] | None = None
    order: list[Any] | None = None
    effect_of: (
        Annotated[
            dict[Text, Annotated[list[Any], Field(min_length=2, max_length=2)]],
            Field(min_length=1, max_length=1),
            message("must be a key with two of its values, e.g. {data.batch_size: [8, 32]}"),
        ]
        | None
    ) = None
    spread_over: (
        Annotated[list[Text], Field(min_length=1), message("must be a list of keys")] | None
    ) = None
    against: Text | Earlier | None = None
    at_most: Change | None = None
    at_least: Change | None = None

    @model_validator(mode="after")
    def asks_one_thing(self) -> Hypothesis:
        """With what belongs to it, and nothing else."""
        asked = [name for name in ASKS if getattr(self, name) is not None]
        if len(asked) != 1:
            raise wrong(f"one of {', '.join(ASKS)} must be given", key="best")
        bounds = [name for name in ("at_most", "at_least") if getattr(self, name) is not None]
        if self.against is not None:
            if len(bounds) != 1:
                raise wrong("goes with at_most or at_least, one of them", key="against")
            own = [k for k in ("key", "effect_of", "spread_over") if getattr(self, k) is not None]
            if own:
                raise wrong("goes without against", key=own[0])
            return self
        if bounds:
            raise wrong("goes with against only", key=bounds[0])
        if self.key is None:
            raise wrong("must be given", key="key")
        if self.effect_of is not None and self.spread_over is not None:
            raise wrong("goes without effect_of", key="spread_over")
        if len(getattr(self, asked[0])) < (2 if asked == ["order"] else 1):
            raise wrong("must have values, an order two of them", key=asked[0])
        texts = [str(typed(value)) for value in getattr(self, asked[0])]
        if len(set(texts)) < len(texts):
            raise wrong("names a value twice", key=asked[0])
        return self

    def conditions(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Values of keys that trials must have, with where that stands."""
        if self.where is not None:
            yield "where", self.where
        if isinstance(self.against, Earlier) and self.against.where is not None:
            yield "against.where", self.against.where

    def compared(self) -> Iterator[tuple[str, str]]:
        """Keys that must vary, with where they stand."""
        if self.key is not None:
            yield "key", self.key
        for key in self.effect_of or ():
            yield "effect_of", key
        for key in self.spread_over or ():
            yield "spread_over", key


def several(value: Any) -> list[Any]:
    """The values of a condition: a list is several, one of which may be a list."""
    return value if isinstance(value, list) else [value]


def unanswerable(
    hypotheses: Sequence[Hypothesis], lines: Mapping[str, Sequence[Sequence[str]]]
) -> Iterator[Problem]:
    """Hypotheses on what no phase does.

    Args:
        hypotheses: of a study's file.
        lines: the words of each phase, several lines of them; of a rerun also those of the phases
            before it, whose configurations it takes.
    """
    varied = {
        name: {word.partition("=")[0].lstrip("+~") for line in own for word in line}
        for name, own in lines.items()
    }
    everywhere = set().union(*varied.values())
    for number, one in enumerate(hypotheses):
        place = f"study.hypotheses.{number}"
        phases = {"phase": one.phase}
        if isinstance(one.against, Earlier):
            phases["against.phase"] = one.against.phase
        unknown = {k: name for k, name in phases.items() if name is not None and name not in varied}
        if unknown:
            for key, name in unknown.items():
                yield Problem(f"{place}.{key}={name}", not_one_of(name, varied))
            continue
        keys = everywhere if one.phase is None else varied[one.phase]
        where = "no phase varies" if one.phase is None else f"phase {one.phase} does not vary"
        for field, key in one.compared():
            if keys and key not in keys:
                yield Problem(f"{place}.{field}={key}", f"{where} it{did_you_mean(key, keys)}")
        for field, condition in one.conditions():
            for key in condition:
                if everywhere and key not in everywhere:
                    reason = f"no phase varies it{did_you_mean(key, everywhere)}"
                    yield Problem(f"{place}.{field}.{key}", reason)
        names = [key for _, key in one.compared()]
        # a condition on what is compared leaves out values of it
        fixed = [key for key, value in (one.where or {}).items() if len(several(value)) < 2]
        both = [*names, *(key for key in fixed if key in names)]
        if twice := [key for key in dict.fromkeys(both) if both.count(key) > 1]:
            yield Problem(f"{place}.{twice[0]}", "stands there twice")


def refuse_untried(
    hypotheses: Sequence[Hypothesis],
    journal: Journal,
    config: DictConfig,
    metrics: Mapping[str, str],
    old: Journal | None = None,
) -> None:
    """Values that no phase tries, measures that no run has, and directories that are not there.

    Values only where the phases are the file's own: a budget, or who types another text for a
    phase, may leave some out, which the answer says.

    Args:
        hypotheses: of a study's file.
        journal: the plan.
        config: what the study starts from.
        metrics: those of the task.
        old: the journal of an earlier call: what was there then may be gone, and is no mistake.

    Raises:
        UserError: all that is wrong.
    """
    found: list[Problem] = []
    before = [it.get("against") for it in old.hypotheses if isinstance(it, dict)] if old else []
    for number, one in enumerate(hypotheses):
        place = f"study.hypotheses.{number}"
        measures = {OBJECTIVE: "", **MEASURES, "train/loss": "", **metrics}
        module = OmegaConf.select(config, "task.module._target_")
        is_known = module is None or not is_foreign(module)  # else nobody knows its metrics
        if one.measure not in measures and is_known:
            found.append(
                Problem(f"{place}.measure={one.measure}", not_one_of(one.measure, measures))
            )
        gone = isinstance(one.against, str) and not Path(one.against).is_dir()
        if gone and one.against not in before:
            found.append(Problem(f"{place}.against={one.against}", "no such directory"))
        if _has_other_phases(config):
            continue
        own = [phase for phase in journal.phases if one.phase in (None, phase.name)]
        if any(phase.kind == "rerun" or phase.per for phase in own):  # with values of others
            own = journal.phases
        for field, key, values in _values(one):
            # conditions may be met by what an earlier phase decided
            phases = journal.phases if "where" in field else own
            tried = _tried(phases, key, config)
            for value in values:
                if tried and typed(value) not in tried:
                    reason = f"{key} is {not_one_of(typed(value), map(str, tried))}"
                    found.append(Problem(f"{place}.{field}={value}", reason))
    if found:
        raise settings_error(found)


def _has_other_phases(config: DictConfig) -> bool:
    """Whether they are not as the study's file has them."""
    typed_words = OmegaConf.select(config, "hydra.overrides.task") or []
    changed = any(str(word).lstrip("+~").startswith("study.phases") for word in typed_words)
    return changed or OmegaConf.select(config, "budget") not in (None, "full")


def _values(one: Hypothesis) -> Iterator[tuple[str, str, list[Any]]]:
    """The values that a hypothesis names: where they stand, and of which key."""
    for name in ASKS[:-1]:
        if getattr(one, name) is not None and one.key is not None:
            yield name, one.key, getattr(one, name)
    for key, pair in (one.effect_of or {}).items():
        yield "effect_of", key, pair
    for field, condition in one.conditions():
        for key, value in condition.items():
            yield field, key, several(value)


def _tried(phases: Sequence[Phase], key: str, config: DictConfig) -> list[Setting]:
    """The values of a key, the starting configuration's included; none where that is not known."""
    spaces = [one for phase in phases if phase.search for one in phase.search.space]
    if any(one.name == key and one.kind != "choice" for one in spaces):
        return []  # any number of them
    declared = [typed(text) for phase in phases for text in phase.declared.get(key, [])]
    start = OmegaConf.select(config, f"hydra.runtime.choices.{key}")
    start = OmegaConf.select(config, key) if start is None else start
    if start is not None and not OmegaConf.is_dict(start):
        plain = OmegaConf.to_container(start) if OmegaConf.is_config(start) else start
        declared.append(typed(plain))
    return list(dict.fromkeys(declared)) if any(key in p.declared for p in phases) else []
