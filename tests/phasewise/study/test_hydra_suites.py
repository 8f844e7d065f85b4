"""Hydra's own tests of launchers and sweepers, with this sweeper in an application not of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import version
from hydra.core.plugins import Plugins
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)

pytestmark = [pytest.mark.filterwarnings("ignore:Future Hydra"), pytest.mark.slow]
ROOT = Path(__file__).parents[3]
SWEEPER = "hydra/sweeper=phasewise"


@pytest.fixture(autouse=True)
def hydra_as_its_suites_know_it() -> None:
    """Other tests of this process have told Hydra to behave as version 1.3."""
    version.setbase("1.1")


def test_the_sweeper_is_found() -> None:
    names = [plugin.__name__ for plugin in Plugins.instance().discover()]
    assert "PhasewiseSweeper" in names


@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", [SWEEPER])])
class TestLauncher(LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("basic", [SWEEPER, "hydra.sweeper.max_batch_size=2"])]
)
class TestBatches(BatchedSweeperTestSuite):
    pass


@pytest.fixture
def _with_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.usefixtures("_with_plugin")
@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=basic", SWEEPER])]
)
class TestApplications(IntegrationTestSuite):
    pass
