"""The command line as a person meets it: real processes, exit codes, messages, times."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir

from phasewise.cli.main import CommandLine, check_directory, main
from phasewise.errors import UserError
from tests import forks
from tests.conftest import ROOT
from tests.forks import Done

CONF = ROOT / "conf"
BASIC = "hydra/sweeper=basic"

SCRIPT = """
import atexit, sys
sys.path.insert(0, {root!r})
from phasewise.cli.main import main
atexit.register(lambda: print("torch" in sys.modules, file=open("torch_loaded", "w")))
main("stub:run")
"""
STUB = """
import logging, os, sys
from phasewise.errors import DivergedError, UserError
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException

def run(cfg):
    logging.getLogger("stub").info("seed %d of %s", cfg.seed, HydraConfig.get().job.name)
    error = os.environ.get("STUB")
    if error:
        raise eval(error)
    return 0.5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT.format(root=str(ROOT)))
    (tmp_path / "stub.py").write_text(STUB)
    return tmp_path


def train(folder: Path, *words: str, **environment: str) -> Done:
    return forks.engine().run(["train.py", *words], folder, {"COLUMNS": "110"} | environment)


def anew(folder: Path, *words: str) -> tuple[Done, float]:
    """In a process that has to import everything; and the seconds that it computed."""
    clean = {k: v for k, v in os.environ.items() if "HYDRA" not in k}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.run(
        [sys.executable, "train.py", *words],
        cwd=folder,
        env=clean | {"COLUMNS": "110"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{' '.join(words)}: {wall:.2f} s, of which {cpu:.2f} s of computing")
    return Done(process.returncode, process.stdout, process.stderr), cpu


def torch_loaded(folder: Path) -> bool:
    return (folder / "torch_loaded").read_text().strip() == "True"


def test_help_is_quick_and_honours_the_line(folder: Path) -> None:
    result, cpu = anew(folder, "--help", BASIC, "optimizer=sgd")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: python train.py")
    assert "optimizer.nesterov=false" in result.stdout
    assert cpu < 1
    assert not torch_loaded(folder)
    assert not (folder / "outputs").exists()


def test_cfg_job_prints_the_config_and_stops(folder: Path) -> None:
    result = train(folder, "seed=3", "--cfg", "job", "data.batch_size=4", BASIC)
    assert (result.returncode, result.stderr) == (0, "")
    config = yaml.safe_load(result.stdout)
    assert (config["seed"], config["data"]["batch_size"]) == (3, 4)
    assert config["task"]["name"] == "multitask"
    assert "hydra" not in config
    assert not torch_loaded(folder)


def test_a_wrong_value_is_refused_before_anything_is_made(folder: Path) -> None:
    result, cpu = anew(folder, BASIC, "model.activation=rellu", "optimizer.lr=fast")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "train.py: 2 settings cannot be used:",
        "  optimizer.lr=fast: must be a number > 0",
        "  model.activation=rellu: not one of native, relu, leaky_relu, gelu, silu, elu, mish; "
        "did you mean relu?",
        "`python train.py --help` lists every key, its default and its values",
    ]
    assert cpu < 2
    assert not torch_loaded(folder)
    assert not (folder / "outputs").exists()


def test_a_wrong_key_is_refused(folder: Path) -> None:
    result, cpu = anew(folder, BASIC, "model.actvation=relu")
    assert result.returncode == 2
    first = "train.py: model.actvation: no such key; did you mean model.activation?"
    assert result.stderr.splitlines()[0] == first
    assert cpu < 2
    assert not torch_loaded(folder)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--epochs=3"], "--epochs=3: no such flag; keys have no dashes: epochs=3"),
        (["-m", "seed=1,2", "--cfg", "job"], "--multirun, --cfg and --info do not go together"),
        (["--config-dir=/no/such"], "--config-dir=/no/such: no such folder"),
        (["--config-name=nothing"], "the config cannot be composed: "),
    ],
)
def test_wrong_flags(
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("PHASEWISE_SET_HYDRA_FULL_ERROR", "1")
    with pytest.raises(SystemExit) as end:
        main("stub:run")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"train.py: {told}")


