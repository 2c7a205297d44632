"""Reads and checks annotations in COCO's JSON format, so that later code can rely on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdetect.data import annotation_fields as fields
from tfdetect.data.json_format import (
    check_each,
    check_unique,
    entries,
    get,
    get_file_name,
    get_side,
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
        annotations: the entries (treat as read-only), each with the guarantees of
            `validate_annotation`: `id`, `image_id`, `category_id`, `bbox` and `iscrowd`. The other
            fields are unchanged; access them only through `tfdetect.data.annotation_fields`. None
            if the file has no annotations, like those of COCO's test sets.
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
        report: gets the error of each broken image and annotation, which is then left out; None
            raises it.

    Raises:
        InputError: the file is missing, is not JSON, or is not in COCO's format.
    """
    path = Path(path)
    return coco_dataset(path, read_object(path, "COCO", compact=True), report)


def coco_dataset(
    path: Path, root: dict[str, Any], report: Callable[[InputError], None] | None = None
) -> CocoDataset:
    """What the content of a COCO file says.

    Args:
        path: for messages.
        root: the file's content, whose entries are converted in place.
        report: see `read_coco`.

    Raises:
        InputError: it is not in COCO's format.
    """
    images = check_each(
        *(path, root, "images", "COCO"),
        lambda where, entry: _image(path, entry, where),
        report,
    )
    categories = [
        (get(path, entry, where, "id", int), get(path, entry, where, "name", str))
        for where, entry in entries(path, root, "categories", "COCO")
    ]
    names = dict(categories)
    check_unique(path, "images", (image.id for image in images))
    check_unique(path, "categories", (index for index, _ in categories))
    annotations = None
    if "annotations" in root:
        annotations = check_each(
            *(path, root, "annotations", "COCO"),
            lambda where, entry: fields.validate_annotation(
                path, entry, where, names, may_be_rotated=True
            ),
            report,
            may_be_empty=True,
        )
        # The well-known minival files of COCO 2014 repeat a few; Detectron2 accepts them too.
        if "minival" not in path.name:
            check_unique(path, "annotations", (entry["id"] for entry in annotations))
    return CocoDataset(
        path=path,
        images=tuple(sorted(images, key=lambda image: image.id)),
        category_ids=tuple(sorted(names)),
        category_names=tuple(names[category] for category in sorted(names)),
        annotations=None if annotations is None else tuple(annotations),
    )


def ground_truth(
    dataset: CocoDataset,
    tasks: Collection[str],
    num_keypoints: int = 17,
    report: Callable[[InputError], None] | None = None,
    *,
    rotated: bool = False,
) -> list[dict[str, Any]]:
    """The annotations in the form that pycocotools evaluates: only the fields it needs, checked.

    pycocotools stores the id of the annotation that a detection matches, and takes 0 for none; so
    annotations are numbered from 1 here, whatever their ids in the file. Detectron2 has lower
    numbers where a file counts from 0.

    Args:
        dataset: of `read_coco`, with annotations.
        tasks: of "bbox", "segm" and "keypoints".
        num_keypoints: of each object, for keypoints.
        report: gets the error of each broken annotation, which is then left out; None raises the
            first.
        rotated: whether `bbox` is to be that of a rotated box, which it is in no other case.

    Returns:
        New dictionaries with id, image_id, category_id, bbox, iscrowd and area; for segm with
        segmentation (polygons of three points or more, or compressed RLE of the image's size);
        for keypoints with keypoints (3 `num_keypoints` numbers) and num_keypoints, which are
        zeros for an object that has none, such as of another class. Annotations of images that
        the file does not list are left out, as pycocotools leaves them out.

    Raises:
        InputError: an annotation lacks what a task asks for, or it is broken.
    """
    sizes = {image.id: (image.height, image.width) for image in dataset.images}
    known = [entry for entry in dataset.annotations or () if entry["image_id"] in sizes]
    if "keypoints" in tasks and known and not any(entry.get("keypoints") for entry in known):
        raise InputError(
            f"{dataset.path}: no annotation has 'keypoints', give annotations with keypoints"
        )
    result: list[dict[str, Any]] = []
    errors = []
    for entry in known:
        size = sizes[entry["image_id"]]
        try:
            checked = _measurable(entry, size, tasks, num_keypoints, rotated)
        except InputError as error:
            errors.append(InputError(f"{dataset.path}: annotation {entry['id']}: {error}"))
            continue
        result.append({"id": len(result) + 1, **checked})
    if errors and report is None:
        others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0]}{others}")
    for broken in errors:
        assert report is not None
        report(broken)
    return result


def _measurable(
    entry: Mapping[str, Any],
    size: tuple[int, int],
    tasks: Collection[str],
    num_keypoints: int,
    rotated: bool,
) -> dict[str, Any]:
    box = fields.box(entry, rotated)
    if min(box[2:4]) < 0:
        # It would match nothing, and count as an object that was missed.
        raise InputError("'bbox' has a negative width or height; correct it")
    result = {key: entry[key] for key in ("image_id", "category_id", "iscrowd")}
    result["bbox"] = box
    result["area"] = fields.area(entry)
    if "segm" in tasks:
        result["segmentation"] = fields.mask(entry, size)
    if "keypoints" in tasks:
        found = fields.keypoints(entry, num_keypoints)
        result["num_keypoints"] = fields.num_keypoints(entry, found)
        result["keypoints"] = found or [0] * (3 * num_keypoints)
    return result


def _image(path: Path, entry: Mapping[str, Any], where: str) -> CocoImage:
    return CocoImage(
        id=get(path, entry, where, "id", int),
        file_name=get_file_name(path, entry, where),
        height=get_side(path, entry, where, "height"),
        width=get_side(path, entry, where, "width"),
    )
