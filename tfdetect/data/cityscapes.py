"""Reading Cityscapes' fine annotations of instances, from its polygons or from its label images.

`tfdetect.evaluation.cityscapes` measures on them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tfdetect.data.catalog import metadata
from tfdetect.data.json_format import as_numbers, entries, get, get_side, read_object
from tfdetect.errors import InputError

IMAGE_SUFFIX = "leftImg8bit.png"
"""What the names of images end with."""

# Labels that are not instances to learn, but occlude what is behind them.
_OTHER_LABELS = frozenset(
    (
        *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic"),
        *("ground", "road", "sidewalk", "parking", "rail track", "building", "wall", "fence"),
        *("guard rail", "bridge", "tunnel", "pole", "polegroup", "traffic light", "traffic sign"),
        *("vegetation", "terrain", "sky", "caravan", "trailer"),
    )
)
# Drawn on vehicles, which they do not hide.
_TRANSPARENT_LABEL = "license plate"


@dataclass(frozen=True)
class CityscapesInstance:
    """One object, in pixels of the image and continuous coordinates.

    Attributes:
        class_index: 0..7, person to bicycle, as `cityscapes_fine_instance_seg_train` has them.
        box: (x1, y1, x2, y2).
        polygons: outlines (x1, y1, x2, y2, ...) of the parts that are seen; holes are filled.
        iscrowd: whether it is a group of objects that are not annotated individually.
    """

    class_index: int
    box: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...]
    iscrowd: bool


@dataclass(frozen=True)
class CityscapesImage:
    """One image: its file below the folder of images (CITY/NAME), its size, what is in it."""

    file_name: str
    height: int
    width: int
    instances: tuple[CityscapesInstance, ...]


def read_cityscapes(
    image_folder: str | os.PathLike[str],
    truth_folder: str | os.PathLike[str],
    from_json: bool = True,
) -> tuple[CityscapesImage, ...]:
    """Read one split, as Detectron2's `load_cityscapes_instances(to_polygons=True)` does.

    Args:
        image_folder: such as `leftImg8bit/train`, with a folder per city.
        truth_folder: such as `gtFine/train`.
        from_json: whether to read `*_gtFine_polygons.json`, which Detectron2 trains on (it takes
            the package shapely), or `*_gtFine_instanceIds.png`.

    Raises:
        InputError: a file is missing or is not in Cityscapes' format; shapely is not installed.
    """
    truth = Path(truth_folder)
    images = []
    for image in image_files(Path(image_folder)):
        city, name = image.parent.name, image.name.removesuffix(IMAGE_SUFFIX)
        if from_json:
            path = truth / city / f"{name}gtFine_polygons.json"
            height, width, instances = _from_json(path)
        else:
            path = truth / city / f"{name}gtFine_instanceIds.png"
            height, width, instances = _from_instance_ids(path)
        images.append(CityscapesImage(f"{city}/{image.name}", height, width, tuple(instances)))
    return tuple(images)


def image_files(folder: Path) -> list[Path]:
    """The images of a folder such as `leftImg8bit/train`, sorted.

    Raises:
        InputError: it cannot be listed, has none, or has other files.
    """
    try:
        files = sorted(
            path for city in folder.iterdir() if city.is_dir() for path in city.iterdir()
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{folder}: cannot be read ({reason}), give leftImg8bit/train") from error
    other = next((path for path in files if not path.name.endswith(IMAGE_SUFFIX)), None)
    if other is not None:
        raise InputError(f"{other}: is not a Cityscapes image (*_{IMAGE_SUFFIX}), remove it")
    if not files:
        raise InputError(f"{folder}: has no CITY/*_{IMAGE_SUFFIX}, give leftImg8bit/train")
    return files


def class_labels() -> tuple[list[str], list[int]]:
    """Names and label ids of class 0..7."""
    known = metadata("cityscapes_fine_instance_seg_train")
    assert known is not None
    assert known.category_ids is not None
    return known.thing_classes, known.category_ids


def _from_json(path: Path) -> tuple[int, int, list[CityscapesInstance]]:
    """Height, width and instances of a file of polygons."""
    try:
        from shapely.geometry import Polygon
    except ImportError as error:
        raise InputError(
            f"{path}: reading polygons requires shapely; run: pip install 'tfdetect[cityscapes]'"
        ) from error
    root = read_object(path, "Cityscapes")
    height, width = (get_side(path, root, "the file", key) for key in ("imgHeight", "imgWidth"))
    objects = list(entries(path, root, "objects", "Cityscapes", may_be_empty=True))
    classes, _ = class_labels()
    instances = []
    hidden = Polygon()
    # The last is drawn over the others: going backwards, each gets what is still to be seen.
    for where, entry in reversed(objects):
        label = get(path, entry, where, "label", str)
        if "deleted" in entry or label == _TRANSPARENT_LABEL:
            continue
        group = label not in _OTHER_LABELS and label.endswith("group")
        name = label.removesuffix("group") if group else label
        if name not in classes and name not in _OTHER_LABELS:
            raise InputError(
                f"{path}: {where}.label {label!r} is not a Cityscapes label, correct it"
            )
        # Integer coordinates are pixels, so half a one more is their centre, and another half
        # all around is what Cityscapes' own drawing of the polygon covers.
        outline = Polygon(_points(path, entry, where) + np.float32(0.5)).buffer(0.5, quad_segs=4)
        seen = outline.difference(hidden) if name in classes else Polygon()
        if name not in classes or not seen.is_empty:
            hidden = hidden.union(outline)
        if not seen.is_empty:
            parts = [part for part in getattr(seen, "geoms", [seen]) if isinstance(part, Polygon)]
            instances.append(
                CityscapesInstance(
                    class_index=classes.index(name),
                    box=seen.bounds,
                    polygons=tuple(
                        tuple(value for point in part.exterior.coords for value in point)
                        for part in parts
                    ),
                    iscrowd=group,
                )
            )
    return height, width, instances


def _points(path: Path, entry: dict[str, Any], where: str) -> np.ndarray:
    """float32 [P, 2]."""
    points = entry.get("polygon")
    pairs = [as_numbers(point) for point in points] if isinstance(points, list) else []
    # A ring of two points has no inside, and shapely rejects it.
    if len(pairs) < 3 or any(pair is None or len(pair) != 2 for pair in pairs):
        raise InputError(f"{path}: {where}.polygon must be three points or more, correct the file")
    return np.array(pairs, np.float32)


def _from_instance_ids(path: Path) -> tuple[int, int, list[CityscapesInstance]]:
    """Height, width and instances of an image of instance ids."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason}), check the folder") from error
    ids = None
    if content:
        ids = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if ids is None or ids.ndim != 2:
        raise InputError(f"{path}: is not a greyscale image, give the folder gtFine/train")
    return *ids.shape, list(_instances(ids))


def _instances(ids: np.ndarray) -> Iterator[CityscapesInstance]:
    _, labels = class_labels()
    for value in np.unique(ids).tolist():
        # 26 is a group of cars, 26004 the fifth car.
        label = value // 1000 if value >= 1000 else value
        if label not in labels:
            continue
        mask = (ids == value).astype(np.uint8)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 1 or len(columns) == 1:
            continue
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        polygons = [contour.ravel().tolist() for contour in contours if len(contour) >= 3]
        if polygons:
            yield CityscapesInstance(
                class_index=labels.index(label),
                box=(float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])),
                polygons=tuple(map(tuple, polygons)),
                iscrowd=value < 1000,
            )
