"""run.json: what a batch run was started with, so that one with other settings does not join it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfdetect.errors import InputError
from tfdetect.files import NewFile

RUN = "run.json"
_CHUNK = 2**20
_MEANING = {
    "model": "--model (its files)",
    "opts": "--opts or --tta",
    "dtype": "--dtype",
    "padding": "--padding",
    "slices": "--slice or --overlap",
    "images": "--input (the number of images)",
    "input": "--input (the names of the images)",
    "images_per_file": "--images-per-file",
}


def model_digest(directory: str | os.PathLike[str]) -> str:
    """SHA-256 of the files of a model directory, in hexadecimal.

    Raises:
        InputError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(Path(directory).iterdir()):
            if path.name.startswith(".") or not path.is_file():
                continue
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
    except OSError as error:
        raise InputError(f"{directory}: cannot be read ({error.strerror}); check it") from error
    return digest.hexdigest()


def join_run(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run to its folder, or compare them with those that are there.

    Processes of one run may do this at the same time.

    Raises:
        InputError: the folder holds the results of a run with other settings, or cannot be written.
    """
    path = folder / RUN
    if not path.exists():
        with NewFile(path) as file:
            file.write(json.dumps(dict(settings), indent=1).encode() + b"\n")
            if file.finish_first():
                return
    there = read_run(path)
    different = [
        meaning for key, meaning in _MEANING.items() if there.get(key) != settings.get(key)
    ]
    if different:
        raise InputError(
            f"{folder}: holds a run with another {', another '.join(different)}; give the same, or "
            "another --output"
        )


def read_run(path: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        settings = json.loads(path.read_bytes())
        if isinstance(settings["images"], int):
            return settings
        reason = "the number of images is missing"
    except FileNotFoundError as error:
        raise InputError(
            f"{path.parent}: has no {path.name}; give a folder that tfdetect batch wrote"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise InputError(f"{path}: is not the file of a batch run ({reason}); use another folder")
