"""Over all phases: what mattered, what the hypotheses came to, how the losses behave."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from phasewise.analysis.statistics.effects import phase_effects
from phasewise.analysis.statistics.frame import is_number
from phasewise.analysis.statistics.hypotheses import Answer, answer_hypotheses
from phasewise.analysis.statistics.importance import importance
from phasewise.report.content import Column, Figure, Mark, Section, Table, Text
from phasewise.report.figures.losses import FORMULAE, Loss, behaviour
from phasewise.report.figures.scatter import ranking
from phasewise.report.figures.style import Colours
from phasewise.report.text import number, plain
from phasewise.report.view import StudyView

LOSS_KEYS = ("loss.name", "loss.segmentation")
LOSS_SETTINGS = ("pos_alpha", "gamma", "fn_weight", "dice_weight")
MARKS: dict[str, Mark] = {"yes": "best", "no": "bad"}
MOST_LOSSES = 7


def importance_section(study: StudyView) -> Section | None:
    """A ranking of the keys; ``None`` where nothing was varied."""
    effects = phase_effects(study.result)
    if effects.empty:
        return None
    section = Section("What mattered")
    columns = [
        Column("rank", "number"),
        Column("key"),
        Column("phase"),
        Column("values", "number"),
        Column("best on average"),
        Column("in the best configuration"),
        Column("range of means", "number"),
        Column("gain over incumbent", "signed"),
    ]
    caption = (
        "Keys by the range of their mean scores (best less worst value) within their phase. "
        "Best on average is the value with the best mean over all settings of the other keys; "
        "where the best configuration has another one, it is better at the best settings of these. "
        "The gain is the phase's: its best mean less the incumbent's."
    )
    table = Table("impact", caption, columns)
    for rank, row in enumerate(effects.to_dict("records"), 1):
        numbers = float(row["range"]), float(row["gain"])
        phase = row["phase"] or "sweep"
        values = int(row["values"]), row["best"], row["in_best"]
        table.add(rank, row["key"], phase, *values, *numbers)
    section.blocks.append(table)
    found = importance(study.result)
    if found.table is None:
        section.blocks.append(Text(f"Importance by {found.method}: none, {found.note}.", "note"))
        return section
    shares = found.table["importance"]
    note = f" {found.note[0].upper()}{found.note[1:]}." if found.note else ""
    caption = f"Share of the variance that each key explains alone: {found.method}.{note}"
    names, values = list(map(str, shares.index)), shares.tolist()
    title = "share of explained variance (fraction)"
    section.blocks.append(Figure("importance", caption, partial(ranking, names, values, title)))
    return section


def hypotheses_section(study: StudyView) -> Section | None:
    """The study's own claims with their answers."""
    if not study.plan.hypotheses:
        return None
    columns = [Column("hypothesis"), Column("answer"), Column("evidence")]
    table = Table("hypotheses", "What the study's file claimed, and what came of it.", columns)
    answers = answer_hypotheses(study.result)
    for answer in answers:
        mark = MARKS.get(answer.verdict, "")
        table.add(answer.claim, answer.verdict, answer.evidence, mark=mark)
    return Section("Hypotheses", [table, _means(answers)])


def _means(answers: Sequence[Answer]) -> Table:
    """What the answers rest on."""
    columns = [
        Column("hypothesis"),
        Column("value"),
        Column("mean", "number"),
        Column("std", "number"),
        Column("trials", "number"),
    ]
    table = Table("hypotheses_means", "The measure of each hypothesis by value.", columns)
    for answer in answers:
        if answer.table is not None:
            for value, row in answer.table.iterrows():
                numbers = float(row["mean"]), float(row["std"]), int(row["count"])
                table.add(answer.claim, value, *numbers)
    return table


def losses_section(study: StudyView, colours: Colours) -> Section | None:
    """How the segmentation losses that were compared depend on p."""
    losses = swept_losses(study, colours)
    if not losses:
        return None
    caption = (
        "Losses over the probability p of the foreground pixels, where the background is right "
        "and without smoothing. dice: (1 - p) / (1 + p); tversky: b (1 - p) / (p + b (1 - p)), "
        "b = fn_weight; focal: -a (1 - p)^g log p, a = pos_alpha, g = gamma; bce: -log p; "
        "combined and dice_bce: dice_weight times dice, the rest times focal or bce. "
        "Settings that are not named are the defaults: "
        f"{', '.join(f'{name} {getattr(Loss, name):g}' for name in LOSS_SETTINGS)}."
    )
    figure = Figure("losses", caption, partial(behaviour, losses))
    return Section("Behaviour of the losses", [figure])


def swept_losses(study: StudyView, colours: Colours) -> list[Loss]:
    """The different losses of all candidates of phases that vary one; at most `MOST_LOSSES`."""
    found: dict[str, Loss] = {}
    for phase in study.phases:
        varied = {*LOSS_KEYS, *(f"loss.{name}" for name in LOSS_SETTINGS)}.intersection(phase.keys)
        for one in phase.candidates if varied else []:
            setting = partial(phase.result.setting, one.result)
            key = next((key for key in LOSS_KEYS if setting(key) in FORMULAE), None)
            if key is None:
                continue
            numbers = {name: setting(f"loss.{name}") for name in LOSS_SETTINGS}
            own = {name: float(v) for name, v in numbers.items() if is_number(v)}
            named = phase.result.base.keys() | one.result.settings.keys() | set(phase.keys)
            told = [f"{name} {number(v)}" for name, v in own.items() if f"loss.{name}" in named]
            label = " ".join([plain(setting(key)), *told])
            lead = key if key in phase.keys else min(varied)
            colour = colours.of(lead, one.settings[lead])
            found.setdefault(label, Loss(str(setting(key)), label, colour, **own))
    return list(found.values())[:MOST_LOSSES]
