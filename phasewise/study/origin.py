"""``init_study=DIR``: a study that starts from the winner of another one.

Its starting configuration is the other's final one. What the new study's own file, its budget and
the command line set goes before it, and so does everything that says how a study goes about its
work: objective, seeds, loggers. It is put into words that all trials have, so that each of them is
told by its record alone, wherever the other study is by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phasewise.cli.shell import quoted
from phasewise.config.choices import file_for
from phasewise.config.fingerprint import computed
from phasewise.config.help import choice_file, flatten, settings_error
from phasewise.config.open_keys import has_key
from phasewise.errors import Problem, UserError
from phasewise.project import JOURNAL
from phasewise.study.compose import Composer
from phasewise.study.journal import Journal, Origin, Phase, read_journal
from phasewise.study.naming import parse_override
from phasewise.study.overrides import merge
from phasewise.study.read import read_study
from phasewise.study.saved_config import SavedConfig
from phasewise.study.winner import best_run
from phasewise.text import format_value

KEY = "init_study"

GROUPS = ("data", "optimizer", "scheduler", "callbacks")
"""Config groups whose choice is part of a configuration."""

UNDER_WAY = ("running", "interrupted")
"""What the journal of a study says that has not come to an end."""

NOT_TAKEN = ("seed", "task", "objective", KEY)
"""Keys and sections of the other study's configuration that are no part of what won."""


@dataclass
class Winner:
    """What another study has come to.

    Attributes:
        journal: its plan and decisions.
        phase: the last one of it that decided.
        run: the directory of the run that won.
        config: of that run, resolved; without what changes nothing that is computed.
        root: the folder of its data, if it has one.
    """

    journal: Journal
    phase: Phase
    run: Path
    config: Mapping[str, Any]
    root: str | None
    choices: Mapping[str, Any] = field(default_factory=dict)


def find_origin(
    arguments: Sequence[str],
    scaled: Sequence[str],
    config: DictConfig,
    composer: Composer,
    old: Journal | None,
) -> Origin | None:
    """What a study starts from, if ``init_study`` names another one.

    Args:
        arguments: the overrides as typed.
        scaled: those of its budget.
        config: what Hydra composed for the study as a whole.
        composer: of its trials.
        old: the journal of an earlier call, which knows what the other study had come to.

    Raises:
        UserError: there is no such study, it has not come to an end, or it is of another task.
    """
    place = config.get(KEY)
    if place is None:
        return None
    if not isinstance(place, str) or not place:
        raise settings_error([Problem(KEY, "must be the directory of a study, or null")])
    directory = Path(place).expanduser()
    known = old.origin if old is not None else None
    if known is not None and known.directory == place and why_not_there(directory):
        return known  # this study has begun from it
    winner = find_winner(directory)
    if winner.journal.task != config.task.name:
        reason = f"a study of task={winner.journal.task}, and this is one of {config.task.name}"
        raise UserError(f"{KEY}={place}: {reason}")
    words, kept = _Taken(arguments, scaled, config, composer).of(winner)
    return Origin(
        place,
        winner.journal.name,
        winner.journal.budget,
        winner.phase.name,
        winner.run.relative_to(directory).as_posix(),
        words,
        kept,
    )


def find_winner(directory: Path) -> Winner:
    """The configuration that a study came to in its last phase.

    Raises:
        UserError: no study lies there, or it has not come to an end.
    """
    name = f"{KEY}={directory}"
    if not directory.is_dir():
        advice = f"{KEY}=DIR names the directory of a study that has ended, null starts without one"
        raise UserError(f"{name}: no such folder\n{advice}")
    own = read_journal(directory)
    if own is None and (directory.absolute().parent / JOURNAL).exists():
        raise UserError(f"{name}: holds trials of one phase; its study is {KEY}={directory.parent}")
    journal = own or read_study(directory).plan
    if journal.status in UNDER_WAY:
        raise UserError(f"{name}: that study has not ended yet (status {journal.status})")
    phase = journal.latest_first()[0]
    if phase.winner is None:
        what = f"phase {phase.name}" if phase.name else "it"
        raise UserError(f"{name}: {what} has no winner: {phase.reason or 'nothing is decided'}")
    run = best_run(phase, phase.candidates[phase.winner], directory)
    saved = None if run is None else SavedConfig(run)
    try:
        if run is None or saved is None or not saved.config:
            raise ValueError
        found = OmegaConf.create(dict(saved.config))
        plain, data = computed(found), OmegaConf.to_container(found.data, resolve=True)
    except (ValueError, OmegaConfBaseException, AttributeError):
        raise UserError(
            f"{name}: the run that won phase {phase.name} is gone, or its .hydra/config.yaml is"
        ) from None
    root = data.get("root") if isinstance(data, dict) else None
    return Winner(journal, phase, run, plain, root, saved.choices)


