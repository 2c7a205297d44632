"""What the machine of a measurement is, and the most that it can do."""

from __future__ import annotations

import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def processor() -> str:
    """The name of the machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def peak_gflops() -> float:
    """The most 10^9 float32 operations per second of all cores together: of a large product."""
    import numpy as np

    n = 3072
    a = np.random.default_rng(0).random((n, n), np.float32)
    return 2e-9 * n**3 / min(_time(lambda: a @ a) for _ in range(4))


def peak_bandwidth() -> float:
    """The most 10^9 bytes per second, read and written, of all cores: of copies of 256 MB."""
    import numpy as np

    threads = len(os.sched_getaffinity(0))
    source = [np.ones(2**28 // threads // 4, np.float32) for _ in range(threads)]
    target = [np.zeros_like(part) for part in source]

    def copy() -> None:
        workers = [
            threading.Thread(target=np.copyto, args=pair)
            for pair in zip(target, source, strict=True)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return 2e-9 * 2**28 / min(_time(copy) for _ in range(5))


def _time(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
