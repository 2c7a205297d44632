"""A model's directory: `config.yaml`, a TensorFlow checkpoint and `metadata.json`.

That of a quantized model has `quantization.json` beside, and its checkpoint, of the float32
weights, another name: a tfdetect that knows nothing of quantization finds no weights there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.description import (
    CONFIG,
    METADATA,
    PREFIX,
    check_output,
    own_files,
    read_description,
)
from tfdetect.checkpoint.names import named_modules
from tfdetect.checkpoint.quantization import (
    QUANTIZATION,
    QUANTIZED_PREFIX,
    Quantization,
    is_quantized,
    read_quantization,
    write_quantization,
)
from tfdetect.config import dump_config
from tfdetect.errors import InputError
from tfdetect.files import new_folder
from tfdetect.modeling.build import build_model


def save_model(
    directory: Path,
    cfg: CfgNode,
    model: tf.Module,
    metadata: dict[str, Any],
    quantization: Quantization | None = None,
) -> None:
    """Write a model directory, whole or not at all; an earlier model there is replaced.

    Args:
        directory: of the model.
        cfg: what the model was built from.
        model: with its float32 weights.
        metadata: the content of `metadata.json`.
        quantization: of a quantized model.

    Raises:
        InputError: the place cannot be written, or holds other files.
    """
    check_output(directory)
    try:
        with new_folder(directory.resolve()) as folder:
            (folder / CONFIG).write_text(dump_config(cfg), encoding="utf-8")
            (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
            prefix = folder / (PREFIX if quantization is None else QUANTIZED_PREFIX)
            tf.train.Checkpoint(model=model).write(str(prefix))
            if quantization is not None:
                write_quantization(folder, quantization)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
        raise InputError(f"{directory}: cannot be written ({reason})") from error


def load_model(
    directory: str | os.PathLike[str], opts: Sequence[Any] = ()
) -> tuple[CfgNode, tf.Module, dict[str, Any]]:
    """Read a model directory: its configuration, the model with its weights, and the metadata.

    A quantized model has its float32 weights and the attribute `quantization`, of which `optimize`
    makes int8 layers; called as it is, it computes what the float32 model does.

    Args:
        directory: what `tfdetect convert` or `tfdetect quantize` wrote.
        opts: changes of the configuration, see `load_prediction_config`.

    Raises:
        InputError: a file is missing, damaged or does not belong to the others; `opts` cannot be
            used.
    """
    path = Path(directory)
    cfg, metadata = read_description(path, opts)
    quantized = is_quantized(path)
    for name in sorted(own_files(quantized)):
        if not (path / name).is_file():
            made = "quantize" if quantized else "convert"
            raise InputError(f"{path}: has no {name}; make the directory with tfdetect {made}")
    model = build_model(cfg)
    load_weights(path, model, some=len(opts) > 0)
    if quantized:
        quantization = read_quantization(path)
        unknown = set(quantization.layers) - {name for name, _ in named_modules(model)}
        if unknown and not opts:  # with opts, a head may be left out
            raise InputError(
                f"{path / QUANTIZATION}: has the layer {min(unknown)}, which {CONFIG}'s model has "
                "not; run tfdetect quantize again"
            )
        model.quantization = quantization
    return cfg, model, metadata


def load_weights(path: Path, model: tf.Module, *, some: bool = False) -> None:
    """Give the variables of a model the values in the model directory `path`.

    Args:
        path: the directory.
        model: set in place.
        some: the directory may have more variables than the model (a head that is left out).

    Raises:
        InputError: the directory's checkpoint is damaged or of another model.
    """
    prefix = QUANTIZED_PREFIX if is_quantized(path) else PREFIX
    try:
        # Bytes: a name need not be UTF-8.
        status = tf.train.Checkpoint(model=model).read(os.fsencode(path / prefix))
        if some:
            status.assert_existing_objects_matched()
            status.expect_partial()  # no warning of each variable that is left over
        else:
            status.assert_consumed()
    except Exception as error:  # TensorFlow's reader may raise almost anything for a damaged file
        reason = str(getattr(error, "message", error)).strip().splitlines()[0]
        raise InputError(
            f"{path / prefix}.index: is damaged or not of {CONFIG}'s model ({reason}); "
            "convert the model again"
        ) from error
