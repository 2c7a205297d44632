"""Reading annotations in COCO's JSON format, checked so that later code need not doubt them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdetect.errors import InputError


@dataclass(frozen=True)
class CocoImage:
    """One entry of `images`: its id, its file name below the folder of images, its size."""

    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class CocoDataset:
    """What a COCO annotation file says.

    Attributes:
        path: the file, for messages.
        images: sorted by id, the order in which Detectron2 goes through a data set.
        category_ids: sorted; class c of a model trained on the data set is `category_ids[c]`.
        category_names: in the order of `category_ids`.
        annotations: the entries as they stand in the file (treat as read-only), each with integer
            `id`, `image_id` and `category_id`, the latter one of `category_ids`, and a `bbox` of
            four finite numbers (x, y, width, height). None where the file has none, as the files
            of COCO's test sets.
    """

    path: Path
    images: tuple[CocoImage, ...]
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    annotations: tuple[Mapping[str, Any], ...] | None


def read_coco(path: str | os.PathLike[str]) -> CocoDataset:
    """Read an annotation file in COCO's instances or person-keypoints format.

    Raises:
        InputError: the file is missing, is not JSON, or is not in COCO's format.
    """
    path = Path(path)
    root = _read_json(path)
    if not isinstance(root, dict):
        raise InputError(f"{path}: not in COCO format, expected an object with 'images'")
    images = [
        CocoImage(
            _get(path, entry, where, "id", int),
            _get(path, entry, where, "file_name", str),
            _get(path, entry, where, "height", int),
            _get(path, entry, where, "width", int),
        )
        for where, entry in _entries(path, root, "images")
    ]
    names = {
        _get(path, entry, where, "id", int): _get(path, entry, where, "name", str)
        for where, entry in _entries(path, root, "categories")
    }
    _check_unique(path, "images", (image.id for image in images))
    _check_unique(path, "categories", (entry["id"] for entry in root["categories"]))
    annotations = None
    if "annotations" in root:
        annotations = [
            _check_annotation(path, entry, where, names)
            for where, entry in _entries(path, root, "annotations", may_be_empty=True)
        ]
        # The well-known minival files of COCO 2014 repeat a few; Detectron2 lets them pass too.
        if "minival" not in path.name:
            _check_unique(path, "annotations", (entry["id"] for entry in annotations))
    return CocoDataset(
        path=path,
        images=tuple(sorted(images, key=lambda image: image.id)),
        category_ids=tuple(sorted(names)),
        category_names=tuple(names[category] for category in sorted(names)),
        annotations=None if annotations is None else tuple(annotations),
    )


def _read_json(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}), check the name") from error
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}), name a COCO annotation file") from error


def _entries(
    path: Path, root: dict[str, Any], key: str, may_be_empty: bool = False
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each entry of the list `key`, with its name for messages."""
    entries = root.get(key)
    if not isinstance(entries, list) or not (entries or may_be_empty):
        raise InputError(f"{path}: not in COCO format, '{key}' must be a list with entries")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: {key}[{index}] is not an object, correct the file")
        yield f"{key}[{index}]", entry


def _get(path: Path, entry: dict[str, Any], where: str, key: str, kind: type) -> Any:
    value = entry.get(key)
    # bool is an int to Python, and JSON's true is no id.
    if not isinstance(value, kind) or isinstance(value, bool):
        name = {int: "an integer", str: "a string"}[kind]
        raise InputError(f"{path}: {where}.{key} must be {name}, correct the file")
    return value


def _check_unique(path: Path, key: str, ids: Iterable[int]) -> None:
    seen: set[int] = set()
    for value in ids:
        if value in seen:
            raise InputError(f"{path}: {key} has id {value} twice, give each its own")
        seen.add(value)


def _check_annotation(
    path: Path, entry: dict[str, Any], where: str, categories: Mapping[int, str]
) -> dict[str, Any]:
    for key in ("id", "image_id", "category_id"):
        _get(path, entry, where, key, int)
    if entry["category_id"] not in categories:
        raise InputError(
            f"{path}: {where}.category_id {entry['category_id']} is not among 'categories', add it"
        )
    if not is_numbers(entry.get("bbox"), 4):
        raise InputError(
            f"{path}: {where}.bbox must be four numbers (x, y, width, height), correct the file"
        )
    return entry


def is_numbers(value: Any, count: int) -> bool:
    """Whether `value` is a JSON list of `count` finite numbers."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(
            isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)
            for x in value
        )
    )
