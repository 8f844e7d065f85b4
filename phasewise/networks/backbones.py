"""Backbones by name: SMP's encoders, timm's architectures, and plain ViTs made into a pyramid.

Every backbone takes images ``(B, 3, S, S)`` and returns six feature maps, or the first of them,
finest first: the input itself and strides 2, 4, 8, 16 and 32. Transformers have no stride 2; theirs
has 0 channels.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from phasewise.config.backbone_names import DROPPING, smp_names, without_drop_path
from phasewise.errors import UserError
from phasewise.networks.weights import Download, chosen_file

DEEPEST = 32
"""Stride of the last feature map: sides of images are multiples of it."""

DEPTH = 5
"""Feature maps of a whole backbone besides the images."""

HUB_TIMEOUT = 5
"""Seconds that Hugging Face has to answer before a download is not tried."""

LATER = "(in the checkpoint)"
"""In place of ``pretrained``: what pretrained weights are put into, which a checkpoint brings
later. It is what checkpoints hold, so that loading one fetches nothing."""

Built = TypeVar("Built")

_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "network.")


class ViTPyramid(nn.Module):
    """A plain vision transformer as a backbone of several scales.

    All maps come from the last block (stride 16): two transposed convolutions lead to stride 4, one
    to stride 8, max-pooling to stride 32. The simple feature pyramid of Li et al., "Exploring Plain
    Vision Transformer Backbones for Object Detection", 2022, section 3 (arXiv:2203.16527).

    Args:
        name: a timm architecture whose stages all have stride 16.
        image_size: side of the images in pixels.
        pretrained: download timm's weights.
        drop_path_rate: see `drop_path`.
    """

    added = ("up4.", "up8.")
    """Prefixes of parameters that no weights file of the transformer has."""

    def __init__(
        self, name: str, image_size: int, pretrained: bool = False, drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        model: Any = timm.create_model(
            name,
            pretrained=pretrained,
            features_only=True,
            img_size=image_size,
            out_indices=[-1],
            **drop_path(drop_path_rate),
        )
        self.model = model
        width = model.feature_info.channels()[-1]
        self.out_channels = [3, 0, width // 4, width // 2, width, width]
        self.up8 = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
        self.up4 = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, stride=2),
            nn.BatchNorm2d(width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, S, S)`` to the six maps of the module's docstring."""
        last = self.model(images)[-1]
        side = images.shape[-1]
        # Not len(images), which is a constant in a network that is exported.
        none = images.new_empty(images.shape[0], 0, side // 2, side // 2)
        return [images, none, self.up4(last), self.up8(last), last, F.max_pool2d(last, 2)]


def build_backbone(
    name: str,
    image_size: int,
    pretrained: bool | str = False,
    *,
    depth: int = DEPTH,
    drop_path_rate: float = 0.0,
) -> nn.Module:
    """Make a backbone; ``out_channels`` lists the channels of its maps.

    Args:
        name: an SMP encoder (``resnet18``) or a timm architecture (``convnext_tiny``).
        image_size: side of the images in pixels, a multiple of 32; transformers are built for it.
        pretrained: ``True`` downloads ImageNet weights, a path loads a weights file, or that of a
            folder that is called as the backbone is; `LATER` loads nothing, a `Download` fetches
            what its folder lacks.
        depth: how many maps are wanted besides the images, the finest; what comes after them is not
            computed, where the network can be cut. A plain transformer's all come from its end.
        drop_path_rate: see `drop_path`.

    Raises:
        UserError: the network cannot be built, its weights not fetched, or the file does not fit;
            or it has no stochastic depth.
    """
    check_drop_path(name, drop_path_rate)
    build = partial(_build, name, image_size, depth, drop_path_rate=drop_path_rate)
    with building(
        f"model.backbone={name}: cannot be built for {image_size}x{image_size} images as a "
        "pyramid of strides 2 to 32"
    ):
        backbone = fetch(name, partial(build, download=True)) if pretrained is True else build()
        _check_maps(backbone, image_size)
    if isinstance(pretrained, str) and pretrained != LATER:
        if isinstance(pretrained, Download):
            pretrained.bring(
                [name], lambda: fetch(name, partial(build, download=True)).state_dict()
            )
        load_backbone_weights(backbone, pretrained, name)
    return backbone


@contextmanager
def building(complaint: str) -> Iterator[None]:
    """Tell a person in one line whatever goes wrong while a library's network is built.

    Raises:
        UserError: the complaint and the first line of the error, or a UserError as it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each architecture has its own way of failing
        raise UserError(f"{complaint} ({type(error).__name__}: {_first_line(error)})") from error


def fetch(
    name: str,
    build: Callable[[], Built],
    connect: Callable[[], AbstractContextManager[str | None]] | None = None,
) -> Built:
    """Call ``build``, which downloads the weights of backbone ``name``; what it made.

    Args:
        name: of the backbone, for the message.
        build: what downloads.
        connect: goes around it; what it yields says why there is no connection, None that there is.
            By default that to Hugging Face.

    Raises:
        UserError: they cannot be had; a dead connection is noticed within seconds.
    """
    with (connect or _hub)() as unreachable:
        try:
            return build()
        except Exception as error:  # whatever the connection and the libraries raise
            reason = unreachable or f"{type(error).__name__}: {_first_line(error)}"
            raise UserError(
                f"model.pretrained=true: no weights for {name} could be downloaded ({reason}). "
                "Without internet, give a weights file, model.pretrained=PATH, or train without, "
                "model.pretrained=false"
            ) from error


@contextmanager
def _hub() -> Iterator[str | None]:
    """Go offline if Hugging Face cannot be reached, and say why: its client tries a dead connection
    six times for each file, up to a minute in all, before it looks into its cache."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    offline, unreachable = constants.HF_HUB_OFFLINE, None
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
    except Exception as error:  # of the HTTP library that huggingface_hub happens to use
        unreachable = f"{constants.ENDPOINT} cannot be reached: {_first_line(error)}"
        constants.HF_HUB_OFFLINE = True
    try:
        yield unreachable
    finally:
        constants.HF_HUB_OFFLINE = offline


def drop_path(rate: float) -> dict[str, Any]:
    """What timm's networks take for stochastic depth.

    Huang et al., "Deep Networks with Stochastic Depth", 2016: in training each residual branch is
    left out of an image with a probability that grows linearly with depth up to this rate, and
    else divided by the probability that it stays.
    """
    return {"drop_path_rate": rate} if rate else {}


def check_drop_path(name: str, rate: float) -> None:
    """Refuse stochastic depth of a network that has nothing to drop.

    Raises:
        UserError: it is not timm's, or timm knows no residual branches in it.
    """
    if not rate:
        return
    reason = without_drop_path(name)
    if not reason:
        with torch.device("meta"):
            try:
                parts = timm.create_model(name, **drop_path(rate)).modules()
            except TypeError:  # no such argument
                parts = iter(())
        if any(isinstance(part, DropPath) and part.drop_prob for part in parts):
            return
        reason = f"{name} has no stochastic depth in timm; others have, e.g. {DROPPING}"
    raise UserError(f"model.drop_path_rate={rate:g}: {reason}")


def _build(
    name: str, image_size: int, depth: int, download: bool = False, *, drop_path_rate: float = 0.0
) -> nn.Module:
    encoder = smp_encoder(name, image_size, download)
    if encoder.plain:
        return ViTPyramid(name, image_size, download, drop_path_rate)
    options = encoder.options | drop_path(drop_path_rate)
    return smp.encoders.get_encoder(encoder.name, weights=encoder.weights, depth=depth, **options)


class SmpEncoder(NamedTuple):
    """How SMP is asked for a backbone.

    ``name`` and ``weights`` as SMP takes them, ``options`` for timm (the image size, where it
    counts). ``plain``: a transformer whose stages all have stride 16; SMP cannot use it.
    """

    name: str
    weights: str | bool | None
    options: dict[str, Any]
    plain: bool


def smp_encoder(name: str, image_size: int, download: bool = False) -> SmpEncoder:
    """SMP's arguments for a backbone of ours, for square images of ``image_size`` pixels."""
    if name in smp_names():
        return SmpEncoder(name, "imagenet" if download else None, {}, False)
    probe, sized = _probe(name, image_size)
    plain = set(probe.feature_info.reduction()) == {16}
    return SmpEncoder(f"tu-{name}", download or None, sized, plain)


def _probe(name: str, image_size: int) -> tuple[Any, dict[str, Any]]:
    """A timm network without memory, and what it must be told of the image size.

    Windowed transformers fix it when they are built; networks without the argument take any size.
    """
    sized: dict[str, Any] = {"img_size": image_size}
    with torch.device("meta"):
        try:
            return timm.create_model(name, features_only=True, **sized), sized
        except TypeError:
            return timm.create_model(name, features_only=True), {}


@torch.no_grad()
def _check_maps(backbone: Any, image_size: int) -> None:
    """Some networks find out only now that a window or a position table does not fit."""
    backbone.eval()
    maps = backbone(torch.zeros(1, 3, image_size, image_size))
    backbone.train()
    sides = (image_size // 2**level for level in range(len(backbone.out_channels)))
    wanted = [(1, c, s, s) for c, s in zip(backbone.out_channels, sides, strict=True)]
    found = [tuple(m.shape) for m in maps]
    if found != wanted:
        raise ValueError(f"its maps are {found}")


def load_backbone_weights(backbone: nn.Module, file: str, name: str) -> None:
    """Load a weights file of torchvision, timm, SMP or a bare state dict into a backbone.

    Of a folder it is the file with the backbone's name, see `phasewise.config.weight_files`.
    Every parameter of the backbone must be found with its shape; what the file holds beyond them
    (a classifier) is left aside. The file is read with ``weights_only``: it cannot run code.

    Raises:
        UserError: no such file, not a file of weights, or of another network.
    """
    taken = chosen_file(file, [name])
    fit_weights(backbone, read_weights(taken), f"model.pretrained={taken}", name)


def fit_weights(backbone: nn.Module, found: Mapping[str, Tensor], source: str, name: str) -> None:
    """Put tensors into a backbone by their names, as `load_backbone_weights` does with a file's.

    Parameters whose names start with one of ``backbone.added`` need not be among them.

    Args:
        backbone: what takes them.
        found: tensors by name, whatever wrappers' prefixes the names carry.
        source: what the message starts with, ``key=value``.
        name: of the backbone, for the message.

    Raises:
        UserError: they are of another network.
    """
    wanted = backbone.state_dict()
    fitting, others = _match(found, wanted)
    added = getattr(backbone, "added", ())
    needed = [k for k in wanted if "num_batches" not in k and not k.startswith(added)]
    missing = [key for key in needed if key not in fitting]
    bare = [_bare(key) for key in wanted]
    deeper = [key for key in others if _is_deeper(_bare(key), bare)]
    reason = ""
    if missing:
        shape = tuple(wanted[missing[0]].shape)
        reason = (
            f"{len(needed) - len(missing)} of {len(needed)} tensors found with the right shape, "
            f"the first one missing is {missing[0]} {shape}"
        )
    elif deeper:
        reason = f"they are of a deeper network, with {deeper[0]}"
    if reason:
        raise UserError(f"{source}: these weights do not fit model.backbone={name}: {reason}")
    # Some of SMP's encoders override the method, and theirs takes no `strict`.
    nn.Module.load_state_dict(backbone, fitting, strict=False)


def read_weights(file: str) -> dict[str, Tensor]:
    """The tensors of a weights file by name, without the dictionaries around them.

    The file is read with ``weights_only``: it cannot run code.

    Raises:
        UserError: no such file, or not a file of weights.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(
            f"model.pretrained={file}: no such file (true downloads, false goes without)"
        )
    content: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # of the pickle protocol
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers fail on strangers' bytes in all kinds of ways
        raise UserError(
            f"model.pretrained={path}: damaged, or not a file of weights alone: a state dict saved "
            f"by torch.save or safetensors, no pickled network ({type(error).__name__})"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise UserError(f"model.pretrained={path}: holds a {type(content).__name__}, not weights")
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}


def _match(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of ``found`` under the names of ``wanted``, and the names that are not wanted."""
    bare = {_bare(key): key for key in wanted}
    matched, others = {}, []
    for key, value in found.items():
        target = key if key in wanted else bare.get(_bare(key))
        if target is None:
            others.append(key)
        elif wanted[target].shape == value.shape:
            matched[target] = value
    return matched, others


def _bare(key: str) -> str:
    """A name without the prefixes of wrappers, and the same for ``stages.0`` and ``stages_0``, as
    timm's feature extractors call it."""
    for prefix in _PREFIXES:
        if key.startswith(prefix):
            return _bare(key.removeprefix(prefix))
    return key.replace(".", "_")


def _is_deeper(key: str, wanted: list[str]) -> bool:
    """Whether ``key`` is of a block that a stage of the network lacks.

    The last stage is no sign: feature extractors may end before the network does.
    """
    for number in re.finditer(r"_\d+(?=_)", key):
        if not any(name.startswith(f"{key[: number.end()]}_") for name in wanted):
            stage = f"{key[: number.start()]}_"
            members = [i for i, name in enumerate(wanted) if name.startswith(stage)]
            return bool(members) and members[-1] + 1 < len(wanted)
    return False


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or repr(error)
    return text.splitlines()[0][:160]
