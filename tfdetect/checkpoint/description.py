"""The description of the model in a model directory, read without TensorFlow or the weights."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from tfdetect.checkpoint.quantization import QUANTIZATION, QUANTIZED_PREFIX
from tfdetect.config.capabilities import capabilities
from tfdetect.config.prediction import load_prediction_config
from tfdetect.errors import InputError
from tfdetect.files import check_utf8, check_writable

CONFIG = "config.yaml"
METADATA = "metadata.json"
PREFIX = "model"
"""Of the files of TensorFlow's checkpoint; a quantized model has QUANTIZED_PREFIX."""


def own_files(quantized: bool) -> set[str]:
    """The names of the files in a model directory."""
    prefix = QUANTIZED_PREFIX if quantized else PREFIX
    files = {CONFIG, METADATA, f"{prefix}.index", f"{prefix}.data-00000-of-00001"}
    return files | {QUANTIZATION} if quantized else files


def check_output(directory: Path) -> None:
    """Raise InputError unless a model can be written here: new, empty or an earlier model's."""
    if directory.is_dir():
        names = {entry.name for entry in directory.iterdir()}
        foreign = sorted(names - own_files(False) - own_files(True))
        if foreign:
            raise InputError(
                f"{directory}: holds {foreign[0]}, which is not part of a model; "
                "give a new or empty --output directory"
            )
    check_utf8(directory)
    check_writable(directory)


def read_description(
    directory: str | os.PathLike[str], opts: Sequence[Any] = (), source: str = "opts"
) -> tuple[CfgNode, dict[str, Any]]:
    """The configuration and the metadata of a model directory.

    Args:
        directory: what `tfdetect convert` wrote.
        opts: changes of the configuration, see `load_prediction_config`.
        source: what messages call the place that `opts` are from.

    Raises:
        InputError: a file is missing or damaged; `opts` cannot be used.
    """
    path = Path(directory)
    if not path.is_dir():
        raise InputError(f"{path}: is not a model directory; make one with tfdetect convert")
    for name in (CONFIG, METADATA):
        if not (path / name).is_file():
            raise InputError(f"{path}: has no {name}; make the directory with tfdetect convert")
    cfg, metadata = load_prediction_config(path / CONFIG, opts, source), read_metadata(path)
    check_names(path / METADATA, cfg, metadata)
    return cfg, metadata


def check_names(path: Path, cfg: CfgNode, metadata: dict[str, Any]) -> None:
    """Raise InputError if the names in `metadata.json` are not those of the model's classes.

    Args:
        path: of the file, for the message.
        cfg: the model's configuration.
        metadata: the file's content.
    """
    able = capabilities(cfg)
    keypoints = able.num_keypoints
    wanted = {
        "class_names": able.num_classes,
        "stuff_class_names": able.num_stuff_classes,
        "keypoint_names": keypoints,
    }
    for key, count in wanted.items():
        names = metadata.get(key)
        if names is None and key != "class_names":
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path}: {key} is not a list of names; correct it")
        if len(names) < count:
            raise InputError(
                f"{path}: {key} has {len(names)} names for the model's {count}; add those that are "
                "missing"
            )
    for pair in (metadata.get("keypoint_connections") or []) if keypoints else []:
        known = isinstance(pair, list) and len(pair) == 2 and all(type(i) is int for i in pair)
        if not known or not all(0 <= index < keypoints for index in pair):
            raise InputError(
                f"{path}: keypoint_connections has {pair}, which is not a pair of indices of the "
                f"model's {keypoints} keypoints; correct it"
            )
    names, pairs = metadata.get("keypoint_names") or [], metadata.get("keypoint_flip_map") or []
    if keypoints and not (isinstance(pairs, list) and all(_is_pair(pair, names) for pair in pairs)):
        raise InputError(
            f"{path}: keypoint_flip_map is not a list of pairs of keypoint_names; correct it"
        )


def _is_pair(pair: Any, names: list[str]) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(name in names for name in pair)


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
