"""``model.pretrained=FOLDER``: the file of each backbone in a folder, found by its name.

A folder that is filled by hand, torch's cache (``resnet18-f37072fd.pth`` in ``hub/checkpoints``)
and Hugging Face's (``models--timm--resnet18.a1_in1k/snapshots/.../model.safetensors``) are all
understood; folders in it are looked through. No torch: what is missing is told at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phasewise.errors import Problem, UserError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

_HASH = re.compile(r"-[0-9a-f]{8,}$")
"""Behind the names of torch's downloads."""

_HUB = "models--"
"""How folders of Hugging Face's cache begin: ``models--OWNER--NAME``."""


def find_weights(folder: str | Path, names: Sequence[str]) -> Path:
    """The weights of a backbone in a folder.

    A file may be called as the backbone is, have a hash (torchvision's) or a tag (timm's) behind
    that, or ``_features`` where it holds no classifier. The first of these ways that fits is taken.

    Args:
        folder: that holds weights of several backbones, or folders with them.
        names: of the backbone, the most telling one first.

    Raises:
        UserError: there is none, or several fit equally well.
    """
    place = Path(folder).expanduser()
    files = [path for path in sorted(place.rglob("*")) if _is_weights(path)]
    for name in names:
        for label in (str, _without_hash, _without_tag, _without_features):
            found = [path for path in files if label(_label(path)) == name]
            if len(found) > 1:
                texts = ", ".join(path.relative_to(place).as_posix() for path in found)
                raise _error(folder, f"several files fit {names[0]}: {texts}; keep one of them")
            if found:
                return found[0]
    raise _error(
        folder,
        f"no weights for {names[0]} among {len(files)} files; looked for "
        f"{' and '.join(dict.fromkeys(names))} with {', '.join(SUFFIXES)}, also with a hash or tag "
        "(resnet18-f37072fd.pth, resnet18.a1_in1k.safetensors); with internet, study.fetch=true "
        "fills the folder",
    )


def _error(folder: str | Path, reason: str) -> UserError:
    return UserError(problems=[Problem(f"model.pretrained={folder}", reason)])


def weights_file(pretrained: Any, names: Sequence[str]) -> Path | None:
    """The file that a value of ``model.pretrained`` stands for; ``None`` where it names none.

    Raises:
        UserError: it is a folder that has no file for the backbone.
    """
    if isinstance(pretrained, bool) or not isinstance(pretrained, str):
        return None
    path = Path(pretrained).expanduser()
    return find_weights(pretrained, names) if path.is_dir() else path


def _is_weights(path: Path) -> bool:
    return path.suffix in SUFFIXES and path.is_file()


def _label(path: Path) -> str:
    """The name that a file goes by: its own, or its model's in Hugging Face's cache."""
    hub = [parent.name for parent in path.parents if parent.name.startswith(_HUB)]
    return hub[0].rpartition("--")[2] if hub else path.name.removesuffix(path.suffix)


def _without_hash(label: str) -> str:
    return _HASH.sub("", label)


def _without_tag(label: str) -> str:
    return label.partition(".")[0]


def _without_features(label: str) -> str:
    return label.removesuffix("_features")
