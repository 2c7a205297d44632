"""Which instruction set the native library's loops use; see instruction_set.h."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from tfdetect.errors import InputError

VARIABLE = "TFDETECT_INSTRUCTION_SET"
BASELINE = "baseline"
TITLES = {BASELINE: "no vector instruction set", "avx2": "AVX2", "avx512": "AVX-512"}


@dataclass(frozen=True)
class InstructionSets:
    """Each of `baseline`, `avx2` or `avx512`.

    Attributes:
        compiled: the largest that the library's loops are compiled for.
        processor: the largest that this processor has, of those that the library knows.
        used: the one that its loops use.
    """

    compiled: str
    processor: str
    used: str

    @property
    def fast(self) -> bool:
        """Whether the library's convolutions are faster than TensorFlow's: with AVX2 at least."""
        return self.used != BASELINE

    def describe(self) -> str:
        """Whose convolutions a CPU uses, and why, in one line."""
        if self.fast:
            return f"convolutions on the CPU are tfdetect's, with {TITLES[self.used]}"
        if self.compiled == BASELINE:
            reason = f"the native ones have no vector instructions on {platform.machine()}"
        elif self.processor == BASELINE:
            reason = "this processor has no AVX2, without which the native ones are slower"
        else:
            reason = f"{VARIABLE} is {self.used}"
        return f"convolutions on the CPU are TensorFlow's: {reason}"

    def check_wanted(self) -> None:
        """Raise `InputError` where TFDETECT_INSTRUCTION_SET asks for one that is not there."""
        wanted = os.environ.get(VARIABLE, "")
        names = list(TITLES)
        most = min(self.compiled, self.processor, key=names.index)
        if wanted and names.index(wanted) > names.index(most):
            known = " or ".join(names[: names.index(most) + 1])
            raise InputError(
                f"{VARIABLE} is {wanted!r}, but this processor has {TITLES[most]}: set it to "
                f"{known}, or unset it"
            )


def check_variable() -> None:
    """Raise `InputError` where TFDETECT_INSTRUCTION_SET is not an instruction set."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted and wanted not in TITLES:
        raise InputError(f"{VARIABLE} is {wanted!r}: set it to {', '.join(TITLES)}, or unset it")


def has_bfloat16_tiles() -> bool:
    """Whether this processor multiplies tiles of bfloat16 numbers (AMX)."""
    with contextlib.suppress(OSError):
        return "amx_bf16" in Path("/proc/cpuinfo").read_text().split()
    return False


def of_library(library: ctypes.CDLL) -> InstructionSets:
    """Ask a library."""

    def ask(name: str) -> str:
        function = getattr(library, f"tfdetect_{name}_instruction_set")
        function.restype = ctypes.c_char_p
        return function().decode()

    return InstructionSets(ask("compiled"), ask("processor"), ask("used"))
