"""Annotations of another format in the form of COCO's JSON, as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfdetect.data.images import read_size
from tfdetect.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LARGEST_TEXT = 1 << 26
"""Of one image's annotations, in bytes: what is larger is another file."""


@dataclass
class Content:
    """What has been read so far.

    Attributes:
        class_names: of class 0..K-1; ids in COCO's form are one more.
        images, annotations: entries of COCO's JSON.
        errors: one for each image and object that is broken, and left out.
        keypoint_names: of every class; empty without keypoints.
    """

    class_names: list[str] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    errors: list[InputError] = field(default_factory=list)
    keypoint_names: list[str] = field(default_factory=list)

    def add_image(self, file_name: str, height: int, width: int) -> int:
        """Add an image; gives its id."""
        image_id = len(self.images) + 1
        entry = {"id": image_id, "file_name": file_name, "height": height, "width": width}
        self.images.append(entry)
        return image_id

    def add_object(
        self,
        image_id: int,
        class_index: int,
        box: Sequence[float],
        segmentation: list[list[float]] | dict[str, Any] | None = None,
        *,
        area: float | None = None,
        iscrowd: bool = False,
        keypoints: list[float] | None = None,
    ) -> None:
        """Add an object.

        Args:
            image_id: of its image.
            class_index: of its class.
            box: XYXY in pixels.
            segmentation: polygons in pixels, or compressed RLE; None where there is none.
            area: in pixels; None for that of the polygons, or of the box without them.
            iscrowd: whether it does not count in an evaluation.
            keypoints: x, y in pixels and visibility of each, flat.
        """
        x1, y1, x2, y2 = (float(value) for value in box)
        if area is None:
            polygons = segmentation if isinstance(segmentation, list) else []
            area = sum(map(polygon_area, polygons)) if polygons else (x2 - x1) * (y2 - y1)
        entry: dict[str, Any] = {
            "id": len(self.annotations) + 1,
            "image_id": image_id,
            "category_id": class_index + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": area,
            "iscrowd": int(iscrowd),
        }
        if segmentation is not None:
            entry["segmentation"] = segmentation
        if keypoints is not None:
            entry["keypoints"] = keypoints
            entry["num_keypoints"] = sum(value > 0 for value in keypoints[2::3])
        self.annotations.append(entry)

    def nothing(self, path: Path) -> InputError:
        """The error that there are no images or no classes, which may come from another one."""
        if self.errors:
            return self.errors[0]
        what = "usable image" if not self.images else "object, and so no classes"
        return InputError(f"{path}: has no {what}; annotate some")

    def as_coco(self) -> dict[str, Any]:
        """The content of a file of COCO's JSON."""
        categories: list[dict[str, Any]] = [
            {"id": index, "name": name} for index, name in enumerate(self.class_names, 1)
        ]
        for category in categories if self.keypoint_names else ():
            category |= {"keypoints": self.keypoint_names, "skeleton": []}
        return {
            "images": self.images,
            "categories": categories,
            "annotations": self.annotations,
        }


def polygon_area(polygon: Sequence[float]) -> float:
    """Of x1, y1, x2, y2, ..., in pixels."""
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    following = np.roll(points, -1, axis=0)
    return float(abs((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum()) / 2)


def around(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """The box XYXY around polygons."""
    points = np.concatenate([np.asarray(p, np.float64).reshape(-1, 2) for p in polygons])
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a BOM.

    Raises:
        InputError: it cannot be read, is not text or larger than any of an image.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_TEXT + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}), check the file") from error
    if len(content) > LARGEST_TEXT:
        raise InputError(f"{path}: is over {LARGEST_TEXT >> 20} MiB, give annotations of an image")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 (byte {error.start}), save it so") from error


def image_size(where: Path, path: Path) -> tuple[int, int]:
    """Height and width of an image, from its header.

    Args:
        where: the annotations that it belongs to, for the message.
        path: of the image.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return read_size(path)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def images_below(folder: Path) -> list[Path]:
    """The images of a folder and the folders in it, by name; hidden ones are left out."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))


def check_names(path: Path, names: Sequence[str]) -> list[str]:
    """The names of classes, each once.

    Raises:
        InputError: there are none, or two are the same.
    """
    if not names:
        raise InputError(f"{path}: names no classes, add them")
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise InputError(f"{path}: names the class {twice!r} twice, give each a name of its own")
    return list(names)
