"""What the launchers that Hydra has plugins for need to be told; none of them is imported here."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

RAY = {
    "init": {
        "log_to_driver": False,
        "logging_level": "error",
        "include_dashboard": False,
        "object_store_memory": None,  # the plugin's own value keeps it out of running clusters
    },
    "remote": {"max_retries": 0},  # a trial whose worker died is repeated by the study
}


def configure(launcher: Launcher, batch_size: int | None) -> int | None:
    """Set what the study wants of a launcher and the person has not set.

    Args:
        launcher: any of Hydra's.
        batch_size: most trials that it gets at once, ``None`` for any number.

    Returns:
        The batch size; of submitit's local executor, which starts all trials that it gets at
        once, no more than there are cores, which they share out among them.
    """
    if hasattr(launcher, "ray_cfg"):
        launcher.ray_cfg = OmegaConf.merge(RAY, launcher.ray_cfg)
    if getattr(launcher, "_EXECUTOR", None) == "local":
        cores = os.cpu_count() or 1
        batch_size = batch_size or cores
        os.environ.setdefault("OMP_NUM_THREADS", str(max(cores // batch_size, 1)))
    return batch_size


def side_by_side(launcher: Launcher) -> int | None:
    """How many trials a launcher runs at the same time; ``None`` where it does not tell."""
    settings = getattr(launcher, "joblib", None)
    count = None if settings is None else settings.get("n_jobs")
    if isinstance(count, int):
        return count if count > 0 else os.cpu_count() or 1
    return None


def wait_for_jobs(crash: BaseException) -> None:
    """Wait until no job of a batch is queued or running, whose launcher has raised ``crash``.

    joblib ends all workers with the first one. submitit and Ray go on with the others, of which
    their launchers know no more; what they had submitted still is in their frames. Were they not
    found, trials would wait for each other's locks, no more.
    """
    for name, jobs in _submitted(crash):
        if name == "jobs":
            for job in jobs:
                job.wait()
        else:
            import ray

            ray.wait(jobs, num_returns=len(jobs))


@contextmanager
def cancelled_on_interrupt() -> Iterator[None]:
    """Ctrl-C also ends the jobs of submitit, which are no processes of ours."""
    try:
        yield
    except KeyboardInterrupt as stop:
        for name, jobs in _submitted(stop):
            for job in jobs if name == "jobs" else ():
                job.cancel(check=False)
        raise


def _submitted(error: BaseException | None) -> Iterator[tuple[str, list[Any]]]:
    """Names and values of the launchers' own variables, from where an error passed through."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            module = frame.f_globals.get("__name__", "")
            for package, name in (("submitit", "jobs"), ("ray", "runs")):
                if module.startswith(f"hydra_plugins.hydra_{package}_launcher"):
                    jobs = frame.f_locals.get(name)
                    if jobs:
                        yield name, list(jobs)
        error = error.__context__
