"""Networks of binary segmentation: U-Nets of our own, and SMP's architectures around a backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from phasewise.config.targets import build
from phasewise.errors import UserError
from phasewise.networks.backbones import (
    LATER,
    building,
    check_drop_path,
    drop_path,
    fetch,
    load_backbone_weights,
    smp_encoder,
)
from phasewise.networks.layers import freeze_unused, init_weights, swap_activation, swap_norm
from phasewise.networks.parts import returned
from phasewise.networks.receptive_field import receptive_field
from phasewise.networks.stages import AroundBackbone
from segmentation.architectures import (
    FOURS,
    OURS,
    RESIDUAL,
    SMP_STEP,
    depth_of,
    least_size,
    step_of,
)
from segmentation.nnunet import NNUNet, instance_norm
from segmentation.transunet import PER_WIDTH, TransUNet
from segmentation.unet import UNETS, UNet, keras_norm, make_dropout

DEFAULT_BACKBONE = "resnet18"


def _stairs(width: int, depth: int) -> dict[str, Any]:
    return {"decoder_channels": [width * 2**level for level in reversed(range(depth))]}


# At width 16 all decoders have SMP's own widths. Dropout within them is left out: the rate that a
# person sets is the only one. FPN's finest map has stride 4 at depth 5 only.
SMP: dict[str, tuple[type[nn.Module], Callable[[int, int], dict[str, Any]]]] = {
    "smp_unet": (smp.Unet, _stairs),
    "unetplusplus": (smp.UnetPlusPlus, _stairs),
    "manet": (smp.MAnet, lambda w, d: {**_stairs(w, d), "decoder_pab_channels": 4 * w}),
    "fpn": (
        smp.FPN,
        lambda w, d: {
            "decoder_pyramid_channels": 16 * w,
            "decoder_segmentation_channels": 8 * w,
            "decoder_dropout": 0.0,
            "upsampling": 2 ** (d - 3),
        },
    ),
    "deeplabv3plus": (
        smp.DeepLabV3Plus,
        lambda w, _: {"decoder_channels": 16 * w, "decoder_aspp_dropout": 0.0},
    ),
    "upernet": (smp.UPerNet, lambda w, _: {"decoder_channels": 16 * w}),
    "segformer": (smp.Segformer, lambda w, _: {"decoder_segmentation_channels": 16 * w}),
    "transunet": (TransUNet, lambda w, d: {**_stairs(w, d), "transformer_width": PER_WIDTH * w}),
}


class OwnArchitecture(nn.Module):
    """A network of somebody's own, whose logits are looked at.

    Args:
        network: takes normalised images (B, ``in_channels``, S, S) to the logits of the foreground,
            (B, 1, S, S) or (B, S, S).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """See above; (B, 1, S, S).

        Raises:
            UserError: it gives something else.
        """
        logits = self.network(images)
        if isinstance(logits, Tensor) and logits.ndim == 3:
            logits = logits[:, None]
        shape, meaning = (len(images), 1, *images.shape[-2:]), "logits (B, 1, S, S)"
        return returned(logits, shape, meaning, by=self.network, where="model.architecture")


