"""Whether trials that are compared ran under the same conditions, and as they say."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from phasewise.analysis.audit.case import Case, Finding, count, of_phase
from phasewise.study.results import as_setting, settings_of
from phasewise.study.saved_config import look_up

OVERLAP = re.compile(r"\bis in \w+ and \w+")
"""How `phasewise.data.splits` words that a sample is in two splits."""


def other_settings_than_named(case: Case) -> Iterator[Finding]:
    """A trial that ran with another value than the plan or its own overrides name."""
    lines: dict[str, None] = {}
    for one in (one for phase in case.study.phases for one in case.of(phase)):
        recorded = settings_of(one.record.overrides)
        for key, value in (recorded | one.settings).items():
            found = recorded.get(key, value)
            if as_setting(found) != as_setting(value):
                named = f"{as_setting(value)} in the plan, ran {as_setting(found)}"
                lines[f"{one.name}: {key} is {named}"] = None
            elif (ran := _ran_with(one.trial.saved.config, key)) not in (None, as_setting(value)):
                lines[f"{one.name}: {key} is {as_setting(value)} by its name, ran with {ran}"] = (
                    None
                )
    if lines:
        yield Finding(
            "other_settings_than_named",
            "error",
            f"trials did not run with what they are named after, in {count(len(lines), 'case')}",
            tuple(lines),
            "correct the table by the configs saved in .hydra/config.yaml, or run them again",
        )


def _ran_with(config: Any, key: str) -> Any:
    """A value that Hydra saved; ``None`` if it is unset or a whole section (a config group)."""
    value = look_up(config, key)
    return None if value is None or isinstance(value, dict) else as_setting(value)


def mixed_conditions(case: Case) -> Iterator[Finding]:
    """Trials of one study that ran with different code, package versions or devices."""
    values: dict[str, Counter[str]] = defaultdict(Counter)
    asked = any("trainer.precision" in phase.keys for phase in case.study.phases)
    for one in case.completed:
        for key, value in one.record.environment.items():
            if not (asked and key == "precision"):  # it is what was compared
                values[key][str(value)] += 1
    mixed = {key: found for key, found in values.items() if len(found) > 1}
    if mixed:
        yield Finding(
            "mixed_conditions",
            "warning",
            f"trials that are compared ran with different {', '.join(mixed)}",
            tuple(
                f"{key}: " + ", ".join(f"{value} ({count})" for value, count in found.items())
                for key, found in mixed.items()
            ),
            "run the deciding trials again with one version of everything",
        )


def replaced_precision(case: Case) -> Iterator[Finding]:
    """Trials that computed in another precision than was asked for."""
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in case.ran:
        found = one.record.environment
        if "precision_asked" in found:
            pair = str(found["precision_asked"]), str(found.get("precision"))
            names[pair].append(one.name)
    for (asked, used), trials in names.items():
        yield Finding(
            "replaced_precision",
            "warning",
            f"{count(len(trials), 'trial')} ran in {used}, not in {asked}, which wants a GPU",
            tuple(trials),
            f"run them on a GPU, or say trainer.precision={used}",
        )


def different_data(case: Case) -> Iterator[Finding]:
    """Trials of one phase and seed that had other samples, without a swept key that says so."""
    for phase in case.study.phases:
        asks = any(key == "data" or key.startswith("data.") for key in phase.keys)
        groups: dict[tuple[str, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for one in case.of(phase):
            for split, found in _samples(one.record.data).items():
                if not (asks and split in ("train", "all")):  # it asks what these do
                    groups[split, one.trial.seed][found].append(one.name)
        mixed = {key: found for key, found in groups.items() if len(found) > 1}
        if mixed:
            splits = dict.fromkeys(split for split, _ in mixed)
            yield Finding(
                "different_data",
                "error",
                f"{of_phase(phase)}trials of one seed had different samples: {', '.join(splits)}",
                tuple(
                    f"{split} {found}: {', '.join(names)}"
                    for (split, _), known in mixed.items()
                    for found, names in known.items()
                ),
                "run them again on the same data; figures on different samples cannot be compared",
                phase.plan.name,
            )


def _samples(data: Mapping[str, Any]) -> dict[str, str]:
    """A hash of the samples of each split; in older records one of their names for all."""
    hashes = data.get("hashes")
    if isinstance(hashes, Mapping):
        return {str(split): str(found) for split, found in hashes.items()}
    return {"all": str(data["split_hash"])} if data.get("split_hash") else {}


def sample_in_two_splits(case: Case) -> Iterator[Finding]:
    """The same sample in two splits: what is trained on is also judged by."""
    names: dict[str, str] = {}
    for one in case.ran:
        remarks = one.record.data.get("warnings")
        for remark in remarks if isinstance(remarks, list) else []:
            if isinstance(remark, dict) and OVERLAP.search(str(remark.get("reason"))):
                names.setdefault(str(remark.get("file")), str(remark["reason"]))
    if names:
        yield Finding(
            "sample_in_two_splits",
            "error",
            f"{count(len(names), 'sample')} in two splits: scores on them are too good",
            tuple(f"{name} {reason}" for name, reason in names.items()),
            "take them out of one of the lists",
        )


CHECKS = (
    other_settings_than_named,
    mixed_conditions,
    replaced_precision,
    different_data,
    sample_in_two_splits,
)
