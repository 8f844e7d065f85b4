"""The settings of ``predict.py``: what may be typed and what it means. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from phasewise.cli.settings import ScriptSettings
from phasewise.config.fields import Count, CountOrNull, Flag, Names, Paths, Text, message, wrong

Share = Annotated[float, Field(ge=0, lt=1), message("must be a number in [0, 1)")]
WholeOrNull = Annotated[int | None, Field(ge=0), message("must be a whole number >= 0 or null")]


class PredictionSettings(ScriptSettings):
    """What ``predict.py`` is told."""

    SCRIPT: ClassVar = "predict.py"
    PATHS: ClassVar = ("source", "checkpoint", "gallery", "output")
    ABOUT: ClassVar = (
        "Applies a trained network to images of any size. Writes predictions.json, tables, masks, "
        "and pictures with the results drawn in; all in pixels of the upright image."
    )
    EXAMPLES: ClassVar = {
        "checkpoint=outputs/TASK/RUN source=photos": "a run's best network, a folder",
        "checkpoint=STUDY source='photos/**/*.jpg'": "the winner of a study, a pattern",
        "checkpoint=[RUN1,RUN2] source=a.png flip=true": "several networks, and mirror images",
        "checkpoint=RUN source=large.tif tile=512 overlap=64": "a large image, piece by piece",
        "checkpoint=RUN source=queries gallery=images": "retrieval from a gallery",
    }

    checkpoint: Paths = Field(
        description="a checkpoint, or the directory of a run (its best) or of a study (its winner);"
        " [a,b,c] = several as one: their probabilities or boxes are averaged"
    )
    source: Text = Field(
        description="an image, a folder (all images below it), or a pattern such as 'a/**/*.jpg'"
    )
    output: Text | None = Field(
        default=None,
        description="folder of the results; null = outputs/predictions/ and the source's name",
    )
    gallery: Text | None = Field(
        default=None,
        description="retrieval: where to look for the source's images; as source",
    )
    top: Count = Field(default=10, description="retrieval: length of the ranked lists")
    score: Share = Field(
        default=0.3, description="detection: boxes of lower confidence are left out, 0 <= score < 1"
    )
    tile: CountOrNull = Field(
        default=None,
        description="masks: look at squares of so many pixels, each scaled to the network's "
        "image_size; null = as in training: data.tile_size, else the image as a whole",
    )
    overlap: WholeOrNull = Field(
        default=None,
        description="masks: pixels that neighbouring squares share, within which one is "
        "blended into the other; null = an eighth of the square",
    )
    flip: Flag = Field(
        default=False, description="look at each image's mirror image too and average: true, false"
    )
    batch_size: Count = Field(default=8, description="images (or squares) at once")
    pictures: Literal["jpg", "png", "none"] = Field(
        default="jpg",
        description="format of the pictures with the results drawn in: jpg, png, none",
    )
    on_bad: Literal["error", "skip"] = Field(
        default="error",
        description="images that cannot be read: error (list them and write nothing), skip (leave "
        "them out and list them at the end)",
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
    def _overlap_below_tile(self) -> PredictionSettings:
        if self.overlap is not None and self.tile is not None and self.overlap >= self.tile:
            raise wrong(f"must be smaller than tile={self.tile}", "overlap")
        return self
