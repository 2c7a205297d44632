"""Inputs of the rows of single operators, the same for both libraries."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import seeded_models
from harness import Side, Skip
from machine import peak_bandwidth

# A map of a stride of 4 of an image of 800 x 1216 pixels.
IMAGE = (800, 1216)
FEATURES = (1, 200, 304, 256)
SCALE = 0.25
BINS = 7
REGIONS = 1000

_TASKS = Path("/proc/self/task")


def boxes(count: int, size: tuple[int, int], shortest: float, longest: float) -> np.ndarray:
    """float32 [count, 4] XYXY boxes inside of an image of (height, width) `size`.

    The logarithm of their sides is spread evenly between the two, about that of their aspect ratio
    too (half to double), as with the boxes of photographs.
    """
    rng = np.random.default_rng(0)
    side = np.exp(rng.uniform(np.log(shortest), np.log(longest), (count, 1)))
    ratio = np.exp(rng.uniform(-0.7, 0.7, (count, 1)))
    limits = np.array(size[::-1])
    extent = np.minimum(np.concatenate([side * ratio, side / ratio], 1), limits)
    low = rng.random((count, 2)) * (limits - extent)
    return np.concatenate([low, low + extent], 1).astype(np.float32)


def regions() -> np.ndarray:
    """The boxes of the rows of RoIAlign, of sides of 16 to 600 pixels."""
    return boxes(REGIONS, IMAGE, 16, 600)


def normal(*shape: int) -> np.ndarray:
    """float32 normal numbers."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def pooled_locations(boxes: np.ndarray) -> float:
    """How many locations of the map the boxes cover, counted separately for every box."""
    return float(((boxes[:, 2:] - boxes[:, :2]) * SCALE).prod(1).sum())


def call(function: Callable[..., Any], *arguments: Any) -> Callable[[], None]:
    """What calls it, for a `Side`; eager operators on the CPU have ended when they return."""

    def run() -> None:
        function(*arguments)

    return run


def torchvision_pooling(name: str, gradient: bool, **options: Any) -> Side:
    """An operator of torchvision's that pools `regions()` of the map, or its gradient.

    Args:
        name: of the function in `torchvision.ops`.
        gradient: whether that is called.
        options: of the function, beyond bins and scale.
    """
    import torch
    import torchvision

    features = torch.from_numpy(normal(*FEATURES)).permute(0, 3, 1, 2).contiguous()
    boxes = [torch.from_numpy(regions())]
    operator = getattr(torchvision.ops, name)
    pool = functools.partial(operator, output_size=BINS, spatial_scale=SCALE, **options)
    if gradient:
        features.requires_grad_()
        pooled = pool(features, boxes)
        upstream = torch.from_numpy(normal(*pooled.shape))

        def run() -> None:
            torch.autograd.grad(pooled, features, upstream, retain_graph=True)
    else:

        def run() -> None:
            with torch.no_grad():
                pool(features, boxes)

    threads = busy_threads(run)
    return Side(
        {"torchvision": torchvision.__version__ + threads, "PyTorch": torch.__version__}, run
    )


def versions() -> dict[str, str]:
    """Of this project's side, in a process that keeps freed memory as the commands do."""
    from tfdetect.cli.heap import keep_freed_memory

    found = seeded_models.versions()
    keep_freed_memory()
    return found


def require_native() -> None:
    """Raises `Skip` if the native operators are not available."""
    from tfdetect.ops import kernels

    if kernels.library() is None:
        raise Skip("the native operators are not available (is there a C++ compiler?)")


def bytes_limit(what: str, moved: float) -> Callable[[float], str]:
    """The limit of an operator that cannot be faster than the memory."""

    def limit(seconds: float) -> str:
        best = peak_bandwidth()
        bound = moved / best * 1e-9
        return (
            f"it {what}, {moved / 1e6:.0f} MB: {bound * 1e3:.1f} ms at the {best:.0f} GB/s of a "
            f"copy here, {bound / seconds:.0%} of the time"
        )

    return limit


def busy_threads(run: Callable[[], Any]) -> str:
    """Over how many threads a call spreads its work, for the table; "" where that is not known."""
    if not _TASKS.exists():
        return ""
    before = _ticks()
    run()
    after = _ticks()
    used = [ticks - before.get(thread, 0) for thread, ticks in after.items()]
    # Not by the clock: another process may have the processor for a part of the time.
    return f" ({sum(used) / max(*used, 1):.1f} threads)"


def _ticks() -> dict[str, int]:
    """The processor time of each thread of this process, user's and system's."""
    # The fields after the name, which may hold anything: the 12th and the 13th.
    fields = {
        task.name: (task / "stat").read_text().rpartition(")")[2].split()
        for task in _TASKS.iterdir()
    }
    return {name: int(values[11]) + int(values[12]) for name, values in fields.items()}
