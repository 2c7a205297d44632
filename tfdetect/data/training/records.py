"""The annotated images of DATASETS.TRAIN, which training goes through."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from yacs.config import CfgNode

from tfdetect.config.capabilities import Capabilities, capabilities
from tfdetect.data.catalog import DatasetMetadata
from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.data.image_files import count_missing, missing_files
from tfdetect.data.proposal_files import proposals_version, read_proposals
from tfdetect.data.registry import dataset_files, dataset_metadata
from tfdetect.data.sem_seg import LabelRange, check_sem_seg
from tfdetect.data.training import sem_seg_records
from tfdetect.data.training.object_records import read_object_records
from tfdetect.data.training.record import BrokenData, Record, Report
from tfdetect.errors import InputError
from tfdetect.modeling.keypoint_flip import keypoint_flip_indices

_logger = logging.getLogger("tfdetect.data")


class _Loaded(NamedTuple):
    """Records, and a line for the log."""

    records: tuple[Record, ...]
    summary: str


def training_records(cfg: CfgNode) -> tuple[Record, ...]:
    """Load DATASETS.TRAIN, as Detectron2's `get_detection_dataset_dicts` does.

    The data sets follow one another, the images of each sorted by id. Left out are, under
    DATALOADER.FILTER_EMPTY_ANNOTATIONS, images with nothing but crowds (of lists of objects, not
    of masks and panoptic PNGs); and for a model with keypoints, images with fewer labelled ones
    than MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE. A
    model that takes proposals gets those of DATASETS.PROPOSAL_FILES_TRAIN.

    The last result is kept: asking again for the same files costs nothing.

    Raises:
        InputError: a data set is unknown, does not fit the model, or cannot be read; an annotation
            is broken, or an image or its proposals are missing, and DATALOADER.ON_ERROR is "stop";
            no image is left.
    """
    return _load_configured(cfg).records


def log_training_records(cfg: CfgNode) -> None:
    """Log of how many images `training_records` are; raises what it raises."""
    _logger.info(_load_configured(cfg).summary)


def _load_configured(cfg: CfgNode) -> _Loaded:
    files = tuple(dataset_files(name) for name in cfg.DATASETS.TRAIN)
    training_metadata(cfg)
    keypoints = cfg.MODEL.KEYPOINT_ON
    head = cfg.MODEL.ROI_KEYPOINT_HEAD
    mask_format = cfg.INPUT.MASK_FORMAT
    if mask_format not in ("polygon", "bitmask"):
        raise InputError(f"INPUT.MASK_FORMAT: {mask_format!r} is neither polygon nor bitmask")
    proposal_files: tuple[str, ...] = ()
    if capabilities(cfg).takes_proposals:
        proposal_files = tuple(cfg.DATASETS.PROPOSAL_FILES_TRAIN)
    return _load(
        files,
        tuple(dataset.version() for dataset in files),
        proposal_files,
        tuple(proposals_version(path) for path in proposal_files),
        mask_format if cfg.MODEL.MASK_ON else None,
        head.NUM_KEYPOINTS if keypoints else None,
        cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        head.MIN_KEYPOINTS_PER_IMAGE if keypoints else 0,
        cfg.DATALOADER.ON_ERROR,
        label_range(cfg),
        capabilities(cfg).rotated,
    )


def label_range(cfg: CfgNode) -> LabelRange | None:
    """The classes of pixels that the model learns; None for a model that learns none."""
    head = cfg.MODEL.SEM_SEG_HEAD
    has = capabilities(cfg).has_semantic
    return LabelRange(head.NUM_CLASSES, head.IGNORE_VALUE) if has else None


def training_metadata(cfg: CfgNode) -> DatasetMetadata:
    """The classes and keypoints of DATASETS.TRAIN, which all its data sets share.

    Raises:
        InputError: there are none, they differ, they do not fit the model's NUM_CLASSES and
            NUM_KEYPOINTS, or a data set lacks what the model is to learn.
    """
    names = list(cfg.DATASETS.TRAIN)
    if not names:
        raise InputError("DATASETS.TRAIN: names no data set, add one to train on")
    able = capabilities(cfg)
    for name in names:
        _check_form(dataset_files(name), able)
    found = [dataset_metadata(dataset_files(name)) for name in names]
    first = found[0]
    for name, other in zip(names, found, strict=True):
        if other.thing_classes != first.thing_classes:
            raise InputError(f"DATASETS.TRAIN: {names[0]} and {name} have different classes")
        if cfg.MODEL.KEYPOINT_ON and other.keypoint_names != first.keypoint_names:
            raise InputError(f"DATASETS.TRAIN: {names[0]} and {name} have different keypoints")
        if able.has_semantic and other.stuff_classes != first.stuff_classes:
            raise InputError(f"DATASETS.TRAIN: {names[0]} and {name} have different stuff classes")
    stuff = len(first.stuff_classes or ())
    if able.has_semantic and stuff > able.num_stuff_classes:
        raise InputError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES: is {able.num_stuff_classes}, but {names[0]} has"
            f" {stuff} stuff classes; set it to that"
        )
    # What only proposes boxes does not tell their classes apart.
    if able.has_boxes and len(first.thing_classes) > able.num_classes:
        raise InputError(
            f"{able.classes_key}: is {able.num_classes}, but {names[0]} has"
            f" {len(first.thing_classes)} classes; set it to that"
        )
    num_keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    in_data = len(first.keypoint_names or [])
    if cfg.MODEL.KEYPOINT_ON and not in_data:
        raise InputError(
            f"MODEL.KEYPOINT_ON: no category of {names[0]} has 'keypoints'; add them to the"
            " category that has them, or set it to False"
        )
    if cfg.MODEL.KEYPOINT_ON and in_data != num_keypoints:
        raise InputError(
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS: is {num_keypoints}, but {names[0]} has"
            f" {in_data} keypoints; set it to that"
        )
    return first


def _check_form(files: DatasetFiles, able: Capabilities) -> None:
    """Raise InputError if a data set lacks what the model is to learn."""
    if able.has_semantic and not files.has_sem_seg:
        raise InputError(
            f"DATASETS.TRAIN: {files.name} does not say the classes of pixels, which the model has"
            " a head for; name a data set with masks, such as coco_2017_train_panoptic_separated,"
            " or --register one"
        )
    if (able.has_boxes or able.proposes) and not files.has_objects:
        raise InputError(
            f"DATASETS.TRAIN: {files.name} has masks of classes, but no objects, which the model"
            " detects; name a data set with both, such as coco_2017_train_panoptic_separated, or"
            " MODEL.META_ARCHITECTURE SemanticSegmentor"
        )
    if able.rotated and files.form not in ("COCO", "LVIS", "DOTA"):
        raise InputError(
            f"DATASETS.TRAIN: {files.name} has no boxes that could be rotated, as the model's are;"
            " name a data set of COCO or DOTA"
        )
    if files.form == "DOTA" and not able.rotated:
        raise InputError(
            f"DATASETS.TRAIN: {files.name} is DOTA's, whose boxes are rotated, but the model's are"
            " not; give MODEL.PROPOSAL_GENERATOR.NAME RRPN, MODEL.ROI_HEADS.NAME RROIHeads"
        )
    if not able.has_boxes and files.form == "CITYSCAPES_PANOPTIC":
        other = files.name.replace("panoptic", "sem_seg")
        raise InputError(f"DATASETS.TRAIN: {files.name} is for PanopticFPN here; use {other}")


def flip_indices(metadata: DatasetMetadata) -> np.ndarray | None:
    """int64 [N]: which keypoint takes each one's place in a mirrored image; None without any."""
    if metadata.keypoint_names is None:
        return None
    return keypoint_flip_indices(metadata.keypoint_names, dict(metadata.keypoint_flip_map))


