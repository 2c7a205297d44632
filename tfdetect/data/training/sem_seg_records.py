"""Records of the data sets that say the class of every pixel, and of Cityscapes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfdetect.data.cityscapes import read_cityscapes
from tfdetect.data.cityscapes_maps import read_cityscapes_sem_seg, with_cities
from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.data.image_files import image_path
from tfdetect.data.panoptic import PanopticDataset, PanopticImage, read_panoptic
from tfdetect.data.sem_seg import SemSegFile, SemSegImage, read_sem_seg_folder
from tfdetect.data.training.record import Annotation, Record, Report
from tfdetect.errors import InputError


def read_sem_seg_records(files: DatasetFiles, broken: Report) -> list[Record]:
    """The images of a folder of masks (Detectron2: `load_sem_seg`)."""
    images = read_sem_seg_folder(
        files.annotations, files.images_dir, broken, only_masked=files.some_masks
    )
    return _of_masks(files, images)


def with_stuff(records: list[Record], files: DatasetFiles, broken: Report) -> list[Record]:
    """The records of a data set's objects, each with its stuff (Detectron2: `merge_to_panoptic`).

    Args:
        records: of `files.annotations`.
        files: of the form SEPARATED.
        broken: gets the errors of images without stuff, which are left out.
    """
    if files.masks is not None:
        # By name; that the files are there is seen for all images at once.
        named = [Path(record.file_name).with_suffix(".png").name for record in records]
        return [
            dataclasses.replace(record, sem_seg=SemSegFile(files.masks / name))
            for record, name in zip(records, named, strict=True)
        ]
    assert files.panoptic is not None
    dataset = read_panoptic(files.panoptic)
    by_id = {image.id: image for image in dataset.images}
    found = []
    for record in records:
        image = by_id.get(record.image_id)
        if image is None:
            broken(InputError(f"{files.panoptic}: has no annotation of {record.file_name}; add it"))
            continue
        found.append(dataclasses.replace(record, sem_seg=_sem_seg(image, dataset)))
    return found


def read_panoptic_records(files: DatasetFiles, mask_format: str | None) -> list[Record]:
    """The images of COCO panoptic annotations: their things as objects, and their stuff.

    Raises:
        InputError: the file cannot be used, or masks are to be polygons.
    """
    if mask_format == "polygon":
        raise InputError(
            f"INPUT.MASK_FORMAT: the masks of {files.name} are in PNGs; set it to bitmask"
        )
    dataset = read_panoptic(files.annotations)
    if files.form == "CITYSCAPES_PANOPTIC":
        dataset = with_cities(dataset, files.images_dir)
    classes = {category: index for index, category in enumerate(dataset.thing_ids)}
    return [
        Record(
            file_name=str(image_path(files.images_dir, image.file_name)),
            height=image.height,
            width=image.width,
            image_id=image.id,
            annotations=_things(image, classes, files.annotations),
            sem_seg=_sem_seg(image, dataset),
        )
        for image in dataset.images
    ]


def _sem_seg(image: PanopticImage, dataset: PanopticDataset) -> SemSegFile:
    return SemSegFile(image.label_file, segments=image, stuff_ids=dataset.stuff_ids)


def _things(image: PanopticImage, classes: Mapping[int, int], path: Path) -> tuple[Annotation, ...]:
    found = []
    for segment in image.segments:
        if segment.category_id not in classes:
            continue
        if segment.box is None:
            raise InputError(
                f"{path}: segment {segment.id} of {image.file_name} has no 'bbox' of four numbers"
                " (x, y, width, height), which training needs; add it"
            )
        x, y, width, height = segment.box
        found.append(
            Annotation(
                box=np.array([x, y, x + width, y + height], np.float64),
                class_index=classes[segment.category_id],
                iscrowd=segment.iscrowd,
                polygons=None,
                rle=None,
                keypoints=None,
                segment_id=segment.id,
            )
        )
    return tuple(found)


def read_cityscapes_records(files: DatasetFiles) -> list[Record]:
    """The objects of Cityscapes (Detectron2: `load_cityscapes_instances`)."""
    return [
        Record(
            file_name=str(files.images_dir / image.file_name),
            height=image.height,
            width=image.width,
            image_id=os.path.basename(image.file_name),
            annotations=tuple(
                Annotation(
                    box=np.array(instance.box, np.float64),
                    class_index=instance.class_index,
                    iscrowd=instance.iscrowd,
                    polygons=tuple(np.array(p, np.float64) for p in instance.polygons),
                    rle=None,
                    keypoints=None,
                )
                for instance in image.instances
            ),
        )
        for image in read_cityscapes(files.images_dir, files.annotations)
    ]


def read_cityscapes_sem_seg_records(files: DatasetFiles) -> list[Record]:
    """The classes of Cityscapes' pixels (Detectron2: `load_cityscapes_semantic`)."""
    return _of_masks(files, read_cityscapes_sem_seg(files.images_dir, files.annotations))


def _of_masks(files: DatasetFiles, images: Sequence[SemSegImage]) -> list[Record]:
    return [
        Record(
            file_name=str(files.images_dir / image.file_name),
            height=image.height,
            width=image.width,
            image_id=image.id,
            annotations=(),
            sem_seg=image.sem_seg,
        )
        for image in images
    ]
