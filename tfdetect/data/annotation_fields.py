"""Converts and checks the fields of one annotation in COCO's JSON format.

Training and evaluation use only these checked values, because pycocotools does not validate its
input: invalid data leads to a traceback, reads of unrelated memory, or a wrong number. The errors
name the field; the caller prepends the file and the entry.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from tfdetect.data.json_format import (
    LARGEST_COORDINATE,
    as_integer,
    as_number,
    as_numbers,
    get,
    get_flag,
    given,
    show,
)
from tfdetect.data.rotated import rotated_of_horizontal
from tfdetect.errors import InputError
from tfdetect.masks.polygons import FARTHEST_POINT


def validate_annotation(
    path: Path,
    entry: dict[str, Any],
    where: str,
    categories: Mapping[int, Any],
    *,
    may_be_rotated: bool = False,
) -> dict[str, Any]:
    """Check the fields that every use of `entry` needs, and convert them in place.

    Afterwards `id` is an integer (or text that is not a number), `image_id` an integer,
    `category_id` one of `categories`, `bbox` a list of four finite numbers, or of five where it may
    be rotated (see `box`), and `iscrowd` 0 or 1.

    Raises:
        InputError: one of these is invalid, or missing (a missing `iscrowd` defaults to 0).
    """
    if isinstance(entry.get("id"), str) and as_integer(entry["id"]) is None:
        # An annotation's id only has to be unique, so text is fine as well.
        entry["id"] = get(path, entry, where, "id", str)
    else:
        entry["id"] = get(path, entry, where, "id", int)
    for key in ("image_id", "category_id"):
        entry[key] = get(path, entry, where, key, int)
    if entry["category_id"] not in categories:
        raise InputError(
            f"{path}: {where}.category_id {entry['category_id']} is not among 'categories', add it"
        )
    found = as_numbers(entry.get("bbox"))
    if found is None or not (len(found) == 4 or (may_be_rotated and len(found) == 5)):
        raise InputError(
            f"{path}: {where}.bbox {given(entry, 'bbox')}, must be four numbers"
            " (x, y, width, height); correct it"
        )
    entry["bbox"] = found
    entry["iscrowd"] = int(get_flag(path, entry, where, "iscrowd", missing=0))
    return entry


def box(entry: Mapping[str, Any], rotated: bool) -> list[float]:
    """`bbox` of a checked entry: of horizontal boxes (left, top, width, height).

    Args:
        entry: the annotation.
        rotated: whether to return (x centre, y centre, width, height, angle in degrees), as a list
            of five numbers has them; a horizontal box has the angle 0.

    Raises:
        InputError: it has five numbers and is to be horizontal.
    """
    found = entry["bbox"]
    if rotated:
        return found if len(found) == 5 else rotated_of_horizontal(found).tolist()
    if len(found) == 5:
        raise InputError(
            "'bbox' has five numbers, as rotated boxes have, but the model's boxes are horizontal;"
            " give a model with RRPN, or x, y, width, height"
        )
    return found


def area(entry: Mapping[str, Any]) -> float:
    """`area` in pixels.

    Raises:
        InputError: it is missing, or not a number of at least 0.
    """
    value = as_number(entry.get("area"))
    if value is None or not 0 <= value <= LARGEST_COORDINATE**2:
        raise InputError(
            f"'area' {given(entry, 'area')}, must be the object's area in pixels; correct it"
        )
    return value


def segmentation(
    entry: Mapping[str, Any], image_size: tuple[int, int]
) -> list[list[float]] | dict[str, Any] | None:
    """`segmentation`: polygons, or pycocotools' compressed RLE; None where there is none.

    A single polygon outside a list, as some tools write it, is read as a list of one. Polygons may
    still have fewer than three points or an odd number of coordinates:
    see `valid_polygons` and `mask`.

    Args:
        entry: the annotation.
        image_size: (height, width), which an RLE must have.

    Raises:
        InputError: it is invalid, or an RLE has a different size or does not cover the image.
    """
    value = entry.get("segmentation")
    if value is None or value in ([], {}, ""):
        return None
    if isinstance(value, dict):
        return _rle(value, image_size)
    if not isinstance(value, list):
        raise InputError(f"'segmentation' is {show(value)}, not polygons or RLE; correct it")
    if not any(isinstance(item, (list, array, dict)) for item in value):
        value = [value]
    polygons = []
    for index, given_polygon in enumerate(value):
        polygon = as_numbers(given_polygon)
        if polygon is None:
            raise InputError(
                f"'segmentation' has a polygon [{index}] that is not a list of finite numbers"
                " x1, y1, x2, y2, ...; correct it"
            )
        polygons.append(polygon)
    return polygons


def valid_polygons(polygons: list[list[float]]) -> list[list[float]]:
    """The polygons that Detectron2 trains on: an even number of coordinates, three points or
    more."""
    return [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]


def mask(
    entry: Mapping[str, Any], image_size: tuple[int, int]
) -> list[list[float]] | dict[str, Any]:
    """`segmentation` for measuring: polygons of three points or more, or compressed RLE.

    A polygon with fewer points has no area, and is dropped if there are others. (pycocotools would
    read a first one with four numbers as a box, and the others' corners with it.) Points beyond
    `FARTHEST_POINT` are clipped to it.

    Raises:
        InputError: there is none, or it is broken.
    """
    found = segmentation(entry, image_size)
    if found is None:
        raise InputError(
            f"has no 'segmentation' (it {given(entry, 'segmentation')}); name annotations with"
            " polygons or RLE"
        )
    if isinstance(found, dict):
        return found
    odd = next((polygon for polygon in found if len(polygon) % 2), None)
    if odd is not None:
        raise InputError(
            f"'segmentation' has a polygon of {len(odd)} numbers, an odd number; correct it"
        )
    polygons = valid_polygons(found)
    if not polygons:
        raise InputError(
            f"'segmentation' has a polygon of {len(found[0])} numbers, not of three points"
            " x1, y1, x2, y2, x3, y3 or more; correct it"
        )
    return [_cut_off(polygon) for polygon in polygons]


def _cut_off(polygon: list[float]) -> list[float]:
    if max(polygon) <= FARTHEST_POINT and min(polygon) >= -FARTHEST_POINT:
        return polygon
    return np.clip(polygon, -FARTHEST_POINT, FARTHEST_POINT).tolist()


def keypoints(entry: Mapping[str, Any], count: int) -> list[float] | None:
    """`keypoints`: x, y, visibility of each of `count`, flat; None where there are none.

    Raises:
        InputError: there are too many or too few, or some are not numbers.
    """
    value = entry.get("keypoints")
    if value is None or value == []:
        return None
    if isinstance(value, list) and all(isinstance(x, list) and len(x) == 3 for x in value):
        # One list [x, y, visibility] per keypoint.
        value = [number for triple in value for number in triple]
    numbers = as_numbers(value)
    if numbers is None:
        place, bad = "'keypoints'", value
        if isinstance(value, list):
            index, bad = next((i, x) for i, x in enumerate(value) if as_numbers([x]) is None)
            place = f"'keypoints'[{index}]"
        raise InputError(f"{place} is {show(bad)}, not a number; correct it")
    if len(numbers) != 3 * count:
        raise InputError(
            f"'keypoints' has {len(numbers)} numbers, must have {3 * count}: x, y, visibility of"
            f" {count} (MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS, TEST.KEYPOINT_OKS_SIGMAS)"
        )
    return numbers


def num_keypoints(entry: Mapping[str, Any], found: list[float] | None) -> int:
    """`num_keypoints`; if missing, the number of labelled keypoints in `found`.

    Raises:
        InputError: it is not an integer of at least 0, or counts keypoints that do not exist.
    """
    labelled = sum(1 for visibility in (found or [])[2::3] if visibility > 0)
    if entry.get("num_keypoints") is None:
        return labelled
    value = as_integer(entry["num_keypoints"])
    if value is None or value < 0:
        raise InputError(
            f"'num_keypoints' {given(entry, 'num_keypoints')}, must be how many are labelled;"
            " correct it"
        )
    if found is None and value > 0:
        raise InputError(f"has no 'keypoints', but 'num_keypoints' {value}; correct it")
    return value


def _rle(value: Mapping[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
    """Either form of COCO's RLE, as pycocotools' compressed RLE.

    The lengths must add up: pycocotools leaves what they do not cover uninitialised.
    """
    height, width = image_size
    size = value.get("size")
    if not isinstance(size, list) or [as_integer(side) for side in size] != [height, width]:
        told = size if isinstance(size, list) and len(size) == 2 else show(size)
        raise InputError(
            f"'segmentation' is an RLE of size {told}, but its image is [{height}, {width}]"
            " (height, width); correct them"
        )
    lengths = _run_lengths(value.get("counts"))
    # No length beyond the image, so that their sum cannot overflow.
    if (
        lengths is None
        or not ((lengths >= 0) & (lengths <= height * width)).all()
        or lengths.sum() != height * width
    ):
        raise InputError(
            "'segmentation' is an RLE with 'counts' that do not add up to the image size; "
            "correct them"
        )
    counts = lengths.tolist()
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def _run_lengths(counts: Any) -> np.ndarray | None:
    """int64 [N]: the lengths that `counts` stands for, a list or COCO's text; None if it is none.

    In the text each is written in digits of five bits, the lowest first, from the character "0"
    on; another bit says that more follow, and the last digit has the sign. From the fourth on it is
    the difference to the one two before.
    """
    if isinstance(counts, list):
        lengths = [as_integer(length) for length in counts]
        return None if None in lengths else np.array(lengths, np.int64)
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")
    if not isinstance(counts, bytes):
        return None
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero(digits & 32 == 0)
    if not ((digits >= 0) & (digits < 64)).all() or len(ends) == 0 or ends[-1] != len(digits) - 1:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    num_digits = ends - starts + 1
    # 35 bits are more than an image has pixels, and leave room to add.
    if num_digits.max() > 7:
        return None
    shifts = 5 * (np.arange(len(digits)) - np.repeat(starts, num_digits))
    values = np.add.reduceat((digits & 31) << shifts, starts)
    values -= np.where(digits[ends] & 16, np.int64(32) << shifts[ends], 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
