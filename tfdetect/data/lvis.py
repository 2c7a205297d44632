"""Reading annotations in LVIS's JSON format, v0.5 and v1.

LVIS is annotated in part: of an image one knows the categories that were looked for and found,
those that were looked for and are not there, and those of which more are there than were marked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdetect.data.json_format import (
    check_annotation,
    check_each,
    check_segmentation,
    check_unique,
    entries,
    get,
    read_object,
)
from tfdetect.errors import InputError

FREQUENCIES = ("r", "c", "f")
"""Of a category: rare (in less than 10 images of the training set), common (100), frequent."""


@dataclass(frozen=True)
class LvisImage:
    """One entry of `images`.

    Attributes:
        id: of the image.
        file_name: below the folder of images: the last two parts of `coco_url`, such as
            `val2017/000000155379.jpg`, because LVIS divides COCO's images in its own way.
        height: in pixels.
        width: in pixels.
        neg_category_ids: categories that were looked for and are not there.
        not_exhaustive_category_ids: categories of which not all that are there are marked.
    """

    id: int
    file_name: str
    height: int
    width: int
    neg_category_ids: frozenset[int]
    not_exhaustive_category_ids: frozenset[int]


@dataclass(frozen=True)
class LvisDataset:
    """What an LVIS annotation file says.

    Attributes:
        path: the file, for messages.
        images: sorted by id.
        category_ids: sorted; class c of a model trained on the data set is `category_ids[c]`.
        category_names: in the order of `category_ids`; the first of a category's synonyms where it
            has any, as Detectron2 names LVIS's classes.
        frequencies: of each category, one of `FREQUENCIES`; None where the file has none.
        annotations: the entries as they stand in the file (treat as read-only), each with integer
            `id`, `image_id` and `category_id`, a finite `bbox` (x, y, width, height) and `area`,
            and a `segmentation`. None where the file has none, as the test sets.
    """

    path: Path
    images: tuple[LvisImage, ...]
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    frequencies: tuple[str, ...] | None
    annotations: tuple[Mapping[str, Any], ...] | None


def read_lvis(
    path: str | os.PathLike[str], report: Callable[[InputError], None] | None = None
) -> LvisDataset:
    """Read an annotation file in LVIS's format, as Detectron2's `load_lvis_json` understands it.

    Args:
        path: the file.
        report: gets the error of each broken annotation, which is then left out; None raises it.

    Raises:
        InputError: the file is missing, is not JSON, or is not in LVIS's format.
    """
    path = Path(path)
    root = read_object(path, "LVIS")
    images = [
        LvisImage(
            id=get(path, entry, where, "id", int),
            file_name=_file_name(path, entry, where),
            height=get(path, entry, where, "height", int),
            width=get(path, entry, where, "width", int),
            neg_category_ids=_ids(path, entry, where, "neg_category_ids"),
            not_exhaustive_category_ids=_ids(path, entry, where, "not_exhaustive_category_ids"),
        )
        for where, entry in entries(path, root, "images", "LVIS")
    ]
    categories = {
        get(path, entry, where, "id", int): (get(path, entry, where, "name", str), entry)
        for where, entry in entries(path, root, "categories", "LVIS")
    }
    check_unique(path, "images", (image.id for image in images))
    check_unique(path, "categories", (entry["id"] for entry in root["categories"]))
    frequencies = tuple(
        categories[index][1]["frequency"]
        for index in sorted(categories)
        if "frequency" in categories[index][1]
    )
    if any(frequency not in FREQUENCIES for frequency in frequencies):
        raise InputError(f"{path}: a category's 'frequency' must be r, c or f, correct the file")
    annotations = None
    if "annotations" in root:
        annotations = check_each(
            entries(path, root, "annotations", "LVIS", may_be_empty=True),
            lambda where, entry: _check_annotation(path, entry, where, categories),
            report,
        )
        check_unique(path, "annotations", (entry["id"] for entry in annotations))
    return LvisDataset(
        path=path,
        images=tuple(sorted(images, key=lambda image: image.id)),
        category_ids=tuple(sorted(categories)),
        category_names=tuple(_class_name(*categories[index]) for index in sorted(categories)),
        frequencies=frequencies if len(frequencies) == len(categories) else None,
        annotations=None if annotations is None else tuple(annotations),
    )


def _class_name(name: str, entry: Mapping[str, Any]) -> str:
    synonyms = entry.get("synonyms")
    first = synonyms[0] if isinstance(synonyms, list) and synonyms else name
    return first if isinstance(first, str) else name


def _file_name(path: Path, entry: Mapping[str, Any], where: str) -> str:
    parts = get(path, entry, where, "coco_url", str).split("/")
    if len(parts) < 2 or not all(parts[-2:]) or ".." in parts[-2:]:
        raise InputError(f"{path}: {where}.coco_url must end in FOLDER/FILE, correct the file")
    return "/".join(parts[-2:])


def _ids(path: Path, entry: Mapping[str, Any], where: str, key: str) -> frozenset[int]:
    found = entry.get(key, [])
    if not isinstance(found, list) or not all(type(value) is int for value in found):
        raise InputError(f"{path}: {where}.{key} must be a list of integers, correct the file")
    return frozenset(found)


def _check_annotation(
    path: Path, entry: dict[str, Any], where: str, categories: Mapping[int, Any]
) -> dict[str, Any]:
    check_annotation(path, entry, where, categories)
    area = entry.get("area")
    if not isinstance(area, (int, float)) or isinstance(area, bool):
        raise InputError(f"{path}: {where}.area must be a number, correct the file")
    check_segmentation(path, entry)
    polygons = entry["segmentation"]
    # pycocotools takes four numbers for a box.
    if isinstance(polygons, list) and any(len(p) < 6 or len(p) % 2 for p in polygons):
        raise InputError(f"{path}: {where} has a polygon of less than 3 points, correct the file")
    return entry
