"""``--shell-completion`` as shells call it, up to a real bash."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forks
from tests.conftest import ROOT
from tests.forks import Done


def train(*words: str, line: str = "") -> Done:
    return forks.engine().run(["train.py", *words], ROOT, {"COMP_LINE": line})


def candidates(typed: str) -> list[str]:
    done = train("-sc", "query=bash", line=f"python train.py {typed}")
    assert done.stderr == ""
    return done.stdout.split()


def test_keys_choices_and_values() -> None:
    assert candidates("mod") == ["model."]
    assert candidates("model.back") == ["model.backbone="]
    tasks = [path.stem for path in sorted((ROOT / "conf" / "task").glob("*.yaml"))]
    assert candidates("task=") == [f"task={task}" for task in tasks]
    assert "hydra/launcher=basic" in candidates("hydra/launcher=")


def test_what_was_typed_before_counts() -> None:
    assert "data.cameras=" in candidates("task=reid data.c")
    assert "data.cameras=" not in candidates("task=localization data.c")
    assert candidates("data=coco data.ob") == []
    assert candidates("task=localization data=coco data.ob") == ["data.object="]
    assert candidates("-m optimizer.lr=1e-3,1e-4 mod") == ["model."]
    assert candidates("'data.augment=[flip]' mod") == ["model."]


@pytest.mark.parametrize("before", ["nonsense", "a=b=c", "'data.augment=[flip", "--no-such-flag"])
def test_nothing_is_said_while_somebody_types(before: str) -> None:
    candidates(before)
    assert candidates(f"{before} mod") == ["model."]


def test_it_is_quick() -> None:
    """Without torch, which alone takes longer."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = subprocess.check_output(
        [sys.executable, "train.py", "-sc", "query=bash"],
        cwd=ROOT,
        env=os.environ | {"COMP_LINE": "python train.py model."},
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "model.backbone=" in found.split()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


@pytest.mark.parametrize("words", [(), ("install=",), ("bash",), ("install=bash", "query=bash")])
def test_a_wrong_call_is_one_line(words: tuple[str, ...]) -> None:
    done = train("--shell-completion", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("train.py: --shell-completion takes one of install=SHELL, ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on this machine")
def test_in_bash(tmp_path: Path) -> None:
    """Ours is completed; another script is not run, which Hydra's own function does."""
    (tmp_path / "train.py").symlink_to(ROOT / "train.py")
    (tmp_path / "other.py").write_text("open('was_run', 'w')\n")
    script = tmp_path / "try.sh"
    script.write_text(
        'eval "$(python train.py --shell-completion install=bash)"\n'
        "tab() { COMP_LINE=$*; COMP_CWORD=$(($# - 1)); hydra_bash_completion; }\n"
        'tab python train.py task=reid mod; echo "${COMPREPLY[@]}"\n'
        "complete -p python\n"
        'COMPREPLY=(); tab python other.py mod; echo "nothing: ${COMPREPLY[@]}"\n'
        "ls was_run\n"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "try.sh"],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found, rule, other = done.stdout.splitlines()
    assert found == "model."
    assert rule.endswith("-F hydra_bash_completion python")
    assert other == "nothing: "
    assert "was_run" in done.stderr  # ls finds none


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--cfg", "job"), "task:\n"),
        (("--cfg", "hydra", "-p", "hydra.launcher"), "# @package hydra.launcher\n_target_: "),
        (("--info", "plugins"), "Installed Hydra Plugins"),
    ],
)
def test_hydras_other_questions(words: tuple[str, ...], expected: str) -> None:
    done = train(*words)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
