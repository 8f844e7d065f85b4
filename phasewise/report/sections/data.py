"""What the runs were trained and judged on: as it was read, not as it was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phasewise.analysis.statistics.frame import is_number
from phasewise.records.record import RunRecord
from phasewise.report.content import Block, Bullets, Column, Kind, Section, Table, Text
from phasewise.report.text import listed
from phasewise.report.view import StudyView

SPLITS = ("train", "val", "test")
TITLES = {"train": "training", "val": "validation", "test": "test"}
MOST_CLASSES = 40
"""Classes that are named."""

MOST_SAMPLES = 10
"""Samples of a reason that are named."""

TRUTH = "/truth/"
"""In the names of metrics that are about the data, not about predictions."""

KNOWN = ("name", "what", "image_size", "resize", "classes", "split_rule")
"""What a record of this version says of its data, see `phasewise.data.facts`."""

LIMITS = {
    "trainer.limit_train_batches": "an epoch trains on {}",
    "trainer.overfit_batches": "training sees the same {} in each epoch, and validation as many",
    "trainer.limit_val_batches": "validation scores, trivial predictors and figures are of {}",
    "trainer.limit_test_batches": "test scores, trivial predictors and figures are of {}",
}
"""Keys by which less is used than was read."""

Data = Mapping[str, Any]


@dataclass
class DataSet:
    """Data that some of the runs have in common; ``data`` is what the first of them says.

    Attributes:
        limits: what the runs had for those keys of `LIMITS` that left something out.
    """

    data: Data
    phases: dict[str, None] = field(default_factory=dict)
    runs: int = 0
    limits: dict[str, dict[Any, None]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Samples by split, of splits that have any."""
        found = _mapping(self.data, "counts")
        return {split: found[split] for split in SPLITS if found.get(split)}


def data_sets(study: StudyView) -> list[DataSet]:
    """Those of all runs: the same samples, read in the same way, are one."""
    found: dict[str, DataSet] = {}
    for phase, _, trial in study.trials():
        if trial.record is not None and _mapping(trial.record.data, "counts"):
            data = _with_truth(trial.record)
            one = found.setdefault(_identity(data), DataSet(data))
            one.phases[phase.plan.name or "sweep"] = None
            one.runs += 1
            for key in LIMITS:
                if _leaves_out(value := trial.saved.get(key)):
                    one.limits.setdefault(key, {})[value] = None
    return [*found.values()]


def _leaves_out(value: Any) -> bool:
    """Whether a limit is one: whole numbers are batches, fractions are of all; 0 and 1.0 do not."""
    return is_number(value) and (value > 0 if isinstance(value, int) else 0 < value < 1)


def limited(limits: Mapping[str, Mapping[Any, None]]) -> str:
    """What of the data was left out, as a sentence."""
    parts = []
    for key, values in limits.items():
        amounts = [
            (
                f"{it} batch{'' if it == 1 else 'es'}"
                if isinstance(it, int)
                else f"{it:.4g} of all batches"
            )
            for it in values
        ]
        setting = " or ".join(f"{it:g}" for it in values)
        parts.append(f"{LIMITS[key].format(' or '.join(amounts))} ({key}={setting})")
    return f"Not all of it was used: {'; '.join(parts)}."


def _with_truth(record: RunRecord) -> Data:
    """The data of a record; of an older one with what its metrics say of the truth."""
    if "facts" in record.data:
        return record.data
    facts: dict[str, dict[str, Any]] = {}
    for metrics in (record.best, record.test or {}):
        for key, value in metrics.items():
            split, _, name = key.partition(TRUTH)
            if name and is_number(value):
                facts.setdefault(split, {})[name] = value
    return {**record.data, "facts": facts}


def _identity(data: Data) -> str:
    parts = (data.get("hash", data.get("split_hash")), data.get("image_size"), data.get("resize"))
    return repr((*parts, data.get("counts")))


def data_section(study: StudyView) -> Section | None:
    """What was trained on; ``None`` where no run says anything of it."""
    sets = data_sets(study)
    return section_of(sets) if sets else None


def section_of(sets: Sequence[DataSet]) -> Section:
    """One data set, or several beside each other."""
    section = Section("Data")
    if len(sets) == 1:
        section.blocks.append(Bullets(list(described(sets[0]))))
    else:
        text = f"The runs were trained on {len(sets)} different data, numbered here."
        section.blocks += [Text(text, "warning"), _overview(sets)]
    for number, one in enumerate(sets, 1):
        if one.limits:
            which = f"Data {number}: " if len(sets) > 1 else ""
            section.blocks.append(Text(f"{which}{limited(one.limits)}", "warning"))
    if not any(key in one.data for one in sets for key in KNOWN):
        text = "These records are of an earlier version, which kept counts and hashes only."
        section.blocks.append(Text(text, "note"))
    section.blocks += [_splits(sets), *_classes(sets), *_notes(sets)]
    return section


