"""Opening a registered data set, or one of the zoo's, to measure a model on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from tfdetect.data.cityscapes_maps import read_cityscapes_sem_seg, with_cities
from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.data.panoptic import read_panoptic
from tfdetect.data.registry import dataset_metadata
from tfdetect.data.sem_seg import read_sem_seg_folder
from tfdetect.evaluation.dataset import EvaluationDataset
from tfdetect.evaluation.panoptic_format import CocoPanoptic
from tfdetect.evaluation.registry import Report, model_info, open_for_model
from tfdetect.evaluation.segmentation_formats import CityscapesInstances, SemSegMasks, Together


def open_files(
    files: DatasetFiles, cfg: CfgNode, metadata: Mapping[str, Any], report: Report
) -> EvaluationDataset:
    """Open a data set for a model.

    Args:
        files: the data set.
        cfg: the model's configuration.
        metadata: of the model's directory.
        report: gets the errors of broken annotations.

    Raises:
        InputError: it cannot be read, or has nothing that the model gives.
    """
    model = model_info(cfg, metadata, files.images_dir)
    if files.form == "SEM_SEG":
        return _open_masks(files, files.annotations, cfg, metadata, report)
    if files.form == "CITYSCAPES_SEM_SEG":
        images = read_cityscapes_sem_seg(files.images_dir, files.annotations)
        known = dataset_metadata(files)
        ids = known.stuff_category_ids
        path = files.annotations
        return SemSegMasks(path, images, model, known.stuff_classes, ids, report=report)
    if files.form == "CITYSCAPES_INSTANCE":
        return CityscapesInstances(files.annotations, files.images_dir, model)
    if files.form == "CITYSCAPES_PANOPTIC":
        dataset = with_cities(read_panoptic(files.annotations), files.images_dir)
        return CocoPanoptic(dataset, model)
    if files.form != "SEPARATED":
        return open_for_model(files.annotations, cfg, metadata, report, files.images_dir)
    parts = []
    if {"bbox", "segm", "keypoints", "box_proposals"} & set(model.tasks):
        parts.append(open_for_model(files.annotations, cfg, metadata, report))
    if {"panoptic_seg", "sem_seg"} & set(model.tasks):
        parts.append(_open_stuff(files, cfg, metadata, report))
    return parts[0] if len(parts) == 1 else Together(parts)


def _open_stuff(
    files: DatasetFiles, cfg: CfgNode, metadata: Mapping[str, Any], report: Report
) -> EvaluationDataset:
    if files.panoptic is not None:
        return open_for_model(files.panoptic, cfg, metadata, report)
    assert files.masks is not None
    return _open_masks(files, files.masks, cfg, metadata, report)


def _open_masks(
    files: DatasetFiles,
    masks: Path,
    cfg: CfgNode,
    metadata: Mapping[str, Any],
    report: Report,
) -> SemSegMasks:
    images = read_sem_seg_folder(masks, files.images_dir, report, only_masked=files.some_masks)
    known = dataset_metadata(files)
    return SemSegMasks(
        masks,
        images,
        model_info(cfg, metadata, files.images_dir),
        known.stuff_classes,
        known.stuff_category_ids,
        report=report,
    )
