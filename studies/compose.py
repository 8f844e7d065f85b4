"""The configs of trials, composed and checked before any of them runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from common.config.command_line import one_line
from common.config.help import flatten, no_such_key, not_one_of, show
from common.errors import Problem, UserError, collect
from common.runs.record import NOT_COMPUTATION, fingerprint
from studies.naming import parse_overrides

Reasons = dict[str, list[str]]
"""What is wrong, and the names of the trials that have it."""


class Composer:
    """Composes, checks and fingerprints the configs of trials.

    Hydra takes a tenth of a second for each; here it composes each choice of config groups once
    and applies the other overrides to copies, as it does itself after composing.

    Args:
        config: what Hydra composed for the sweep as a whole.
        loader: Hydra's.
        known: fingerprints of configs that need no composing, by their words; see `context`.
    """

    def __init__(
        self,
        config: DictConfig,
        loader: ConfigLoader,
        known: Mapping[tuple[str, ...], str] | None = None,
    ) -> None:
        self.config = config
        self.loader = loader
        self.known = dict(known or {})
        self._bases: dict[tuple[str, ...], DictConfig] = {}
        self._is_group: dict[str, bool] = {}

    def config_of(self, words: Sequence[str]) -> DictConfig:
        """The config of a trial, without its ``hydra`` section.

        Raises:
            hydra.errors.HydraException: the words do not compose.
        """
        parsed = parse_overrides(words)
        groups: list[Override] = []
        values: list[Override] = []
        for override in parsed:
            key = override.key_or_group
            if key not in self._is_group:
                self._is_group[key] = bool(self.loader.get_group_options(key))
            (groups if self._is_group[key] else values).append(override)
        lines = tuple(str(override.input_line) for override in groups)
        if lines not in self._bases:
            composed = self._compose(groups)
            with open_dict(composed):
                del composed["hydra"]
            OmegaConf.set_struct(composed, True)
            self._bases[lines] = composed
        config = deepcopy(self._bases[lines])
        try:
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
        except HydraException as error:
            if foreign := re.match(r"Could not override '(.+?)'", str(error)):
                keys = flatten(OmegaConf.to_container(config, resolve=False))
                raise UserError(str(no_such_key(foreign[1], keys))) from error
            raise
        return config

    def _compose(self, groups: Sequence[Override]) -> DictConfig:
        """The config of choices of config groups.

        Raises:
            UserError: one does not exist; ``GROUP=null`` is none either.
            hydra.errors.HydraException: they do not compose.
        """
        try:
            lines = [str(override.input_line) for override in groups]
            return self.loader.load_sweep_config(self.config, lines)
        except (HydraException, ValueError) as error:
            for override in groups:
                key, value = override.key_or_group, override.value()
                options = self.loader.get_group_options(key)
                if not override.is_delete() and value not in options:
                    problem = Problem(f"{key}={show(value)}", not_one_of(value, options))
                    raise UserError(str(problem)) from error
            raise

    def fingerprint(self, words: Sequence[str]) -> str:
        """Of a valid trial's config.

        Raises:
            UserError: its settings cannot be used.
            hydra.errors.HydraException: the words do not compose.
        """
        from common.config.schema import check_config  # pydantic takes a while

        key = tuple(words)
        if key not in self.known:
            config = self.config_of(words)
            check_config(config)
            self.known[key] = fingerprint(config)
        return self.known[key]

    def try_fingerprint(self, words: Sequence[str], name: str, reasons: Reasons) -> str | None:
        """As `fingerprint`; what is wrong is added to ``reasons``."""
        try:
            return self.fingerprint(words)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            for reason in reasons_of(error):
                reasons.setdefault(reason, []).append(name)
            return None


def context(config: DictConfig) -> str:
    """A hash of all that, besides its words, decides the fingerprint of a trial's config.

    That is the files on Hydra's search path, Hydra's own overrides and what a fingerprint leaves
    out.
    """
    overrides = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    digest = hashlib.sha256(repr((NOT_COMPUTATION, overrides)).encode())
    for source in config.hydra.runtime.config_sources:
        if source.schema == "file":
            for path in sorted(Path(source.path).rglob("*.yaml")):
                digest.update(str(path.relative_to(source.path)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def reasons_of(error: Exception) -> list[str]:
    """The single problems of an error, without what frames them."""
    from common.config.help import ADVICE

    if isinstance(error, UserError):
        lines = [line for line in str(error).splitlines() if line != ADVICE]
        problems = [line.strip() for line in lines if line.startswith("  ")]
        return problems or lines
    return [one_line(error)]


def refusal(reasons: Reasons, total: int) -> UserError:
    """All that is wrong, each with the first trial that has it.

    Args:
        reasons: what is wrong, and with which trials; with none, it says where it is.
        total: how many trials there are.
    """
    from common.config.help import ADVICE

    problems = []
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        where = "" if len(names) in (0, total) else f" (trial {names[0]}{more})"
        key, colon, text = reason.partition(": ")
        problems.append(Problem(key, text + where) if colon else Problem("config", reason + where))
    return collect("settings cannot be used; no trial was run", problems, ADVICE)
