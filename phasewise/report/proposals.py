"""``report.py STUDY --propose``: a study's file that asks what the study has left open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from phasewise.analysis.proposals import NothingDecided, Proposal, propose
from phasewise.analysis.proposals.known import Known
from phasewise.analysis.proposals.proposal import CanRun, Cell
from phasewise.cli.shell import quoted, relative_path, script, shell_command
from phasewise.errors import UserError
from phasewise.project import CONF, HYDRA_VERSION
from phasewise.storage import write_whole
from phasewise.study.origin import UNDER_WAY
from phasewise.study.read import read_study
from phasewise.study.results import StudyResult

FOLDER = "proposals"
ENDING = "_proposed"


def write_proposals(directory: Path, output: Path | None = None) -> str:
    """Write ``study/NAME.yaml``, ready to run, into a folder.

    Args:
        directory: of a study or sweep that has ended.
        output: the folder; ``proposals`` in the study's directory if ``None``.

    Returns:
        What to say: each phase with its reason, what needs none, and the command.

    Raises:
        UserError: it has not ended, is another application's, or has no winner; a file of other
            content lies there.
    """
    study = read_study(directory)
    try:
        known = Known(study)
    except NothingDecided:
        raise UserError(f"{directory}: no phase has a winner yet: nothing to go on from") from None
    _check(study, known)
    place = (output or directory / FOLDER).absolute()
    name = _name(study.plan.name, place)
    own = known.run.saved.sources("command-line")
    draft = _content(directory, study, known, name, [])
    with TemporaryDirectory() as folder:
        write_whole(Path(folder) / "study" / f"{name}.yaml", _text(directory, draft))
        with _checker(name, [folder, *own]) as can_run:
            left_out: list[str] = []
            found = propose(study, _noting(can_run, left_out))
    lines = [*_lines(found.phases), *(f"note: {one}" for one in found.told)]
    if left_out:
        lines.append(f"note: left out, for they cannot run: {', '.join(dict.fromkeys(left_out))}")
    if not found.phases:
        return "\n".join(["nothing is left to propose", *lines])
    content = _content(directory, study, known, name, found.phases)
    file = place / "study" / f"{name}.yaml"
    _write(file, _text(directory, content))
    return "\n".join([relative_path(file), *lines, _command(place, name, own)])


def _check(study: StudyResult, known: Known) -> None:
    directory = study.directory
    if study.plan.status in UNDER_WAY:
        raise UserError(
            f"{directory}: has not ended yet (status {study.plan.status}); "
            "the same command goes on with it"
        )
    saved = known.run.saved
    if not saved.config or not saved.is_of_project:
        raise UserError(
            f"{directory}: is no study of this project's scripts, or its runs have lost their "
            ".hydra; study.follow_up proposes phases of any application as it runs"
        )


def _name(study: str, place: Path) -> str:
    """One that no file of the project has, which Hydra would take instead."""
    base = study.partition(ENDING)[0]
    name, number = f"{base}{ENDING}", 2
    while (CONF / "study" / f"{name}.yaml").exists() or name == study:
        name, number = f"{base}{ENDING}{number}", number + 1
    return name


def _content(
    directory: Path, study: StudyResult, known: Known, name: str, phases: Sequence[Proposal]
) -> dict[str, Any]:
    """The file, section by section."""
    plan, saved = study.plan, known.run.saved
    objective = dict(plan.objective)
    if keep := saved.get("objective.keep"):
        objective["keep"] = keep
    content: dict[str, Any] = {
        "defaults": [{"override /task": str(saved.choices.get("task", plan.task))}],
        "init_study": str(directory.absolute()),
        "objective": objective,
    }
    for word in dict.fromkeys(word for one in phases for word in one.settings):
        *sections, last = word.partition("=")[0].split(".")
        node = content
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = yaml.safe_load(word.partition("=")[2])
    own: dict[str, Any] = {"name": name, "seeds": list(plan.seeds)}
    if plan.adopt != "best":
        own["adopt"] = plan.adopt
    own["phases"] = {one.name: one.phase() for one in phases} or {"draft": "seed=0"}
    content["study"] = own
    absolute = directory.absolute()
    place = absolute.parent / f"{absolute.name.partition(ENDING)[0]}{name[name.find(ENDING) :]}"
    return {**content, "hydra": {"mode": "MULTIRUN", "sweep": {"dir": str(place)}}}


def _text(directory: Path, content: dict[str, Any]) -> str:
    head = f"# @package _global_\n# What the study in {directory} asks next, by its own records.\n"
    return head + yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)


@contextmanager
def _checker(name: str, folders: Sequence[str]) -> Iterator[CanRun]:
    """Whether configurations of the study to come can run, as its own plan would find."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from phasewise.config.command_line import CommandLine
    from phasewise.study.application import Application
    from phasewise.study.compose import Composer
    from phasewise.study.origin import find_origin
    from phasewise.study.overrides import merge
    from phasewise.study.plan import Planner

    paths = ",".join(quoted(f"file://{Path(it).absolute()}") for it in folders)
    words = [f"study={name}"]
    with hydra.initialize_config_dir(str(CONF), "train", version_base=HYDRA_VERSION):
        line = CommandLine(words, CONF, "config", [f"hydra.searchpath=[{paths}]"])
        config, _ = line.compose(True)
        HydraConfig.instance().set_config(config)
        composer = Composer(config, line.loader, Application(config))
        composer.reads_data = False
        origin = find_origin(words, [], config, composer, None)
        base = merge(words, origin.words if origin is not None else [])
        planner = Planner(composer, Path(), composer.application.objective, None, 0)
        yield (
            lambda cell: (
                composer.try_fingerprint(tuple(planner.choices.join(base, cell)), "", {})
                is not None
            )
        )
    HydraConfig.instance().cfg = None


def _noting(can_run: CanRun, left_out: list[str]) -> CanRun:
    """The same, noting what cannot."""

    def check(cell: Cell) -> bool:
        if can_run(cell):
            return True
        left_out.append(" ".join(cell))
        return False

    return check


def _write(file: Path, text: str) -> None:
    """Raises UserError where somebody's edits would be lost."""
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{file}: is there with other content; remove it, or choose another folder: "
            "--propose FOLDER"
        )
    write_whole(file, text)


def _lines(phases: Sequence[Proposal]) -> Iterator[str]:
    for one in phases:
        seeds = f" with seeds {', '.join(map(str, one.seeds))}" if one.seeds else ""
        yield f"{one.name}: {one.typed()}{seeds}"
        yield f"  {one.reason}"
        if one.settings:
            yield f"  all of the file: {' '.join(one.settings)}"


def _command(place: Path, name: str, own: Sequence[str]) -> str:
    """What runs it, to be typed where this was called."""
    folder = relative_path(place)
    if not own:
        return shell_command(script("train.py"), ["--config-dir", folder, f"study={name}"])
    paths = ",".join(quoted(f"file://{it}") for it in [place, *own])
    return shell_command(script("train.py"), [f"hydra.searchpath=[{paths}]", f"study={name}"])
