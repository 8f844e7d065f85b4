"""The wheel in an environment of its own, without torch and without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.phasewise.study.synthetic import read_grid

pytestmark = pytest.mark.slow
SOURCES = ("phasewise", "hydra_plugins", "pyproject.toml", "README.md", "LICENSE")

MODULES = """
import pkgutil, sys, phasewise
from importlib import import_module, metadata
for room in ("records", "config", "cli", "study", "analysis", "report"):
    package = import_module(f"phasewise.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        import_module(module.name)
print(phasewise.__file__, metadata.version("phasewise"), "torch" in sys.modules)
"""

AUDIT = """
import sys
from phasewise.analysis.audit import audit
from phasewise.study.read import read_study
study = read_study(sys.argv[1])
print(len(study.phases), sorted(finding.rule for finding in audit(study)))
"""

APPLICATION = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    print("x is", cfg.x)

main()
"""

RECORD = """
from pathlib import Path
from phasewise.project import CONF, ROOT
from phasewise.records.record import environment
print(ROOT, CONF, environment()["git"])
"""

WITHOUT_CONF = """
from phasewise.cli.main import main
main("nothing:run")
"""

CHILD = """
import subprocess, sys, phasewise
from phasewise.project import module_environment
print(phasewise.__file__, flush=True)
command = [sys.executable, "-m", "phasewise.where"]
subprocess.run(command, cwd="elsewhere", env=module_environment(), check=True)
"""

Call = Callable[..., subprocess.CompletedProcess[str]]


def clean() -> dict[str, str]:
    """The environment without what would show the checkout to a child."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PHASEWISE"))}


def pip(python: Path, *words: object) -> None:
    command = [python, "-m", "pip", "--quiet", *words]
    done = subprocess.run(
        list(map(str, command)), env=clean(), capture_output=True, text=True, check=False
    )
    if done.returncode and any(
        text in done.stderr for text in ("ConnectionError", "NewConnectionError", "Max retries")
    ):
        pytest.skip(f"no package registry can be reached: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what an earlier build left in the checkout would get into the wheel."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)
        else:
            shutil.copy2(ROOT / name, source)
    pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", source / "dist", source)
    (found,) = (source / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], env=clean(), check=True)
    found = folder / "bin" / "python"
    pip(found, "install", "--constraint", ROOT / "constraints.txt", wheel)
    return found


@pytest.fixture
def call(python: Path, tmp_path: Path) -> Call:
    """Runs a script, or ``-m`` and a module, in a folder that holds nothing else."""

    def run(script: str, *words: object) -> subprocess.CompletedProcess[str]:
        if script != "-m":
            (tmp_path / "app.py").write_text(script)
            script = "app.py"
        command = [str(python), script, *map(str, words)]
        return subprocess.run(
            command, cwd=tmp_path, env=clean(), capture_output=True, text=True, check=False
        )

    return run


def test_the_wheel_holds_the_engine_and_its_plugin_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"phasewise", "hydra_plugins"}
    assert {"phasewise/py.typed", "hydra_plugins/phasewise_sweeper/__init__.py"} <= set(names)
    assert "hydra_plugins/__init__.py" not in names  # a namespace that other plugins share
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "phasewise").rglob("*")
        if path.suffix in {".py", ".j2", ".typed"}
    }
    assert {name for name in names if name.startswith("phasewise/")} == here


def test_what_needs_no_torch_is_imported_without(call: Call, python: Path) -> None:
    done = call(MODULES)
    assert done.returncode == 0, done.stderr
    file, version, torch = done.stdout.split()
    assert Path(file).is_relative_to(python.parents[1])
    assert (version, torch) == ("0.2.0", "False")
    assert call("import torch").returncode == 1


def test_a_study_is_read_audited_and_reported(call: Call, tmp_path: Path) -> None:
    study = tmp_path / "study"
    assert len(read_grid(study).phases) == 1
    done = call(AUDIT, study)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 ['")
    done = call("-m", "phasewise.report", study)
    assert (done.returncode, done.stderr) == (0, "")
    assert "optimizer.lr mattered most" in (study / "report.md").read_text()
    assert (study / "report.html").is_file()
    assert list((study / "figures").glob("*.png"))
    done = call("-m", "phasewise.report", tmp_path / "elsewhere")
    assert done.returncode == 2
    assert done.stderr.startswith("python -m phasewise.report: ")
    assert "elsewhere: does not exist" in done.stderr


def test_another_application_sweeps(call: Call, tmp_path: Path) -> None:
    done = call(APPLICATION, "-m", "+x=1,2", "hydra/sweeper=phasewise", "hydra.sweep.dir=out")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("x is")] == [
        "x is 1",
        "x is 2",
    ]
    assert (tmp_path / "out" / "1" / ".hydra" / "config.yaml").is_file()


def test_a_record_names_the_commit_of_the_application(call: Call, tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert call(RECORD).stdout.split() == [folder, f"{folder}/conf", "None"]
    user = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for words in (["init"], ["add", "app.py"], ["commit", "-m", "first"]):
        subprocess.run(["git", *user, *words], cwd=tmp_path, capture_output=True, check=True)
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=tmp_path, text=True)
    assert call(RECORD).stdout.split() == [folder, f"{folder}/conf", commit[:12]]


def test_without_a_config_tree_there_is_one_line(call: Call, tmp_path: Path) -> None:
    done = call(WITHOUT_CONF)
    assert done.returncode == 2
    assert done.stderr == (
        f"app.py: {tmp_path}/conf: no such folder; configs lie in conf/ beside the script, or "
        "where --config-path=DIR says\n"
    )


def test_a_checkout_comes_before_an_installed_copy(call: Call, tmp_path: Path) -> None:
    """Of its scripts and of what they start, whatever lies in the folder where one works."""
    shutil.copytree(ROOT / "phasewise", tmp_path / "phasewise")
    (tmp_path / "phasewise" / "where.py").write_text("import phasewise; print(phasewise.__file__)")
    (tmp_path / "elsewhere" / "phasewise").mkdir(parents=True)
    (tmp_path / "elsewhere" / "phasewise" / "__init__.py").write_text("raise SystemExit(1)")
    done = call(CHILD)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "phasewise" / "__init__.py")] * 2
