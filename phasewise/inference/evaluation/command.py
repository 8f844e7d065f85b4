"""``evaluate.py``: from a checkpoint to the metrics of a split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from phasewise.cli.script import run_script
from phasewise.errors import UserError, say
from phasewise.inference.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    from phasewise.analysis.items import Floats
    from phasewise.data.datamodule import StoreDataModule
    from phasewise.inference.evaluation.measure import Measured
    from phasewise.inference.restore import Restored, RunOf
    from phasewise.training.module import Scores, TaskModule

FOLDER = "evaluation"
SAME = 1e-6
"""Largest difference to a record that counts as none."""


class _Evaluated(NamedTuple):
    """Of one checkpoint: its metrics, the same in each resample, the names that come first, and
    the hash of the data."""

    metrics: Scores
    samples: Mapping[str, Floats]
    first: Sequence[str]
    data: str


def main(run_of: RunOf, argv: Sequence[str] | None = None) -> NoReturn:
    """Parse, check, evaluate, exit.

    Args:
        run_of: finds the run of a study, see `phasewise.inference.restore.find_checkpoint`.
        argv: the words of the command line; None takes them from ``sys.argv``.
    """
    run_script(EvaluationSettings, partial(evaluate, run_of=run_of), argv)


def evaluate(settings: EvaluationSettings, data_words: Sequence[str], run_of: RunOf | None) -> None:
    """Compute all metrics of a split and write them, for one checkpoint after the other.

    Raises:
        UserError: no such checkpoint, split or data, or the output cannot be written.
    """
    from phasewise.inference.restore import restore_all

    members = restore_all(settings.checkpoint, run_of=run_of, trust=settings.trust)
    if settings.ensemble:
        _evaluate(settings, data_words, *members)
        return
    if settings.soup is not None:
        _evaluate_soup(settings, data_words, members)
        return
    runs = [_evaluate(settings, data_words, trained) for trained in members]
    if len(runs) > 1:
        say(_over_runs(settings, runs))


def _evaluate_soup(
    settings: EvaluationSettings, data_words: Sequence[str], members: Sequence[Restored]
) -> None:
    """Make it, evaluate it as any network, and set it beside what it is made of."""
    from phasewise.inference.evaluation.soup_command import make_soup
    from phasewise.inference.restore import restore

    soup = make_soup(settings, data_words, members)
    say(soup.described())
    output = str(soup.place / FOLDER / settings.split)
    made = restore(soup.place, trust=settings.trust)
    found = _evaluate(settings.model_copy(update={"output": output}), data_words, made)
    say(f"\n{soup.compare(settings, found.metrics)}")


def _evaluate(
    settings: EvaluationSettings, data_words: Sequence[str], trained: Restored, *others: Restored
) -> _Evaluated:
    """Of one network, or of several as one."""
    from phasewise.analysis.bootstrap import intervals, resample
    from phasewise.cli.main import check_directory
    from phasewise.data.resources import find_device
    from phasewise.inference.evaluation.data import open_data, with_data
    from phasewise.inference.evaluation.ensemble import check_alike, joined
    from phasewise.inference.evaluation.measure import measure, run_precision
    from phasewise.inference.evaluation.output import EvaluationOutput, table
    from phasewise.training.memory import keep_freed_memory

    keep_freed_memory()
    members = [trained, *others]
    check_alike(members)
    configs = [with_data(member.config, data_words, member.trust) for member in members]
    config = configs[0]
    device = find_device(settings.accelerator)
    folder = _folder(settings, trained)
    check_directory("output", str(folder))
    data = open_data(config, trained.checkpoint, trained.trust)
    _set_up(data, settings.split)
    modules = [it.rebuilt(own).to(device) for it, own in zip(members, configs, strict=True)]
    for one, member in zip(modules, members, strict=True):
        _accept(one, data, member)
    module = joined(modules)
    if settings.mask_size is not None:
        module.compare_masks_at(settings.mask_size, config["data"]["image_size"])
    precision = run_precision(config, device)
    as_trained = settings.mask_size is None
    found = measure(module, data, settings.split, precision, modules[1:], as_trained=as_trained)
    samples: dict[str, Floats] = {}
    if found.items is not None and settings.resamples:
        drawn = resample(found.items, resamples=settings.resamples, seed=settings.seed)
        named = {f"{settings.split}/{name}": values for name, values in drawn.items()}
        samples = {name: values for name, values in named.items() if name in found.metrics}
    bounds = intervals(samples, settings.confidence)
    output = EvaluationOutput(folder)
    if found.items is not None:
        output.items(found.items, data.splits.names[settings.split])
    if samples:
        output.resamples(samples)
    if settings.figures and not others and as_trained:
        output.figures(module.draw(data, settings.split, settings.figures))
    record = None if others or not as_trained else recorded(trained, config, data, settings.split)
    output.index(_content(settings, data_words, members, data, found, bounds, record))
    say(_heading(settings, members, data, found))
    say(table(found.metrics, bounds, found.baselines, module.headline, settings.confidence))
    if is_other_data(trained, data, settings.split):
        say(f"\nnote: these are not the {settings.split} data of the run, nor comparable with it")
    elif looked_at_part(trained, data, settings.split):
        say("\nnote: this is the whole split; the run looked at some of its batches only")
    for line in _footing(settings, found, record, folder):
        say(line)
    return _Evaluated(found.metrics, samples, module.headline, data.identity().hash)


def _accept(module: TaskModule, data: StoreDataModule, member: Restored) -> None:
    """Get a network ready for data; of several, the one is named that has other classes."""
    try:
        module.accept(data)
    except UserError as error:
        raise UserError(f"{member.checkpoint}: {error}") from error


def _over_runs(settings: EvaluationSettings, runs: Sequence[_Evaluated]) -> str:
    """The mean of several runs, say seeds, as it would be with other runs and other items."""
    from phasewise.analysis.bootstrap import intervals, over_runs
    from phasewise.inference.evaluation.output import table

    means = {
        name: sum(run.metrics[name] for run in runs) / len(runs)
        for name in runs[0].metrics
        if all(name in run.metrics for run in runs)
    }
    bounds = {}
    if len({run.data for run in runs}) == 1 and all(run.samples for run in runs):
        drawn = over_runs([run.samples for run in runs], settings.seed)
        bounds = intervals(drawn, settings.confidence)
    what = "; intervals over runs and items together" if bounds else ""
    rows = table(means, bounds, {}, runs[0].first, settings.confidence)
    return f"\nmean of {len(runs)} runs{what}\n\n{rows}"


def _set_up(data: StoreDataModule, split: str) -> None:
    data.setup("test" if split == "test" else "validate")
    if not len(data.splits.stores.get(split, ())):
        others = [name for name in ("test", "val") if len(data.splits.stores.get(name, ()))]
        raise UserError(f"split={split}: the data have none; {' or '.join(others)} is there")


def _folder(settings: EvaluationSettings, trained: Restored) -> Path:
    if settings.output is not None:
        return Path(settings.output).expanduser()
    file = trained.checkpoint
    name = settings.split if file.stem == "best" else f"{settings.split}_{file.stem}"
    if settings.ensemble:
        name = f"ensemble_{settings.split}"
    if settings.mask_size is not None:
        name += f"_masks_{settings.mask_size}"
    return (trained.run or file.parent) / FOLDER / name


def recorded(
    trained: Restored, config: Mapping[str, Any], data: StoreDataModule, split: str
) -> Scores | None:
    """What the run's record says of this split at this epoch; None where it was of other data, or
    of a part of these."""
    record, summary = trained.record, data.summary()
    if looked_at_part(trained, data, split):
        return None
    if record is None or record.data.get("split_hash") != summary.split_hash:
        return None
    if is_other_data(trained, data, split):
        return None
    from phasewise.inference.evaluation.data import OF_THE_MACHINE

    passive = {*OF_THE_MACHINE, "root", "batch_size", "on_bad"}
    before, now = (
        {k: v for k, v in it["data"].items() if k not in passive} for it in (trained.config, config)
    )
    if before != now:
        return None
    if split == "test":
        return record.test
    return record.last if trained.checkpoint.stem == "last" else record.best


def looked_at_part(trained: Restored, data: StoreDataModule, split: str) -> bool:
    """Whether the run was evaluated on some batches of a split only."""
    from phasewise.data.sampling import evaluated_rows

    trainer, count = trained.config["trainer"], len(data.splits.stores[split])
    limit = trainer.get(f"limit_{split}_batches")
    if split == "val" and trainer.get("overfit_batches"):  # Lightning's rule
        limit = trainer["overfit_batches"]
    batch_size = trained.config["data"]["batch_size"]
    devices = trainer.get("devices", 1)
    return len(evaluated_rows(count, batch_size, limit, devices)) < count


def is_other_data(trained: Restored, data: StoreDataModule, split: str) -> bool:
    """Whether the samples of a split are not those of the run, where its record knows them."""
    known = {} if trained.record is None else trained.record.data.get("hashes", {})
    return bool(known) and known.get(split) != data.identity().hashes.get(split)


def _difference(metrics: Scores, record: Scores) -> tuple[float, str]:
    """The largest one and whose it is; a figure that one of them lacks is infinitely far."""
    worst = (0.0, "")
    for name in metrics.keys() & record.keys():
        value, other = metrics[name], record[name]
        if other is None or math.isnan(value):
            distance = 0.0 if other is None and math.isnan(value) else math.inf
        else:
            distance = abs(value - other) / max(1.0, abs(other))  # records are float32
        worst = max(worst, (distance, name))
    return worst


def _content(
    settings: EvaluationSettings,
    words: Sequence[str],
    members: Sequence[Restored],
    data: StoreDataModule,
    found: Measured,
    bounds: Mapping[str, Any],
    record: Scores | None,
) -> dict[str, Any]:
    from phasewise.data.resources import device_name
    from phasewise.inference.evaluation.ensemble import described
    from phasewise.records.record import environment

    trained, *others = members
    metrics = {
        name: {"value": value}
        | ({"low": bounds[name].low, "high": bounds[name].high} if name in bounds else {})
        for name, value in found.metrics.items()
    }
    items = found.items
    bootstrap = None
    if items is not None and settings.resamples:
        bootstrap = {"method": "percentile", "resampled": items.unit, "items": len(items.rows)}
        bootstrap |= settings.model_dump(include={"resamples", "confidence", "seed"})
    return {
        "schema": 1,
        "checkpoint": str(trained.checkpoint),
        **({"members": described(members)} if others else {}),
        "task": trained.task,
        "split": settings.split,
        "words": list(words),
        "figures": metrics,
        "bootstrap": bootstrap,
        "baselines": found.baselines,
        "difference_from_record": None if record is None else _difference(found.metrics, record)[0],
        "data": data.summary().as_dict(),
        "seconds": found.seconds,
        "environment": environment() | {"device": device_name(settings.accelerator)},
    }


def _heading(
    settings: EvaluationSettings,
    members: Sequence[Restored],
    data: StoreDataModule,
    found: Measured,
) -> str:
    count = data.summary().counts[settings.split]
    text = "".join(f"\n{member.checkpoint}" for member in members)
    text += f"\nensemble of {len(members)} networks" * (len(members) > 1)
    text += f"\ntask={members[0].task}, {settings.split} split, {count} images"
    if settings.mask_size is not None:
        side = members[0].image_size
        text += f", masks of {side} pixels compared at {settings.mask_size}"
    if found.items is not None and settings.resamples:
        text += (
            f"; intervals by {settings.resamples} bootstrap resamples of "
            f"{len(found.items.rows)} {found.items.unit}, seed {settings.seed}"
        )
    return text + "\n"


def _footing(
    settings: EvaluationSettings, found: Measured, record: Scores | None, folder: Path
) -> list[str]:
    from phasewise.inference.evaluation.output import FIGURES, INDEX, ITEMS, RESAMPLES

    lines = []
    if record is not None:
        distance, name = _difference(found.metrics, record)
        same = f"equal to the run's record to {SAME:g}"
        other = f"differs from the run's record by up to {distance:.2g} ({name})"
        lines.append(same if distance <= SAME else other)
    written = [INDEX, *([ITEMS] if found.items is not None else [])]
    written += [RESAMPLES] * bool(found.items is not None and settings.resamples)
    written += [f"{FIGURES}/"] * bool(
        settings.figures and not settings.ensemble and settings.mask_size is None
    )
    return ["", *lines, f"{folder}: {', '.join(written)}"]
