"""Scripts in fresh processes that need not import everything anew: forked from one that has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]

SERVER = """
import gc, importlib, json, os, runpy, signal, sys, traceback
for name in sys.argv[1].split(","):
    importlib.import_module(name)
gc.freeze()
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if not child:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(call["cwd"])
        os.environ |= call["environment"]
        for number, name in ((1, "out"), (2, "err")):
            file = os.open(call[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = call["argv"]
        sys.path[0] = call["cwd"]
        code = 0
        try:
            runpy.run_path(call["argv"][0], run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # taking an interpreter apart that holds torch takes seconds
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """How a call ended: its exit code (negative, the signal), and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Forks:
    """A process that has imported some modules, from which scripts are forked one by one.

    Args:
        folder: for what the scripts print.
        modules: imported before the first fork; those without threads of their own.
    """

    def __init__(self, folder: Path, modules: Sequence[str]) -> None:
        self.folder = folder
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, ",".join(modules)],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if "HYDRA" not in k}
            | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.kill()
        self._server.wait()

    def run(
        self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
    ) -> Done:
        """One script, to its end."""
        out, err = self.folder / "out.txt", self.folder / "err.txt"
        call: dict[str, Any] = {"argv": list(argv), "cwd": str(cwd), "out": str(out)}
        call |= {"err": str(err), "environment": dict(environment or {})}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(call) + "\n")
        self._server.stdin.flush()
        self._server.stdout.readline()
        code = int(self._server.stdout.readline())
        return Done(code, out.read_text(), err.read_text())
