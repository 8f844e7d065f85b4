"""Registers the sweeper with Hydra; the logic is in `phasewise.study.sweeper`.

Hydra imports this in every application that it starts and finds the sweeper by the class's module,
so the class is defined here, and nothing heavy is imported. No ``from __future__ import
annotations``: while Hydra scans plugins the module is not in ``sys.modules``, where dataclasses
would look the names up.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore


@dataclass
class PhasewiseSweeperConf:
    """The settings of Hydra's own sweeper."""

    _target_: str = "hydra_plugins.phasewise_sweeper.PhasewiseSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None
    study: dict[str, Any] = field(default_factory=dict)
    """What stands under ``study:`` otherwise, if the application's config can have no such key."""


ConfigStore.instance().store(
    group="hydra/sweeper", name="phasewise", node=PhasewiseSweeperConf, provider="phasewise"
)


def _propose(*study: Any) -> Any:
    """Imported when it is asked: pandas and the like are not for every sweep."""
    from phasewise.analysis.proposals import propose_phases

    return propose_phases(*study)


class PhasewiseSweeper(BasicSweeper):
    """Checks every trial before the first one runs, names their directories, tells what came out.

    In an application whose config has neither a ``task.schema`` nor a section ``study`` it is
    Hydra's own sweeper.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        study: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(max_batch_size, params)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials of an ``-m`` line; see `phasewise.study.sweeper.sweep`."""
        from phasewise.study.application import application_of
        from phasewise.study.exits import exits_plainly
        from phasewise.study.sweeper import sweep

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        with exits_plainly(self.config):
            application = application_of(self.config, self.launcher)
            if application is None:
                return super().sweep(arguments)
            return sweep(
                [*self._parse_config(), *arguments],
                config=self.config,
                application=application,
                config_loader=self.hydra_context.config_loader,
                launcher=self.launcher,
                propose=_propose,
                max_batch_size=self.max_batch_size,
            )
