"""A device whose tensors lie in ordinary memory, but must be sent and fetched as those of a GPU.

Machines without a GPU can thus tell two things of a training on one: whether all tensors are where
they are used (an operation on tensors of two places fails, as CUDA's would), and where the
processor waits for the device. torch's registration of a backend in Python does the rest.

It serves a process of its own: what it registers stays.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
DEVICE = torch.device("privateuseone", 0)
"""Its type is `NAME` once it is registered."""

WAITS = (
    "_local_scalar_dense",
    "nonzero.",
    "masked_select",
    "unique",
    "equal.",
    "bincount",
    "repeat_interleave.Tensor",
)
"""Operations whose result, or the size of it, the processor needs to know before it goes on."""

Observer = Callable[[str, str], None]
"""Is told of each wait: the operation, and the lines that called it, innermost first."""

_observers: list[Observer] = []


class DeviceTensor(Tensor):
    """A tensor of the pretended device; ``held`` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls: Any, held: Tensor) -> DeviceTensor:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"{self.held!r} on {DEVICE}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)

    def tolist(self) -> Any:
        """torch refuses subclasses."""
        _tell("tolist")
        return self.held.tolist()

    def __getitem__(self, index: Any) -> Tensor:
        """Lists become tensors that are sent first, as torch does below Python."""
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, list) for part in parts):
            parts = tuple(
                torch.as_tensor(part).to(DEVICE) if isinstance(part, list) else part
                for part in parts
            )
        return super().__getitem__(parts if isinstance(index, tuple) else parts[0])

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _perform(operation, *args, **(kwargs or {}))


def observe(observer: Observer) -> None:
    """Be told of waits from now on."""
    _observers.append(observer)


def _tell(what: str) -> None:
    if _observers:
        folder = str(Path(torch.__file__).parent)
        frames = [f for f in traceback.extract_stack() if not f.filename.startswith(folder)]
        frames = [f for f in frames if f.filename != __file__]
        place = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-3:]))
        for observer in _observers:
            observer(what, place)


def _perform(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation of torch with a tensor of the device, or one that makes such."""
    name = str(operation)
    tensors = [it for it in tree_leaves((args, kwargs)) if isinstance(it, Tensor)]
    here = [it for it in tensors if isinstance(it, DeviceTensor)]
    elsewhere = [it for it in tensors if not isinstance(it, DeviceTensor)]
    if name.startswith("aten.copy_."):
        target, source, *rest = args
        to_device = isinstance(target, DeviceTensor) and not isinstance(source, DeviceTensor)
        waits = not to_device or not (rest and rest[0])
        if waits and isinstance(target, DeviceTensor) != isinstance(source, DeviceTensor):
            _tell(name)
    else:
        if here and any(it.ndim for it in elsewhere):
            raise RuntimeError(f"{name}: tensors on {DEVICE} and on the CPU")
        masks = tree_leaves(args[1]) if "index" in name and len(args) > 1 else []
        selects = any(isinstance(it, Tensor) and it.dtype == torch.bool for it in masks)
        if here and (selects or any(part in name for part in WAITS)):
            _tell(name)
    wanted = kwargs.get("device")
    made = tree_map(_held, (args, kwargs))
    result = operation(*made[0], **made[1])
    if here if wanted is None else torch.device(wanted).type == NAME:
        return tree_map(_wrapped, result)
    return result


def _held(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    return value.held if isinstance(value, DeviceTensor) else value


def _wrapped(value: Any) -> Any:
    plain = isinstance(value, Tensor) and not isinstance(value, DeviceTensor)
    return DeviceTensor(value) if plain else value


class _Backend(backend_registration._DummyBackendModule):
    """What ``torch.pretended`` is."""

    def manual_seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def register() -> torch.library.Library:
    """Make the device known to torch; it lasts as long as what is returned."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    library = torch.library.Library("_", "IMPL")
    library.fallback(_perform, "PrivateUse1")
    plain = torch.tensor

    def tensor(data: Any, *, dtype: Any = None, device: Any = None, **rest: Any) -> Tensor:
        """torch fills new tensors below Python, where no fallback is asked."""
        made = plain(data, dtype=dtype, **rest)
        return made if device is None else made.to(device)

    def new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
        return tensor(data, dtype=dtype or self.dtype, device=device or self.device)

    torch.tensor = tensor
    torch.Tensor.new_tensor = new_tensor  # type: ignore[method-assign]
    return library
