"""Reads annotations in Pascal VOC's format: a folder of XML files and lists of images."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The XML parser of the standard library follows what a file declares, to any size.
from defusedxml import DefusedXmlException, ElementTree

from tfdetect.data.json_format import LARGEST_SIDE, as_integer, as_number, as_numbers
from tfdetect.errors import InputError


@dataclass(frozen=True)
class VocObject:
    """One object of an image.

    Attributes:
        class_index: index into the data set's class names.
        box: (x1, y1, x2, y2) in continuous coordinates, pixels of the image. VOC counts pixels
            from 1 and its boxes include the last, so x1 and y1 are 1 less than the file's.
        difficult: whether the object counts neither for nor against in evaluation.
    """

    class_index: int
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocImage:
    """One image: its name in the lists, its file in JPEGImages, its size, what is in it."""

    id: str
    file_name: str
    height: int
    width: int
    objects: tuple[VocObject, ...]


@dataclass(frozen=True)
class VocDataset:
    """One set of images of a Pascal VOC folder.

    Attributes:
        path: the list of the images, for messages.
        image_folder: where the images are.
        year: that the first annotation's `folder` names (VOC2007), or None.
        class_names: name of class 0..K-1.
        images: in the order of the list.
    """

    path: Path
    image_folder: Path
    year: int | None
    class_names: tuple[str, ...]
    images: tuple[VocImage, ...]


def read_voc(path: str | os.PathLike[str], class_names: Sequence[str]) -> VocDataset:
    """Read one set of images, as Detectron2's `load_voc_instances` does.

    Args:
        path: the set, such as `VOC2007/ImageSets/Main/test.txt`; its Annotations and JPEGImages
            are two folders up. A folder such as `VOC2007` stands for its test set.
        class_names: of class 0..K-1, in the model's order.

    Raises:
        InputError: a file is missing, or not in Pascal VOC's format, or it has an object of a
            class that is not among the names.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "ImageSets" / "Main" / "test.txt"
        if not path.is_file():
            raise InputError(f"{path}: is missing, give the list of another set, such as val.txt")
    root = root_of(path)
    images: list[VocImage] = []
    year = None
    for name in read_list(path):
        where = root / "Annotations" / f"{name}.xml"
        annotation = parse_annotation(where)
        if not images:
            match = re.fullmatch(r"VOC(\d{4})", (annotation.findtext("folder") or "").strip())
            year = int(match[1]) if match else None
        images.append(
            VocImage(
                id=name,
                file_name=f"{name}.jpg",
                height=_size(where, annotation, "height"),
                width=_size(where, annotation, "width"),
                objects=tuple(
                    _object(where, entry, class_names) for entry in annotation.findall("object")
                ),
            )
        )
    return VocDataset(path, root / "JPEGImages", year, tuple(class_names), tuple(images))


def is_list(path: Path) -> bool:
    """Whether a path is that of a list of images: a text file in a folder of `ImageSets`."""
    return path.suffix == ".txt" and path.absolute().parent.parent.name == "ImageSets"


def root_of(path: Path) -> Path:
    """The folder that has the Annotations and JPEGImages of a list."""
    return path.absolute().parent.parent.parent


def read_list(path: Path) -> list[str]:
    """The names of the images in a list.

    Raises:
        InputError: it cannot be read, or is not such a list.
    """
    names = [line.strip() for line in _read(path).decode("utf-8", "replace").splitlines()]
    names = [name for name in names if name]
    if not names:
        raise InputError(f"{path}: lists no images, give a list such as ImageSets/Main/test.txt")
    bad = next((name for name in names if not re.fullmatch(r"[^\s/\\\0]+", name)), None)
    if bad is not None:
        raise InputError(f"{path}: {bad[:50]!r} is not an image name, give a list such as test.txt")
    if len(set(names)) < len(names):
        raise InputError(f"{path}: lists an image twice, remove one")
    return names


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}), check the folder") from error


def parse_annotation(path: Path) -> Any:
    """The root element of an XML file.

    Raises:
        InputError: it cannot be read, or is not XML.
    """
    try:
        return ElementTree.fromstring(_read(path), forbid_dtd=True)
    except DefusedXmlException as error:
        raise InputError(f"{path}: declares a document type, remove the declaration") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not XML ({error}), replace the file") from error


def _size(path: Path, annotation: Any, key: str) -> int:
    value = as_integer(annotation.findtext(f"size/{key}"))
    if value is None or not 0 < value <= LARGEST_SIDE:
        raise InputError(f"{path}: size/{key} must be a number of pixels, correct the file")
    return value


def _object(path: Path, entry: Any, class_names: Sequence[str]) -> VocObject:
    name = (entry.findtext("name") or "").strip()
    if name not in class_names:
        raise InputError(
            f"{path}: object of class {name!r}, which the model does not have: give annotations "
            f"with the"
            " classes that the model was trained on"
        )
    return VocObject(
        class_index=list(class_names).index(name),
        box=read_box(path, entry),
        difficult=(entry.findtext("difficult") or "").strip() == "1",
    )


def read_box(path: Path, entry: Any) -> tuple[float, float, float, float]:
    """An object's box XYXY in continuous coordinates: see `VocObject`.

    Raises:
        InputError: it is not four numbers, or not a box.
    """
    corners = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        corners.append(as_number(entry.findtext(f"bndbox/{key}")))
    box = as_numbers(corners)
    if box is None:
        raise InputError(f"{path}: an object's bndbox must have four numbers, correct the file")
    x1, y1, x2, y2 = box
    if x1 > x2 or y1 > y2:
        raise InputError(
            f"{path}: an object's bndbox has a max below its min ({x1:g}, {y1:g}, {x2:g}, {y2:g}),"
            " correct the file"
        )
    return x1 - 1, y1 - 1, x2, y2
