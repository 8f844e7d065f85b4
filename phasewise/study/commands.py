"""The command that runs a trial again, alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from phasewise.cli.shell import relative_path, script, shell_command
from phasewise.project import CONF
from phasewise.study.saved_config import HYDRA_FOLDER, SavedConfig

FUNCTION = "_function_"
"""The key of a config that is a function's, see `phasewise.run_study`; its value is a hash."""

PROGRAM, CONFIG = "train.py", "config"
"""The entry script and the config that it reads unless it is told another one."""


def single_run(directory: Path, words: Sequence[str], program: str | None = None) -> str:
    """A shell command; a trial of a study is told to run alone.

    Args:
        directory: of the run, or another one of its study: where its config came from.
        words: its overrides.
        program: the entry script as it was called; by the files of the run if ``None``.
    """
    saved = SavedConfig(directory)
    if FUNCTION in saved.config:  # no script's: the same in Python
        file = relative_path(directory / HYDRA_FOLDER / "config.yaml")
        return f"{saved.hydra_value('job.name')}(omegaconf.OmegaConf.load({file!r}))"
    alone = ["hydra.mode=RUN"] if any(w.lstrip("+").startswith("study=") for w in words) else []
    program = program or _program(saved)
    return shell_command(program, [*_flags(saved), *words, *alone])


def _flags(saved: SavedConfig) -> Iterator[str]:
    """Where the config came from, if not from the project's own files."""
    if saved.is_of_project:  # other applications know where theirs is
        for path in saved.sources("main")[:1]:
            if Path(path) != CONF and Path(path).is_dir():
                yield from ("--config-path", path)  # in full: it would be looked for in the project
        name = saved.hydra_value("job.config_name")
        if name not in (None, CONFIG):
            yield from ("--config-name", str(name))
    for path in saved.sources("command-line")[:1]:
        yield from ("--config-dir", relative_path(Path(path)))


def _program(saved: SavedConfig) -> str:
    """The script that ran it, with its place if that is not the present folder."""
    name = saved.hydra_value("job.name")
    return script(PROGRAM if name is None else f"{name}.py")
