"""Keeps freed memory for the next tensor instead of returning it to the system."""

from __future__ import annotations

import ctypes
import os

# Of glibc's malloc.h.
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4
_ARENA_MAX = -8

_POOL = "TF_CPU_ALLOCATOR_USE_BFC"

# What has a mapping of its own while a model is loaded, and what the heap grows by then; bytes.
_LARGE = 2**17
_STEP = 2**28

_prepared = False


def prepare_heap() -> None:
    """Let a command, whose process is the project's own, call `keep_freed_memory` later.

    Until then large blocks have mappings of their own: what a model is loaded from goes back to
    the system as a whole, and leaves no gaps between the weights. Call it before TensorFlow is
    imported; nothing happens where the C library is not glibc, or TF_CPU_ALLOCATOR_USE_BFC chooses
    TensorFlow's pool.
    """
    global _prepared
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or os.environ.setdefault(_POOL, "0") != "0":
        return
    # Each keeps memory of its own; with one, the threads that compile functions when a model is
    # first called wait for each other, a quarter of a second in all.
    mallopt(_ARENA_MAX, 2)
    mallopt(_MMAP_THRESHOLD, _LARGE)
    _prepared = True


def keep_freed_memory() -> None:
    """Make malloc keep freed memory from now on, for the life of the process.

    TensorFlow frees every tensor on the CPU when it is done with it. Large ones go back to the
    system by default, and the next one is new memory, each page of which the system clears when it
    is first touched: half of the time of a training step. TensorFlow's own pool (BFC) is better
    than that, but takes more memory, and what goes around it has new pages still. The process then
    has the most memory that it needed at any time. Call it when the model is loaded; nothing
    happens without `prepare_heap`. The library leaves a user's own program as it is.
    """
    if not _prepared:
        return
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    # Everything goes to the heap, which never shrinks, and nothing outside it.
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TOP_PAD, _STEP)
