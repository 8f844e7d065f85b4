"""Trials on a real Ray of this one machine: ``ENVIRONMENT/bin/python -m tests.cluster.on_ray``.

Runs sweeps through ``hydra/launcher=ray``, first with the Ray that it starts itself, then with a
cluster that runs already (``ray start --head``), compares them with the same in one process, kills
workers, and stops everything again. Some four minutes on two cores. Without Ray it says so and
exits with 2. No part of ``make test``: the plugin holds other packages back, and so has an
environment of its own. One that borrows all others from the project's takes 0.4 GB:

    python3 -m venv ENVIRONMENT
    ls -d $PWD/.venv/lib/python3*/site-packages > $(echo ENVIRONMENT/lib/python3*/site-packages)/base.pth
    ENVIRONMENT/bin/pip install 'hydra-ray-launcher>=1.2.2'
"""  # noqa: E501

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.cluster import checks

LAUNCHER = ("hydra/launcher=ray",)
JOINED = (*LAUNCHER, "hydra.launcher.ray.init.address=auto")


def main() -> None:
    """All checks, one after the other."""
    if find_spec("ray") is None or find_spec("hydra_plugins.hydra_ray_launcher") is None:
        print(f"on_ray.py: {sys.prefix}: hydra-ray-launcher is not installed", file=sys.stderr)
        sys.exit(2)
    import ray

    os.environ |= checks.ALONE
    signal.signal(signal.SIGINT, signal.default_int_handler)  # `&` of a shell has it ignored
    print(f"ray {ray.__version__}, {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory(prefix="on_ray.") as name:
        folders = {it: Path(name) / it for it in ("toys", "real", "killed", "killer")}
        for folder in folders.values():
            folder.mkdir()
        checks.say(checks.same_toys, folders["toys"], LAUNCHER)
        checks.say(checks.same_trainings, folders["real"], LAUNCHER)
        checks.say(checks.a_training_is_killed, folders["real"], LAUNCHER)
        checks.say(checks.a_toy_is_killed, folders["killed"], LAUNCHER, checks.kill_process)
        checks.say(checks.a_trial_kills_each_worker, folders["killer"], LAUNCHER)
        with _cluster(Path(name)):
            print("in a cluster that runs already:", flush=True)
            checks.say(checks.a_training_is_killed, folders["real"], JOINED, "joined")


@contextmanager
def _cluster(folder: Path) -> Iterator[None]:
    """One that the command does not start; ends its own processes, and no others."""
    command = Path(sys.executable).with_name("ray")
    words = ["start", "--head", "--block", "--include-dashboard=false", "--port=0"]
    with (folder / "ray.out").open("wb") as out:
        process = subprocess.Popen(
            [shutil.which(command) or "ray", *words], stdout=out, stderr=out, start_new_session=True
        )
        try:
            assert checks.soon(lambda: b"Ray runtime started" in (folder / "ray.out").read_bytes())
            yield
        finally:
            process.terminate()
            process.wait(60)
            # else Ray would wait for it at the next start
            Path(tempfile.gettempdir(), "ray", "ray_current_cluster").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
