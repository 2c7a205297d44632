"""Predictors that the commands of several tests share: loading and tracing takes seconds."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tfdetect.inference.predictor import Predictor
from tfdetect.inference.slices import Slices

_MOST = 8
_kept: dict[tuple[Any, ...], Predictor] = {}


@contextlib.contextmanager
def sharing_predictors() -> Iterator[None]:
    """Within it, a command gets the predictor that an earlier one made of the same arguments.

    That is, of a model directory of the same content, on the same device and so on. What cannot be
    loaded fails every time.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfdetect.inference.predictor.Predictor", shared_predictor)
        yield


def shared_predictor(
    directory: str | os.PathLike[str],
    device: str | None = None,
    padding: str = "own",
    dtype: str = "float32",
    opts: Sequence[Any] = (),
    slices: Slices | None = None,
) -> Predictor:
    """A predictor of these arguments, made once."""
    operators = os.environ.get("TFDETECT_OPS")
    key = _digest(Path(directory)), operators, device, padding, dtype, slices, *opts
    if key not in _kept:
        if len(_kept) == _MOST:
            del _kept[next(iter(_kept))]
        _kept[key] = Predictor(directory, device, padding, dtype, opts, slices)
    return _kept[key]


# The class's other constructor, for modules that are imported while this stands in for it.
vars(shared_predictor)["of_model"] = Predictor.of_model


def _digest(directory: Path) -> bytes:
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(directory)}\0".encode() + path.read_bytes())
    return digest.digest()