def test_a_completed_run(folder: Path) -> None:
    result = train(folder, BASIC, "seed=7", "hydra.run.dir=out")
    assert (result.returncode, result.stdout, result.stderr) == (0, "seed 7 of train\n", "")
    log = (folder / "out" / "run.log").read_text()
    assert "INFO stub: seed 7" in log
    assert log[:2] == "20"  # the time comes first


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ("UserError('bad files\\nmend them')", 2, "train.py: bad files\nmend them\n"),
        ("RuntimeError('boom')", 1, "train.py: RuntimeError: boom\nsee out/run.log\n"),
        (
            "InstantiationException('x')",
            1,
            "train.py: InstantiationException: x\nsee out/run.log\n",
        ),
        ("DivergedError('NaN')", 1, "train.py: NaN\nsee out/run.log\n"),
        (
            "KeyboardInterrupt()",
            130,
            "train.py: interrupted; to continue:\n"
            "python train.py hydra/sweeper=basic hydra.run.dir=out\n",
        ),
    ],
)
def test_how_a_run_that_fails_ends(folder: Path, error: str, code: int, message: str) -> None:
    result = train(folder, BASIC, "hydra.run.dir=out", STUB=error)
    assert (result.returncode, result.stderr) == (code, message)


def test_a_person_who_wants_tracebacks_gets_them(folder: Path) -> None:
    words = (BASIC, "hydra.run.dir=out")
    result = train(folder, *words, STUB="RuntimeError('boom')", HYDRA_FULL_ERROR="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "raise eval(error)" in result.stderr


def test_a_sweep_runs_every_job_with_flags_anywhere(folder: Path) -> None:
    result = train(folder, BASIC, "seed=1,2", "-m", "hydra.sweep.dir=out")
    assert (result.returncode, result.stderr) == (0, "")
    assert "seed 1 of train" in result.stdout
    assert "seed 2 of train" in result.stdout
    assert (folder / "out" / "1" / "run.log").exists()


def test_a_sweep_checks_the_values_of_each_job(folder: Path) -> None:
    result = train(folder, BASIC, "-m", "seed=-1,2", "hydra.sweep.dir=out")
    assert result.returncode == 2
    assert "train.py: seed=-1: must be a whole number" in result.stderr
    assert not torch_loaded(folder)


def problems(*words: str, multirun: bool = False) -> str:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        ours = [] if any(word.startswith("hydra/sweeper") for word in words) else [BASIC]
        line = CommandLine([*ours, *words], CONF, "config")
        with pytest.raises(UserError) as error:
            line.compose(multirun)
    return str(error.value)


@pytest.mark.parametrize("multirun", [False, True])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("optimizer.lr=1", "optimizer.lr=2"),
        ("optimizer.lr=1", "++optimizer.lr=1"),
        ("optimizer.lr=1,2", "optimizer.lr=3"),
        ("data=voc", "data=coco"),
        ("hydra.run.dir=a", "hydra.run.dir=b"),
        ("study=demo", "study=reid"),
    ],
)
def test_a_key_typed_twice_is_refused(first: str, second: str, multirun: bool) -> None:
    key = first.partition("=")[0]
    told = f"{second}: {key} is given twice, first as {first}; "
    assert problems(first, "seed=1", second, multirun=multirun).startswith(told)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("optimizer.lr=1e-3, 1e-2", "optimizer.lr=1e-3,1e-2"),
        ("optimizer.lr = 1e-3,1e-2", "optimizer.lr=1e-3,1e-2"),
        ("optimizer.lr: 1e-3", "optimizer.lr=1e-3"),
        ("data.augment=[flip, vflip],[]", "data.augment=[flip,vflip],[]"),
    ],
)
def test_spaces_within_an_override_are_told(words: str, meant: str) -> None:
    told = problems(*words.split(), "seed=1", multirun=True)
    assert told.startswith(f"{words}: an override has no spaces; write {meant}\n")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("optimizer=adamm", "optimizer=adamm: not one of adam, adamw, amsgrad, rmsprop, sgd; did"),
        ("optimizer=null", "optimizer=null: not one of adam"),
        ("preset=null", "did you mean none?"),
        ("optimizer.lr:1", "optimizer.lr:1: an override is KEY=VALUE; write optimizer.lr=1"),
        ("optimizer.lr=1,", "a value is missing beside a comma"),
        ("optimizer.lr=1;2", "several values have commas between them"),
        ("optimizer=[adam]", "optimizer=[adam]: not one of adam"),
        ("hydra/sweeper=basc", "hydra/sweeper=basc: not one of"),
        ("trainer.max_epoch=3", "no such key; did you mean trainer.max_epochs?"),
        ("activation=gelu", "activation: no such key; did you mean model.activation?"),
        ("optimiser=adam", "optimiser: no such key; did you mean optimizer?"),
        ("hydra.swep.dir=x", "no such key; did you mean hydra.sweep.dir?"),
        ("+model.foo=1", "model.foo: no such key; model has backbone, "),
        ("+model.activation=relu", "the key is there; write it without +"),
        ("~model.foo", "model.foo: no such key"),
        ("optimizer.momentum=0.5", "with optimizer=adamw; it belongs to optimizer=rmsprop or sgd"),
        ("optimizer=adam,sgd", "several values need -m"),
        ("seed=1,2", "several values need -m"),
        ("multitask", "KEY=VALUE; did you mean study=multitask or task=multitask?"),
        ("backbone", "an override is KEY=VALUE; did you mean model.backbone=VALUE?"),
        ("model.backbone", "model.backbone: a value must follow: model.backbone=VALUE"),
        ("=3", "a key stands before the equals sign"),
        ("model.norm =group", "cannot be read from character 11 on, ' =group'; a key has no"),
        ("data.augment=[flip", "data.augment=[flip: ends too early; brackets"),
        ("data.augment=[flip]]", "cannot be read from character 20 on, ']'; brackets"),
        (
            "data.root=/a(b)",
            "from character 13 on, '(b)'; quote such a text: 'data.root=\"/a(b)\"'",
        ),
        ("data.root='/a", "cannot be read from character 11 on"),
    ],
)
def test_what_is_said_about_a_word(word: str, told: str) -> None:
    first, *rest = problems(word).splitlines()
    assert told in first
    assert len(rest) == 1


