"""``data.check=true``: what was found and how it is read, to look at before a training."""

from __future__ import annotations

import logging
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf

from phasewise.config.schema import metrics_of
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.facts import about, check_objective, name_of
from phasewise.data.listed import refuse_unusable
from phasewise.errors import Problem, UserError
from phasewise.figures import panels
from phasewise.report.content import Figure, Report, Section
from phasewise.report.report import publish
from phasewise.report.sections.data import TITLES, DataSet, section_of
from phasewise.training.build import build_data
from phasewise.training.console import log_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SHOWN = 12
"""Images of a split."""

COLUMNS = 4

log = logging.getLogger(__name__)


def show_data(cfg: DictConfig, directory: Path) -> None:
    """Read the data of a run and write a report of them: counts, classes, sizes, what was left out
    and what was odd, and images with what is known of each.

    Args:
        cfg: composed and checked.
        directory: where ``report.html`` is written.

    Raises:
        UserError: they cannot be used as a run would use them. What stops a run but leaves samples
            to look at is raised when the report is written.
    """
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    section = {str(key): value for key, value in config["data"].items()}
    data = build_data({"data": section | {"on_bad": "skip"}, "seed": config["seed"]})
    if not isinstance(data, StoreDataModule):
        reason = "shows data sets of this project only; how others read is theirs to show"
        raise UserError(problems=[Problem("data.check=true", reason)])
    data.setup()
    found, known = data.summary(), about(data)
    log_data(found, data, section)
    facts = [
        ("task", str(cfg.task.name)),
        *([("folder", str(data.root))] if data.root is not None else []),
        ("network input", f"{data.image_size} x {data.image_size} pixels"),
    ]
    caption = "images as the network sees them, with what is known of each."
    samples = [
        Figure(f"samples_{split}", f"{TITLES[split]}: {caption}", partial(_draw, data, split))
        for split in data.splits.stores
    ]
    parts = [section_of([DataSet(found.as_dict() | known)]), Section("Samples", [*samples])]
    page = publish(Report(f"Data: {name_of(data)}", facts, parts), directory)
    log.info("report   %s", shlex.quote(str(page)))
    refuse_unusable(found.rejected, found.counts, data.root, section["on_bad"])
    check_objective(data, known["facts"]["val"], cfg.objective.metric, metrics_of(cfg))


def _draw(data: StoreDataModule, split: str) -> Drawing:
    """Images from all over a split."""
    from matplotlib.figure import Figure

    names = data.splits.names[split]
    count = min(SHOWN, len(names))
    index = torch.linspace(0, len(names) - 1, count).round().long()
    lines = -(-count // COLUMNS)
    drawing = Figure(figsize=(11.0, 3.0 * lines + 0.5), layout="constrained")
    axes = panels(drawing, lines, COLUMNS).flat
    rows: Any = data.gather(split, index, torch.device("cpu"))
    legend = data.draw_truth([*axes][:count], rows, [_end(names[i]) for i in index.tolist()])
    if legend:
        drawing.legend(handles=legend, loc="outside lower center", ncols=6, fontsize=9)
    return drawing


def _end(name: str, most: int = 28) -> str:
    """Where names differ."""
    return name if len(name) <= most else f"...{name[3 - most :]}"
