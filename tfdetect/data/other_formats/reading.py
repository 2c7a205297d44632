"""Data sets of YOLO, Pascal VOC and labelme in the form of COCO's, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from tfdetect.data.coco import CocoDataset, coco_dataset
from tfdetect.data.other_formats.content import Content
from tfdetect.data.other_formats.labelme import is_labelme, labelme_files, read_labelme
from tfdetect.data.other_formats.voc_objects import is_voc, read_voc_objects, voc_files
from tfdetect.data.other_formats.yolo import images_of_yolo, is_yolo, read_yolo, yolo_files
from tfdetect.data.voc import root_of
from tfdetect.errors import InputError

OtherForm = Literal["YOLO", "VOC", "LABELME"]
OTHER_FORMS: tuple[OtherForm, ...] = ("YOLO", "VOC", "LABELME")


def other_form(path: Path) -> OtherForm | None:
    """Which of these formats the annotations have; None for another one."""
    if is_voc(path):
        return "VOC"
    if is_labelme(path):
        return "LABELME"
    return "YOLO" if is_yolo(path) else None


def annotation_files(form: OtherForm, path: Path, images_dir: Path) -> list[Path]:
    """The files that say something of the objects, and so belong to a data set's version."""
    if form == "YOLO":
        return [*yolo_files(path, images_dir), images_dir]
    return voc_files(path) if form == "VOC" else labelme_files(path)


def images_of(form: OtherForm, path: Path) -> Path | None:
    """The folder of the images, where the annotations tell it."""
    if form == "YOLO":
        return images_of_yolo(path)
    if form == "VOC":
        root = root_of(path) if path.is_file() else path.absolute().parent
        folder = root / "JPEGImages"
        return folder if folder.is_dir() else path.parent / "images"
    return path


@lru_cache(maxsize=4)
def read_other(
    form: OtherForm,
    path: Path,
    images_dir: Path,
    version: tuple[int, ...],
    class_names: tuple[str, ...] | None = None,
    *,
    difficult: bool = False,
) -> Content:
    """Read annotations; of the same files only once.

    Args:
        form: of `other_form`.
        path: the annotations.
        images_dir: the folder of the images.
        version: of the files.
        class_names: of Pascal VOC, where they are known.
        difficult: see `read_voc_objects`.

    Raises:
        InputError: they cannot be read. What is broken in them is in `errors`.
    """
    del version
    if form == "YOLO":
        return read_yolo(path, images_dir)
    if form == "LABELME":
        return read_labelme(path, images_dir)
    known = None if class_names is None else list(class_names)
    return read_voc_objects(path, images_dir, known, difficult=difficult)


def other_as_coco(
    path: Path, content: Content, report: Callable[[InputError], None] | None = None
) -> CocoDataset:
    """The annotations as those of a COCO file.

    Args:
        path: for messages.
        content: of `read_other`.
        report: gets the error of each broken image and object, which is left out; None raises it.

    Raises:
        InputError: see `report`; or no image or no class is left.
    """
    for error in content.errors:
        if report is None:
            raise error
        report(error)
    if not content.images or not content.class_names:
        raise content.nothing(path)
    return coco_dataset(path, content.as_coco(), report)
