"""Where data sets are: the zoo's, by Detectron2's layout of folders, and registered ones."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from tfdetect.data.builtin import builtin_files
from tfdetect.data.catalog import (
    DatasetMetadata,
    metadata,
    metadata_from_categories,
    metadata_from_coco,
    sem_seg_metadata,
)
from tfdetect.data.dataset_files import DatasetFiles, Form
from tfdetect.data.dota import DotaFile, class_names_of_dota, is_dota, read_dota_files
from tfdetect.data.other_formats.content import Content
from tfdetect.data.other_formats.reading import OTHER_FORMS, other_form, read_other
from tfdetect.data.panoptic import read_panoptic
from tfdetect.data.sem_seg import read_class_names
from tfdetect.errors import InputError
from tfdetect.registry import Registry

DATASETS: Registry[Callable[[], DatasetFiles]] = Registry("data set")
"""Data sets beside the zoo's, for DATASETS.TRAIN and DATASETS.TEST. Called without arguments when
the data set is used: a function may make the files first.
"""


def register_coco_dataset(
    name: str, annotations: str | os.PathLike[str], images_dir: str | os.PathLike[str]
) -> None:
    """Register a data set in COCO's format under a name, for DATASETS.TRAIN and DATASETS.TEST.

    Classes, keypoint names, flip pairs and skeleton are those of the file.

    Raises:
        InputError: the name is one of the zoo's, or stands for other files already; a file or
            folder is missing.
    """
    _register(DatasetFiles(name, "COCO", Path(annotations), Path(images_dir)))


def register_sem_seg_dataset(
    name: str,
    masks_dir: str | os.PathLike[str],
    images_dir: str | os.PathLike[str],
    stuff_classes: Sequence[str] | None = None,
) -> None:
    """Register a folder of masks, a PNG of classes for each image (Detectron2: `load_sem_seg`).

    Args:
        name: for DATASETS.TRAIN and DATASETS.TEST.
        masks_dir: NAME.png goes with the image that is called NAME.
        images_dir: the images.
        stuff_classes: the name of class 0, 1, ...; None for those in the folder's `classes.txt`, a
            line each, or numbers without that.

    Raises:
        InputError: as `register_coco_dataset`.
    """
    names = None if stuff_classes is None else tuple(stuff_classes)
    files = DatasetFiles(name, "SEM_SEG", Path(masks_dir), Path(images_dir), stuff_classes=names)
    _register(files)


def register_dota_dataset(
    name: str, annotations_dir: str | os.PathLike[str], images_dir: str | os.PathLike[str]
) -> None:
    """Register a folder of DOTA's text files (`tfdetect.data.dota`), for models of rotated boxes.

    Raises:
        InputError: as `register_coco_dataset`.
    """
    _register(DatasetFiles(name, "DOTA", Path(annotations_dir), Path(images_dir)))


def register_panoptic_dataset(
    name: str, annotations: str | os.PathLike[str], images_dir: str | os.PathLike[str]
) -> None:
    """Register a data set in COCO's panoptic format (Detectron2: `register_coco_panoptic`).

    Its segments are the objects to train on (with INPUT.MASK_FORMAT bitmask), and the classes of
    the pixels, of which all things are class 0.

    Raises:
        InputError: as `register_coco_dataset`.
    """
    _register(DatasetFiles(name, "PANOPTIC", Path(annotations), Path(images_dir)))


def register_separated_dataset(
    name: str,
    instances: str | os.PathLike[str],
    panoptic: str | os.PathLike[str] | None,
    masks_dir: str | os.PathLike[str] | None,
    images_dir: str | os.PathLike[str],
) -> None:
    """Register objects and stuff of the same images (`register_coco_panoptic_separated`).

    Args:
        name: for DATASETS.TRAIN and DATASETS.TEST.
        instances: the objects, in COCO's format.
        panoptic: COCO panoptic JSON; None or "" without one: panoptic quality is not measured.
        masks_dir: masks of stuff, as of `register_sem_seg_dataset`, in which all things are class
            0; None or "" to have them made of the panoptic PNGs.
        images_dir: the images.

    Raises:
        InputError: as `register_coco_dataset`; neither masks nor panoptic annotations are given.
    """
    if not panoptic and not masks_dir:
        raise InputError(f"--register-separated {name}: give panoptic annotations, masks or both")
    files = DatasetFiles(
        name,
        "SEPARATED",
        Path(instances),
        Path(images_dir),
        Path(panoptic) if panoptic else None,
        Path(masks_dir) if masks_dir else None,
    )
    _register(files)


def register_dataset(
    name: str, annotations: str | os.PathLike[str], images_dir: str | os.PathLike[str]
) -> None:
    """Register what --register names, whose content tells the format (`describe_files`).

    Raises:
        InputError: as `register_coco_dataset`.
    """
    _register(describe_files(name, Path(annotations), Path(images_dir)))


def describe_files(name: str, annotations: Path, images_dir: Path) -> DatasetFiles:
    """The files of a data set, whose content tells the format.

    JSON of COCO or COCO panoptic, annotations of YOLO, Pascal VOC or labelme
    (`tfdetect.data.other_formats`), a folder of DOTA or of masks.
    """
    form: Form = "COCO"
    other = other_form(annotations)
    if other is not None:
        form = other
    elif is_dota(annotations):
        form = "DOTA"
    elif annotations.is_dir():
        form = "SEM_SEG"
    elif _has_segments(annotations):
        form = "PANOPTIC"
    return DatasetFiles(name, form, annotations, images_dir)


def _has_segments(path: Path) -> bool:
    """Whether a JSON file has the field that tells COCO panoptic from the others."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return text.find(b'"segments_info"') >= 0
    except (OSError, ValueError):  # missing or empty: the reader says so
        return False


