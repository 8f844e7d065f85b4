"""How a function of another application may end, other than by returning a result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

APP = """
import errno, os, sys
import hydra


@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    if cfg.rate == 1:
        os.chdir("/")
    if cfg.rate == 2 and cfg.code == "ctrl-c":
        raise KeyboardInterrupt
    if cfg.rate == 2 and cfg.code == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if cfg.rate == 2:
        sys.exit(cfg.code)
    return cfg.rate


main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("code", "told"), [("0", "0"), ("3", "3"), ("null", "")])
def test_one_that_exits_has_failed_and_the_others_go_on(
    tmp_path: Path, code: str, told: str
) -> None:
    done, ended = sweep(tmp_path, code)
    assert done.returncode == 1
    assert f"rate=2: failed: LeftEarly: sys.exit({told}) before there was a result" in done.stderr
    assert ended == ["completed", "failed", "completed"]


@pytest.mark.slow
def test_one_that_a_signal_ended_ends_the_study(tmp_path: Path) -> None:
    done, ended = sweep(tmp_path, "143")
    assert done.returncode == 143
    assert ended == ["completed", "interrupted"]


def test_ctrl_c_ends_it_in_one_line(tmp_path: Path) -> None:
    done, ended = sweep(tmp_path, "ctrl-c")
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "app.py: interrupted"
    assert "Traceback" not in done.stderr
    assert ended == ["completed", "interrupted"]


@pytest.mark.slow
def test_a_full_disk_is_no_failure_of_the_trial(tmp_path: Path) -> None:
    done, ended = sweep(tmp_path, "full")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert ended == ["completed", "interrupted"]  # so that the same command goes on


def sweep(place: Path, code: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Three trials, of which the first leaves the folder and the second ends the process."""
    (place / "app.py").write_text(APP)
    words = ["hydra/sweeper=phasewise", "+study.mode=max", "+study.report=false"]
    words += ["+rate=1,2,3", f"+code={code}", "hydra.sweep.dir=out"]
    done = subprocess.run(
        [sys.executable, "app.py", "-m", *words],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    records = [json.loads(path.read_text()) for path in sorted(place.glob("out/*/record.json"))]
    return done, [one["status"] for one in records]
