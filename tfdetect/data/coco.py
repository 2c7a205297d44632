"""Reading annotations in COCO's JSON format, checked so that later code need not doubt them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdetect.data.json_format import (
    check_annotation,
    check_each,
    check_unique,
    entries,
    get,
    read_object,
)
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


def read_coco(
    path: str | os.PathLike[str], report: Callable[[InputError], None] | None = None
) -> CocoDataset:
    """Read an annotation file in COCO's instances or person-keypoints format.

    Args:
        path: the file.
        report: gets the error of each broken annotation, which is then left out; None raises it.

    Raises:
        InputError: the file is missing, is not JSON, or is not in COCO's format.
    """
    path = Path(path)
    root = read_object(path, "COCO")
    images = [
        CocoImage(
            get(path, entry, where, "id", int),
            get(path, entry, where, "file_name", str),
            get(path, entry, where, "height", int),
            get(path, entry, where, "width", int),
        )
        for where, entry in entries(path, root, "images", "COCO")
    ]
    names = {
        get(path, entry, where, "id", int): get(path, entry, where, "name", str)
        for where, entry in entries(path, root, "categories", "COCO")
    }
    check_unique(path, "images", (image.id for image in images))
    check_unique(path, "categories", (entry["id"] for entry in root["categories"]))
    annotations = None
    if "annotations" in root:
        annotations = check_each(
            entries(path, root, "annotations", "COCO", may_be_empty=True),
            lambda where, entry: check_annotation(path, entry, where, names),
            report,
        )
        # The well-known minival files of COCO 2014 repeat a few; Detectron2 lets them pass too.
        if "minival" not in path.name:
            check_unique(path, "annotations", (entry["id"] for entry in annotations))
    return CocoDataset(
        path=path,
        images=tuple(sorted(images, key=lambda image: image.id)),
        category_ids=tuple(sorted(names)),
        category_names=tuple(names[category] for category in sorted(names)),
        annotations=None if annotations is None else tuple(annotations),
    )
