"""What a model directory says of its model, to be had without TensorFlow and the weights."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from tfdetect.config.prediction import load_prediction_config
from tfdetect.errors import InputError

CONFIG = "config.yaml"
METADATA = "metadata.json"


def read_description(
    directory: str | os.PathLike[str], opts: Sequence[Any] = (), source: str = "opts"
) -> tuple[CfgNode, dict[str, Any]]:
    """The configuration and the metadata of a model directory.

    Args:
        directory: what convert_d2.py wrote.
        opts: changes of the configuration, see `load_prediction_config`.
        source: what messages call the place that `opts` are from.

    Raises:
        InputError: a file is missing or damaged; `opts` cannot be used.
    """
    path = Path(directory)
    if not path.is_dir():
        raise InputError(f"{path}: is not a model directory; make one with convert_d2.py")
    for name in (CONFIG, METADATA):
        if not (path / name).is_file():
            raise InputError(f"{path}: has no {name}; make the directory with convert_d2.py")
    return load_prediction_config(path / CONFIG, opts, source), read_metadata(path)


def read_metadata(directory: Path) -> dict[str, Any]:
    """The `metadata.json` of a model directory: the names of classes and keypoints, and more.

    Raises:
        InputError: it is missing or something else.
    """
    path = directory / METADATA
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        names = metadata["class_names"]
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError("class_names is not a list of names")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is not a model's metadata ({error}); convert the model again"
        ) from error
    return metadata