def _register(files: DatasetFiles) -> None:
    name, needs_folder = files.name, files.form in ("SEM_SEG", "DOTA")
    may_be_either = files.form in OTHER_FORMS  # which has been looked at
    if builtin_files(name) is not None or metadata(name) is not None:
        raise InputError(
            f"--register {name}: is a data set of Detectron2's model zoo, choose another name"
        )
    registered = name in DATASETS
    if registered and DATASETS.make(f"--register {name}", name) != files:
        raise InputError(f"--register {name}: is registered twice, choose another name for one")
    for path in (None if needs_folder or may_be_either else files.annotations, files.panoptic):
        if path is not None and not path.is_file():
            raise InputError(f"--register {name}: {path} is not a file, correct the path")
    for path in (files.annotations if needs_folder else None, files.masks, files.images_dir):
        if path is not None and not path.is_dir():
            raise InputError(f"--register {name}: {path} is not a folder, correct the path")
    if not registered:
        DATASETS.add(name, lambda: files)


def dataset_files(name: str, key: str = "DATASETS.TRAIN") -> DatasetFiles:
    """Find a data set: a registered one, or one of the zoo's of COCO, LVIS, ADE20K, Cityscapes.

    The zoo's are below the folder that the environment variable DETECTRON2_DATASETS names, or
    `./datasets`, laid out as Detectron2's documentation says.

    Args:
        name: of the data set.
        key: the configuration's key that names it, for messages.

    Raises:
        InputError: the name is unknown, or the annotations are missing.
    """
    if name in DATASETS:
        return DATASETS.make(key, name)
    files = builtin_files(name)
    if files is None:
        known = f"; registered are {', '.join(sorted(DATASETS))}" if len(DATASETS) else ""
        raise InputError(
            f"{key}: unknown data set {name!r}, register it with"
            f" --register {name} ANNOTATIONS IMAGES_DIR{known}"
        )
    if not files.annotations.exists():
        raise InputError(
            f"{key}: {name}: {files.annotations} is missing; put the data there or set the"
            " environment variable DETECTRON2_DATASETS to the folder that has it"
        )
    return files


def dataset_metadata(files: DatasetFiles) -> DatasetMetadata:
    """What is known of the data set's classes and keypoints, from the catalog or from its file.

    Raises:
        InputError: its file cannot be read.
    """
    known = metadata(files.name)
    if known is not None:
        return known
    if files.form in OTHER_FORMS:
        content = other_content(files)
        if not content.class_names:
            raise content.nothing(files.annotations)
        return metadata_from_categories(files.annotations, content.as_coco())
    if files.form == "DOTA":
        return _metadata_from_dota(files, files.version())
    if files.form == "SEM_SEG":
        return sem_seg_metadata(files.stuff_classes or read_class_names(files.annotations))
    if files.form in ("PANOPTIC", "CITYSCAPES_PANOPTIC"):
        return _metadata_from_panoptic(files.annotations, files.version())
    found = _metadata_from_file(files.annotations, files.version())
    if files.panoptic is not None:
        stuff = _metadata_from_panoptic(files.panoptic, files.version())
    elif files.masks is not None:
        stuff = sem_seg_metadata(read_class_names(files.masks))
    else:
        return found
    return replace(
        found, stuff_classes=stuff.stuff_classes, stuff_category_ids=stuff.stuff_category_ids
    )


def other_content(files: DatasetFiles, *, difficult: bool = False) -> Content:
    """The annotations of a data set of YOLO, Pascal VOC or labelme, read once.

    Args:
        files: the data set.
        difficult: see `read_voc_objects`.

    Raises:
        InputError: they cannot be read.
    """
    assert files.form in OTHER_FORMS
    known = metadata(files.name)
    names = None if known is None else tuple(known.thing_classes)
    return read_other(
        *(files.form, files.annotations, files.images_dir, files.version(), names),
        difficult=difficult,
    )


def dota_files(files: DatasetFiles) -> tuple[DotaFile, ...]:
    """The text files of a data set of DOTA, parsed once for its classes and its objects.

    Raises:
        InputError: one cannot be read.
    """
    return _dota_files(files.annotations, files.version())


@lru_cache(maxsize=8)
def _metadata_from_file(path: Path, version: tuple[int, ...]) -> DatasetMetadata:
    # Parsing a large file takes seconds, and several ask for it.
    return metadata_from_coco(path)


@lru_cache(maxsize=8)
def _dota_files(path: Path, version: tuple[int, ...]) -> tuple[DotaFile, ...]:
    return read_dota_files(path)


@lru_cache(maxsize=8)
def _metadata_from_dota(files: DatasetFiles, version: tuple[int, ...]) -> DatasetMetadata:
    # What is broken is reported where its objects are used.
    names = class_names_of_dota(dota_files(files))
    return DatasetMetadata(
        thing_classes=names,
        keypoint_names=None,
        keypoint_flip_map=[],
        keypoint_connections=[],
        category_ids=list(range(1, len(names) + 1)),
    )


@lru_cache(maxsize=8)
def _metadata_from_panoptic(path: Path, version: tuple[int, ...]) -> DatasetMetadata:
    dataset = read_panoptic(path)
    return DatasetMetadata(
        thing_classes=[dataset.category_names[index] for index in dataset.thing_ids],
        keypoint_names=None,
        keypoint_flip_map=[],
        keypoint_connections=[],
        category_ids=list(dataset.thing_ids),
        stuff_classes=dataset.stuff_names,
        stuff_category_ids=list(dataset.stuff_ids),
    )
