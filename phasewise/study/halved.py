"""What a journal says of halving in a phase."""

from __future__ import annotations

from dataclasses import dataclass

from phasewise.text import format_value

EPOCHS = "epochs"
"""The unit of rungs at which a trial pauses; any other one is a key, and runs begin anew."""


@dataclass
class Halved:
    """How a phase halves, and what it cost.

    Attributes:
        unit: ``epochs``, or the key whose values are the rungs.
        rungs: after how much is compared; the last is the end.
        factor: about 1/factor of the trials go on.
        brackets: of Hyperband; bracket ``b`` begins at rung ``b``. Candidates say which is theirs.
        asynchronous: ASHA's rule, in waves of ``parallel`` candidates.
        full: what all trials would have taken to the end, over seeds, in ``unit``; 0 before it has
            ended.
        spent: what they took.
    """

    unit: str
    rungs: list[int | float]
    factor: float
    brackets: int = 1
    asynchronous: bool = False
    parallel: int = 1
    full: float = 0.0
    spent: float = 0.0

    def at(self, rung: int) -> str:
        """``3 epochs``, ``n_estimators=30``."""
        return amount_text(self.unit, self.rungs[rung])

    def text(self) -> str:
        """In words: ``halving after 1, 3 of 9 epochs, about 1/3 go on``."""
        *first, last = [format_value(amount) for amount in self.rungs]
        text = f"halving after {', '.join(first)} of {last} epochs"
        if self.unit != EPOCHS:
            text = f"halving by {self.unit}={', '.join(first)}, {last}, each run anew"
        text += f", about 1/{self.factor:g} go on"
        if self.brackets > 1:
            text += f", in {self.brackets} brackets"
        if self.asynchronous:
            text += f", as soon as a rung allows, in waves of {self.parallel}"
        return text

    def saved_text(self) -> str:
        """What it cost, in words; empty before it has ended."""
        if not self.full:
            return ""
        saved, share = self.full - self.spent, 1 - self.spent / self.full
        if self.unit == EPOCHS:
            return f"{saved:g} epochs saved by halving, of {self.full:g} ({100 * share:.0f} %)"
        more = (
            f"{100 * share:.0f} % saved"
            if saved >= 0
            else f"{-100 * share:.0f} % more than without it"
        )
        took = f"halving took {self.spent:g} in all of {self.unit}"
        return f"{took}, {self.full:g} without it ({more})"


def amount_text(unit: str, amount: float) -> str:
    """``after 1 epoch``'s ``1 epoch``; ``n_estimators=30``."""
    if unit != EPOCHS:
        return f"{unit}={format_value(amount)}"
    return f"{format_value(amount)} epoch{'' if amount == 1 else 's'}"