@lru_cache(maxsize=1)
def _load(
    files: tuple[DatasetFiles, ...],
    versions: tuple[tuple[int, ...], ...],
    proposal_files: tuple[str, ...],
    proposal_versions: tuple[tuple[int, int], ...],
    mask_format: str | None,
    num_keypoints: int | None,
    filter_empty: bool,
    min_keypoints: int,
    on_error: str,
    labels: LabelRange | None,
    rotated: bool,
) -> _Loaded:
    broken = BrokenData(on_error)
    records: list[Record] = []
    # Of each: whether it is left out if it has nothing but crowds.
    filtered: list[bool] = []
    for index, dataset in enumerate(files):
        found = [
            replace(record, dataset=dataset.name)
            for record in read_records(dataset, mask_format, num_keypoints, rotated, broken)
        ]
        if proposal_files:
            found = _with_proposals(found, proposal_files[index], broken)
        records += found
        # What is made of masks or panoptic PNGs has no list of objects in Detectron2.
        lists_objects = dataset.form == "SEPARATED" or not dataset.has_sem_seg
        filtered += [filter_empty and lists_objects] * len(found)
    names = ", ".join(dataset.name for dataset in files)
    kept = [
        record
        for record, filters in zip(records, filtered, strict=True)
        if (not filters or not all(a.iscrowd for a in record.annotations))
        and (min_keypoints <= 0 or _labelled_keypoints(record) >= min_keypoints)
    ]
    if not kept:
        raise InputError(f"DATASETS.TRAIN: {names}: {_why_nothing(records, min_keypoints)}")
    _check_files(names, kept, broken)
    if labels is not None:
        masks = [(r.sem_seg, (r.height, r.width)) for r in kept if r.sem_seg is not None]
        check_sem_seg(masks, labels, broken)
    left_out = len(records) - len(kept)
    summary = (
        f"{names}: {len(kept)} images to train on; {left_out} without usable annotations are left "
        "out"
    )
    return _Loaded(tuple(kept), summary)


