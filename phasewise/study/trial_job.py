"""A trial that is to be launched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from phasewise.study.overrides import Overrides, merge


@dataclass(frozen=True)
class TrialJob:
    """A trial to be launched; ``name`` is for people, who see what differs.

    ``part`` is the override with its places in the study, see `phasewise.study.membership`;
    ``objective`` its phase's. After ``pause`` epochs it stops for now.
    """

    name: str
    words: Overrides
    directory: Path
    subdir: str
    fingerprint: str
    part: str = ""
    pause: int | None = None
    objective: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def study_directory(self) -> str:
        """Of the study."""
        return str(self.directory).removesuffix(f"/{self.subdir}")

    def launched_as(self, more: Sequence[str]) -> list[str]:
        """Its overrides, and those that put it into its directory and concern this launch only."""
        # in full: words for the study around it, which a trial is not given, may be part of it
        place = {"hydra.sweep.dir": self.study_directory, "hydra.sweep.subdir": self.subdir}
        quoted = {k: QuotedString(text, Quote.single).with_quotes() for k, text in place.items()}
        pause = [] if self.pause is None else [f"trainer.pause_after={self.pause}"]
        more = [*more, *pause, *([self.part] if self.part else [])]
        return [*merge(self.words, more), *(f"{key}={text}" for key, text in quoted.items())]
