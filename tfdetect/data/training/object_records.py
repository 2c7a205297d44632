"""Records of the data sets that list objects: COCO's, LVIS's and DOTA's."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdetect.data import annotation_fields as fields
from tfdetect.data.coco import CocoDataset, read_coco
from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.data.dota import dota_as_coco
from tfdetect.data.geometry import coco_keypoints, xywh_to_xyxy
from tfdetect.data.image_files import image_path
from tfdetect.data.json_format import given
from tfdetect.data.lvis import LvisDataset, read_lvis
from tfdetect.data.other_formats.reading import OTHER_FORMS, other_as_coco
from tfdetect.data.registry import dota_files, other_content
from tfdetect.data.training.annotation_table import AnnotationTable
from tfdetect.data.training.record import Annotation, Record, Report
from tfdetect.errors import InputError

_logger = logging.getLogger("tfdetect.data")


def read_object_records(
    files: DatasetFiles,
    mask_format: str | None,
    num_keypoints: int | None,
    rotated: bool,
    broken: Report,
) -> list[Record]:
    """The records of COCO's and LVIS's files (Detectron2: `load_coco_json`, `load_lvis_json`), of
    DOTA's, YOLO's, Pascal VOC's (`load_voc_instances`) and labelme's."""
    dataset: CocoDataset | LvisDataset
    if files.form == "LVIS":
        dataset = read_lvis(files.annotations, broken)
    elif files.form == "DOTA":
        dataset = dota_as_coco(files.annotations, dota_files(files), files.images_dir, broken)
    elif files.form in OTHER_FORMS:
        dataset = other_as_coco(files.annotations, other_content(files), broken)
    else:
        dataset = read_coco(files.annotations, broken)
    if dataset.annotations is None:
        raise InputError(
            f"DATASETS.TRAIN: {files.name}: {files.annotations} has no annotations to train on"
        )
    classes = {category: index for index, category in enumerate(dataset.category_ids)}
    sizes = {image.id: (image.height, image.width) for image in dataset.images}
    table = AnnotationTable()
    passed_over: Counter[str] = Counter()
    for entry in dataset.annotations:
        if entry["image_id"] not in sizes:
            passed_over["belong to images that the file does not list"] += 1
            continue
        try:
            annotation = _annotation(
                entry, classes, sizes[entry["image_id"]], mask_format, num_keypoints, rotated
            )
        except InputError as error:
            broken(InputError(f"{files.annotations}: annotation {entry['id']}: {error}"))
            continue
        if annotation is None:
            passed_over["have no polygon with three or more points"] += 1
            continue
        table.append(entry["image_id"], annotation)
    for reason, count in passed_over.items():
        _logger.warning("%s: %d annotations %s; left out", files.annotations, count, reason)
    by_image = table.by_image()
    return [
        Record(
            file_name=str(image_path(files.images_dir, image.file_name)),
            height=image.height,
            width=image.width,
            image_id=image.id,
            annotations=by_image.get(image.id, ()),
        )
        for image in dataset.images
    ]


def _annotation(
    entry: Mapping[str, Any],
    classes: Mapping[int, int],
    image_size: tuple[int, int],
    mask_format: str | None,
    num_keypoints: int | None,
    rotated: bool,
) -> Annotation | None:
    """One entry of `annotations`; None for one that Detectron2 drops silently."""
    if entry.get("ignore"):
        raise InputError("'ignore' is not supported; remove it, or the annotation")
    box = np.array(fields.box(entry, rotated), np.float64)
    iscrowd = entry["iscrowd"] == 1
    optional = mask_format == "optional"
    needs_mask = mask_format is not None and not iscrowd
    is_rle = isinstance(entry.get("segmentation"), dict)
    if needs_mask and is_rle and mask_format == "polygon":
        raise InputError("its mask is RLE; set INPUT.MASK_FORMAT bitmask")
    found = None if is_rle and not needs_mask else fields.segmentation(entry, image_size)
    if found is None and needs_mask and not optional:
        raise InputError(
            f"has no 'segmentation' (it {given(entry, 'segmentation')}); add it, or set"
            " MODEL.MASK_ON False"
        )
    polygons = None
    if isinstance(found, list):
        polygons = tuple(np.array(p, np.float64) for p in fields.valid_polygons(found))
        if not polygons and not optional:
            return None
    return Annotation(
        box=box if rotated else xywh_to_xyxy(box),
        class_index=classes[entry["category_id"]],
        iscrowd=iscrowd,
        polygons=polygons if needs_mask else None,
        rle=found if isinstance(found, dict) else None,
        keypoints=None if num_keypoints is None else _keypoints(entry, num_keypoints),
    )


def _keypoints(entry: Mapping[str, Any], num_keypoints: int) -> np.ndarray:
    """float64 [N, 3]; all unlabelled for an object that has none, such as of another class."""
    found = fields.keypoints(entry, num_keypoints)
    return np.zeros((num_keypoints, 3)) if found is None else coco_keypoints(found)
