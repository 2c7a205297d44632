"""Tests of the compiled operators, where there is a compiler."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest


def require_native():
    """Skip the test where there is no C++ compiler; where there is one, a failed build fails it."""
    from tfdetect.ops import kernels
    from tfdetect.ops.kernels import build

    if kernels.library() is None:
        if build.find_toolchain() is None:
            pytest.skip("no compiled operators here (no C++ compiler)")
        pytest.fail("there is a C++ compiler, but the native operators do not build or load")


@contextlib.contextmanager
def using_ops(name: str) -> Iterator[None]:
    """Within it, what makes its own `Backend` has these operators, "native" or "portable"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDETECT_OPS", name)
        yield


IMPLEMENTATIONS = ["native", pytest.param("portable", marks=pytest.mark.full)]
"""Of the fixture `implementation`, where the portable one is for `make test-full`."""


def native_and_one_portable(names: Iterable[str]) -> list[Any]:
    """Cases of (name, implementation) for what is made of operators that have tests of their own.

    Of those with portable operators, only the first is not for `make test-full`.
    """
    names = list(names)
    return [
        *((name, "native") for name in names),
        (names[0], "portable"),
        *(pytest.param(name, "portable", marks=pytest.mark.full) for name in names[1:]),
    ]