class _Taken:
    """What of another study's configuration a new one starts from.

    Args:
        arguments, scaled, config, composer: see `find_origin`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        scaled: Sequence[str],
        config: DictConfig,
        composer: Composer,
    ) -> None:
        self.composer = composer
        self.choices = config.hydra.runtime.choices
        typed = composer.application.swept(arguments)
        chosen = [word for word in typed if word.startswith("study=")]
        self.own = merge(scaled, [word for word in typed if word not in chosen])
        self.chosen = chosen
        self.keys = {parse_override(word).key_or_group for word in self.own}
        folders = [
            Path(source.path)
            for source in config.hydra.runtime.config_sources
            if source.schema == "file"
        ]
        for group in ("study", "preset"):  # a preset counts as typed only where it was
            if group == "study" or group in self.keys:
                file = choice_file(folders, group, str(self.choices.get(group)))
                for one in {file, file_for(file, str(self.choices.get("task")))} if file else ():
                    self.keys.update(own_keys(one))

    def of(self, winner: Winner) -> tuple[list[str], list[str]]:
        """The words that are taken, and what is not, as texts."""
        groups, kept = [], []
        for group in GROUPS:
            now, there = self.choices.get(group), winner.choices.get(group, None)
            if group not in winner.choices or now == there:
                continue
            word = f"{group}={_text(there)}"
            if group in self.keys:
                kept.append(f"{group}={_text(now)} ({_text(there)} there)")
            else:
                groups.append(word)
        words = merge(self.chosen, groups, self.own)
        here = OmegaConf.to_container(self.composer.config_of(words), resolve=True)
        assert isinstance(here, dict)
        leaves = flatten({str(key): value for key, value in here.items()})
        values = []
        for key, value in self._leaves(winner):
            section = key.partition(".")[0]
            if leaves.get(key) == value and key in leaves:
                continue
            if any(key == own or key.startswith(f"{own}.") for own in self.keys):
                if key != "data.root" and section not in self.keys:  # of another choice: told above
                    now = _text(leaves.get(key))
                    kept.append(f"{key}={now} ({_text(value)} there)")
            else:
                values.append(f"{'' if has_key(here, key) else '++'}{key}={_text(value)}")
        return [*groups, *values], kept

    def _leaves(self, winner: Winner) -> Iterator[tuple[str, Any]]:
        if winner.root is not None:
            yield "data.root", winner.root
        for key, value in flatten(dict(winner.config)).items():
            if key.partition(".")[0] not in NOT_TAKEN:
                yield key, value


def own_keys(file: Path) -> set[str]:
    """The keys and config groups that a study's file sets itself, those of its phases left out."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        return set()
    found = set()
    for item in content.pop("defaults", None) or []:
        for name in item if isinstance(item, dict) else ():
            group = str(name).removeprefix("override ").strip("/ ")
            if group in GROUPS:
                found.add(group)
    around = ("study", "hydra", KEY)
    settings = {key: value for key, value in content.items() if key not in around}
    return found | set(flatten(settings) if settings else ())


def check_origin(journal: Journal, old: Journal | None) -> None:
    """Refuse to go on from another start than an earlier call.

    Raises:
        UserError: the other study's winner has changed since, or it is another study.
    """
    if old is None or not old.phases or _words(old) == _words(journal):
        return
    there, here = _words(old), _words(journal)
    gone = [word for word in there if word not in here]
    new = [word for word in here if word not in there]
    origin = journal.origin or old.origin
    assert origin is not None
    what = f"{KEY}={origin.directory if journal.origin else 'null'}"
    raise UserError(
        f"{journal.directory}: was begun from another start than {what} gives now "
        f"({' '.join(gone) or 'its file'} there, {' '.join(new) or 'its file'} now)\n"
        "hydra.sweep.dir=DIR chooses another place; study.set_aside=true runs it anew here and "
        "keeps what is there in superseded/"
    )


def _words(journal: Journal) -> list[str]:
    return [] if journal.origin is None else journal.origin.words


def origin_notes(origin: Origin | None) -> list[str]:
    """What a plan says of the start."""
    if origin is None:
        return []
    taken = " ".join(origin.words) or "what its own file has"
    lines = [f"starts from {origin_name(origin)}: {taken}"]
    if origin.kept:
        lines.append(f"set by this study itself: {', '.join(origin.kept)}")
    if what := why_not_there(Path(origin.directory).expanduser()):
        lines.append(f"{origin.directory} {what}; its winner is known from an earlier call")
    return lines


def why_not_there(directory: Path) -> str:
    """Why another study cannot be asked for its winner now; empty if it can, or never could."""
    if not directory.exists():
        return "is gone"
    journal = read_journal(directory)
    under_way = journal is not None and journal.status in UNDER_WAY
    return "has not ended" if under_way else ""


def origin_name(origin: Origin) -> str:
    """Where a study starts, for people."""
    phase = f" (phase {origin.phase})" if origin.phase else ""
    return f"the winner of {origin.directory}{phase}"


def _text(value: Any) -> str:
    """A value as Hydra's grammar reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_text(k)}:{_text(item)}" for k, item in value.items()) + "}"
    text = format_value(value)
    if isinstance(value, str):
        try:
            return text if parse_override(f"key={text}").value() == value else quoted(value)
        except HydraException:
            return quoted(value)
    return text
