"""Keys that never mattered: they stay as they are, and are worth no phase."""

from __future__ import annotations

from phasewise.analysis.proposals.known import Known
from phasewise.analysis.statistics.effects import fair_rows
from phasewise.analysis.statistics.frame import trial_frame
from phasewise.analysis.statistics.pairwise import pairwise
from phasewise.analysis.statistics.power import ALPHA

LEAST_PAIRS = 3
"""With fewer a test finds nothing anyway."""


def fixed(known: Known) -> dict[str, str]:
    """The keys of which no two values could be told apart in any phase, each with a sentence."""
    found = {}
    frame = trial_frame(known.study)
    for key in known.keys:
        least, pairs = 1.0, 0
        for phase in known.varied(key):
            if phase.plan.kind == "rerun" or key in phase.tied:
                continue
            own = frame[frame["phase"] == known.study.phases.index(phase)]
            others = [other for other in phase.own_keys if other != key]
            rows = fair_rows(own, phase, key)
            is_sample = phase.plan.sampled_from is not None
            table = pairwise(rows, key, others, is_sample=is_sample).table
            if table is None or not table["p_holm"].notna().any():
                continue
            least = min(least, float(table["p_holm"].min()))
            pairs = max(pairs, int(table["n"].max()))
        if pairs >= LEAST_PAIRS and least > ALPHA:
            found[key] = (
                f"{key} stays at {known.setting(key)}: no two of its values could be told from "
                f"noise (smallest p = {least:.2g}, Holm-corrected)"
            )
    return found