def _why_nothing(records: Sequence[Record], min_keypoints: int) -> str:
    """The reason why no image is left to train on, and what to do about it."""
    annotations = [annotation for record in records for annotation in record.annotations]
    also = " and MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE 0" if min_keypoints > 0 else ""
    anyway = (
        f"to train without annotations anyway, set DATALOADER.FILTER_EMPTY_ANNOTATIONS False{also}"
    )
    if not annotations:
        return f"none of {len(records)} images has a usable annotation; annotate some, or " + anyway
    if all(annotation.iscrowd for annotation in annotations):
        return (
            f"all of {len(annotations)} annotations are crowds (iscrowd 1), which are not used "
            f"in training; annotate single objects, or {anyway}"
        )
    return (
        f"no image has the {min_keypoints} labelled keypoints of "
        "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE; set that to 0, or MODEL.KEYPOINT_ON False"
    )


def _check_files(names: str, records: Sequence[Record], broken: BrokenData) -> None:
    missing = missing_files(Path(record.file_name) for record in records)
    if not missing:
        return
    error = InputError(
        f"DATASETS.TRAIN: {names}: {count_missing(missing, len(records))}; add them, or correct"
        " the folder"
    )
    if len(missing) == len(records):
        raise error
    # With "skip" the data flow skips each, as over one that is damaged.
    broken(error)


def _labelled_keypoints(record: Record) -> int:
    return sum(
        int((a.keypoints[:, 2] > 0).sum()) for a in record.annotations if a.keypoints is not None
    )


def read_records(
    files: DatasetFiles,
    mask_format: str | None,
    num_keypoints: int | None,
    rotated: bool,
    broken: Report,
) -> list[Record]:
    """The records of one data set.

    Args:
        files: the data set.
        mask_format: "polygon" or "bitmask", which each object that is not a crowd must have;
            "optional" for what there is; None if no masks are needed.
        num_keypoints: of each object; None if none are needed.
        rotated: whether boxes are.
        broken: gets the errors of images and objects, which are left out.

    Raises:
        InputError: the annotations cannot be read.
    """
    if files.form == "SEM_SEG":
        return sem_seg_records.read_sem_seg_records(files, broken)
    if files.form in ("PANOPTIC", "CITYSCAPES_PANOPTIC"):
        return sem_seg_records.read_panoptic_records(files, mask_format)
    if files.form == "CITYSCAPES_INSTANCE":
        return sem_seg_records.read_cityscapes_records(files)
    if files.form == "CITYSCAPES_SEM_SEG":
        return sem_seg_records.read_cityscapes_sem_seg_records(files)
    records = read_object_records(files, mask_format, num_keypoints, rotated, broken)
    if files.form == "SEPARATED":
        records = sem_seg_records.with_stuff(records, files, broken)
    return records


def _with_proposals(records: Sequence[Record], path: str, broken: BrokenData) -> list[Record]:
    """The records, each with its proposals (Detectron2: `load_proposals_into_dataset`)."""
    proposals = read_proposals(path)
    found = []
    for record in records:
        try:
            boxes = proposals.find([str(record.image_id)])
        except InputError as error:
            broken(InputError(f"DATASETS.PROPOSAL_FILES_TRAIN: {error}"))
            continue
        found.append(replace(record, proposals=boxes))
    return found
