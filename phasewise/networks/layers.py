"""Changes to a finished network: activations, norms, dropout's neighbours, initial weights, and
which parameters train."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from phasewise.config.help import not_one_of
from phasewise.errors import UserError

# None works in place: some networks (Xception, NF-Nets) use the input of an activation again.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.01),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "mish": nn.Mish,
}

_SWAPPED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Mish, nn.Hardswish)

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def _replace(
    module: nn.Module, matches: tuple[type, ...], make: Callable[[nn.Module], nn.Module]
) -> None:
    for name, child in module.named_children():
        if isinstance(child, matches):
            setattr(module, name, make(child))
        else:
            _replace(child, matches, make)


def _check_choice(key: str, value: str, names: Iterable[str]) -> None:
    if value not in (known := tuple(names)):
        raise UserError(f"{key}={value}: {not_one_of(value, known)}")


def swap_activation(module: nn.Module, name: str) -> None:
    """Put activation ``name`` in the place of every other one in ``module``.

    ``native`` leaves the network as it is. Gates (sigmoid, softmax, hard sigmoid) stay.

    Raises:
        UserError: it is none of `ACTIVATIONS`.
    """
    _check_choice("activation", name, ("native", *ACTIVATIONS))
    if name != "native":
        # timm's own classes (a GELU with a tanh, say) are subclasses or namesakes of torch's.
        _replace(module, (*_SWAPPED, *_timm_activations()), lambda _: ACTIVATIONS[name]())


def _timm_activations() -> tuple[type, ...]:
    from timm.layers import activations

    names = ("GELU", "GELUTanh", "QuickGELU", "Swish", "Mish", "HardSwish", "HardMish", "PReLU")
    return tuple(getattr(activations, name) for name in names)


def swap_norm(module: nn.Module, name: str) -> None:
    """Put group norm (``group``) in the place of every batch norm in ``module``.

    Groups of 32 as in Wu & He, "Group Normalization", 2018, or the most that divide the channels.
    ``batch`` leaves the network as it is. Scale and shift are kept.

    Raises:
        UserError: it is neither of the two.
    """
    _check_choice("norm", name, ("batch", "group"))
    if name == "group":
        _replace(module, (nn.BatchNorm2d,), _group_norm)


def _group_norm(norm: nn.Module) -> nn.Module:
    assert isinstance(norm, nn.BatchNorm2d)
    channels = norm.num_features
    groups = max(g for g in range(1, min(32, channels) + 1) if channels % g == 0)
    new = nn.GroupNorm(groups, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        new.load_state_dict({"weight": norm.weight, "bias": norm.bias})
    return _keep_activation(norm, new)


def _keep_activation(norm: nn.Module, new: nn.Module) -> nn.Module:
    """timm folds an activation into its batch norms (``BatchNormAct2d``); it must not be lost."""
    drop, act = getattr(norm, "drop", None), getattr(norm, "act", None)
    extra = [part for part in (drop, act) if isinstance(part, nn.Module)]
    return nn.Sequential(new, *extra) if extra else new


def init_weights(module: nn.Module, scheme: str) -> None:
    """Draw the weights of all convolutions and linear layers anew; biases become 0.

    ``kaiming``: He et al. 2015, normal, fan out, ReLU gain. ``xavier``: Glorot & Bengio 2010,
    uniform.
    ``normal``: standard deviation 0.02 (Radford et al. 2015). ``orthogonal``: Saxe et al. 2013.
    ``native`` leaves what the library drew.

    Raises:
        UserError: it is none of these.
    """
    draw: dict[str, Callable[[Tensor], Tensor]] = {
        "kaiming": partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
        "xavier": nn.init.xavier_uniform_,
        "normal": partial(nn.init.normal_, std=0.02),
        "orthogonal": nn.init.orthogonal_,
    }
    _check_choice("init_scheme", scheme, ("native", *draw))
    if scheme == "native":
        return
    for layer in module.modules():
        if isinstance(layer, _WEIGHTED):
            draw[scheme](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def freeze_unused(network: nn.Module, image_size: int) -> Tensor:
    """Try a network on an image, and freeze the parameters that have no part in the result.

    Many backbones have stages that a head does not look at; DDP stops at parameters without
    gradients. The network is in training mode afterwards.

    Args:
        network: takes images ``(B, 3, S, S)`` and returns one tensor.
        image_size: side of the image in pixels.

    Returns:
        What the network made of the image, in eval mode.
    """
    network.eval()
    with torch.enable_grad():
        result: Tensor = network(torch.zeros(1, 3, image_size, image_size))
    network.train()
    used = _leaves(result)
    for parameter in network.parameters():
        parameter.requires_grad_(parameter in used)
    return result


def _leaves(result: Tensor) -> set[Tensor]:
    """The parameters that ``result`` was computed from, found without a backward pass."""
    leaves, seen, nodes = set(), set(), [result.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(node.variable)
        nodes += [following for following, _ in node.next_functions]
    return leaves
