"""Fixtures: real configs at a tiny scale, and runs of them."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from phasewise.study.application import Application
from phasewise.study.compose import Composer
from phasewise.study.winner import winning_run

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does
if "PYTEST_XDIST_WORKER" in os.environ:  # a process per core has a thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where it arrives ignored (`nohup`, `&` in a script), children would inherit that, and tests of
# Ctrl-C wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

REFUSED = ROOT / "tests" / "refused"
"""A folder for ``$PYTHONPATH``."""

TORCH = ("torch", "torchvision", "torchmetrics", "lightning", "timm")
ROOMS = ("records", "config", "cli", "study", "analysis", "report", "api")
"""Of the engine, those that need no torch."""

NEED_TORCH = (
    "records/test_checkpoints.py",
    "records/test_lock.py",
    "config/test_backbone_names.py",
    "config/test_identity.py",
    "study/test_launcher_plugins.py",
    "study/test_pretrained.py",
    "study/test_weights.py",
)
"""Of their tests, those that train, read weights, or ask timm for names."""

TINY = (
    "data.image_size=32",
    "data.train_images=8",
    "data.val_images=4",
    "data.test_images=4",
    "data.batch_size=4",
    "trainer.max_epochs=1",
    "figures.images=0",
    "model.backbone=test_resnet",  # timm's smallest
)

WITHOUT_BACKBONE = tuple(word for word in TINY if not word.startswith("model."))
TINY_RUNS = {
    "multitask": TINY,
    "localization": TINY,
    "segmentation": (*WITHOUT_BACKBONE, "data.beads=8", "model.width=4"),
    "reid": (
        *(word for word in WITHOUT_BACKBONE if "_images" not in word),
        "model.backbone=mobilenet_v3_small",
        "data.train_identities=6",
        "data.test_identities=3",
        "data.cameras=2",
        "data.batch_size=8",
        "data.validation_fraction=0.4",
    ),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "the rooms that need no torch, without it (refused); the rest; or all (default)"
    parser.addoption("--torch", choices=("refused", "rest", "all"), default="all", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """In this process, in xdist's workers and in all that tests start."""
    if config.getoption("--torch") == "refused":
        os.environ.setdefault("REFUSED", ",".join(TORCH))
        paths = [str(REFUSED), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        runpy.run_path(str(REFUSED / "sitecustomize.py"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    half, rooms = config.getoption("--torch"), ROOT / "tests" / "phasewise"
    if half == "all" or rooms.is_relative_to(collection_path):
        return None
    name = collection_path.relative_to(rooms).as_posix() if rooms in collection_path.parents else ""
    without = name.partition("/")[0] in ROOMS and name not in NEED_TORCH
    if half == "refused":
        return not without or None
    return (without and collection_path.is_file()) or None


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.torch != "all":
        session.exitstatus = pytest.ExitCode.OK  # ``-k NAME`` may be in the other half alone


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoded images are shared by all tests of a session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def make_config(cache: Path) -> Callable[..., DictConfig]:
    """Compose and check a config from overrides, as a sweep would of a trial's words."""
    from phasewise.config.schema import check_config

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        whole = compose("config", [f"data.cache_dir={cache}"], return_hydra_config=True)
        composer = Composer(whole, GlobalHydra.instance().config_loader(), Application(whole))

    def make(*overrides: str) -> DictConfig:
        cfg = composer.config_of(overrides)
        check_config(cfg)
        return cfg

    return make


@pytest.fixture(scope="session")
def tiny_run(
    make_config: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The directory of a tiny run of a task, trained once; write nothing into it."""
    from phasewise.training.run import train

    known: dict[str, Path] = {}

    def get(task: str) -> Path:
        if task not in known:
            known[task] = tmp_path_factory.mktemp(task)
            train(make_config(f"task={task}", *TINY_RUNS[task]), known[task])
        return known[task]

    return get


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real sets; tests that need it are skipped where it is absent."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("the real data sets (../shared/data) are not on this machine")
    return data


def called(
    main: Callable[..., object], words: Sequence[object], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """A script's ``main`` in this process: exit code, output, errors."""
    with pytest.raises(SystemExit) as stop:
        main(winning_run, [str(word) for word in words])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def twin(run: Path, place: Path) -> Path:
    """A copy of a run whose network is another one that computes the same: its batch norms have
    counted one batch more."""
    import torch

    shutil.copytree(run, place)
    for file in (place / "checkpoints").glob("*.ckpt"):
        content = torch.load(file, weights_only=True)
        counters = [it for name, it in content["state_dict"].items() if "num_batches" in name]
        assert counters
        for counter in counters:
            counter.add_(1)
        torch.save(content, file)
    return place
