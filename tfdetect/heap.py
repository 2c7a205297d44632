"""Memory that is kept for the next tensor, not given back to the system."""

from __future__ import annotations

import ctypes
import os

# Of glibc's malloc.h.
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_MAX = -4
_ARENA_MAX = -8

_POOL = "TF_CPU_ALLOCATOR_USE_BFC"

# What the heap grows by, in bytes.
_STEP = 2**28


def keep_freed_memory() -> None:
    """Have malloc keep what is freed, for as long as the process lives.

    TensorFlow frees every tensor on the CPU when it is done with it. Large ones go back to the
    system by default, and the next one is new memory, each page of which the system clears when it
    is first touched: half of the time of a training step. TensorFlow's own pool (BFC) is better
    than that, but takes more memory, and what goes around it has new pages still. The process then
    has the most memory that it needed at any time. Call it before TensorFlow is imported; nothing
    happens where the C library is not glibc, or TF_CPU_ALLOCATOR_USE_BFC chooses the pool.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or os.environ.setdefault(_POOL, "0") != "0":
        return
    # All in one heap, which never shrinks, and nothing beside it.
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_MMAP_MAX, 0)
    mallopt(_ARENA_MAX, 1)
    mallopt(_TOP_PAD, _STEP)


def release_freed_memory() -> None:
    """Give what is free back to the system now, between two phases that need other sizes.

    Loading a model leaves as much as its weights take, in pieces that feature maps do not fit.
    Nothing happens where the C library is not glibc.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
