"""Locates the image files of a data set, and finds missing ones without opening any."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path


def image_path(folder: Path, name: str) -> Path:
    """The file of an image that its data set calls `name`, below the folder of images.

    An absolute name stands for itself, as in Detectron2. Backslashes of a file made on Windows part
    folders where no file's name has them.
    """
    path = folder / name
    if "\\" in name and not os.path.exists(path):
        parted = folder / name.replace("\\", "/")
        if os.path.exists(parted):
            return parted
    return path


def image_called(folder: Path, stem: str, suffixes: Sequence[str]) -> Path | None:
    """The image of a folder with this name and one of the suffixes, in either case."""
    names = [stem + suffix for suffix in (*suffixes, *map(str.upper, suffixes))]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def missing_files(paths: Iterable[Path]) -> list[Path]:
    """The `paths` that are not files. Each folder is listed only once."""
    listed: dict[Path, frozenset[str]] = {}
    missing = []
    for path in paths:
        if path.parent not in listed:
            listed[path.parent] = _names(path.parent)
        # What the listing has not may yet be there: in another case, where that is the same.
        if path.name not in listed[path.parent] and not os.path.isfile(path):
            missing.append(path)
    return missing


def count_missing(missing: Sequence[Path], total: int, kind: str = "images") -> str:
    """ "2 of 5 images are missing, such as images/7.jpg", for messages."""
    verb = "is" if len(missing) == 1 else "are"
    return f"{len(missing)} of {total} {kind} {verb} missing, such as {missing[0]}"


def _names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):
        return frozenset()
