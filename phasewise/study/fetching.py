"""``study.fetch=true``: what a study needs from the internet, brought before it is run without."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from phasewise.config.schema import weight_names_of
from phasewise.errors import say
from phasewise.study.compose import Composer, assume_weights
from phasewise.study.plan import Stage

FETCH = "phasewise.training.fetching.fetch_weights"
"""It brings torch."""


def fetch(stages: Sequence[Stage], composer: Composer) -> None:
    """Download the pretrained weights of all trials that are planned, each once.

    They go into the folder that ``model.pretrained`` names, or into the caches of torch and Hugging
    Face where it is ``true``.

    Raises:
        UserError: some cannot be had.
    """
    wanted: dict[tuple[str, str, str | None], DictConfig] = {}
    for job in (job for stage in stages for jobs in stage.jobs for job in jobs):
        config = composer.config_of(job.words)
        folder = assume_weights(config)
        if OmegaConf.select(config, "model.pretrained") is True:
            names = weight_names_of(config)
            wanted.setdefault((str(config.task.module._target_), names[0], folder), config)
    if not wanted:
        say("nothing to fetch: no trial has model.pretrained=true or a folder of weights")
        return
    for (target, name, folder), config in wanted.items():
        say(get_method(FETCH)(target, name, config.data.image_size, folder))
