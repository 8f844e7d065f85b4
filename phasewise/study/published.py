"""Values that somebody has published, which a study's file states for the candidates of its phases.

``study.published`` has, by phase and by a candidate's overrides, metrics without their split::

    published:
      architecture:
        model.backbone=resnet34 optimizer.lr=1e-3: {mIoU: 0.135, mAP: 0.148}
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence

from hydra.errors import HydraException

from phasewise.config.help import did_you_mean, not_one_of, settings_error
from phasewise.errors import Problem
from phasewise.study.journal import Phase
from phasewise.study.results import Setting, as_setting, settings_of

Published = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metrics by phase and candidate."""


def named_settings(text: str) -> dict[str, Setting]:
    """What the words of a candidate set, ``optimizer.lr=1e-3 data.batch_size=8``.

    Raises:
        ValueError, hydra.errors.HydraException: they are no overrides of one value each.
    """
    found = {key: as_setting(value) for key, value in settings_of(shlex.split(text)).items()}
    if not found:
        raise ValueError("no override")
    return found


def check_published(
    published: Published,
    phases: Sequence[Phase],
    metrics: Collection[str],
    changed: Collection[str],
    fractions: Collection[str] = (),
) -> None:
    """See whether all of it is about what the study tries and measures.

    Args:
        published: as the study's file states it.
        phases: as planned.
        metrics: that the task measures, without their split; none where nobody knows them.
        fractions: those of them that lie within 0 and 1.
        changed: phases that a command line or a budget has rewritten: candidates that they have no
            more are no mistake.

    Raises:
        UserError: everything that is wrong with it.
    """
    by_name = {phase.name: phase for phase in phases}
    problems: list[Problem] = []
    for name, candidates in published.items():
        place = f"study.published.{name}"
        if name not in by_name:
            problems.append(Problem(place, not_one_of(name, by_name)))
            continue
        for words, values in candidates.items():
            where = f"{place}.{words}"
            if reason := _unknown(words, by_name[name], name in changed):
                problems.append(Problem(where, reason))
            problems += _metrics(where, values, metrics, fractions)
    if problems:
        raise settings_error(problems)


def _metrics(
    place: str,
    values: Mapping[str, float],
    metrics: Collection[str],
    fractions: Collection[str],
) -> Iterator[Problem]:
    for metric, value in values.items():
        if metrics and metric not in metrics:
            yield Problem(f"{place}.{metric}", not_one_of(metric, metrics))
        elif metric in fractions and not 0 <= value <= 1:
            hint = f": {value / 100:.6g}" if 1 < value <= 100 else ""
            reason = f"must be a fraction within 0 and 1, not percent{hint}"
            yield Problem(f"{place}.{metric}={value:g}", reason)


def _unknown(words: str, phase: Phase, changed: bool) -> str:
    """Why no candidate of a phase is meant; empty if one is."""
    try:
        wanted = named_settings(words)
    except (ValueError, HydraException):
        return "must be the overrides of a candidate, e.g. model.activation=gelu"
    if phase.kind in ("rerun", "search"):
        return (
            f"a {phase.kind} chooses its configurations by itself, so that nothing is known of them"
        )
    return "" if changed else _untried(wanted, phase) or _ambiguous(wanted, phase)


def _untried(wanted: Mapping[str, Setting], phase: Phase) -> str:
    tried = _tried(phase)
    for key, value in wanted.items():
        if key not in tried:
            return f"phase {phase.name} does not vary {key}{did_you_mean(key, tried)}"
        if value not in tried[key]:
            return f"{key}={value} is not tried: {not_one_of(value, map(str, tried[key]))}"
    return ""


def _ambiguous(wanted: Mapping[str, Setting], phase: Phase) -> str:
    count = sum(wanted.items() <= settings.items() for settings in _candidates(phase))
    if count == 1 or phase.sampled_from is not None:  # of the whole grid, and perhaps not drawn
        return ""
    return f"{count or 'none'} of the candidates of phase {phase.name} have it; exactly one must"


def _candidates(phase: Phase) -> list[dict[str, Setting]]:
    """The settings of each, those that all share included."""
    base = settings_of(phase.base)
    whole = [base | settings_of(one.overrides) for one in phase.candidates if one.overrides]
    return [{key: as_setting(value) for key, value in one.items()} for one in whole]


def _tried(phase: Phase) -> dict[str, list[Setting]]:
    """The values of each key that the phase sets, drawn or not."""
    found: dict[str, dict[Setting, None]] = {}
    words = [f"{key}={value}" for key, values in phase.declared.items() for value in values]
    words += [word for one in phase.candidates for word in one.overrides]
    for word in words:
        for key, value in settings_of([word]).items():
            found.setdefault(key, {})[as_setting(value)] = None
    return {key: [*values] for key, values in found.items()}
