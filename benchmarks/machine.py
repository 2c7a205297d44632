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

CPU_INFO = Path("/proc/cpuinfo")
# What it calls the sets that matter to convolutions and products.
_INSTRUCTION_SETS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "BF16": {"avx512_bf16"},
    "AMX": {"amx_int8", "amx_bf16"},
}
# What sets the most memory that a process has had back to what it has.
PEAK_RESET = Path("/proc/self/clear_refs")


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def added_mb(function: Callable[[], Any]) -> float:
    """How much more memory, in MB, this process has at most during a call than before it.

    Linux alone tells, where `PEAK_RESET` exists.
    """
    before = _resident_mb("VmRSS")
    PEAK_RESET.write_text("5")
    function()
    return _resident_mb("VmHWM") - before


def _resident_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**10


def processor() -> str:
    """The name of the machine's processor."""
    lines = _cpu_info().splitlines()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def instruction_sets() -> list[str]:
    """Those that decide how fast a model is here; of an x86 processor."""
    flags = set(_cpu_info().split())
    return [name for name, any_of in _INSTRUCTION_SETS.items() if flags & any_of]


def lacks(dtype: str) -> str:
    """What the processor has no instructions for, of "bfloat16" or "int8"; "" where it has them."""
    sets = set(instruction_sets())
    if dtype == "bfloat16" and not sets & {"BF16", "AMX"}:
        return (
            "this processor has no bfloat16 instructions (AVX-512 BF16 or AMX): products are of "
            "float32, and bfloat16 only halves what is read and written"
        )
    if dtype == "int8" and not sets & {"VNNI", "AMX"}:
        return "this processor has no VNNI, without which bytes are multiplied as 16 bits"
    return ""


def _cpu_info() -> str:
    return CPU_INFO.read_text() if CPU_INFO.exists() else ""


def peak_gflops() -> float:
    """The most 10^9 float32 operations per second of all cores together.

    The best of a large product as NumPy computes it and of the native kernel's (`native_product`),
    without which a model of native operators could exceed it.
    """
    import numpy as np

    n = 3072
    a = np.random.default_rng(0).random((n, n), np.float32)
    rates = [2e-9 * n**3 / min(_time(lambda: a @ a) for _ in range(4))]
    kernel = native_product()
    if kernel is not None:
        rates.append(_rate(*kernel))
    return max(rates)


def native_product(dtype: str = "float32") -> tuple[Callable[[], Any], float] | None:
    """A large product of this project's kernel on all cores, and its 10^9 operations.

    None where there are no native operators.

    Args:
        dtype: "float32", "bfloat16" or "int8".
    """
    import tensorflow as tf

    from tfdetect.ops import kernels
    from tfdetect.ops.packed_conv import pack_weight, packed_conv
    from tfdetect.ops.quantized_conv import quantized_conv

    if kernels.library() is None:
        return None
    # As many rows as keep all cores at work, and sums so long that memory does not count.
    height, width, inputs, outputs = 96, 64, 2304, 256
    x = tf.random.stateless_normal([1, height, width, inputs], (1, 2))
    weight = tf.random.stateless_normal([1, 1, inputs, outputs], (3, 4))
    bias = tf.zeros([outputs])
    operations = 2e-9 * height * width * inputs * outputs
    options: dict[str, Any] = {"kernel_size": 1, "stride": 1, "padding": 0, "relu": False}
    if dtype == "int8":
        steps, weights = tf.cast(16 * x + 128, tf.uint8), tf.cast(16 * weight, tf.int8)
        ones = tf.ones([outputs])
        return lambda: quantized_conv(
            steps, weights, ones, bias, zero_point=128, **options
        ), operations
    x, weight = tf.cast(x, dtype), tf.cast(weight, dtype)
    packed = pack_weight(weight) if dtype == "float32" else weight
    return lambda: packed_conv(x, packed, bias, **options), operations


def limit_of(dtype: str) -> str:
    """What limits a model of `dtype` here: missing instructions, or the rate of its products."""
    missing, kernel, usual = lacks(dtype), native_product(dtype), native_product()
    if missing or kernel is None or usual is None:
        return missing
    rate, float32 = _rate(*kernel), _rate(*usual)
    return (
        f"the best {dtype} product of the native kernel has {rate:.0f} 10^9 operations per second "
        f"here, {rate / float32:.1f} times those of float32's"
    )


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


def _rate(run: Callable[[], Any], operations: float) -> float:
    """The most of so many operations per second."""
    return operations / min(_time(run) for _ in range(8))


def _time(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
