"""A real SLURM of one node: its daemons in a folder of their own, and none left behind."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NEEDS = {
    "slurm-wlm": ("slurmctld", "slurmd", "srun", "scontrol"),
    "munge": ("munged",),
    "slurmdbd": ("slurmdbd",),  # sacct, which submitit asks, answers from its database
    "mariadb-server": ("mariadbd", "mariadb-install-db", "mariadb-admin"),
}
NAME = "testing"


def why_not() -> str | None:
    """What keeps this machine from starting a SLURM, in one line."""
    if os.geteuid() != 0:
        return "needs root: the daemons start processes in the name of users"
    missing = [name for name, commands in NEEDS.items() if not all(map(shutil.which, commands))]
    return f"not installed: apt-get install {' '.join(missing)}" if missing else None


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """A cluster whose commands (sbatch, sacct, ...) work in this process and its children.

    Args:
        folder: empty; holds configs, logs, the database and the sockets.

    Raises:
        RuntimeError: a daemon ended, or did not answer; with the last lines of its log.
    """
    ports = dict(zip(("ctld", "d", "dbd", "sql"), _free_ports(4), strict=True))
    _write_configs(folder, ports)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    with ExitStack() as stack:
        stack.callback(_restore, before)

        def start(name: str, *words: str) -> None:
            stack.enter_context(_daemon(folder, name, *words))

        start("munged", "--foreground", "--force", *_munge_options(folder))
        _wait(folder, "munged", "munge", "--no-input", f"--socket={folder}/munge.socket")
        data = f"--datadir={folder}/sql"
        command = ["mariadb-install-db", "--no-defaults", "--user=root", data, "--skip-test-db"]
        method = "--auth-root-authentication-method=normal"
        subprocess.run([*command, method], check=True, capture_output=True)
        sql = (f"--port={ports['sql']}", f"--socket={folder}/sql.socket")
        small = ("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M")
        here = ("--user=root", "--bind-address=127.0.0.1", *sql, *small)
        start("mariadbd", "--no-defaults", data, *here)
        _wait(folder, "mariadbd", "mariadb-admin", "--no-defaults", *sql[1:], "ping")
        start("slurmdbd", "-D")
        _wait(folder, "slurmdbd", "sacctmgr", "--immediate", "add", "cluster", NAME)
        start("slurmctld", "-D", "-c")
        _wait(folder, "slurmctld", "scontrol", "ping")
        start("slurmd", "-D", "-c")
        _wait(folder, "slurmd", "srun", "--immediate=5", "true")
        stack.callback(_empty)
        yield


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for it in found:
            it.bind(("127.0.0.1", 0))
        return [it.getsockname()[1] for it in found]


def _munge_options(folder: Path) -> list[str]:
    names = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={folder}/munge.{end}" for option, end in names.items()]
    return [*options, f"--key-file={folder}/munge.key"]


def _write_configs(folder: Path, ports: dict[str, int]) -> None:
    """Few settings, and none that needs cgroups or systemd."""
    folder.chmod(0o755)
    for name in ("state", "spool", "sql"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    host, cores = socket.gethostname(), os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    (folder / "slurm.conf").write_text(f"""\
ClusterName={NAME}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports["ctld"]}
SlurmdPort={ports["d"]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePass={folder}/munge.socket
AccountingStoragePort={ports["dbd"]}
KillWait=5
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory * 9 // 10} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")
    database = folder / "slurmdbd.conf"
    database.write_text(f"""\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={ports["dbd"]}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports["sql"]}
StorageUser=root
StorageLoc=slurm_acct_db
""")
    database.chmod(0o600)


@contextmanager
def _daemon(folder: Path, name: str, *words: str) -> Iterator[None]:
    with (folder / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(
            [shutil.which(name) or name, *words], stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(folder: Path, daemon: str, *command: str, seconds: float = 60.0) -> None:
    """Until a command succeeds that asks a daemon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0:
            return
        time.sleep(0.5)
    logs = (folder / f"{daemon}.{end}" for end in ("out", "log"))
    last = "\n".join(line for log in logs if log.exists() for line in log.read_text().splitlines())
    raise RuntimeError(f"{daemon} does not answer {command[0]}: {done.stderr}{last[-2000:]}")


def _empty(seconds: float = 60.0) -> None:
    """Cancel all jobs, and return when their processes are gone."""
    subprocess.run(["scancel", "--partition=main", "--user=root"], check=False)
    end = time.monotonic() + seconds
    while subprocess.check_output(["squeue", "--noheader"]) and time.monotonic() < end:
        time.sleep(0.5)


def _restore(value: str | None) -> None:
    os.environ.pop("SLURM_CONF", None)
    if value is not None:
        os.environ["SLURM_CONF"] = value


if __name__ == "__main__":
    sys.exit("this module only starts SLURM; see on_slurm.py")
