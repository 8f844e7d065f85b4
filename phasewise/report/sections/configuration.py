"""The complete configuration of the final network, and two ways to train it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phasewise.analysis.proposals.untried import KEY as WORTH_TRYING
from phasewise.analysis.statistics.frame import is_number
from phasewise.cli.shell import relative_path, script, shell_command
from phasewise.records.record import RunRecord
from phasewise.report.content import Column, Command, Mark, Section, Source, Table, Text
from phasewise.report.sections.final import START, compared
from phasewise.report.view import CandidateView, StudyView
from phasewise.study.commands import PROGRAM, single_run
from phasewise.study.recipe import (
    PRESET,
    chosen_groups,
    complete_config,
    flatten,
    is_preset,
    recipe,
)
from phasewise.study.results import UNSET, TrialResult, as_setting, settings_of
from phasewise.text import duration

NAME = "final"
"""Of the preset that a report writes."""

NO_SETTINGS = ("study", "budget", "seed", "test")
"""Keys of overrides that are no part of a configuration."""

FIRST = ("data", "model", "loss", "optimizer", "scheduler", "trainer")
"""Groups that a reader looks for; the others come after them, as the config has them."""

TOP = "run"
"""The group of keys that are in none."""

MISSING = "-"


def configuration_section(study: StudyView, output: Path) -> Section | None:
    """All keys, what differs from the start marked; the same as YAML and as a command.

    Args:
        study: what is reported.
        output: where the report will lie.
    """
    final = study.final
    trial = _trial(final)
    if final is None or trial is None or trial.record is None:
        return None
    saved = trial.saved
    section = Section("Configuration", [configuration(study, final, trial)])
    if told := network_size(trial.record):
        section.blocks.append(Text(told))
    section.blocks += [
        Text("This command trains it again:"),
        Command(single_run(trial.directory, trial.record.overrides)),
    ]
    if not complete_config(saved):
        return section
    title = f"The final configuration of {study.title}, complete"
    if not is_preset(saved):
        text = "The same, to paste:"
        section.blocks += [Text(text), Source(f"{NAME}.yaml", title, recipe(saved, title))]
        return section
    place = f"{PRESET}/{NAME}.yaml"
    section.blocks.append(
        Text(
            f"So does the preset {place} beside this report, in which every key is set, whatever "
            "the defaults of another version are:"
        )
    )
    words = ["--config-dir", relative_path(output), f"{PRESET}={NAME}"]
    section.blocks += [
        Command(shell_command(script(PROGRAM), words)),
        Source(place, title, recipe(saved, title)),
    ]
    return section


def network_size(record: RunRecord) -> str:
    """Parameters, receptive field and training of a network, as far as its record has them."""
    side = _number(record.data, "image_size")
    count, field, epochs, seconds = (
        _number(record.cost, key) for key in ("parameters", "receptive_field", "epochs", "seconds")
    )
    found = [f"{count:,.0f} parameters"] if count is not None else []
    if field is not None:
        of = f" of {side:.0f}" if side is not None else ""
        whole = side is not None and field >= side
        seen = "the whole image" if whole else f"{field:.0f}{of} pixels along a side"
        found.append(f"a receptive field of {seen}")
    if not found:
        return ""
    trained = ""
    if epochs is not None and seconds is not None:
        plural = "" if epochs == 1 else "s"
        trained = f", trained for {epochs:.0f} epoch{plural} in {duration(seconds)}"
    return f"The network has {' and '.join(found)}{trained}."


def _number(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    return float(value) if value is not None and is_number(value) else None


def full_settings(candidate: CandidateView) -> dict[str, Any]:
    """All that a candidate's overrides set, those of its phase's start included."""
    return settings_of([*candidate.phase.plan.base, *candidate.result.plan.overrides])


def _deciding(study: StudyView) -> dict[str, str]:
    """The phase that each value of the last winner comes from: the first one in which it won, not
    those in which it stayed beside others."""
    found: dict[str, tuple[object, str]] = {}
    for phase in study.phases:
        if phase.winner is None:
            continue
        for key in phase.keys:
            value = phase.winner.settings[key]
            if key not in found or found[key][0] != value:
                found[key] = (value, phase.plan.name or "sweep")
    return {key: name for key, (_, name) in found.items()}


def configuration(study: StudyView, final: CandidateView, trial: TrialResult) -> Table:
    """The final configuration, key by key, beside the starting one."""
    best = _values(trial) or _of_overrides(final)
    start = compared(study).get(START)
    first = _trial(start)
    before = (first and _values(first)) or _of_start(study, best)
    decided = _deciding(study)
    columns = [Column(name) for name in ("group", "key", "best", "start", "decided in")]
    table = Table("configuration", "", columns)
    changed = 0
    groups = _groups([*dict.fromkeys([*best, *before])])
    order = list(dict.fromkeys([*FIRST, *groups.values()]))
    for key in sorted(groups, key=lambda key: order.index(groups[key])):
        values = (best.get(key, MISSING), before.get(key, MISSING))
        differs = UNSET not in values and as_setting(values[0]) != as_setting(values[1])
        differs = differs and key not in NO_SETTINGS
        changed += differs
        mark: Mark = "best" if differs else ""
        table.add(groups[key], key, *values, decided.get(key, ""), mark=mark)
    whole = "complete" if _values(trial) else "as far as overrides tell; other keys have defaults"
    verbs = ("differs", "is") if changed == 1 else ("differ", "are")
    differ = f"{changed or 'none'} of {len(table.rows)} keys {verbs[0]} from the start"
    differ += f" and {verbs[1]} marked" if changed else ""
    table.caption = f"The best configuration, {whole}: {differ}."
    return table


def _trial(one: CandidateView | None) -> TrialResult | None:
    """Its first completed run."""
    trials = one.result.trials if one is not None else []
    return next((it for it in trials if it.record and it.record.status == "completed"), None)


def _values(trial: TrialResult) -> dict[str, Any]:
    """Each key of its config, and the choice of each group; empty where it has left none."""
    found = flatten(complete_config(trial.saved))
    chosen = chosen_groups(trial.saved)
    found.pop(WORTH_TRYING, None)  # no setting, and longer than all of them
    return found and {**chosen, **found, **chosen}  # in this order; `none` rather than {}


def _of_overrides(one: CandidateView) -> dict[str, Any]:
    return {key: value for key, value in full_settings(one).items() if key not in NO_SETTINGS}


def _of_start(study: StudyView, keys: Mapping[str, Any]) -> dict[str, Any]:
    """What the starting configuration had, without a config of its own."""
    start = compared(study).get(START)
    base = settings_of(study.plan.base)
    return {
        key: base.get(key, UNSET)
        if start is None
        else start.phase.result.setting(start.result, key)
        for key in keys
    }


def _groups(keys: Sequence[str]) -> dict[str, str]:
    """The group of each key: ``data`` of ``data.root`` and of ``data`` itself; a single key is the
    run's."""
    inside = {key.partition(".")[0] for key in keys if "." in key}
    return {
        key: first if (first := key.partition(".")[0]) in inside or "." in key else TOP
        for key in keys
    }
