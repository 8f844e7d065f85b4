"""Which settings go together when the choice of one phase meets the candidates of a later one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phasewise.errors import SHOWN, Problem, UserError
from phasewise.study.compose import Composer, Problems, problems_in
from phasewise.study.naming import parse_override, parse_overrides
from phasewise.study.overrides import Overrides, key_of, merge
from phasewise.study.saved_config import look_up

ERRORS = (UserError, HydraException, OmegaConfBaseException)
_MISSING = object()


class OverrideMerger:
    """Puts overrides together where config groups are among them.

    Another choice of a group has other keys: ``scheduler.patience`` of an earlier phase goes with
    ``scheduler=plateau`` and not with ``scheduler=cosine``.
    """

    def __init__(self, composer: Composer) -> None:
        self.composer = composer
        self._groups: dict[str, bool] = {}
        self._dropped: dict[tuple[Overrides, Overrides, Overrides], Overrides] = {}

    def join(self, base: Sequence[str], more: Sequence[str]) -> list[str]:
        """``more`` after ``base``, of which words for keys that are gone then are left out."""
        dropped = self.dropped(base, more)
        return merge([word for word in base if word not in dropped], more)

    def dropped(self, base: Sequence[str], more: Sequence[str]) -> Overrides:
        """The words of ``base`` for keys that its own choices have and those of ``more`` lack."""
        if not self.groups(more):
            return ()
        before, after = self.groups(base), self.groups(merge(base, more))
        set_anew = {key_of(override) for override in parse_overrides(more)}
        values = tuple(
            word
            for word in base
            if word not in before and _key(word) not in set_anew
            if not (parse_override(word).is_add() or parse_override(word).is_force_add())
        )
        case = (values, before, after)
        if case not in self._dropped:
            try:
                self._dropped[case] = self._gone(*case) if values else ()
            except ERRORS:  # no such choice: told where the trial is composed
                self._dropped[case] = ()
        return self._dropped[case]

    def groups(self, words: Iterable[str]) -> Overrides:
        """The words that choose from a config group."""
        return tuple(word for word in words if self._is_group(parse_override(word).key_or_group))

    def chosen(self, group: str, words: Iterable[str]) -> str | None:
        """The choice of a config group; ``None`` of what is none."""
        if not self._is_group(group):
            return None
        own = [parse_override(word) for word in words]
        found = [str(it.value()) for it in own if it.key_or_group == group]
        choices = self.composer.config.hydra.runtime.choices
        return found[-1] if found else choices.get(group)

    def problems(self, words: Sequence[str]) -> tuple[Problem, ...]:
        """What keeps a trial of these words from running; nothing if it can."""
        try:
            self.composer.application.check(self.composer.config_of(words))
        except ERRORS as error:
            return problems_in(error)
        return ()

    def section(self, word: str) -> str:
        """The part of the config that a word changes; empty where that may be any."""
        key = parse_override(word).key_or_group
        everywhere = self._is_group(key) and not isinstance(
            self.composer.config.get(key), DictConfig
        )
        return "" if everywhere else key.partition(".")[0]

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            self._groups[key] = "." not in key and bool(self.composer.loader.get_group_options(key))
        return self._groups[key]

    def _gone(self, values: Overrides, before: Overrides, after: Overrides) -> Overrides:
        configs = [self.composer.config_of(words) for words in (before, after)]
        old, new = (OmegaConf.to_container(one, resolve=False) for one in configs)
        keys = {word: parse_override(word).key_or_group for word in values}
        return tuple(word for word, key in keys.items() if _has(old, key) and not _has(new, key))


def _has(plain: Any, key: str) -> bool:
    return look_up(plain, key, _MISSING) is not _MISSING


@dataclass
class PlannedCandidates:
    """A phase as it is planned, from the starting configuration.

    Attributes:
        name: of the phase.
        candidates: overrides of each.
        refused: of those that cannot run from there, why, by index.
    """

    name: str
    candidates: Sequence[Sequence[str]]
    refused: dict[int, Problems] = field(default_factory=dict)


class CompatibilityCheck:
    """What the choices of earlier phases do to the candidates of later ones.

    Each earlier phase is looked at alone, and section by section of the config: of two candidates
    only the words for the same section meet. No combinations of phases are made.

    Attributes:
        possible: names of phases and indices of candidates that are refused from the starting
            configuration and can run after some choice.
    """

    def __init__(self, choices: OverrideMerger, base: Sequence[str]) -> None:
        self.choices = choices
        self.base = base
        self.possible: set[tuple[str, int]] = set()
        self._requirements: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
        self._conflicts: dict[tuple[str, str, str, str], dict[str, None]] = defaultdict(dict)
        self._seen: dict[Overrides, tuple[Problem, ...]] = {}

    def check(
        self,
        phases: Sequence[PlannedCandidates],
        *,
        conflicts: bool = True,
        upstream: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        """Compare each phase with those that it builds on.

        Args:
            phases: in order.
            conflicts: whether candidates that can run from the starting configuration are looked
                at.
            upstream: names of the phases that one builds on; if not given, all before it.
        """
        for place, later in enumerate(phases):
            names = None if upstream is None else upstream(later.name)
            before = [one for one in phases[:place] if names is None or one.name in names]
            self._find_enabling(later, before)
            for earlier in before if conflicts else ():
                self._find_conflicts(later, earlier)

    def notes(self) -> list[str]:
        """What was found, at most ten lines."""
        lines = []
        for (name, reason), (rows, enabling) in self._requirements.items():
            after = " or ".join(dict.fromkeys(enabling))
            lines.append(f"{name}: {_some(rows)} can run only after {after} (else {reason})")
        for (before, choice, name, reason), broken in self._conflicts.items():
            lines.append(
                f"{name}: {_some(broken)} cannot run if {before} adopts {choice} ({reason})"
            )
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        return [*lines[:SHOWN], *more]

    def _find_enabling(
        self, later: PlannedCandidates, earlier: Sequence[PlannedCandidates]
    ) -> None:
        """Choices after which candidates can run; one stands for all that are refused alike."""
        enabling: dict[tuple[str, Overrides], list[str]] = {}
        for index, problems in later.refused.items():
            words, reason = later.candidates[index], "; ".join(map(str, problems))
            case = reason, tuple(_key(word) for word in words)
            if case not in enabling:
                enabling[case] = [
                    f"{phase.name}: {' '.join(choice)}"
                    for phase in earlier
                    for choice in self._choices_for(words, phase)
                    if not self._problems(choice, words)
                ]
            if enabling[case]:
                self.possible.add((later.name, index))
                rows, texts = self._requirements.setdefault((later.name, reason), ([], []))
                rows.append(" ".join(words))
                texts += enabling[case]

    def _choices_for(self, words: Sequence[str], phase: PlannedCandidates) -> dict[Overrides, None]:
        sections = {self.choices.section(word) for word in words}
        return dict.fromkeys(choice for at in sections for choice in self._parts(phase, at))

    def _find_conflicts(self, later: PlannedCandidates, earlier: PlannedCandidates) -> None:
        able = [it for row, it in enumerate(later.candidates) if row not in later.refused]
        rest = PlannedCandidates(later.name, able)
        sections = dict.fromkeys(self.choices.section(word) for words in able for word in words)
        for at in sections:
            parts = self._parts(rest, at)
            for choice in self._parts(earlier, at) if parts else ():
                keys = set(map(_key, choice))
                for part in parts:
                    if keys <= set(map(_key, part)):
                        continue  # which sets them anew
                    problems = self._problems(choice, part)
                    if problems and not self._problems(choice, ()):
                        reason = "; ".join(map(str, problems))
                        case = (earlier.name, " ".join(choice), later.name, reason)
                        self._conflicts[case][" ".join(part)] = None

    def _parts(self, phase: PlannedCandidates, section: str) -> dict[Overrides, None]:
        """What its candidates set in a section; all that they set where it may be any."""
        everywhere = (section, "")
        parts = (
            tuple(w for w in words if not section or self.choices.section(w) in everywhere)
            for words in phase.candidates
        )
        return dict.fromkeys(part for part in parts if part)

    def _problems(self, choice: Sequence[str], words: Sequence[str]) -> tuple[Problem, ...]:
        line = tuple(self.choices.join(self.choices.join(self.base, choice), words))
        if line not in self._seen:
            self._seen[line] = self.choices.problems(line)
        return self._seen[line]


def _key(word: str) -> str:
    return key_of(parse_override(word))


def _some(rows: Iterable[str]) -> str:
    first, *rest = rows
    return first + (f" and {len(rest)} more" if rest else "")
