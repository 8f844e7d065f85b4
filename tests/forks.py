"""Scripts in fresh processes that need not import everything anew: forked from one that has."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]

SERVER = """
import atexit, gc, importlib, json, os, runpy, signal, sys, threading, traceback
from hydra.core.plugins import Plugins
Plugins.instance()  # imports what it finds, also what was imported before: so it is the first
for name in sys.argv[1].split(","):
    importlib.import_module(name)
gc.freeze()

def tell(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def reap(*_):
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        tell("ended", child, os.waitstatus_to_exitcode(status))

def become(call):
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ignored = call["ignored"]
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    os.chdir(call["cwd"])
    os.environ |= call["environment"]
    for name in call["without"]:
        os.environ.pop(name, None)
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(call[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout.reconfigure(line_buffering=call["lines"])
    sys.argv = call["argv"]
    own = call["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [os.path.dirname(os.path.abspath(sys.argv[0])), *filter(None, own)]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass
    os._exit(code or 0)  # taking an interpreter apart that holds torch takes seconds

signal.signal(signal.SIGCHLD, reap)
for line in sys.stdin:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        become(json.loads(line))
    tell("began", child)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
"""


ENGINE = (
    "phasewise.cli.main",
    "phasewise.study.sweeper",
    "phasewise.study.compose",
    "phasewise.config.schema",
    "phasewise.report.report",
    "phasewise.report.page",
    "phasewise.report.render",
    "phasewise.report.figures.style",
    "phasewise.report.sections.appendix",
    "phasewise.report.sections.comparison",
    "phasewise.analysis.audit",
    "phasewise.analysis.statistics.importance",
    "statsmodels.formula.api",
    "optuna.importance",
    "sklearn.ensemble",
    "multitask.schema",
)
TASKS = ("multitask", "segmentation", "localization", "reid")
TRAINING = (
    "phasewise.cli.main",
    "phasewise.study.sweeper",
    "phasewise.training.run",
    *(f"{task}.{room}" for task in TASKS for room in ("data", "module", "schema")),
)


@dataclass(frozen=True)
class Done:
    """How a call ended: its exit code (negative, the signal), and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Child:
    """A script that is running, in a session of its own.

    Args:
        pid: its process and its session.
        out: the file, or the pipe, that it prints to.
        err: the file of its errors.
        wait: waits for its exit code.
    """

    def __init__(self, pid: int, out: Path, err: Path, wait: Callable[[], int]) -> None:
        self.pid, self._out, self._err, self._wait = pid, out, err, wait
        # opened for reading, a pipe lets the script go on that opened it for writing
        self.stdout: IO[str] = out.open()
        self._read: list[str] = []

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.stdout.close()

    def readline(self) -> str:
        """The next line of a pipe; empty after the last one."""
        self._read.append(self.stdout.readline())
        return self._read[-1]

    def signal(self, number: signal.Signals) -> None:
        """To the script alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """The script and whatever it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def wait(self) -> Done:
        """To its end."""
        try:
            rest = "" if self.stdout.closed else self.stdout.read() if self._out.is_fifo() else None
            code = self._wait()
        except BaseException:
            self.kill()
            raise
        out = "".join(self._read) + rest if rest is not None else self._out.read_text()
        return Done(code, out, self._err.read_text())


class Forks:
    """A process that has imported some modules, from which scripts are forked.

    Args:
        modules: imported before the first fork; those without threads of their own.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.folder, self._calls = Path(self._folder.name), 0
        self._ended: dict[int, int] = {}
        path = filter(None, [os.environ.get("PYTHONPATH")])
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, ",".join(modules)],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if "HYDRA" not in k}
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), *path]), "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """No more scripts."""
        self._server.kill()
        self._server.wait()

    def start(
        self,
        argv: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        *,
        without: Sequence[str] = (),
        pipe: bool = False,
        ignored: bool = False,
    ) -> Child:
        """Begin a script.

        Args:
            argv: the script and its words.
            cwd: where it runs.
            environment: variables beside those of the tests.
            without: variables that it does not have.
            pipe: its output is read while it runs.
            ignored: Ctrl-C arrives ignored, as in a script's background.
        """
        self._calls += 1
        out, err = (self.folder / f"{name}-{self._calls}.txt" for name in ("out", "err"))
        if pipe:
            os.mkfifo(out)
        else:
            out.touch()
        call: dict[str, Any] = {"argv": [*argv], "cwd": str(cwd)}
        call["environment"] = dict(environment or {})
        call |= {"out": str(out), "err": str(err), "without": [*without]}
        call |= {"lines": pipe, "ignored": ignored}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(call) + "\n")
        self._server.stdin.flush()
        while (pid := self._told()) is None:
            pass
        return Child(pid, out, err, lambda: self._code(pid))

    def run(
        self,
        argv: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        *,
        without: Sequence[str] = (),
    ) -> Done:
        """One script, to its end."""
        with self.start(argv, cwd, environment, without=without) as child:
            return child.wait()

    def _told(self) -> int | None:
        """What the server says next: a process that has begun, or nothing, if one has ended."""
        assert self._server.stdout is not None
        what, *numbers = self._server.stdout.readline().split()
        if what == "began":
            return int(numbers[0])
        self._ended[int(numbers[0])] = int(numbers[1])
        return None

    def _code(self, pid: int) -> int:
        while pid not in self._ended:
            assert self._told() is None
        return self._ended.pop(pid)


def _kept(modules: Sequence[str]) -> Forks:
    forks = Forks(modules)
    atexit.register(forks.close)
    return forks


@cache
def engine() -> Forks:
    """From a process with all that works without torch; one for all tests of a process."""
    return _kept(ENGINE)


@cache
def training() -> Forks:
    """From a process that is about to train any of the tasks."""
    return _kept(TRAINING)
