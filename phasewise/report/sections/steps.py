"""Of each phase: losses of single training steps, of runs that have kept them."""

from __future__ import annotations

from functools import partial

from phasewise.records.steps import COUNTS, read_steps
from phasewise.report.content import Figure
from phasewise.report.figures.labels import distinct
from phasewise.report.figures.steps import StepCurve, draw_steps
from phasewise.report.figures.style import PALETTE, Colours, handle
from phasewise.report.text import plain
from phasewise.report.view import CandidateView, PhaseView, short_key

MOST = 8
"""Configurations that are drawn: those that differ most in the key that matters most."""


def steps_figure(phase: PhaseView, colours: Colours) -> Figure | None:
    """The best run of each value of the key that matters most; None where none kept its steps."""
    lead = phase.lead
    chosen = _chosen(phase)
    found, entries, names = [], [], dict[str, None]()
    for place, one in enumerate(chosen):
        trial = one.best_trial
        table = read_steps(trial.directory) if trial is not None else None
        if table is None:
            continue
        colour = colours.of(lead, one.settings[lead]) if lead else PALETTE[place]
        losses = {name: table[name].to_numpy(float) for name in table.columns[len(COUNTS) :]}
        step, epoch = (table[name].to_numpy(float) for name in COUNTS)
        found.append(StepCurve(step, epoch, losses, colour))
        names |= dict.fromkeys(losses)
        if lead:
            entries.append((colour, f"{short_key(lead)}={plain(one.settings[lead])}"))
    if not found:
        return None
    written = distinct([name for _, name in entries], 40)
    legend = [handle(hue, name) for (hue, _), name in zip(entries, written, strict=True)]
    caption = (
        f"{phase.title}: training losses of single steps (trainer.log_every_n_steps) of the best "
        f"run{' with each value of ' + lead if lead else ''}, over optimizer steps and over epochs."
    )
    draw = partial(draw_steps, found, list(names), legend)
    return Figure(f"steps_{phase.slug}", caption, draw)


def _chosen(phase: PhaseView) -> list[CandidateView]:
    if not phase.lead:
        return phase.ranked[:1]
    values = list(phase.by_value(phase.lead).values())
    best = [max(group, key=lambda one: phase.sign * one.mean) for group in values]
    if len(best) > MOST:  # the ends, and some between
        best = [best[round(i * (len(best) - 1) / (MOST - 1))] for i in range(MOST)]
    return best
