"""``export.py``: from a checkpoint to a file in a format of others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from phasewise.cli.script import run_script
from phasewise.errors import UserError, say
from phasewise.inference.exporting.settings import SUFFIXES, ExportSettings

if TYPE_CHECKING:
    from phasewise.inference.exporting.check import Images
    from phasewise.inference.restore import Restored, RunOf

FOLDER = "export"


def main(run_of: RunOf, argv: Sequence[str] | None = None) -> NoReturn:
    """Parse, check, export, exit.

    Args:
        run_of: finds the run of a study, see `phasewise.inference.restore.find_checkpoint`.
        argv: the words of the command line; None takes them from ``sys.argv``.
    """
    run_script(ExportSettings, partial(export, run_of=run_of), argv)


def export(settings: ExportSettings, data_words: Sequence[str], run_of: RunOf | None) -> Path:
    """Write the file; its path.

    Raises:
        UserError: no such checkpoint, or what it holds cannot be exported in this format.
        RunFailedError: the file does not do what the network does; it is not kept.
    """
    from phasewise.cli.main import check_directory
    from phasewise.inference.exporting.check import batches, compare_outputs
    from phasewise.inference.exporting.formats import FORMATS, Deployed, check_installed, exporting
    from phasewise.inference.exporting.metadata import export_metadata
    from phasewise.inference.restore import restore

    check_installed(settings.format)
    trained = restore(settings.checkpoint, run_of=run_of, trust=settings.trust)
    file = _file(settings, trained)
    check_directory("output", str(file.parent))
    network = Deployed(trained.module).eval()
    images = _images(settings, data_words, trained)
    parts = batches(images.pixels, settings.batch)
    chosen = FORMATS[settings.format]
    example = parts[0] if settings.batch else parts[1]
    metadata = export_metadata(trained, network, example, settings.batch)
    metadata["comparison"] = {"images": images.origin, "tolerance": settings.tolerance}
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")
    try:
        with exporting(settings.format, f"task={trained.task}'s network"):
            chosen.write(network, example, settings.batch is None, metadata, draft)
            loaded = chosen.load(draft)
        found = compare_outputs(network, loaded, parts, settings.tolerance)
        draft.replace(file)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{file} cannot be written: {reason}\noutput=FILE is another place"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    for line in _summary(settings, trained, file, metadata, found, [len(it) for it in parts]):
        say(line)
    return file


def _file(settings: ExportSettings, trained: Restored) -> Path:
    if settings.output is not None:
        file = Path(settings.output).expanduser()
        if file.is_dir():
            raise UserError(f"output={settings.output}: is a folder; a file's name is wanted")
        return file
    folder = trained.checkpoint.parent if trained.run is None else trained.run / FOLDER
    return folder / f"{trained.checkpoint.stem}.{SUFFIXES[settings.format]}"


def _images(settings: ExportSettings, data_words: Sequence[str], trained: Restored) -> Images:
    from phasewise.inference.evaluation.data import open_data, with_data
    from phasewise.inference.exporting.check import drawn_images, images_of, validation_images

    if settings.images is not None:
        return images_of(settings.images, trained)
    try:
        config = with_data(trained.config, data_words, trained.trust)
        return validation_images(open_data(config, trained.checkpoint, trained.trust))
    except UserError as error:
        if data_words:
            raise
        reason = str(error).splitlines()[0]
        say(f"the run's validation images cannot be had ({reason}): compared on drawn ones")
        return drawn_images(trained.image_size)


def _summary(
    settings: ExportSettings,
    trained: Restored,
    file: Path,
    metadata: dict[str, Any],
    found: dict[str, float],
    sizes: Sequence[int],
) -> list[str]:
    given = metadata["input"]
    lines = [
        f"{trained.checkpoint} -> {file} ({file.stat().st_size / 1e6:.1f} MB)",
        f"input    {given['name']} float32 {_shape(given['shape'])}: {given['colour']} of "
        f"resize={given['resize']}, {given['scale']}",
    ]
    for i, (name, it) in enumerate(metadata["outputs"].items()):
        title = "outputs" if i == 0 else ""
        lines.append(f"{title:8} {name} {it['dtype']} {_shape(it['shape'])}: {it['meaning']}")
    worst = max(found.values())
    lines.append(
        f"compared with the network on {metadata['comparison']['images']}, in batches of "
        f"{', '.join(map(str, sizes))}: largest difference {worst:.2g}, tolerance "
        f"{settings.tolerance:g} (of the largest value, or of 1)"
    )
    return lines


def _shape(shape: Sequence[Any]) -> str:
    return f"({', '.join(map(str, shape))})"
