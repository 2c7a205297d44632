"""Reading panoptic annotations in COCO's format: a JSON file, and a PNG of segments per image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfdetect.data.image_files import count_missing, missing_files
from tfdetect.data.images import read_image
from tfdetect.data.json_format import (
    as_integer,
    as_numbers,
    check_unique,
    entries,
    get,
    get_file_name,
    get_flag,
    get_side,
    read_object,
)
from tfdetect.errors import InputError


@dataclass(frozen=True)
class PanopticSegment:
    """One segment of an image.

    Attributes:
        id: its value in the image's PNG, above 0.
        category_id: the data set's.
        area: in pixels.
        iscrowd: whether it is a group of things that are not annotated individually.
        box: (x, y, width, height) in pixels, or None where there is no valid one.
    """

    id: int
    category_id: int
    area: int
    iscrowd: bool
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class PanopticImage:
    """One annotated image: its id and file, the PNG of its segments, its size, its segments."""

    id: int | str
    file_name: str
    label_file: Path
    height: int
    width: int
    segments: tuple[PanopticSegment, ...]


@dataclass(frozen=True)
class PanopticDataset:
    """What a panoptic annotation file says.

    Attributes:
        path: the file, for messages.
        images: the annotated ones, sorted by id.
        category_names: by category id.
        thing_ids: the categories of things, sorted; class c of a model's instances is
            `thing_ids[c]`.
        stuff_ids: 0, which stands for all things, then the categories of stuff, sorted; class c
            of a model's semantic segmentation is `stuff_ids[c]`.
    """

    path: Path
    images: tuple[PanopticImage, ...]
    category_names: Mapping[int, str]
    thing_ids: tuple[int, ...]
    stuff_ids: tuple[int, ...]

    @property
    def stuff_names(self) -> list[str]:
        """The names of `stuff_ids`, without COCO's endings, as Detectron2 has them."""
        names = [self.category_names[index] for index in self.stuff_ids[1:]]
        return ["things", *(re.sub("-other|-merged", "", name) for name in names)]


def read_panoptic(path: str | os.PathLike[str]) -> PanopticDataset:
    """Read an annotation file in COCO's panoptic format.

    The PNGs are in the folder of the file's name, next to it as in COCO's archives
    (`annotations/panoptic_val2017.json`, `annotations/panoptic_val2017/`) or one folder up as
    Detectron2's documentation asks for.

    Raises:
        InputError: the file is missing, is not JSON, or is not in the format; its folder of PNGs
            is missing.
    """
    path = Path(path)
    root = read_object(path, "COCO panoptic")
    candidates = [path.parent / path.stem, path.absolute().parent.parent / path.stem]
    folder = next((candidate for candidate in candidates if candidate.is_dir()), None)
    if folder is None:
        raise InputError(f"{path}: its folder of PNGs is missing, put it at {candidates[0]}")
    categories = [
        (
            get(path, entry, where, "id", int),
            get(path, entry, where, "name", str),
            get_flag(path, entry, where, "isthing"),
        )
        for where, entry in entries(path, root, "categories", "COCO panoptic")
    ]
    check_unique(path, "categories", (index for index, _, _ in categories))
    names = {index: name for index, name, _ in categories}
    things = [index for index, _, isthing in categories if isthing]
    # Detectron2 has 0 for all things together.
    if min(names) < 1:
        raise InputError(f"{path}: a category has an id below 1, correct the file")
    listed = [
        (
            _image_id(path, entry, where, "id"),
            get_file_name(path, entry, where),
            get_side(path, entry, where, "height"),
            get_side(path, entry, where, "width"),
        )
        for where, entry in entries(path, root, "images", "COCO panoptic")
    ]
    check_unique(path, "images", (index for index, *_ in listed))
    images = {index: (file_name, height, width) for index, file_name, height, width in listed}
    annotated = []
    for where, entry in entries(path, root, "annotations", "COCO panoptic"):
        index = _image_id(path, entry, where, "image_id")
        if index not in images:
            raise InputError(f"{path}: {where}.image_id {index} is not among 'images', add it")
        file_name, height, width = images[index]
        label_file = folder / get_file_name(path, entry, where)
        segments = tuple(_segments(path, entry, where, names))
        annotated.append(PanopticImage(index, file_name, label_file, height, width, segments))
    check_unique(path, "annotations' images", (image.id for image in annotated))
    missing = missing_files(image.label_file for image in annotated)
    if missing:
        raise InputError(f"{path}: {count_missing(missing, len(annotated))}; add them")
    for image in annotated:
        _check_size(image)
    return PanopticDataset(
        path=path,
        images=tuple(sorted(annotated, key=lambda image: (isinstance(image.id, str), image.id))),
        category_names=names,
        thing_ids=tuple(sorted(things)),
        stuff_ids=(0, *sorted(set(names) - set(things))),
    )


