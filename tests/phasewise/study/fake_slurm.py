"""A cluster of one node that knows sbatch, srun, sacct and scancel as far as submitit uses them.

``python fake_slurm.py COMMAND ARGUMENTS``; in the environment FAKE_SLURM, a folder, which holds
the state of each task in a file named ``JOB`` or ``JOB_TASK``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

QUEUE = Path(os.environ["FAKE_SLURM"])


def tasks(job: str = "") -> list[Path]:
    return [it for it in sorted(QUEUE.glob(f"{job}*")) if re.fullmatch(r"\d+(_\d+)?", it.name)]


def sbatch(*words: str) -> None:
    job = str(100 + len(list(QUEUE.glob("*.sh"))))
    script = Path(words[-1]).read_text()
    (QUEUE / f"{job}.sh").write_text(script)
    array = re.search(r"--array=0-(\d+)", script)
    names = [f"{job}_{task}" for task in range(int(array[1]) + 1)] if array else [job]
    for name in names:
        (QUEUE / name).write_text("PENDING")
    with (QUEUE / "node.log").open("a") as log:
        command = [sys.executable, __file__, "node", job]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    print(f"Submitted batch job {job}")


def node(job: str) -> None:
    """One task after the other."""
    here = {"JOB_ID": job, "NTASKS": "1", "JOB_NUM_NODES": "1", "JOB_NODELIST": "here"}
    here |= dict.fromkeys(("PROCID", "LOCALID", "NODEID"), "0")
    for path in tasks(job):
        if path.read_text() != "PENDING":
            continue
        path.write_text("RUNNING")
        task = path.name.partition("_")[2]
        array = {"ARRAY_JOB_ID": job, "ARRAY_TASK_ID": task} if task else {}
        settings = {f"SLURM_{key}": value for key, value in (here | array).items()}
        process = subprocess.Popen(
            ["bash", QUEUE / f"{job}.sh"], env=os.environ | settings, start_new_session=True
        )
        (QUEUE / f"{path.name}.pid").write_text(str(process.pid))
        code = process.wait()
        if path.read_text() == "RUNNING":
            path.write_text("FAILED" if code else "COMPLETED")


def srun(*words: str) -> None:
    names = {"%j": "JOB_ID", "%A": "ARRAY_JOB_ID", "%a": "ARRAY_TASK_ID"}

    def path(option: str) -> str:
        text = words[words.index(option) + 1].replace("%t", "0")
        for mark, name in names.items():
            text = text.replace(mark, os.environ.get(f"SLURM_{name}", ""))
        return text

    first = next(number for number, word in enumerate(words) if word == sys.executable)
    with open(path("--output"), "a") as out, open(path("--error"), "a") as errors:
        sys.exit(abs(subprocess.call(words[first:], stdout=out, stderr=errors)))


def sacct(*words: str) -> None:
    print("JobID|State|NodeList")
    for path in tasks():
        print(f"{path.name}|{path.read_text()}|here")


def scancel(*words: str) -> None:
    for path in tasks(words[-1]):
        if path.read_text() in ("PENDING", "RUNNING"):
            path.write_text("CANCELLED")
            process = QUEUE / f"{path.name}.pid"
            if process.exists():
                os.killpg(int(process.read_text()), signal.SIGKILL)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
