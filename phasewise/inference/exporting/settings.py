"""The settings of ``export.py``: what may be typed and what it means. No torch here."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from phasewise.cli.settings import ScriptSettings
from phasewise.config.fields import CountOrNull, Names, Positive, Text
from phasewise.project import install_command

SUFFIXES = {"onnx": "onnx", "torchscript": "pt", "torch_export": "pt2"}


class ExportSettings(ScriptSettings):
    """What ``export.py`` is told."""

    SCRIPT: ClassVar = "export.py"
    PATHS: ClassVar = ("checkpoint", "output", "images")
    ABOUT: ClassVar = (
        "Writes a trained network to a file that runs without this project, says in the file how "
        "images are prepared for it, and compares its outputs with the network's."
    )
    EXAMPLES: ClassVar = {
        "checkpoint=outputs/TASK/RUN format=onnx": "into the run's directory",
        "checkpoint=STUDY format=torchscript output=a.pt": "the winner of a study or sweep",
        "checkpoint=a.ckpt format=torch_export images=photos": "compared on images of a folder",
    }
    MORE: ClassVar = (
        "data=NAME and data.KEY=VALUE change where validation images are read from, e.g. "
        "data.root=PATH."
    )
    SECTIONS: ClassVar = ("data",)

    checkpoint: Text = Field(
        description="a checkpoint, or the directory of a run (its best) or of a study or sweep "
        "(its winner)"
    )
    format: Literal["onnx", "torchscript", "torch_export"] = Field(
        default="onnx",
        description=f"onnx (needs {install_command('export')}), torchscript, torch_export",
    )
    output: Text | None = Field(
        default=None,
        description="file; null = export/ in the run's directory, or beside the checkpoint",
    )
    batch: CountOrNull = Field(
        default=None, description="images at once: a number, or null for any number"
    )
    images: Text | None = Field(
        default=None,
        description="an image, a folder or a pattern to compare on; null = validation images of "
        "the run's data, or drawn ones where these are not here",
    )
    tolerance: Positive = Field(
        default=1e-4,
        description="largest difference of an output to the network's, as a share of the output's "
        "largest value or of 1, whichever is more",
    )
    trust: Names = Field(
        default=[],
        description="packages outside of this project whose code the checkpoint may name, e.g. "
        "[mine]; or single classes",
    )
