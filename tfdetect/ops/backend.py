"""What a model runs on, which decides the form of every operator in its graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from tfdetect.errors import InputError
from tfdetect.ops import kernels
from tfdetect.ops.kernels.instruction_set import BASELINE, TITLES, has_bfloat16_tiles

__all__ = ["DTYPES", "Backend", "current_backend"]

DEVICES = ("cpu", "gpu")
DTYPES = ("float32", "bfloat16")
"""Of weights and features; boxes and scores are float32 in every case."""


@dataclass(frozen=True)
class Backend:
    """Where a model will run and with which operators, decided once, before anything is traced.

    `Pipeline`, `Predictor`, `export` and `Trainer` trace their graphs with it; `for_device` makes
    one for this machine. Operators ask `current_backend()` when they are called or traced.

    Attributes:
        device: "cpu" or "gpu".
        ops: "native", the operators of the compiled library, or "portable", TensorFlow's.
        dtype: of weights and features, "float32" or "bfloat16".
        fixed_shapes: whether no shape may depend on values, as XLA, LiteRT and ONNX need it. Batch
            and image size must be known then, and the operators are portable.
        instruction_set: what the native convolutions of the CPU are used for, such as "avx2";
            "baseline" leaves convolutions, attention and layer norms to TensorFlow.

    Raises:
        InputError: a value is not one of these.
    """

    device: str = "cpu"
    ops: str = "portable"
    dtype: str = "float32"
    fixed_shapes: bool = False
    instruction_set: str = BASELINE

    def __post_init__(self) -> None:
        for name, known in (
            ("device", DEVICES),
            ("ops", kernels.OPS),
            ("dtype", DTYPES),
            ("instruction_set", tuple(TITLES)),
        ):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"{name} {value!r}: it is {' or '.join(known)}")
        if self.fixed_shapes and self.ops != "portable":
            raise InputError("ops 'native': graphs of fixed shapes have portable operators")

    @classmethod
    def for_device(
        cls,
        device: str | None = None,
        *,
        ops: str | None = None,
        dtype: str = "float32",
        instruction_set: str | None = None,
    ) -> Backend:
        """The backend of what runs on `device`, whatever else the machine has.

        Args:
            device: a TensorFlow device such as "cpu", "gpu:1" or a full name; None for the one that
                TensorFlow prefers: a GPU where it sees one.
            ops: None for TFDETECT_OPS's, or where that is unset for native ones if there are any.
            dtype: of weights and features.
            instruction_set: None for the one that the native library uses on this machine.

        Raises:
            InputError: a value is unknown, or native operators are asked for and there are none.
        """
        kind = _kind(device)
        if ops is None:
            ops = kernels.choose_ops()
        elif ops == "native":
            kernels.require()
        if kind == "gpu" and ops == "native":
            kernels.announce_missing_cuda()
        if instruction_set is None:
            on_cpu = kind == "cpu" and ops == "native"
            instruction_set = kernels.convolution_instruction_set() if on_cpu else BASELINE
            if dtype == "bfloat16" and has_bfloat16_tiles():
                instruction_set = BASELINE  # oneDNN's use AMX, at eight times our rate
        return cls(kind, ops, dtype, instruction_set=instruction_set)

    @property
    def native(self) -> bool:
        """Whether operators are the native library's."""
        return self.ops == "native"

    @property
    def native_on_cpu(self) -> bool:
        """Whether operators are used that the native library has for CPUs alone."""
        return self.native and self.device == "cpu"

    @property
    def native_sums(self) -> bool:
        """Whether long sums on a CPU are the native library's (convolutions: see `packing_pays`):
        with vector instructions it is faster than TensorFlow."""
        return self.native_on_cpu and self.instruction_set != BASELINE

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Within it, what this thread calls or traces is for this backend.

        It decorates functions as well. Enter it in the function that is traced: replicas of
        tf.distribute are traced in threads of their own.
        """
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)


_active: ContextVar[Backend | None] = ContextVar("tfdetect_backend", default=None)


def current_backend() -> Backend:
    """The active backend; outside of any, `Backend.for_device()`."""
    return _active.get() or Backend.for_device()


def _kind(device: str | None) -> str:
    """ "cpu" or "gpu" of "CPU", "gpu:1" or "/job:worker/replica:0/task:0/device:GPU:1"."""
    if device is not None:
        return device.lower().rpartition("device:")[2].partition(":")[0]
    import tensorflow as tf

    return "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
