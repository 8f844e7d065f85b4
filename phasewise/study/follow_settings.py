"""What may stand under ``study.follow_up``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from phasewise.config.fields import Count, message
from phasewise.study.written import Written


class FollowUp(Written):
    """Rounds of phases that a study proposes to itself when its own have ended.

    Attributes:
        rounds: at most so many; a round has all phases that are proposed at one time.
        max_hours: no new trial of any round begins when theirs have taken so many hours together.
    """

    EXAMPLE = "{rounds: 3, max_hours: 8}"
    rounds: Count
    max_hours: (
        Annotated[float, Field(gt=0), message("must be a number of hours > 0, or null")] | None
    ) = None
