"""Reads labelme's annotations: a JSON file for each image, with shapes.

supervision's reader, which the tests compare with, has polygons and rectangles only, and makes a
bitmap of each, with corners rounded to whole pixels.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from PIL import Image

from tfdetect.data.json_format import LARGEST_SIDE, as_integer, as_numbers, as_text, given, show
from tfdetect.data.other_formats.content import Content, around, image_size, read_text
from tfdetect.errors import InputError

# Of the outline of a circle.
_CORNERS = 64
_Parts = list[list[float]] | dict[str, Any] | None


def is_labelme(path: Path) -> bool:
    """Whether this is a folder of such files: the first JSON file tells."""
    for file in _files(path):
        try:
            return "shapes" in _read(file)
        except InputError:
            continue
    return False


def read_labelme(path: Path, images_dir: Path) -> Content:
    """Read a folder of JSON files.

    Polygons, rectangles, circles and masks are objects; the shapes of one label and `group_id` are
    one. A rectangle is a box without a mask. Other shapes (points, lines) are errors.

    Args:
        path: the folder, with folders in it or without.
        images_dir: the folder of the images, which have the name in `imagePath`, below it or in it.

    Raises:
        InputError: there are no such files. What is broken in one is in `errors`.
    """
    content = Content()
    files = _files(path)
    if not files:
        raise InputError(f"{path}: has no .json files, give a folder of labelme's annotations")
    found: list[tuple[int, str, tuple[float, float, float, float], _Parts, float | None]] = []
    seen: dict[str, Path] = {}
    for file in files:
        try:
            entry = _read(file)
            name = _image_name(file, path, entry, images_dir)
            if name in seen:
                raise InputError(f"{file}: has the image of {seen[name]}, remove one of them")
            height, width = _size(file, entry, images_dir / name)
            shapes = entry.get("shapes")
            if not isinstance(shapes, list):
                raise InputError(f"{file}: 'shapes' {given(entry, 'shapes')}, must be a list")
        except InputError as error:
            content.errors.append(error)
            continue
        seen[name] = file
        image_id = content.add_image(name, height, width)
        for label, parts, box in _objects(content, file, shapes, (height, width)):
            outlines, area = _joined(parts, (height, width))
            found.append((image_id, label, box, outlines, area))
    content.class_names = sorted({label for _, label, *_ in found})
    for image_id, label, box, outlines, area in found:
        index = content.class_names.index(label)
        content.add_object(image_id, index, box, outlines, area=area)
    return content


def labelme_files(path: Path) -> list[Path]:
    """The files that say something of the objects."""
    return _files(path)


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*.json") if p.is_file()) if path.is_dir() else []


def _read(file: Path) -> dict[str, Any]:
    try:
        entry = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{file}: not JSON ({reason}), save it again") from error
    if not isinstance(entry, dict):
        raise InputError(f"{file}: is not labelme's, must be an object with 'shapes'")
    return entry


def _image_name(file: Path, folder: Path, entry: dict[str, Any], images_dir: Path) -> str:
    """Below `images_dir`; `imagePath` is of the machine that wrote it, relative to the file."""
    given_path = as_text(entry.get("imagePath"))
    name = PureWindowsPath(given_path or "").name  # which parts at / and \\ both
    if not name or name == ".." or "\0" in name:
        raise InputError(f"{file}: 'imagePath' {given(entry, 'imagePath')}, must name the image")
    beside = file.parent.relative_to(folder) / name
    return beside.as_posix() if (images_dir / beside).is_file() else name


def _size(file: Path, entry: dict[str, Any], image: Path) -> tuple[int, int]:
    sides = [as_integer(entry.get(key)) for key in ("imageHeight", "imageWidth")]
    if None in sides:  # older versions do not say it
        return image_size(file, image)
    height, width = (side or 0 for side in sides)
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE):
        raise InputError(
            f"{file}: imageHeight and imageWidth must be numbers of pixels; correct it"
        )
    return height, width


def _objects(
    content: Content, file: Path, shapes: list[Any], size: tuple[int, int]
) -> list[tuple[str, list[_Parts], tuple[float, float, float, float]]]:
    """The label of each object, its parts, and its box."""
    found: dict[Any, tuple[str, list[_Parts], tuple[float, float, float, float]]] = {}
    for index, shape in enumerate(shapes):
        where = f"{file}: shapes[{index}]"
        try:
            if not isinstance(shape, dict):
                raise InputError("is not an object; correct it")
            label = as_text(shape.get("label"))
            if not label or not label.strip():
                raise InputError(f"label {given(shape, 'label')}, must be text; correct it")
            label = label.strip()
            box, parts = _shape(shape, size)
        except InputError as error:
            content.errors.append(InputError(f"{where}: {error}"))
            continue
        group = shape.get("group_id")
        key = index if group is None else (label, str(group))
        if key in found:
            _, earlier, around_earlier = found[key]
            corners = [*zip(around_earlier, box, strict=True)]
            x1, y1 = (min(pair) for pair in corners[:2])
            x2, y2 = (max(pair) for pair in corners[2:])
            found[key] = label, [*earlier, parts], (x1, y1, x2, y2)
        else:
            found[key] = label, [parts], box
    return list(found.values())


def _joined(parts: list[_Parts], size: tuple[int, int]) -> tuple[_Parts, float | None]:
    """The mask of an object of several parts, and its area where it is not the polygons'."""
    if any(part is None for part in parts):
        return None, None
    if all(isinstance(part, list) for part in parts):
        return [polygon for part in parts if isinstance(part, list) for polygon in part], None
    masks: list[Any] = []
    for part in parts:
        masks += coco_mask.frPyObjects(part, *size) if isinstance(part, list) else [part]
    mask = coco_mask.merge(masks)
    return mask, float(coco_mask.area(mask))


