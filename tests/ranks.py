"""Two processes that compute together, as two devices do."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from typing import TypeVar

import torch
import torch.distributed as dist

Result = TypeVar("Result")


def together(work: Callable[[int], Result]) -> list[Result]:
    """What ``work(rank)`` returns as each of two ranks; this process is the first.

    Args:
        work: a function of a module, since the other process has to find it.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["lightning.pytorch"])  # once for all tests of this process
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(1, context) as pool:
        other = pool.submit(_in_group, work, 1, port)
        return [_in_group(work, 0, port), other.result()]


def _in_group(work: Callable[[int], Result], rank: int, port: int) -> Result:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    address, patience = f"tcp://127.0.0.1:{port}", timedelta(seconds=120)
    dist.init_process_group("gloo", address, rank=rank, world_size=2, timeout=patience)
    try:
        return work(rank)
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(threads)
