"""The settings of ``evaluate.py``: what may be typed and what it means. No torch here."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from phasewise.cli.settings import ScriptSettings
from phasewise.config.fields import (
    CountOrNull,
    Flag,
    Fraction,
    Names,
    Paths,
    Seed,
    Text,
    Whole,
    wrong,
)


class EvaluationSettings(ScriptSettings):
    """What ``evaluate.py`` is told."""

    SCRIPT: ClassVar = "evaluate.py"
    PATHS: ClassVar = ("checkpoint", "output")
    ABOUT: ClassVar = (
        "Computes all metrics of a trained network on a split, with bootstrap confidence intervals "
        "and what trivial predictors reach; writes evaluation.json, items.csv (a line per image or "
        "query) and figures."
    )
    EXAMPLES: ClassVar = {
        "checkpoint=outputs/TASK/RUN": "the test split of a run's own data",
        "checkpoint=STUDY split=val": "the winner of a study or sweep on the validation split",
        "checkpoint=[RUN1,RUN2,RUN3]": "several, say seeds, and their mean",
        "checkpoint=[RUN1,RUN2,RUN3] ensemble=true": "their mean predictions, as one network",
        "checkpoint=[RUN1,RUN2,RUN3] soup=greedy": "the mean of their weights, as far as it helps",
        "checkpoint=RUN data=voc data.root=PATH": "other data, in any layout that the task reads",
        "checkpoint=a.ckpt data.root=PATH output=DIR": "a checkpoint from elsewhere",
    }
    MORE: ClassVar = (
        "data=NAME and data.KEY=VALUE change the data, see `python train.py task=TASK data=NAME "
        "--help`; all else is as the checkpoint was trained."
    )
    SECTIONS: ClassVar = ("data",)

    checkpoint: Paths = Field(
        description="a checkpoint, or the directory of a run (its best) or of a study or sweep "
        "(its winner); [a,b,c] = one after the other, and their mean over runs and items"
    )
    ensemble: Flag = Field(
        default=False,
        description="several checkpoints count as one network, as in predict.py: true, false",
    )
    soup: Literal["greedy"] | None = Field(
        default=None,
        description="greedy: one network whose weights are the mean of those checkpoints that, the "
        "best first, do not lower the validation objective; it is written to output (default: "
        "soup/ in the first run's directory) as a run's checkpoint, and compared with its best "
        "member and the ensemble; null = none",
    )
    split: Literal["test", "val"] = Field(default="test", description="test, val")
    output: Text | None = Field(
        default=None,
        description="folder of the results; null = evaluation/ and the split's name, in the run's "
        "directory",
    )
    resamples: Whole = Field(
        default=1000, description="of the bootstrap; 0 = no confidence intervals"
    )
    confidence: Fraction = Field(default=0.95, description="of the intervals, 0 < value < 1")
    seed: Seed = Field(default=0, description="of the resamples")
    figures: Whole = Field(
        default=4, description="how many of the best and of the worst images are drawn; 0 = none"
    )
    mask_size: CountOrNull = Field(
        default=None,
        description="side in pixels at which masks are compared, a divisor of data.image_size, to "
        "set a network beside one of coarser images; null = as in training",
    )
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field(
        default="auto", description="where the network runs: auto, cpu, gpu, mps"
    )

    trust: Names = Field(
        default=[],
        description="packages outside of this project whose code the checkpoint may name, e.g. "
        "[mine]; or single classes",
    )

    @model_validator(mode="after")
    def _output_of_one(self) -> Self:
        several, one = len(self.checkpoint) > 1, self.ensemble or self.soup is not None
        if one and not several:
            key = "ensemble" if self.ensemble else "soup"
            raise wrong("needs several checkpoints: checkpoint=[a,b,c]", key)
        if self.ensemble and self.soup is not None:
            raise wrong("compares itself with the ensemble already; leave ensemble out", "soup")
        if self.soup is not None and self.mask_size is not None:
            raise wrong("is for the soup's own evaluation afterwards: checkpoint=SOUP", "mask_size")
        if self.output is not None and several and not one:
            raise wrong("is for one checkpoint; the results of several lie in their runs", "output")
        return self