def described(one: DataSet) -> Iterator[str]:
    """A data set in words."""
    data = one.data
    name, what = data.get("name"), data.get("what")
    if name or what:
        yield f"Data set: {name}" + (f" ({what})" if what else "") if name else f"{what}"
    counts = one.counts
    total = f"{sum(counts.values()):,} images: "
    yield total + ", ".join(f"{count:,} {TITLES[split]}" for split, count in counts.items())
    if data.get("split_rule"):
        yield f"Splits: {data['split_rule']}"
    if is_number(data.get("image_size")):
        how = {"stretch": "stretched to a square", "letterbox": "padded to a square"}
        resize = how.get(str(data.get("resize")), str(data.get("resize")))
        yield f"The network sees {_side(data)} pixels ({resize})"
    if classes := data.get("classes"):
        yield f"{len(classes)} classes: {listed([*map(str, classes)], MOST_CLASSES)}"
    if data.get("hash"):
        yield f"Hash of all samples: {data['hash']}; the same hash means the same data"


def _side(data: Data) -> str:
    return f"{data['image_size']} x {data['image_size']}" if "image_size" in data else ""


def _overview(sets: Sequence[DataSet]) -> Table:
    columns = [
        Column("data"),
        Column("name"),
        Column("what"),
        Column("image size"),
        Column("classes", "count"),
        Column("splits"),
        Column("hash"),
        Column("runs", "count"),
        Column("phases"),
    ]
    table = Table("data_sets", "What the runs were trained on, a row for each data set.", columns)
    for number, one in enumerate(sets, 1):
        data = one.data
        table.add(
            str(number),
            data.get("name", ""),
            data.get("what", ""),
            _side(data),
            len(data["classes"]) if data.get("classes") else None,
            data.get("split_rule", ""),
            data.get("hash", data.get("split_hash", "")),
            one.runs,
            ", ".join(one.phases),
        )
    return table


def _splits(sets: Sequence[DataSet]) -> Table:
    """A row for each split: how many samples, and the numbers about them."""
    rows = [
        (number, one, split, count)
        for number, one in enumerate(sets, 1)
        for split, count in one.counts.items()
    ]
    facts = [_facts(one.data, split) for _, one, split, _ in rows]
    names = dict.fromkeys(key for each in facts for key, it in each.items() if is_number(it))
    columns = [
        *([Column("data")] if len(sets) > 1 else []),
        Column("split"),
        Column("images", "count"),
        *(Column(name, _kind([each.get(name) for each in facts])) for name in names),
        Column("hash"),
    ]
    caption = "What each split holds, as it was read."
    caption += " Shares are fractions." if any("share" in name for name in names) else ""
    table = Table("data", caption, columns)
    for (number, one, split, count), each in zip(rows, facts, strict=True):
        digest = _mapping(one.data, "hashes").get(split, "")
        first = [str(number)] if len(sets) > 1 else []
        table.add(*first, TITLES[split], count, *(each.get(name) for name in names), digest)
    return table


def _classes(sets: Sequence[DataSet]) -> Iterator[Block]:
    """A row for each class: the numbers about it, of each split."""
    for number, one in enumerate(sets, 1):
        found: dict[str, dict[str, Data]] = {}
        for split in one.counts:
            for name, values in _facts(one.data, split).items():
                if isinstance(values, Mapping):
                    found.setdefault(name, {})[split] = values
        columns = [Column("class")]
        numbers: list[Data] = []
        for name, by_split in found.items():
            for split, values in by_split.items():
                columns.append(Column(f"{name}, {TITLES[split]}", _kind([*values.values()])))
                numbers.append(values)
        classes = dict.fromkeys(key for values in numbers for key in values)
        if len(classes) > 1:
            name, which = ("classes", "") if len(sets) == 1 else (f"classes_{number}", f" {number}")
            table = Table(name, f"The classes of the data{which}.", columns)
            for key in classes:
                table.add(key, *(values.get(key) for values in numbers))
            yield table


def _notes(sets: Sequence[DataSet]) -> Iterator[Block]:
    """What was left out, and what was odd."""
    titles = {
        "rejected": ("data_left_out", "Left out: samples that could not be used, by reason."),
        "warnings": ("data_odd", "Odd, but used."),
    }
    for key, (name, caption) in titles.items():
        found = [
            (number, problem)
            for number, one in enumerate(sets, 1)
            for problem in one.data.get(key) or []
            if isinstance(problem, Mapping)
        ]
        if not found and key == "rejected":
            yield Text("No sample was left out.")
        if not found:
            continue
        several = [Column("data")] if len(sets) > 1 else []
        columns = [*several, Column("reason"), Column("count", "count"), Column("where")]
        table = Table(name, caption, columns)
        reasons = Counter((number, str(it.get("reason", ""))) for number, it in found)
        for (number, reason), count in reasons.most_common():
            files = [
                str(it.get("file", ""))
                for place, it in found
                if place == number and str(it.get("reason", "")) == reason
            ]
            table.add(*([str(number)] * len(several)), reason, count, listed(files, MOST_SAMPLES))
        yield table


def _facts(data: Data, split: str) -> Data:
    return _mapping(_mapping(data, "facts"), split)


def _mapping(data: Data, key: str) -> Mapping[str, Any]:
    found = data.get(key)
    return found if isinstance(found, Mapping) else {}


def _kind(values: Sequence[object]) -> Kind:
    """Whole numbers are written as such."""
    return "count" if all(it is None or isinstance(it, int) for it in values) else "number"
