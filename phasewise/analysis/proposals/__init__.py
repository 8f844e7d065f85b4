"""What a study should ask next, by its own records: phases, each with its reason.

`propose` looks at what the audit and the tables show. Its phases start from the configuration that
the study came to; of their values those that cannot run are left out by whoever knows the schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from phasewise.analysis.audit import Finding, audit
from phasewise.analysis.proposals.edges import edges
from phasewise.analysis.proposals.fixed import fixed
from phasewise.analysis.proposals.interactions import interactions
from phasewise.analysis.proposals.known import Known, NothingDecided
from phasewise.analysis.proposals.longer import longer
from phasewise.analysis.proposals.proposal import CanRun, Cell, Proposal, Proposals
from phasewise.analysis.proposals.remedies import fine_tuning, validation
from phasewise.analysis.proposals.repeats import repeats
from phasewise.analysis.proposals.untried import untried
from phasewise.study.results import StudyResult, typed

__all__ = ["NothingDecided", "Proposal", "Proposals", "propose"]


def propose(
    study: StudyResult,
    can_run: CanRun = lambda cell: True,
    found: Sequence[Finding] | None = None,
) -> Proposals:
    """All that is worth asking, what may change most first and what only confirms last.

    The same records give the same proposals.

    Args:
        study: as its directory tells it.
        can_run: whether overrides on top of the final configuration are valid; those that are not
            are left out.
        found: what the audit found, if that is known.

    Raises:
        NothingDecided: it has no winner yet.
    """
    known = Known(study)
    found = audit(study) if found is None else found
    new, later = untried(known)
    confirm, settled = repeats(known)
    same = fixed(known)
    all_of_them = [
        *validation(known, found, can_run),
        *edges(known, same),
        *interactions(known),
        *fine_tuning(known, found),
        *new,
        *longer(known),
        *confirm,
    ]
    allowed = [
        one.allowed(lambda cell: not _is_final(known, cell) and can_run(cell))
        for one in all_of_them
    ]
    kept = [one for one in allowed if one.cells]
    told = [*settled, *same.values(), *later]
    taken = {phase.plan.name for phase in study.phases}
    return Proposals(tuple(_named_apart(kept, taken)), tuple(told))


def _is_final(known: Known, cell: Cell) -> bool:
    """Whether it changes nothing: what lost in an earlier phase may have come back in a later."""
    pairs = (word.lstrip("+").partition("=") for word in cell)
    return all(known.setting(key) == typed(value) for key, _, value in pairs)


def _named_apart(proposals: Iterable[Proposal], taken: set[str]) -> Iterable[Proposal]:
    """With names that no phase has yet."""
    for one in proposals:
        name, number = one.name, 2
        while name in taken:
            name, number = f"{one.name}_{number}", number + 1
        taken = {*taken, name}
        yield replace(one, name=name)
