"""Reading annotations in LVIS's JSON format, v0.5 and v1.

LVIS is partially annotated: each image lists the categories that are annotated, those known to be
absent, and those annotated only in part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdetect.data import annotation_fields as fields
from tfdetect.data.json_format import (
    as_integer,
    check_each,
    check_unique,
    entries,
    get,
    get_side,
    given,
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
        neg_category_ids: categories known to be absent.
        not_exhaustive_category_ids: categories that are not annotated exhaustively.
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
        annotations: the entries (treat as read-only), each with the guarantees of
            `validate_annotation`, `area`, and a `segmentation` of polygons or compressed RLE. None
            where the file has none, as the test sets.
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
            height=get_side(path, entry, where, "height"),
            width=get_side(path, entry, where, "width"),
            neg_category_ids=_ids(path, entry, where, "neg_category_ids"),
            not_exhaustive_category_ids=_ids(path, entry, where, "not_exhaustive_category_ids"),
        )
        for where, entry in entries(path, root, "images", "LVIS")
    ]
    categories = [
        (
            get(path, entry, where, "id", int),
            _class_name(get(path, entry, where, "name", str), entry),
            _frequency(path, entry, where),
        )
        for where, entry in entries(path, root, "categories", "LVIS")
    ]
    check_unique(path, "images", (image.id for image in images))
    check_unique(path, "categories", (index for index, _, _ in categories))
    categories.sort()
    names = {index: name for index, name, _ in categories}
    frequencies = tuple(frequency for _, _, frequency in categories if frequency is not None)
    sizes = {image.id: (image.height, image.width) for image in images}
    annotations = None
    if "annotations" in root:
        annotations = check_each(
            *(path, root, "annotations", "LVIS"),
            lambda where, entry: _annotation(path, entry, where, names, sizes),
            report,
            may_be_empty=True,
        )
        check_unique(path, "annotations", (entry["id"] for entry in annotations))
    return LvisDataset(
        path=path,
        images=tuple(sorted(images, key=lambda image: image.id)),
        category_ids=tuple(names),
        category_names=tuple(names.values()),
        frequencies=frequencies if len(frequencies) == len(names) else None,
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


def _frequency(path: Path, entry: Mapping[str, Any], where: str) -> str | None:
    found = entry.get("frequency")
    if found is not None and found not in FREQUENCIES:
        raise InputError(
            f"{path}: {where}.frequency {given(entry, 'frequency')}, must be r, c or f; correct it"
        )
    return found


def _ids(path: Path, entry: Mapping[str, Any], where: str, key: str) -> frozenset[int]:
    found = entry.get(key, [])
    ids = [as_integer(value) for value in found] if isinstance(found, list) else [None]
    if None in ids:
        raise InputError(f"{path}: {where}.{key} must be a list of integers, correct the file")
    return frozenset(index for index in ids if index is not None)


def _annotation(
    path: Path,
    entry: dict[str, Any],
    where: str,
    categories: Mapping[int, Any],
    sizes: Mapping[int, tuple[int, int]],
) -> dict[str, Any]:
    fields.validate_annotation(path, entry, where, categories)
    try:
        entry["area"] = fields.area(entry)
        # An RLE of an image that is not listed in the file is never used.
        if entry["image_id"] in sizes:
            entry["segmentation"] = fields.mask(entry, sizes[entry["image_id"]])
    except InputError as error:
        raise InputError(f"{path}: {where} (id {entry['id']}): {error}") from error
    return entry
