"""Checks that the readers of JSON annotations share: each failure is one line with a place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfdetect.errors import InputError


def read_object(path: Path, form: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        path: the file.
        form: what it should be, for messages: "COCO".

    Raises:
        InputError: the file cannot be read, is not JSON, or holds something else.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}), check the name") from error
    try:
        root = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}), name a {form} annotation file") from error
    if not isinstance(root, dict):
        raise InputError(f"{path}: not in {form} format, expected an object with 'images'")
    return root


def entries(
    path: Path, root: Mapping[str, Any], key: str, form: str, may_be_empty: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each entry of the list `key`, with its name for messages.

    Raises:
        InputError: there is no such list, or it has an entry that is not an object.
    """
    found = root.get(key)
    if not isinstance(found, list) or not (found or may_be_empty):
        raise InputError(f"{path}: not in {form} format, '{key}' must be a list with entries")
    for index, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: {key}[{index}] is not an object, correct the file")
        yield f"{key}[{index}]", entry


def get(path: Path, entry: Mapping[str, Any], where: str, key: str, kind: type) -> Any:
    """`entry[key]`, an int or a str as `kind` says.

    Raises:
        InputError: it is missing or of another kind.
    """
    value = entry.get(key)
    # bool is an int to Python, and JSON's true is no id.
    if not isinstance(value, kind) or isinstance(value, bool):
        name = {int: "an integer", str: "a string"}[kind]
        raise InputError(f"{path}: {where}.{key} must be {name}, correct the file")
    return value


def check_unique(path: Path, key: str, ids: Iterable[int]) -> None:
    """Raise an `InputError` if one of the ids of the list `key` comes twice."""
    seen: set[int] = set()
    for value in ids:
        if value in seen:
            raise InputError(f"{path}: {key} has id {value} twice, give each its own")
        seen.add(value)


def check_each(
    found: Iterable[tuple[str, dict[str, Any]]],
    check: Callable[[str, dict[str, Any]], dict[str, Any]],
    report: Callable[[InputError], None] | None,
) -> list[dict[str, Any]]:
    """What `check(where, entry)` returns of each entry.

    Args:
        found: of `entries`.
        check: raises an `InputError` if an entry is broken.
        report: gets that error, and the entry is left out; None raises it.
    """
    checked = []
    for where, entry in found:
        try:
            checked.append(check(where, entry))
        except InputError as error:
            if report is None:
                raise
            report(error)
    return checked


def check_annotation(
    path: Path, entry: dict[str, Any], where: str, categories: Mapping[int, Any]
) -> dict[str, Any]:
    """`entry`, with integer id, image_id and category_id (a known one), and a finite bbox.

    Raises:
        InputError: one of these is missing or is something else.
    """
    for key in ("id", "image_id", "category_id"):
        get(path, entry, where, key, int)
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


def check_segmentation(path: Path, entry: Mapping[str, Any]) -> None:
    """Raise an `InputError` if an annotation's segmentation is neither polygons nor RLE."""
    segmentation: Any = entry.get("segmentation")
    if isinstance(segmentation, dict):
        valid = is_numbers(segmentation.get("size"), 2) and isinstance(
            segmentation.get("counts"), (list, str)
        )
    else:
        # Of a polygon of fewer points pycocotools reads memory that is not the polygon's.
        valid = isinstance(segmentation, list) and len(segmentation) > 0
        valid = valid and all(
            isinstance(p, list) and len(p) >= 4 and is_numbers(p, len(p)) for p in segmentation
        )
    if not valid:
        raise InputError(
            f"{path}: annotation {entry['id']} has no valid 'segmentation', name"
            " annotations with polygons or RLE"
        )