class SegmentationNetwork(AroundBackbone):
    """One of the architectures, from RGB images to the logits of the foreground.

    Args:
        image_size: side of the images in pixels, a multiple of ``2**depth`` (ours) or 32 (SMP's).
            Convolutional networks take other multiples at run time; most transformers keep to this,
            see `check_sizes`.
        architecture: ``unet``, ``attention_unet``, ``resunet``, ``attention_resunet`` (see
            `segmentation.unet`), ``nnunet`` (`segmentation.nnunet`); ``smp_unet``,
            ``unetplusplus``, ``manet``, ``fpn``, ``deeplabv3plus``, ``upernet``, ``segformer``
            (SMP's), ``transunet`` (`segmentation.transunet`, of SMP's parts); or one of somebody's
            own, a mapping of ``_target_`` and its arguments, see `OwnArchitecture`. Only
            ``in_channels``, ``activation``, ``norm`` and ``init_scheme`` go with it; all else is
            said by its own arguments.
        backbone: of SMP's: an SMP encoder or a timm architecture, None for ``resnet18``. Ours have
            none.
        pretrained: of the backbone: ``True`` downloads ImageNet weights, a path loads a file.
        in_channels: 3, or 1 for the mean of the three normalised channels, which of a grey image is
            an affine function of its grey values.
        width: ours: channels at full resolution, doubled at every pooling. SMP's: the decoder's
            channels, its own at 16; ``fpn`` and ``transunet`` take multiples of 4.
        depth: ours: poolings; SMP's: stages of the backbone, 3 to 5. None: see
            `segmentation.architectures.depth_of`.
        activation, norm, init_scheme: see `phasewise.networks.layers`. With pretrained weights, the
            backbone keeps its norms and weights. ``native`` weights of ours are Glorot's, as in
            Keras, of ``nnunet`` He's. The decoder of ``fpn`` always has group norm: ``norm`` is of
            its backbone. ``nnunet`` has instance norm in the place of batch norm.
        norm_momentum: of all batch norms, in torch's sense: the weight of the newest batch.
        dropout_rate, dropout_type: see `segmentation.unet.make_dropout`; ours: in every block,
            SMP's: before the segmentation head.
        drop_path_rate: of SMP's backbones, see `phasewise.networks.backbones.drop_path`.
        head_norm: a batch norm after the last convolution, whatever ``norm`` is.

    Raises:
        UserError: settings that do not go together, a backbone that the architecture cannot use, or
            weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        image_size: int,
        *,
        architecture: str | Mapping[str, Any],
        backbone: str | None,
        pretrained: bool | str,
        in_channels: int,
        width: int,
        depth: int | None,
        activation: str,
        init_scheme: str,
        norm: str,
        norm_momentum: float,
        dropout_rate: float,
        dropout_type: str,
        head_norm: bool,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels, self.image_size = in_channels, image_size
        self._narrow: Callable[[], nn.Module] | None = None
        self._step = SMP_STEP
        self.network: Any  # SMP's modules are known by their attributes only
        if isinstance(architecture, Mapping):
            self._bring(architecture, norm, init_scheme, activation)
            return
        ours = architecture in OURS
        depth = depth_of(architecture, image_size, depth)
        _check_settings(architecture, backbone, pretrained, in_channels, width, norm, dropout_type)
        _check_size(image_size, depth, architecture)
        dropout = partial(make_dropout, dropout_type, dropout_rate)
        if ours:
            if drop_path_rate:
                raise UserError(
                    f"model.drop_path_rate={drop_path_rate:g}: model.architecture={architecture} "
                    "has no backbone; model.dropout_type=depth is for those with residual branches"
                )
            make = partial(_build_ours, architecture, in_channels, depth=depth, norm=norm)
            self.network = make(width, dropout=dropout)
            self._narrow = partial(make, 1, dropout=nn.Identity)
            self._step = step_of(architecture, depth)
        else:
            backbone = backbone or DEFAULT_BACKBONE
            check_drop_path(backbone, drop_path_rate)
            complaint = _complaint(architecture, backbone, depth, image_size)
            with building(complaint):
                self.network = _build(
                    architecture,
                    backbone,
                    image_size,
                    in_channels,
                    width,
                    depth,
                    **drop_path(drop_path_rate),
                )
        for part in self.network.children():
            if not pretrained or part is not self.network.encoder:
                swap_norm(part, norm)
                init_weights(part, init_scheme)
        swap_activation(self, activation)
        conv, *upsampling = self.network.segmentation_head
        self.network.segmentation_head = nn.Sequential(
            *([] if ours else [dropout()]),
            conv,
            *([keras_norm(1)] if head_norm else []),
            *upsampling,
        )
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = norm_momentum
        # Convolutions on channels-last tensors are 1.6 times as fast on CPU, and what GPUs want.
        self.to(memory_format=torch.channels_last)
        self.built_for = f"model.backbone={backbone}" if backbone else None
        if backbone:
            with building(complaint):
                logits = freeze_unused(self, image_size)
                if logits.shape != (1, image_size, image_size):
                    raise ValueError(f"its logits are {tuple(logits.shape)}")
            # Last, since what cannot be built is no fault of the weights or the connection.
            _load(self.network.encoder, backbone, pretrained, image_size, depth)

    def _bring(
        self, architecture: Mapping[str, Any], norm: str, init_scheme: str, activation: str
    ) -> None:
        """Build a network of somebody's own, and try it."""
        own = build(architecture, where="model.architecture", kind=nn.Module)
        self.network = OwnArchitecture(own)
        swap_norm(self.network, norm)
        init_weights(self.network, init_scheme)
        swap_activation(self.network, activation)
        self.to(memory_format=torch.channels_last)
        self.built_for = f"model.architecture={type(own).__name__}"
        size = f"{self.image_size}x{self.image_size}"
        with building(f"{self.built_for}: cannot take {size} images"), torch.no_grad():
            self.eval()(torch.zeros(1, 3, self.image_size, self.image_size))
        self.train()

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Normalised RGB ``(B, 3, S, S)`` to logits ``(B, S, S)``.

        In training, a network with deep supervision gives those of coarser maps as well: a list,
        finest first, of sides S, S/2, S/4, ...
        """
        if self.in_channels == 1:
            images = images.mean(1, keepdim=True)
        logits = self._logits(images.contiguous(memory_format=torch.channels_last))
        if isinstance(logits, Tensor):
            return logits.squeeze(1)
        return [scale.squeeze(1) for scale in logits]

    def inner_backbone(self) -> nn.Module | None:
        """SMP's encoder; ours, and networks of somebody's own, have none."""
        found = isinstance(self.network, SegmentationModel)
        return self.network.encoder if found else None

    def _logits(self, images: Tensor) -> Any:
        if not self.frozen:
            return self.network(images)
        maps = self.maps(images)
        if isinstance(self.network, TransUNet):
            maps = self.network.bridged(maps)
        return self.network.segmentation_head(self.network.decoder(maps))

    def receptive_field(self) -> int | None:
        """See `phasewise.networks.receptive_field`; of ours by a network of width 1, which sees as
        far. No random number is used up."""
        with torch.random.fork_rng(devices=[]):
            network = self.network if self._narrow is None else self._narrow()
        return receptive_field(network, self.in_channels, self._step, self.image_size)

    @torch.no_grad()
    def check_sizes(self, sizes: Iterable[int]) -> None:
        """Try the network on images of other sides than the one that it was built for.

        Which backbones keep to theirs cannot be told without trying: some fail beyond theirs only,
        some want a multiple of it, and some that are told the size take any.

        Args:
            sizes: sides of the images in pixels.

        Raises:
            UserError: it cannot take one of them.
        """
        if self.built_for is None:
            return  # ours take all multiples of their own step, which the schema has checked
        self.eval()
        for size in sorted({*sizes} - {self.image_size}):
            with building(
                f"data.image_size_schedule: {self.built_for} is built for "
                f"data.image_size={self.image_size} and cannot take {size}x{size} images; "
                "convolutional ones such as resnet18 can"
            ):
                self(torch.zeros(2, 3, size, size))  # group norm may refuse a single one
        self.train()


def _check_settings(
    architecture: str,
    backbone: str | None,
    pretrained: bool | str,
    in_channels: int,
    width: int,
    norm: str,
    dropout_type: str,
) -> None:
    name = f"model.architecture={architecture}"
    if architecture in OURS and (backbone or pretrained):
        raise UserError(f"{name} has no backbone: model.backbone=null model.pretrained=false")
    if pretrained and in_channels == 1:
        raise UserError("model.in_channels=1: pretrained weights want model.in_channels=3")
    if dropout_type == "depth" and architecture not in RESIDUAL:
        raise UserError(
            f"model.dropout_type=depth: {name} has no residual branches of its own; element, "
            f"channel and block go with it, and depth with {' and '.join(RESIDUAL)}"
        )
    if architecture == "fpn" and pretrained and norm == "group":
        raise UserError(
            f"model.norm=group: changes nothing with {name}, whose decoder has group norm anyway, "
            "and pretrained weights, whose norms are kept"
        )
    if architecture in FOURS and width % 4:  # fpn's group norms have 32 groups, a ViT whole heads
        raise UserError(f"model.width={width}: {name} wants a multiple of 4")


def _check_size(image_size: int, depth: int, architecture: str) -> None:
    step, least = step_of(architecture, depth), least_size(architecture, depth)
    if image_size % step or image_size < least:
        raise UserError(
            f"data.image_size={image_size}: model.architecture={architecture} wants a multiple of "
            f"{step}{f', {least} or more,' if least > step else ''} at this model.depth"
        )


def _build_ours(
    architecture: str,
    in_channels: int,
    width: int,
    *,
    depth: int,
    dropout: Callable[[], nn.Module],
    norm: str,
) -> nn.Module:
    if architecture == "nnunet":  # `swap_norm` makes group norm of batch norm alone
        make_norm = nn.BatchNorm2d if norm == "group" else instance_norm
        return NNUNet(in_channels, width, depth, dropout, make_norm)
    return UNet(in_channels, width, depth, dropout, **UNETS[architecture])


def _complaint(architecture: str, backbone: str, depth: int, image_size: int) -> str:
    return (
        f"model.backbone={backbone}: model.architecture={architecture} cannot be built on it with "
        f"depth {depth} for {image_size}x{image_size} images; resnet18 suits all at depth 3 to 5"
    )


def _build(
    architecture: str,
    backbone: str,
    image_size: int,
    in_channels: int,
    width: int,
    depth: int,
    **options: float,
) -> nn.Module:
    encoder = smp_encoder(backbone, image_size)
    if encoder.plain:
        raise ValueError("a plain vision transformer, with features of one scale only")
    make, decoder = SMP[architecture]
    sized = {"image_size": image_size} if make is TransUNet else {}
    return make(
        **sized,
        encoder_name=encoder.name,
        encoder_weights=None,
        encoder_depth=depth,
        in_channels=in_channels,
        classes=1,
        **decoder(width, depth),
        **encoder.options,
        **options,
    )


def _load(
    encoder: nn.Module, backbone: str, pretrained: bool | str, image_size: int, depth: int
) -> None:
    if isinstance(pretrained, str) and pretrained != LATER:
        load_backbone_weights(encoder, pretrained, backbone)
    elif pretrained is True:
        name, weights, options, _ = smp_encoder(backbone, image_size, download=True)
        get = partial(get_encoder, name, depth=depth, weights=weights, **options)
        # Some of SMP's encoders override the method with one that renames keys.
        nn.Module.load_state_dict(encoder, fetch(backbone, get).state_dict(), strict=False)
