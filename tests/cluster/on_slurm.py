"""Trials on a real SLURM of this one machine: ``python -m tests.cluster.on_slurm``.

Starts munge, MariaDB, slurmdbd, slurmctld and slurmd in a folder of their own, runs sweeps through
``hydra/launcher=submitit_slurm``, compares them with the same in one process, kills, cancels and
preempts workers, and stops everything again. Some five minutes on two cores. Needs root and
``apt-get install slurm-wlm slurmdbd mariadb-server``; where these are missing it says so and exits
with 2. No part of ``make test``, which has fake_slurm.py instead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster import checks
from tests.cluster.slurm_node import running, why_not
from tests.phasewise.study.launched import call, make_app, records, soon, start

SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=main")
LAUNCHER = (*SLURM, "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10")


def main() -> None:
    """All checks, one after the other."""
    reason = why_not()
    if reason:
        print(f"on_slurm.py: {reason}", file=sys.stderr)
        sys.exit(2)
    os.environ |= checks.ALONE
    signal.signal(signal.SIGINT, signal.default_int_handler)  # `&` of a shell has it ignored
    with tempfile.TemporaryDirectory(prefix="on_slurm.") as name:
        place = Path(name)
        folders = {it: place / it for it in ("node", "toys", "real", "a", "b", "c", "d", "e", "f")}
        for folder in folders.values():
            folder.mkdir()
        with running(folders["node"]):
            version = subprocess.check_output(["sinfo", "--version"], text=True)
            print(f"{version.strip()}, {os.cpu_count()} cores", flush=True)
            checks.say(checks.same_toys, folders["toys"], LAUNCHER)
            checks.say(checks.same_trainings, folders["real"], LAUNCHER)
            checks.say(checks.a_training_is_killed, folders["real"], LAUNCHER)
            checks.say(checks.a_toy_is_killed, folders["a"], LAUNCHER, _scancel)
            checks.say(checks.a_trial_kills_each_worker, folders["b"], LAUNCHER)
            checks.say(a_training_is_preempted, folders["real"])
            checks.say(the_study_is_killed, folders["d"])
            checks.say(ctrl_c_empties_the_queue, folders["e"])


def _scancel(directory: Path) -> None:
    job = _environment(directory)
    words = ["scancel", f"{job['SLURM_ARRAY_JOB_ID']}_{job['SLURM_ARRAY_TASK_ID']}"]
    subprocess.run(words, check=True)


def _queue() -> dict[str, str]:
    """The state of each job that has not ended."""
    words = ["squeue", "--noheader", "--array", "--format=%i %T"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return dict(line.split() for line in told.splitlines())


def _environment(directory: Path) -> dict[str, str]:
    """Of the process that works in a run's directory: SLURM tells it which job it is."""
    words = Path(f"/proc/{checks.holder(directory)}/environ").read_text().split("\0")
    return dict(it.partition("=")[::2] for it in words if it)


def a_training_is_preempted(folder: Path) -> str:
    """SLURM's warning before it stops a job; submitit puts the job back into the queue."""
    out = folder / "preempted"
    with checks.train(out, *LAUNCHER, "hydra.launcher.max_num_timeout=3") as process:
        assert soon(lambda: checks.busy(out), 120), process.communicate()
        victim = checks.busy(out)[0]
        job = _environment(victim)["SLURM_JOB_ID"]
        subprocess.run(["scancel", "--signal=USR2", f"{job}.0"], check=True)  # the step of srun
        told, errors = process.communicate()
    assert process.returncode == 0, told + errors
    checks.compare(folder / "here", out)
    log = (victim / "console.log").read_text()
    assert "continuing after epoch" in log, log
    epoch = log.split("continuing after epoch ")[1].split()[0]
    return f"job {job} went back into the queue and on after epoch {epoch}; the same figures"


def the_study_is_killed(folder: Path) -> str:
    """The command's own process: the jobs go on, and the same command uses what they did."""
    app = make_app(folder)
    words = ("-m", "optimizer.lr=1e-2,1e-3,2e-2,2e-3", *LAUNCHER)
    with start(app, *words, SECONDS_EACH="8") as process:
        assert soon(lambda: list(app.glob("out/*/begun"))), process.communicate()
        os.killpg(process.pid, signal.SIGKILL)
    left = len(_queue())
    done = call(app, *words, SECONDS_EACH="8")
    assert done.returncode == 0, done.stdout + done.stderr
    begun = [path.read_text() for path in app.glob("out/*/begun")]
    assert begun == ["x"] * 4, begun
    return f"{left} jobs went on; the same command waited for them, and each trial began once"


def ctrl_c_empties_the_queue(folder: Path) -> str:
    """The jobs are cancelled, queued and running ones."""
    app = make_app(folder)
    words = ("-m", "optimizer.lr=1e-2,1e-3,2e-2,2e-3", *LAUNCHER)
    with start(app, *words, SECONDS_EACH="60") as process:
        assert soon(lambda: list(app.glob("out/*/begun"))), process.communicate()
        before = len(_queue())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert soon(lambda: not _queue()), _queue()
    assert len(records(app / "out")) < 4
    return f"{before} jobs before, none after; exit code 130"


if __name__ == "__main__":
    main()
