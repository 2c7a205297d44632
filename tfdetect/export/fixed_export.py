"""Writing a model for images of one size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfdetect.checkpoint.model_dir import load_model
from tfdetect.export.saved_model import new_version, write_saved_model
from tfdetect.files import write_bytes_atomically
from tfdetect.inference.fixed import BACKEND, FixedSizePipeline, to_litert, to_onnx
from tfdetect.inference.optimization import optimize


def export_fixed(
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    form: str,
    batch: int,
    height: int,
    width: int,
    opts: Sequence[Any] = (),
) -> Path:
    """Write a model directory's model for batches of images of one size.

    Args:
        model_dir: what `tfdetect convert` wrote.
        output: with "xla" the folder of versions, as `export` takes it; else the file.
        form: "xla", "litert" or "onnx".
        batch, height, width: of the uint8 [batch, height, width, 3] RGB images.
        opts: [KEY, VALUE, ...], as of `Predictor`; none of TEST.AUG, which this form has no place
            for.

    Returns:
        What was written: the version's folder, or the file.

    Raises:
        InputError: the model cannot be used or cannot have this form, or `output` cannot be
            written; nothing is left there then.
    """
    cfg, model, metadata = load_model(model_dir, opts)
    model = optimize(model, BACKEND)
    pipeline = FixedSizePipeline(cfg, model, batch, height, width)
    if form == "xla":
        with new_version(Path(output)) as (folder, path):
            root = tf.Module()
            root.model = model
            signatures = {"serving_default": pipeline.compiled}
            write_saved_model(root, signatures, metadata, folder)
        return path
    write_bytes_atomically(output, {"litert": to_litert, "onnx": to_onnx}[form](pipeline))
    return Path(output)
