"""What a quantized model directory says of its layers: `quantization.json`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfdetect.errors import InputError

QUANTIZATION = "quantization.json"
LEAST_DECIBELS = 20.0
"""A layer stays in float32 if int8 changes its output by more: a tenth of its magnitude."""
QUANTIZED_PREFIX = "quantized"
"""Of the files of the checkpoint of float32 weights beside it."""
_FORMAT = 1
_ZERO_POINTS = (0, 128)


@dataclass(frozen=True)
class Step:
    """How values become uint8: value = (q - zero_point) * scale.

    Attributes:
        scale: of one step.
        zero_point: 0 for what is never negative, else 128.
    """

    scale: float
    zero_point: int

    @property
    def bounds(self) -> tuple[float, float]:
        """The values of 0 and of 255."""
        return -self.zero_point * self.scale, (255 - self.zero_point) * self.scale


@dataclass(frozen=True)
class LayerSteps:
    """The steps of a layer's tensors, and how far its int8 form is from the float32 one.

    Attributes:
        input: what it is given.
        product: the convolution with its bias, before a residual is added; None where none is.
        output: what it gives, after residual and ReLU.
        decibels: 10 log10 of the mean square of its output over that of the difference.
    """

    input: Step
    product: Step | None
    output: Step
    decibels: float


@dataclass(frozen=True)
class Quantization:
    """Which layers of a model are int8, and how.

    Attributes:
        layers: by their paths in the model, such as "backbone.bottom_up.res2.0.conv1".
        kept: the layers that stay in float32, and why.
        origin: how it was made: `model` (the directory of the float32 model), `method`, `images`
            (their number) and more, for people.
    """

    layers: Mapping[str, LayerSteps]
    kept: Mapping[str, str]
    origin: Mapping[str, Any]


def is_quantized(directory: Path) -> bool:
    """Whether a model directory is that of a quantized model, whole or not."""
    return (directory / QUANTIZATION).exists() or _index(directory).exists()


def require_float32(directory: Path, purpose: str) -> None:
    """Raise InputError if a model directory is that of a quantized model.

    Args:
        directory: which may be missing, or something else.
        purpose: what the model is wanted for, for the message.
    """
    if not is_quantized(directory):
        return
    try:
        made_from = f", {read_quantization(directory).origin['model']}"
    except (InputError, KeyError):
        made_from = ""
    raise InputError(
        f"{directory}: is a quantized model, which only predicts; {purpose} takes the float32 "
        f"model that it was made from{made_from}"
    )


def write_quantization(folder: Path, quantization: Quantization) -> None:
    """Write `quantization.json` for the checkpoint that is there, and no other."""
    content = {
        "format": _FORMAT,
        "weights": _fingerprint(folder),
        "origin": dict(quantization.origin),
        "layers": {name: asdict(steps) for name, steps in quantization.layers.items()},
        "kept": dict(quantization.kept),
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    (folder / QUANTIZATION).write_text(text, encoding="utf-8")


def read_quantization(folder: Path) -> Quantization:
    """Read that of a model directory.

    Raises:
        InputError: it is damaged, of another version of tfdetect, or of other weights.
    """
    path = folder / QUANTIZATION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if version != _FORMAT:
        raise InputError(
            f"{path}: is of format {version!r}, this tfdetect reads format {_FORMAT}; "
            "run tfdetect quantize again"
        )
    try:
        quantization = Quantization(
            {str(name): _steps(steps) for name, steps in content["layers"].items()},
            {str(name): str(reason) for name, reason in content["kept"].items()},
            dict(content["origin"]),
        )
        expected, found = content["weights"], _fingerprint(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    if found != expected:
        raise InputError(
            f"{path}: was measured with other weights than {_index(folder).name} has; "
            "run tfdetect quantize again"
        )
    return quantization


def _damaged(path: Path, error: Exception) -> InputError:
    reason = f"{type(error).__name__}: {error}"
    return InputError(f"{path}: is damaged ({reason}); run tfdetect quantize again")


def _index(folder: Path) -> Path:
    return folder / f"{QUANTIZED_PREFIX}.index"


def _fingerprint(folder: Path) -> str:
    """Of the checkpoint's index file, which has a checksum of every variable."""
    return hashlib.sha256(_index(folder).read_bytes()).hexdigest()


def _steps(content: Mapping[str, Any]) -> LayerSteps:
    product = content["product"]
    decibels = content["decibels"]
    if not _is_number(decibels):
        raise ValueError(f"decibels {decibels!r}")
    return LayerSteps(
        _step(content["input"]),
        None if product is None else _step(product),
        _step(content["output"]),
        float(decibels),
    )


def _step(content: Mapping[str, Any]) -> Step:
    scale, zero_point = content["scale"], content["zero_point"]
    if not _is_number(scale) or not 1e-30 < scale < 1e30:
        raise ValueError(f"scale {scale!r}")
    if zero_point not in _ZERO_POINTS or isinstance(zero_point, bool):
        raise ValueError(f"zero_point {zero_point!r}")
    return Step(float(scale), int(zero_point))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