def _image_id(path: Path, entry: Mapping[str, Any], where: str, key: str) -> int | str:
    """An integer, as in COCO, or text, as in Cityscapes."""
    if isinstance(entry.get(key), str) and as_integer(entry[key]) is None:
        return get(path, entry, where, key, str)
    return get(path, entry, where, key, int)


def _check_size(image: PanopticImage) -> None:
    """Compare with the PNG's header, which takes no decoding: later would be after the work."""
    try:
        with Image.open(image.label_file) as png:
            size = png.size
    except Exception as error:  # whatever Pillow's parsing happens to raise
        raise InputError(f"{image.label_file}: not an image ({error}), replace the PNG") from error
    if size != (image.width, image.height):
        raise _wrong_size(image, size)


def _wrong_size(image: PanopticImage, size: tuple[int, int]) -> InputError:
    return InputError(
        f"{image.label_file}: has {size[0]} x {size[1]} pixels, its image"
        f" {image.width} x {image.height}: give the PNGs that belong to the annotations"
    )


def _segments(
    path: Path, annotation: Mapping[str, Any], where: str, categories: Mapping[int, str]
) -> Iterable[PanopticSegment]:
    found = []
    for place, entry in entries(
        path, annotation, "segments_info", "COCO panoptic", may_be_empty=True
    ):
        place = f"{where}.{place}"
        segment = PanopticSegment(
            id=get(path, entry, place, "id", int),
            category_id=get(path, entry, place, "category_id", int),
            area=get(path, entry, place, "area", int),
            iscrowd=get_flag(path, entry, place, "iscrowd", missing=0),
            box=_box(entry),
        )
        if segment.area < 0:
            raise InputError(f"{path}: {place}.area is negative, correct the file")
        if segment.category_id not in categories:
            raise InputError(
                f"{path}: {place}.category_id {segment.category_id} is not among 'categories'"
            )
        if not 0 < segment.id < 256**3:
            raise InputError(f"{path}: {place}.id must be from 1 to 16777215, correct the file")
        found.append(segment)
    check_unique(path, f"{where}.segments_info", (segment.id for segment in found))
    return found


def _box(entry: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    numbers = as_numbers(entry.get("bbox"))
    if numbers is None or len(numbers) != 4:
        return None
    x, y, width, height = numbers
    return x, y, width, height


def read_segment_ids(image: PanopticImage) -> np.ndarray:
    """The segment of each pixel.

    Returns:
        int64 [height, width]: a segment's id, or 0 where nothing is labelled.

    Raises:
        InputError: the PNG cannot be read, or is of another size than the image.
    """
    ids = segment_ids(read_image(image.label_file, "RGB"))
    if ids.shape != (image.height, image.width):
        raise _wrong_size(image, (ids.shape[1], ids.shape[0]))
    return ids


def segment_ids(rgb: np.ndarray) -> np.ndarray:
    """int64 [H, W] ids of uint8 [H, W, 3] colours: red + 256 green + 256^2 blue."""
    return rgb.astype(np.int64) @ np.array([1, 256, 256**2])


def segment_colors(ids: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] RGB of int [H, W] ids in [0, 256^3): what `segment_ids` undoes."""
    return np.stack([(ids >> shift) & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def semantic_labels(
    ids: np.ndarray,
    segments: Iterable[PanopticSegment],
    stuff_ids: tuple[int, ...],
    unlabelled: int,
) -> np.ndarray:
    """The semantic classes that Panoptic FPN learns, as `prepare_panoptic_fpn.py` makes them.

    Args:
        ids: int64 [H, W], of `read_segment_ids`.
        segments: of the same image.
        stuff_ids: of the data set.
        unlabelled: the label of what has none.

    Returns:
        int32 [H, W]: c where the segment's category is `stuff_ids[c]`, 0 for things, and
        `unlabelled` where nothing is labelled.
    """
    classes = {category: index for index, category in enumerate(stuff_ids)}
    labels = np.full(ids.shape, unlabelled, np.int32)
    for segment in segments:
        labels[ids == segment.id] = classes.get(segment.category_id, 0)
    return labels
