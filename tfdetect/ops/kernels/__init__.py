"""The native operators: one compiled library, found or built on first use.

`library()` is the loaded module of operators or None. Which operators a graph has is its
`Backend`'s to say (`tfdetect.ops.backend`); where that does not, the environment variable
TFDETECT_OPS chooses: `native` (an error if it is unavailable), `portable`, or unset for native
if available.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from types import ModuleType
from typing import Any

from tfdetect.errors import InputError
from tfdetect.files import cache_directory
from tfdetect.ops.kernels import build
from tfdetect.ops.kernels.instruction_set import (
    BASELINE,
    InstructionSets,
    check_variable,
    of_library,
)

__all__ = [
    "OPS",
    "announce_missing_cuda",
    "choose_ops",
    "convolution_instruction_set",
    "functions",
    "instruction_sets",
    "library",
    "require",
]

OPS = ("native", "portable")
_ANY = "tfdetect_nms"
_ANY_REGISTERED = "TfdetectNms"

_lock = threading.Lock()
_tried = False
_module: ModuleType | None = None
_functions: ctypes.CDLL | None = None
_reason = ""
_sets: InstructionSets | None = None
_announced = False
_announced_convolutions = False
_announced_cuda = False


def library() -> Any:
    """The loaded native operators, built if necessary; None if they are unavailable.

    It is a module with one function per operator (`tfdetect_roi_align`, ...); no type checker
    knows them. The result is cached for the life of the process. A build is announced in a line on
    stderr.

    Raises:
        InputError: TFDETECT_INSTRUCTION_SET is not an instruction set, or one that is not there.
    """
    global _tried, _module, _reason
    with _lock:
        if not _tried:
            check_variable()
            try:
                _module = _load()
            except InputError as error:
                _reason = str(error)
            if _sets is not None:
                _sets.check_wanted()
            _tried = True
        return _module


def choose_ops() -> str:
    """`native` or `portable`: what TFDETECT_OPS says, else native if available.

    Where it cannot, a line on stderr says why, once.

    Raises:
        InputError: TFDETECT_OPS is neither `native` nor `portable`, or it is `native` and there
            is not a native library.
    """
    global _announced
    choice = os.environ.get("TFDETECT_OPS", "")
    if choice == "native":
        require()
    if choice in OPS:
        return choice
    if choice:
        raise InputError(f"TFDETECT_OPS is {choice!r}: set it to native or portable, or unset it")
    if library() is not None:
        return "native"
    if not _announced:
        _announced = True
        print(f"tfdetect: using the portable operators: {_reason}", file=sys.stderr)
    return "portable"


def require() -> None:
    """Raise `InputError` where there is no native library."""
    if library() is None:
        raise InputError(f"the native operators are not available: {_reason}")


def functions() -> ctypes.CDLL:
    """The native library's functions that need no TensorFlow; there must be one (`library`)."""
    assert _functions is not None
    return _functions


def instruction_sets() -> InstructionSets:
    """Which instruction set the native library uses; there must be one (`library`)."""
    assert _sets is not None
    return _sets


def convolution_instruction_set() -> str:
    """The instruction set with which the native library's convolutions run on this CPU.

    It is "baseline" where there is none with which they are faster than TensorFlow's; a line on
    stderr says so, once. There must be a library.
    """
    global _announced_convolutions
    sets = instruction_sets()
    if sets.fast:
        return sets.used
    if not _announced_convolutions:
        _announced_convolutions = True
        print(f"tfdetect: {sets.describe()}", file=sys.stderr)
    return BASELINE


def announce_missing_cuda() -> None:
    """Say in a line on stderr, once, if the native operators have no CUDA kernels.

    TensorFlow places them on the CPU then, and copies what they take and give. There must be a
    library.
    """
    global _announced_cuda
    from tensorflow.python.framework import kernels as registered

    found = registered.get_registered_kernels_for_op(_ANY_REGISTERED).kernel
    if _announced_cuda or any(kernel.device_type == "GPU" for kernel in found):
        return
    _announced_cuda = True
    print(
        "tfdetect: the native operators have no CUDA kernels, since nvcc was not found when they "
        "were built: on a GPU's machine they run on the CPU; set CUDA_HOME or PATH and run "
        "tfdetect build-operators",
        file=sys.stderr,
    )


def _load() -> ModuleType:
    path = build.find_library()
    if path is None:
        if build.find_toolchain() is not None:
            print(
                f"tfdetect: building the native operators (about {build.SECONDS} s, once; kept in "
                f"{cache_directory()})",
                file=sys.stderr,
                flush=True,
            )
        path = build.build()

    import tensorflow as tf

    global _functions, _sets
    try:
        module = tf.load_op_library(str(path))
        _functions = ctypes.CDLL(str(path))
    except tf.errors.FailedPreconditionError as error:  # another version's library (once.h)
        raise InputError(error.message) from error
    except (tf.errors.OpError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} does not load: delete it and try again ({reason})") from error

    from tfdetect.ops.kernels import gradients  # noqa: F401 (registers them)

    _sets = of_library(_functions)
    return module if hasattr(module, _ANY) else _module_of_registered()


def _module_of_registered() -> ModuleType:
    """A module of the operators that are registered already, as `tf.load_op_library` makes it.

    A native SavedModel's library was loaded before ours, and has registered them all; TensorFlow
    gives functions only of those that a library has brought with it.
    """
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session
    from tensorflow.python.framework.load_library import _pywrap_python_op_gen

    registered = op_def_pb2.OpList()
    registered.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    ours = op_def_pb2.OpList(op=[op for op in registered.op if op.name.startswith("Tfdetect")])
    module = ModuleType("tfdetect_registered_operators")
    source = _pywrap_python_op_gen.GetPythonWrappers(ours.SerializeToString())
    exec(source, module.__dict__)  # noqa: S102 (TensorFlow's own text, of these definitions)
    return module
