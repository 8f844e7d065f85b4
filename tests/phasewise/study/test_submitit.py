"""Trials in SLURM's queue, as submitit sees it (fake_slurm.py)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.phasewise.study.launched import call, left, make_app, records, soon, start

pytestmark = pytest.mark.slow

SLURM = ("-m", "hydra/launcher=submitit_slurm")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel"):
        script = Path(__file__).with_name("fake_slurm.py")
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" {name} "$@"\n')
        (commands / name).chmod(0o755)
    (tmp_path / "queue").mkdir()
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "queue"))
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    app = make_app(tmp_path)
    script = app / "app.py"
    quick = "from submitit import SlurmJob\n\n"
    quick += "SlurmJob.watcher._delay_s = 1  # not 600\nSlurmJob._results_timeout_s = 1  # not 15\n"
    script.write_text(quick + script.read_text())
    return app


def states(app: Path) -> dict[str, str]:
    return {it.name: it.read_text() for it in (app / "queue").iterdir() if not it.suffix}


def test_the_queue_goes_on_when_a_job_dies(app: Path) -> None:
    done = call(app, *SLURM, "optimizer.lr=7,1e-2,1e-3")
    assert done.returncode == 1
    assert "1 of 3 trials did not complete" in done.stderr
    assert "optimizer.lr=7: failed: its worker died 2 times" in done.stderr
    assert states(app) == {
        **{"100_0": "FAILED", "100_1": "COMPLETED", "100_2": "COMPLETED"},
        **{"101": "FAILED"},  # the others were waited for, not submitted again
    }
    found = {name: record["status"] for name, record in records(app / "out").items()}
    assert sorted(found.values()) == ["completed", "completed", "failed"]


def test_ctrl_c_empties_the_queue(app: Path) -> None:
    with start(app, *SLURM, "optimizer.lr=1e-2,1e-3", SECONDS_EACH="60") as process:
        assert soon(lambda: list(app.glob("out/*/begun"))), process.communicate()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "interrupted; to continue:" in errors
        assert states(app) == {"100_0": "CANCELLED", "100_1": "CANCELLED"}
        assert soon(lambda: not left(process.pid), 10)


def test_a_queue_that_takes_nothing_ends_the_study_at_once(app: Path) -> None:
    (app / "bin" / "sbatch").write_text("#!/bin/sh\necho no such partition >&2; exit 1\n")
    done = call(app, *SLURM, "optimizer.lr=1e-2,1e-3")
    assert done.returncode == 1
    assert "no such partition" in done.stderr
    assert "Traceback" not in done.stderr
    assert not records(app / "out")