def test_all_wrong_words_are_one_message_in_their_order() -> None:
    words = ("model.actvation=relu", "optimizer=adamm", "optimizer.momentum=1", "foo", "seed=1,2")
    first, *lines, _ = problems(*words).splitlines()
    assert first == "5 settings cannot be used:"
    assert [line.split(":")[0].strip() for line in lines] == [
        "model.actvation",
        "optimizer=adamm",
        "optimizer.momentum",
        "foo",
        "seed=1,2",
    ]


def test_no_key_is_blamed_for_a_choice_that_is_not_known() -> None:
    assert "zzz.yes" not in problems("data=zzz", "data.draw_sed=1")


def test_words_of_a_sweep() -> None:
    told = problems("optimizer=sgd,adm", "foo=1,2", "trainer.max_epoch=1", multirun=True)
    assert told.startswith("3 settings cannot be used:\n  optimizer=adm: not one of")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        # `momentum` belongs to one of the two only; the sweeper composes each
        words = [BASIC, "optimizer=adam,sgd", "optimizer.momentum=0.5,0.9", "seed=range(3)"]
        cfg, sweep = CommandLine(words, CONF, "config").compose(multirun=True)
        assert sweep
        assert cfg.optimizer._target_ == "torch.optim.Adam"
        assert CommandLine([BASIC, "hydra.mode=MULTIRUN", "seed=1,2"], CONF, "config").compose(
            False
        )[1]


def test_an_output_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    check_directory("hydra.run.dir", str(tmp_path / "new" / "run"))
    assert not (tmp_path / "new").exists()
    for name in ("file/run", "file", "dangling/run"):
        with pytest.raises(UserError, match=r"is not a folder\nhydra\.run\.dir=DIR"):
            check_directory("hydra.run.dir", str(tmp_path / name))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_an_output_directory_that_cannot_be_written_not_even_by_root() -> None:
    with pytest.raises(UserError, match="/proc cannot be written"):
        check_directory("hydra.run.dir", "/proc/run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_directory_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        check_directory("hydra.run.dir", str(tmp_path / "run"))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 49 * 10**6))
    with pytest.raises(UserError, match="only 49 MB are free there, 50 MB are needed"):
        check_directory("hydra.sweep.dir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 50 * 10**6))
    check_directory("hydra.sweep.dir", str(tmp_path))


def test_the_entry_script_has_no_logic() -> None:
    lines = (ROOT / "train.py").read_text().splitlines()
    assert len(lines) <= 12
    assert '    main("phasewise.training.run:run")' in lines