def _shape(
    shape: dict[str, Any], size: tuple[int, int]
) -> tuple[tuple[float, float, float, float], _Parts]:
    """Box and mask of a shape; a rectangle has no mask."""
    kind = shape.get("shape_type", "polygon")  # which older versions do not say
    listed = shape.get("points")
    points: list[list[float] | None]
    points = [as_numbers(point) for point in listed] if isinstance(listed, list) else [None]
    if any(point is None or len(point) != 2 for point in points):
        raise InputError(f"points {given(shape, 'points')}, must be pairs of numbers; correct it")
    flat = [value for point in points for value in point or ()]
    if kind == "polygon":
        if len(points) < 3:
            raise InputError(
                f"has a polygon of {len(points)} points, must be 3 or more; correct it"
            )
        return around([flat]), [flat]
    if kind == "rectangle" and len(points) in (2, 4):
        return around([flat]), None
    if kind == "circle" and len(points) == 2:
        (x, y), radius = flat[:2], math.dist(flat[:2], flat[2:])
        angles = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
        outline = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).ravel()
        return (x - radius, y - radius, x + radius, y + radius), [outline.tolist()]
    if kind == "mask" and len(points) == 2:
        return around([flat]), _decode_mask(shape, flat, size)
    raise InputError(
        f"is a {show(kind)} of {len(points)} points; polygons, rectangles, circles and masks are"
        " read; remove it or draw it as one"
    )


def _decode_mask(shape: dict[str, Any], corners: list[float], size: tuple[int, int]) -> dict:
    """RLE of a mask, which is a PNG of its box."""
    try:
        content = base64.b64decode(shape["mask"], validate=True)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if max(image.size) > LARGEST_SIDE or image.width * image.height > size[0] * size[1] * 4:
                raise ValueError("larger than the image")
            pixels = np.asarray(image) > 0
    except (KeyError, TypeError, ValueError, binascii.Error, OSError, SyntaxError) as error:
        raise InputError(f"'mask' is not a PNG ({error}); save it again") from error
    x, y = (int(value) for value in corners[:2])
    whole = np.zeros(size, np.uint8, order="F")
    if pixels.ndim != 2 or x < 0 or y < 0:
        raise InputError("'mask' does not fit the image; save it again")
    part = whole[y : y + pixels.shape[0], x : x + pixels.shape[1]]
    part[:] = pixels[: part.shape[0], : part.shape[1]]
    return coco_mask.encode(whole)
