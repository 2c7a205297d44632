"""A model's directory: `config.yaml`, a TensorFlow checkpoint and `metadata.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.description import CONFIG, METADATA, read_description
from tfdetect.config import dump_config
from tfdetect.errors import InputError
from tfdetect.files import check_utf8, check_writable, new_folder
from tfdetect.modeling.build import build_model

_PREFIX = "model"
_OWN_FILES = {CONFIG, METADATA, f"{_PREFIX}.index", f"{_PREFIX}.data-00000-of-00001"}


def check_output(directory: Path) -> None:
    """Raise InputError unless `save_model` can write here: new, empty or an earlier model's."""
    if directory.is_dir():
        foreign = sorted({entry.name for entry in directory.iterdir()} - _OWN_FILES)
        if foreign:
            raise InputError(
                f"{directory}: holds {foreign[0]}, which is not part of a model; "
                "give a new or empty --output directory"
            )
    check_utf8(directory)
    check_writable(directory)


def save_model(directory: Path, cfg: CfgNode, model: tf.Module, metadata: dict[str, Any]) -> None:
    """Write a model directory, whole or not at all; an earlier model there is replaced.

    Raises:
        InputError: the place cannot be written, or holds other files.
    """
    check_output(directory)
    try:
        with new_folder(directory.resolve()) as folder:
            (folder / CONFIG).write_text(dump_config(cfg), encoding="utf-8")
            (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
            tf.train.Checkpoint(model=model).write(str(folder / _PREFIX))
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
        raise InputError(f"{directory}: cannot be written ({reason})") from error


def load_model(
    directory: str | os.PathLike[str], opts: Sequence[Any] = ()
) -> tuple[CfgNode, tf.Module, dict[str, Any]]:
    """Read a model directory: its configuration, the model with its weights, and the metadata.

    Args:
        directory: what `tfdetect convert` wrote.
        opts: changes of the configuration, see `load_prediction_config`.

    Raises:
        InputError: a file is missing, damaged or does not belong to the others; `opts` cannot be
            used.
    """
    path = Path(directory)
    cfg, metadata = read_description(path, opts)
    for name in sorted(_OWN_FILES):
        if not (path / name).is_file():
            raise InputError(f"{path}: has no {name}; make the directory with tfdetect convert")
    model = build_model(cfg)
    load_weights(path, model, some=len(opts) > 0)
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
    try:
        # Bytes: a name need not be UTF-8.
        status = tf.train.Checkpoint(model=model).read(os.fsencode(path / _PREFIX))
        if some:
            status.assert_existing_objects_matched()
            status.expect_partial()  # no warning of each variable that is left over
        else:
            status.assert_consumed()
    except Exception as error:  # TensorFlow's reader may raise almost anything for a damaged file
        reason = str(getattr(error, "message", error)).strip().splitlines()[0]
        raise InputError(
            f"{path / _PREFIX}.index: is damaged or not of {CONFIG}'s model ({reason}); "
            "convert the model again"
        ) from error
