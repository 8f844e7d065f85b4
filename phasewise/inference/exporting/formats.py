"""The formats: how a network is written to a file, and how that file is run.

An exported network is a function of one tensor, ``images`` float32 (B, 3, S, S), normalised, to
named outputs; `METADATA` travels inside the file.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phasewise.errors import UserError
from phasewise.project import install_command
from phasewise.training.module import TaskModule

METADATA = "phasewise"
"""The name under which a file holds its description, JSON."""

INPUT = "images"
Outputs = dict[str, Tensor]


class Deployed(nn.Module):
    """What is exported of a task's module: its network and what follows from it."""

    def __init__(self, module: TaskModule) -> None:
        super().__init__()
        self.network = module.network
        self._task = (module,)  # no part of it: its losses and metrics would be exported too

    @property
    def module(self) -> TaskModule:
        """The task's module."""
        return self._task[0]

    def forward(self, images: Tensor) -> Outputs:
        """See `TaskModule.deployed`."""
        return self.module.deployed(images)


class Format(NamedTuple):
    """``write(network, example, dynamic, metadata, file)``; ``load(file)`` gives what runs it."""

    write: Callable[[Deployed, Tensor, bool, Mapping[str, Any], Path], None]
    load: Callable[[Path], Callable[[Tensor], Outputs]]


def _dynamic(dynamic: bool) -> dict[str, Any]:
    return {INPUT: {0: torch.export.Dim("batch")}} if dynamic else {INPUT: None}


def _write_onnx(
    network: Deployed, example: Tensor, dynamic: bool, metadata: Mapping[str, Any], file: Path
) -> None:
    names = list(metadata["outputs"])
    shapes = _dynamic(dynamic)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=[INPUT],
        output_names=names,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[METADATA] = json.dumps(metadata)
    program.save(str(file), external_data=False)


def _load_onnx(file: Path) -> Callable[[Tensor], Outputs]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> Outputs:
        found = session.run(None, {INPUT: images.numpy()})
        return {name: torch.from_numpy(it) for name, it in zip(names, found, strict=True)}

    return run


def _write_torchscript(
    network: Deployed, example: Tensor, dynamic: bool, metadata: Mapping[str, Any], file: Path
) -> None:
    traced = torch.jit.trace(network, (example,), strict=False, check_trace=False)
    torch.jit.save(traced, file, _extra_files={METADATA: json.dumps(metadata)})


def _write_torch_export(
    network: Deployed, example: Tensor, dynamic: bool, metadata: Mapping[str, Any], file: Path
) -> None:
    program = torch.export.export(network, (example,), dynamic_shapes=_dynamic(dynamic))
    torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})


FORMATS = {
    "onnx": Format(_write_onnx, _load_onnx),
    "torchscript": Format(_write_torchscript, torch.jit.load),
    "torch_export": Format(_write_torch_export, lambda file: torch.export.load(file).module()),
}


def check_installed(name: str) -> None:
    """Refuse a format whose packages are missing, before anything is read.

    Raises:
        UserError: how to install them.
    """
    if name != "onnx":
        return
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        reason = (
            f"format=onnx: {error.name} is not installed; {install_command('export')} brings it"
        )
        raise UserError(reason) from error


@contextmanager
def exporting(name: str, what: str) -> Iterator[None]:
    """Tell a person in one line whatever an exporter cannot do, and nothing else.

    Args:
        name: of the format.
        what: is exported.

    Raises:
        UserError: it cannot be exported.
    """
    levels = {it: logging.getLogger(it).level for it in ("torch", "onnxscript", "onnx_ir")}
    try:
        for logger in levels:
            logging.getLogger(logger).setLevel(logging.ERROR)
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            yield
    except (UserError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # exporters fail in all kinds of ways
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = next(iter(str(cause).strip().splitlines()), "")[:200]
        others = ", ".join(f"format={it}" for it in FORMATS if it != name)
        raise UserError(
            f"format={name}: {what} cannot be exported ({type(cause).__name__}: {reason})\n"
            f"batch=1 asks for less; {others} may do"
        ) from error
    finally:
        for logger, level in levels.items():
            logging.getLogger(logger).setLevel(level)
