"""Reads DOTA's text files: objects as quadrilaterals, one file for each image.

A line is `x1 y1 x2 y2 x3 y3 x4 y4 category difficult`, in pixels; the first lines may be
`imagesource:...` and `gsd:...`. A file belongs to the image of its name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfdetect.data.coco import CocoDataset, CocoImage
from tfdetect.data.image_files import image_called
from tfdetect.data.json_format import LARGEST_COORDINATE, as_number, show
from tfdetect.data.rotated import rotated_of_quadrilateral
from tfdetect.errors import InputError

# fmt: off
_NAMES = (
    "plane", "ship", "storage-tank", "baseball-diamond", "tennis-court", "basketball-court",
    "ground-track-field", "harbor", "bridge", "large-vehicle", "small-vehicle", "helicopter",
    "roundabout", "soccer-ball-field", "swimming-pool", "container-crane", "airport", "helipad",
)
# fmt: on
"""Of DOTA 1.0 (the first 15), 1.5 and 2.0, in their usual order."""

_ORIENTATION, _LYING = 0x0112, 5
"""EXIF's tag, and its values from which on width and height are swapped in reading."""

_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_HEADERS = ("imagesource:", "gsd:")


@dataclass(frozen=True)
class DotaFile:
    """The N usable objects of one text file.

    Attributes:
        path: of the file.
        names: the category of each object.
        boxes: float64 [N, 5], rotated, in pixels.
        difficult: bool [N].
        errors: one for each line that is broken.
    """

    path: Path
    names: tuple[str, ...]
    boxes: np.ndarray
    difficult: np.ndarray
    errors: tuple[InputError, ...]


def is_dota(path: Path) -> bool:
    """Whether `path` is a folder of such text files: the first that has a line tells."""
    if not path.is_dir():
        return False
    for file in sorted(path.glob("*.txt")):
        try:
            lines = _lines(file)
        except InputError:
            return False
        if lines:
            return len(lines[0][1]) in (9, 10)
    return False


def images_of_dota(path: Path) -> Path:
    """The folder of the images that belong to a folder of annotations: `images` beside it.

    The annotations' own folder where there is none, as for files that lie beside their images.
    """
    beside = path.absolute().parent / "images"
    return beside if beside.is_dir() else path


def read_dota_files(path: Path) -> tuple[DotaFile, ...]:
    """Read a folder of text files (`labelTxt`), whether there are images or not.

    Raises:
        InputError: the folder has no text files, or one of them cannot be read.
    """
    files = sorted(path.glob("*.txt"))
    if not files:
        raise InputError(f"{path}: has no .txt files, give a folder of DOTA annotations")
    return tuple(_read(file) for file in files)


def class_names_of_dota(files: Sequence[DotaFile]) -> list[str]:
    """Their categories: DOTA's in their usual order, and then others by name."""
    names = {name for file in files for name in file.names}
    return [name for name in _NAMES if name in names] + sorted(names - set(_NAMES))


def dota_as_coco(
    path: Path,
    files: Sequence[DotaFile],
    images_dir: Path,
    report: Callable[[InputError], None] | None = None,
    *,
    difficult_as_crowds: bool = False,
) -> CocoDataset:
    """The annotations in the form of a COCO data set of rotated boxes.

    Args:
        path: the folder.
        files: of `read_dota_files`.
        images_dir: the folder of the images, whose sizes are read.
        report: gets the error of each broken object and of each file without an image, which is
            then left out; None raises it.
        difficult_as_crowds: whether difficult objects have `iscrowd` 1: found or not, they do not
            count in an evaluation. (Training uses them, as Detectron2 does those of Pascal VOC.)

    Returns:
        Categories are `class_names_of_dota`, with ids from 1.

    Raises:
        InputError: see `report`.
    """

    def broken(error: InputError) -> None:
        if report is None:
            raise error
        report(error)

    names = class_names_of_dota(files)
    category_ids = {name: index for index, name in enumerate(names, 1)}
    images: list[CocoImage] = []
    annotations: list[dict[str, Any]] = []
    for file in files:
        image_path = image_called(images_dir, file.path.stem, _IMAGES)
        if image_path is None:
            expected = f"{file.path.stem}.png (nor .jpg, .tif, .bmp)"
            broken(InputError(f"{file.path}: {images_dir} has no image {expected}, add it"))
            continue
        for error in file.errors:
            broken(error)
        try:
            image = _image(len(images) + 1, image_path)
        except InputError as error:
            broken(InputError(f"{file.path}: {error}"))
            continue
        images.append(image)
        for name, box, difficult in zip(file.names, file.boxes, file.difficult, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.id,
                    "category_id": category_ids[name],
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(difficult and difficult_as_crowds),
                }
            )
    return CocoDataset(
        path=path,
        images=tuple(images),
        category_ids=tuple(category_ids.values()),
        category_names=tuple(names),
        annotations=tuple(annotations),
    )


def _read(path: Path) -> DotaFile:
    objects = []
    errors = []
    for number, words in _lines(path):
        try:
            objects.append(_object(words))
        except InputError as error:
            errors.append(InputError(f"{path}: line {number}: {error}"))
    return DotaFile(
        path=path,
        # Interned: a data set has a million objects of a few names.
        names=tuple(sys.intern(name) for name, _, _ in objects),
        boxes=np.array([box for _, box, _ in objects], np.float64).reshape(-1, 5),
        difficult=np.array([difficult for _, _, difficult in objects], bool),
        errors=tuple(errors),
    )


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """The words of each line that is an object, with its number from 1."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}), check the file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not text in UTF-8 (byte {error.start}), save it so") from error
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1)]
    return [
        (number, words)
        for number, words in lines
        if words and not words[0].lower().startswith(_HEADERS)
    ]


def _object(words: list[str]) -> tuple[str, np.ndarray, bool]:
    """Name, box and difficulty of one line."""
    numbers = [as_number(word) for word in words[:8]]
    corners = np.array([number for number in numbers if number is not None], np.float64)
    if len(words) not in (9, 10) or corners.size != 8:
        raise InputError("is not x1 y1 x2 y2 x3 y3 x4 y4 category difficult; correct it")
    difficult = words[9] if len(words) == 10 else "0"
    if difficult not in ("0", "1", "2"):
        raise InputError(f"difficult is {show(difficult)}, must be 0 or 1; correct it")
    if np.abs(corners).max() > LARGEST_COORDINATE:
        raise InputError("a corner is farther away than any image is large; correct it")
    # 2 is DOTA 1.5's for objects of a few pixels.
    return words[8], rotated_of_quadrilateral(corners.reshape(4, 2)), difficult != "0"


def _image(image_id: int, path: Path) -> CocoImage:
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION, 1) >= _LYING:
                width, height = height, width
    except Exception as error:  # Pillow raises what its decoders do
        raise InputError(f"{path} cannot be read as an image, replace it") from error
    return CocoImage(id=image_id, file_name=path.name, height=height, width=width)
