"""The keys that tell the trials of a study apart."""

from __future__ import annotations

from phasewise.study.journal import Journal
from phasewise.study.overrides import SEED
from phasewise.study.results import settings_of

VARIED = "study.varied"
"""The key by which a trial is told them: TensorBoard lists them, and not the whole config."""


def varied_keys(journal: Journal) -> list[str]:
    """Keys for which candidates of a phase are told different values, and seeds if several."""
    found: dict[str, None] = {}
    for phase in journal.phases:
        settings = [settings_of(one.overrides) for one in phase.candidates]
        for key in dict.fromkeys(key for one in settings for key in one):
            if any(key not in one or one[key] != settings[0].get(key) for one in settings):
                found[key] = None
        if phase.search is not None:  # whose candidates are not there yet
            found |= dict.fromkeys(one.name for one in phase.search.space)
        if len(phase.seeds) > 1:
            found[SEED] = None
    return [*found]
