"""The studies in conf/study: what they plan at every budget, and one of them run whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache as cache_results
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from phasewise.analysis.proposals import propose_phases
from phasewise.config.fingerprint import computed
from phasewise.config.help import flatten
from phasewise.config.schema import check_config
from phasewise.records.record import DATA_MARK, RunRecord, read_record
from phasewise.study import plan_summary, sweeper
from phasewise.study.application import Application
from phasewise.study.journal import Journal, read_journal
from phasewise.study.results import typed
from phasewise.study.schema import parse_study

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FILES = sorted(path.stem for path in (ROOT / "conf" / "study").glob("*.yaml"))
BUDGETS = ("full", "small", "smoke")

ROWS = {
    "multitask": {
        **{"architecture": 4, "activation": 3, "init_scheme": 3},
        **{"learning_rate": 4, "dropout": 3, "final": 2},
    },
    "localization": {
        **{"backbone": 4, "loss": 5, "learning_rate": 4, "dropout": 3, "augmentation": 4}
    },
    "reid": {
        **{"architecture": 14, "augmentation": 6, "combinations": 4},
        **{"learning_rate": 6, "batch_size": 6, "optimizer": 4},
    },
    "segmentation_search": {"search": 15, "around": 10},
    "segmentation_grid": {"grid": 36, "each_at_its_best": 3, "longer": 1, "before": 1},
    "demo": {"head": 2, "learning_rate": 3, "activation": 2, "longer": 1},
    "follow_up": {"rate": 3},  # its rounds follow from the results
    "multitask_next": {
        **{"segmentation_loss": 4, "box_loss": 2, "batch_size": 3, "weight_decay": 3},
        **{"augmentation": 4, "schedule": 2, "balance": 5, "head": 3, "transformer": 2, "final": 2},
    },
    "localization_next": {
        **{"robustness": 5, "optimizer": 5, "weight_decay": 3, "schedule": 3, "head": 5},
        **{"batch_size": 3, "longer": 2},
    },
    "reid_next": {
        **{"perspective": 6, "sampler": 2, "neck": 2, "label_smoothing": 2, "margin": 2},
        **{"weight_decay": 3, "longer": 2},
    },
    "segmentation_next": {
        **{"lower_rate": 3, "accumulation": 4, "smoothing": 2, "clipping": 2, "tversky": 2},
        **{"loss_schedule": 2, "augmentation": 5, "patience": 3, "schedule": 2, "warm_up": 2},
        **{"norm": 2, "depth": 2, "architecture": 7, "drop_block": 3, "stochastic_depth": 2},
        **{"sizes": 3},
    },
    "grid_next": {"networks": 2, "clipping": 2, "longer": 2},
}
"""Configurations per phase, as published."""

SOURCES = {
    **{name: name.removesuffix("_next") for name in ROWS if name.endswith("_next")},
    **{"segmentation_next": "segmentation_search", "grid_next": "segmentation_grid"},
}
"""The study whose winner another one starts from."""

STARTS_APART = {
    *(("reid", "combinations"), ("segmentation_search", "search")),
    ("segmentation_grid", "before"),
}
"""Phases that start from something else than one of these, which is one candidate more."""

SETTINGS: dict[str, dict[str, Any]] = {
    "multitask": {
        **{"data.batch_size": 16, "optimizer.lr": 1e-3, "scheduler.name": "none"},
        **{"loss.segmentation": "cross_entropy", "loss.boxes": "smooth_l1"},
    },
    "localization": {
        **{"data.image_size": 256, "data.batch_size": 32, "data.augment": ["flip", "color_jitter"]},
        **{"model.backbone": "resnet18", "model.pretrained": True, "model.dropout_rate": 0.5},
        **{"optimizer.lr": 1e-3, "optimizer.weight_decay": 1e-4, "trainer.max_epochs": 40},
        **{"scheduler.monitor": "val/loss", "scheduler.factor": 0.1, "scheduler.patience": 3},
    },
    "reid": {
        **{"data.image_size": 224, "data.batch_size": 64, "data.sampler": "random"},
        **{"data.validation": "identities", "model.pretrained": True, "loss.margin": 0.3},
        **{"optimizer.amsgrad": True, "optimizer.lr": 3e-4, "optimizer.weight_decay": 5e-4},
        **{"scheduler.milestones": [10, 20], "trainer.max_epochs": 10},
    },
    "segmentation_search": {
        **{"data.image_size": 512, "model.architecture": "unet", "early_stopping.patience": 20},
        **{"loss.dice_weight": 0.7, "loss.pos_alpha": 0.25, "loss.gamma": 2.0},
        **{"loss.smooth": 1e-6, "trainer.gradient_clip_val": None},
        **{"data.augment": ["flip", "vflip", "rotate"]},
        **{"objective.metric": "val/jaccard"},
    },
    "segmentation_grid": {
        **{"optimizer._target_": "torch.optim.Adam", "trainer.gradient_clip_val": 1.0},
        **{"trainer.gradient_clip_algorithm": "tensor_norm"},
        **{"scheduler.monitor": "val/jaccard", "scheduler.factor": 0.5, "scheduler.patience": 5},
        **{"scheduler.min_lr": 1e-6, "early_stopping.patience": 10, "trainer.max_epochs": 30},
        **{"objective.keep": "best", "model.width": 64},
    },
}
"""What was fixed unless swept."""

REAL = {
    **{"multitask": ("voc", "voc2012"), "localization": ("voc_boxes", "csv", "coco", "pets")},
    **{"reid": ("veri", "market", "folder")},
    **{"segmentation_search": ("image_mask",), "segmentation_grid": ("image_mask",)},
}

Plan = Callable[..., tuple[Journal, DictConfig]]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """What ``study.dry_run=true`` plans, all trials composed and checked, and the whole config."""
    folder = tmp_path_factory.mktemp("plans")
    place = folder / "out"

    @cache_results
    def make(*words: str) -> tuple[Journal, DictConfig]:
        books: list[Journal] = []
        if (source := SOURCES.get(words[0].removeprefix("study="))) is not None:
            budget = [word for word in words if word.startswith("budget=")]
            name = "-".join([source, *budget]).replace("budget=", "")
            if not (folder / name).exists():
                finish(make(f"study={source}", *budget)[0], folder / name)
            words = (*words, f"init_study={folder / name}")

        def keep(book: Journal, done: int) -> str:
            books.append(book)
            return f"{done} trials are done"

        line = [*words, "study.dry_run=true", f"hydra.sweep.dir={place}"]
        with composed(*line) as config, pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan_summary, "plan_text", keep)
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            sweeper.sweep(
                words,
                config=config,
                application=Application(config),
                config_loader=hydra.config_loader,
                launcher=NoLauncher(),
                propose=propose_phases,
            )
        assert not place.exists()
        return books[0], config

    return make


@contextmanager
def composed(*words: str) -> Iterator[DictConfig]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield compose("config", [*words], return_hydra_config=True)


def finish(book: Journal, directory: Path) -> None:
    """Leave what a study leaves in which each phase has kept its start."""
    for phase in book.phases:
        phase.winner, phase.status = phase.incumbent, "completed"
    last = book.phases[-1]
    trial = last.candidates[last.winner or 0].trials[0]
    run = directory / trial.directory
    book.directory, book.status = directory, "completed"
    book.write()
    with composed(*book.base, *last.candidates[last.winner or 0].overrides) as config:
        (run / ".hydra").mkdir(parents=True)
        choices = OmegaConf.to_container(config.hydra.runtime.choices)
        OmegaConf.save({"hydra": {"runtime": {"choices": choices}}}, run / ".hydra/hydra.yaml")
        kept = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        OmegaConf.save(kept, run / ".hydra/config.yaml")
    record = RunRecord.start(
        run,
        task=book.task,
        fingerprint=trial.fingerprint.partition(DATA_MARK)[0],
        overrides=book.base,
        seed=trial.seed,
        metric=book.objective["metric"],
        mode=book.objective["mode"],
    )
    record.finish("completed")


class NoLauncher(Launcher):
    """A plan launches nothing."""

    def setup(self, **_: Any) -> None:
        raise AssertionError

    def launch(self, *_: Any, **__: Any) -> Any:
        raise AssertionError


def test_every_file_is_known_here() -> None:
    assert set(ROWS) == set(FILES)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("study", FILES)
def test_the_plan_is_the_published_table(plan: Plan, study: str, budget: str) -> None:
    book, config = plan(f"study={study}", f"budget={budget}")
    assert config.hydra.mode == RunMode.MULTIRUN
    assert (book.name, book.budget) == (study, budget)
    own = {  # a rerun may change nothing but the seeds
        phase.name: [it for it in phase.candidates if it.overrides or phase.kind == "rerun"]
        for phase in book.phases
    }
    assert {name: len(candidates) for name, candidates in own.items()} == ROWS[study]
    for phase in book.phases:
        more = len(phase.candidates) - len(own[phase.name])
        # of another study's winner nobody knows what it has
        assert more in ((0, 1) if study in SOURCES else ((study, phase.name) in STARTS_APART,))
        prints = [trial.fingerprint for one in phase.candidates for trial in one.trials]
        # which configurations a rerun takes is not known yet: its rows stand for the same one
        known = 1 if phase.kind == "rerun" else len(phase.candidates)
        assert len(prints) == len(phase.candidates) * len(phase.seeds)
        assert len(set(prints)) == known * len(phase.seeds)


@pytest.mark.parametrize("study", SETTINGS)
def test_what_is_not_swept_is_as_published(plan: Plan, study: str) -> None:
    _, config = plan(f"study={study}")
    chosen = {key: OmegaConf.select(config, key) for key in SETTINGS[study]}
    assert chosen == SETTINGS[study]


@pytest.mark.parametrize("study", [*SETTINGS, *SOURCES])
def test_figures_do_not_depend_on_the_device(study: str) -> None:
    """Which `precision: auto` would: a GPU takes bfloat16."""
    with composed(f"study={study}") as config:
        assert config.trainer.precision == "32-true"


@pytest.mark.parametrize("study", sorted({*FILES} - {*SOURCES}))
def test_phases_share_the_configuration_that_they_start_from(plan: Plan, study: str) -> None:
    """Else every phase would train its incumbent again."""
    book, _ = plan(f"study={study}")
    for phase in book.phases:
        assert phase.incumbent is not None, phase.name
        apart = not phase.candidates[phase.incumbent].overrides and phase.kind != "rerun"
        assert apart == ((study, phase.name) in STARTS_APART), phase.name


def test_multitask_has_fifteen_runs(plan: Plan) -> None:
    book, _ = plan("study=multitask")
    single = [trial for phase, _, trial in book.trials() if phase.kind == "grid" and not trial.seed]
    final = 2
    assert len({trial.fingerprint for trial in single}) + final == 15


def test_every_value_of_the_space_is_drawn(plan: Plan) -> None:
    book, _ = plan("study=segmentation_search")
    phase = book.phases[0]
    assert phase.sampled_from == 108
    words = [word for candidate in phase.candidates for word in candidate.overrides]
    for key, values in phase.declared.items():
        for value in values:
            assert sum(typed(w.partition("=")[2]) == typed(value) for w in words if key in w) >= 3


@pytest.mark.parametrize(
    ("study", "data"), [(study, data) for study, names in REAL.items() for data in names]
)
def test_all_budgets_go_with_real_data(tmp_path: Path, study: str, data: str) -> None:
    words = (f"study={study}", f"data={data}", f"data.root={tmp_path}")
    for budget in BUDGETS[1:]:  # full has no words of its own
        with composed(*words, f"budget={budget}") as config:
            _, scaled = parse_study(config, Application(config))
        with composed(*words, *scaled) as config:
            check_config(config)


@pytest.mark.parametrize("study", [name for name in FILES if name not in ("demo", "follow_up")])
def test_every_study_states_what_was_published(plan: Plan, study: str) -> None:
    """The plan itself refuses what no phase could answer."""
    book, _ = plan(f"study={study}")
    assert book.hypotheses
    for one in book.hypotheses:
        # a phase of one value each tells nothing without repeats; a grid has pairs of cells
        phases = [phase for phase in book.phases if one.get("phase") in (None, phase.name)]
        keys = [one[name] for name in ("key",) if name in one]
        own = [phase for phase in phases if all(key in phase.declared for key in keys)]
        assert own, one["claim"]
        assert any(len(phase.seeds) > 1 or len(phase.declared) > 1 for phase in own), one["claim"]


def written(folder: Path, text: str) -> list[str]:
    """The words that choose a study with this text."""
    (folder / "study").mkdir()
    (folder / "study" / "written.yaml").write_text(text)
    return ["study=written", f"hydra.searchpath=['file://{folder}']"]


@pytest.mark.parametrize("study", SOURCES)
def test_the_start_is_the_winner_of_the_study_before(plan: Plan, study: str) -> None:
    with composed(f"study={study}", "budget=small") as config:
        assert config.init_study == f"outputs/studies/{SOURCES[study]}-small"
    book, _ = plan(f"study={study}")
    assert book.origin is not None
    assert book.origin.study == SOURCES[study]
    assert book.base == [f"study={study}", *book.origin.words]
    saved = Path(book.origin.directory) / book.origin.run / ".hydra/config.yaml"
    before = flatten(computed(OmegaConf.load(saved)))  # type: ignore[arg-type]
    with composed(*book.base) as here:
        now = flatten(computed(here))
    differing = {key for key in {**before, **now} if before.get(key) != now.get(key)}
    assert differing == {text.partition("=")[0] for text in book.origin.kept}


@pytest.mark.parametrize(("page", "phases"), [("docs/studies.md", 5), ("README.md", 4)])
def test_the_examples_in_the_docs_work(plan: Plan, tmp_path: Path, page: str, phases: int) -> None:
    (text,) = re.findall(r"```yaml\n(# @package.+?)```", (ROOT / page).read_text(), re.DOTALL)
    book, _ = plan(*written(tmp_path, text))
    assert len(book.phases) == phases


def test_a_study_built_on_another_one(plan: Plan, tmp_path: Path) -> None:
    text = (
        "# @package _global_\ndefaults: [demo]\nstudy: {phases: {more: 'loss.balance=fixed,dwa'}}\n"
    )
    book, _ = plan(*written(tmp_path, text))
    assert [phase.name for phase in book.phases] == [*ROWS["demo"], "more"]


def test_a_single_run_out_of_a_study_has_no_budget(tmp_path: Path) -> None:
    """It would be run at full size; the words of the budget are those to be typed."""
    words = ["study=demo", "budget=smoke", "hydra.mode=RUN", f"hydra.run.dir={tmp_path}/run"]
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert "budget=smoke: is for -m or study=NAME, not for a single run" in done.stderr
    assert not (tmp_path / "run").exists()


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words, "trainer.enable_progress_bar=false"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.mark.slow
def test_a_whole_study(tmp_path: Path, cache: Path) -> None:
    words = ["study=demo", "budget=smoke", f"data.cache_dir={cache}", "hydra.sweep.dir=out"]
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    book = read_journal(tmp_path / "out")
    assert book is not None
    assert [phase.status for phase in book.phases] == ["completed"] * 5
    values: dict[str, set[float]] = {}
    for phase, _, trial in book.trials():
        record = read_record(tmp_path / "out" / trial.directory)
        assert record is not None
        assert record.status == "completed"
        assert record.is_of(trial.fingerprint)
        assert (record.test is not None) or phase.kind != "test"
        values.setdefault(phase.name, set()).add(record.last["train/loss"])
    assert {name: len(found) for name, found in values.items() if name != "test"} == ROWS["demo"]
    for name in (*ROWS["demo"], "test"):
        assert (tmp_path / "out" / name / "sweep.csv").exists()
    assert (tmp_path / "out" / "report.html").exists()
    assert "final configuration:" in done.stdout
