"""Draw a synthetic data set in COCO's format: people, circles, squares and triangles.

    python -m tfdetect.data.shapes OUT N SEED

writes N images to OUT/images and OUT/annotations.json. Every object has a mask; people, who are
stick figures, have COCO's 17 keypoints as well. What is drawn depends on N and SEED alone, and is
what the data was that Detectron2's results on such shapes were recorded with: the order of the
random draws is part of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tfdetect.data.catalog import metadata
from tfdetect.errors import InputError
from tfdetect.files import write_bytes_atomically, write_json

CLASSES = ("person", "circle", "square", "triangle")
_SHARES = (0.4, 0.2, 0.2, 0.2)
_MIN_PIXELS = 60
"""Of an object that counts; of less than that too little is seen."""

# Of the drawing, by index of COCO's keypoints.
_LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
_SHOULDERS, _HIPS, _EYES, _NOSE = (5, 6), (11, 12), (1, 2), 0
_COCO_SKELETON = (
    *((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9)),
    *((8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)),
)
# Where the head and the trunk are, in heights of the figure: x from its axis, y from its top. The
# body's right has the smaller x.
_AXIS = 0.3
_TRUNK = {
    "nose": (0.0, 0.12),
    "left_eye": (0.03, 0.095),
    "right_eye": (-0.03, 0.095),
    "left_ear": (0.06, 0.11),
    "right_ear": (-0.06, 0.11),
    "left_shoulder": (0.11, 0.25),
    "right_shoulder": (-0.11, 0.25),
    "left_hip": (0.07, 0.55),
    "right_hip": (-0.07, 0.55),
}


@dataclass
class _Object:
    """What is seen of an object: its class, its mask uint8 [H, W], its keypoints [17, 2]."""

    class_index: int
    mask: np.ndarray
    keypoints: np.ndarray | None


def draw_image(random: np.random.Generator) -> tuple[np.ndarray, list[_Object]]:
    """Draw one image, uint8 [H, W, 3] BGR, with up to six objects; later ones hide earlier ones."""
    width, height = (int(side) for side in random.integers(160, 360, 2))
    image = _background(random, height, width)
    objects: list[_Object] = []
    for _ in range(random.integers(1, 7)):
        class_index = int(random.choice(len(CLASSES), p=_SHARES))
        color = random.uniform(0, 255, 3)
        size = float(random.uniform(0.16, 0.55) * min(width, height))
        mask = np.zeros((height, width), np.uint8)
        keypoints = None
        if CLASSES[class_index] == "person":
            size = float(random.uniform(0.4, 0.95) * min(width, height))
            x = random.uniform(-0.1 * size, width - 0.45 * size)
            y = random.uniform(-0.05 * size, height - 0.75 * size)
            keypoints = _pose(random) * size + [x, y]
            _draw_person(mask, keypoints, size)
            image[mask > 0] = color
            for eye in _EYES:
                _dot(image, keypoints[eye], max(1, int(0.012 * size)), (255 - color).tolist())
        else:
            center = random.uniform(0, [width, height])
            _draw_shape(random, mask, CLASSES[class_index], center, size / 2)
            image[mask > 0] = color
        for other in objects:
            other.mask[mask > 0] = 0
        objects.append(_Object(class_index, mask, keypoints))
    image += random.normal(0, random.uniform(2, 12), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), objects


def _background(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """float32 [H, W, 3]: a smooth change of colours, crossed by some lines."""
    corners = random.uniform(40, 215, (2, 2, 3)).astype(np.float32)
    image = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    for _ in range(random.integers(0, 6)):
        start, end = random.integers(0, [width, height], (2, 2)).tolist()
        color = random.uniform(0, 255, 3).tolist()
        cv2.line(image, start, end, color, int(random.integers(1, 4)), cv2.LINE_AA)
    return image


def _pose(random: np.random.Generator) -> np.ndarray:
    """float64 [17, 2] keypoints of a figure of height 1, arms and legs somehow."""
    points = {name: np.array([_AXIS + x, y]) for name, (x, y) in _TRUNK.items()}

    def reach(start: np.ndarray, length: float, side: int, angle: float) -> np.ndarray:
        # The angle is from straight down, outwards.
        return start + length * np.array([side * np.sin(angle), np.cos(angle)])

    for name, side in (("left", 1), ("right", -1)):
        upper = random.uniform(-0.3, 1.6)
        lower = upper + random.uniform(-0.2, 1.0)
        elbow = reach(points[f"{name}_shoulder"], 0.16, side, upper)
        points[f"{name}_elbow"] = elbow
        points[f"{name}_wrist"] = reach(elbow, 0.15, side, lower)
        upper = random.uniform(-0.1, 0.6)
        lower = upper + random.uniform(-0.4, 0.1)
        knee = reach(points[f"{name}_hip"], 0.22, side, upper)
        points[f"{name}_knee"] = knee
        points[f"{name}_ankle"] = reach(knee, 0.22, side, lower)
    pose = np.array([points[name] for name in _keypoint_names()])
    return pose + random.normal(0, 0.02, pose.shape)


def _draw_person(mask: np.ndarray, keypoints: np.ndarray, size: float) -> None:
    thickness = max(2, int(0.045 * size))
    points = keypoints.round().astype(int).tolist()
    for start, end in (*_LIMBS, _SHOULDERS):
        cv2.line(mask, points[start], points[end], 255, thickness)
    trunk = [points[index] for index in (*_SHOULDERS, *reversed(_HIPS))]
    cv2.fillConvexPoly(mask, np.array(trunk, np.int32), 255)
    _dot(mask, keypoints[_NOSE], max(2, int(0.075 * size)), 255)
    neck = keypoints[list(_SHOULDERS)].mean(axis=0).astype(int).tolist()
    cv2.line(mask, points[_NOSE], neck, 255, thickness)


def _draw_shape(
    random: np.random.Generator, mask: np.ndarray, name: str, center: np.ndarray, radius: float
) -> None:
    angle = random.uniform(0, 6.28)
    if name == "circle":
        axes = int(radius), int(radius * random.uniform(0.8, 1))
        place = center.astype(int).tolist()
        cv2.ellipse(mask, place, axes, float(np.degrees(angle)), 0, 360, 255, -1)
        return
    count = 4 if name == "square" else 3
    angles = angle + np.arange(count) * 2 * np.pi / count
    corners = center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255)


def _dot(image: np.ndarray, point: np.ndarray, radius: int, color: Any) -> None:
    cv2.circle(image, point.round().astype(int).tolist(), radius, color, -1)


def _annotation(found: _Object) -> dict[str, Any] | None:
    """The COCO annotation of an object; None if too little of it is visible."""
    height, width = found.mask.shape
    contours, _ = cv2.findContours(found.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # OpenCV's outlines go through the centres of pixels, COCO's coordinates begin at their corner.
    outlines = [
        contour[:, 0].astype(np.float64) + 0.5
        for contour in contours
        if len(contour) >= 6 and cv2.contourArea(contour) > 12
    ]
    area = int(np.count_nonzero(found.mask))
    if not outlines or area < _MIN_PIXELS:
        return None
    points = np.concatenate(outlines)
    x1, y1 = np.maximum(points.min(axis=0) - 0.5, 0).tolist()
    x2, y2 = np.minimum(points.max(axis=0) + 0.5, [width, height]).tolist()
    keypoints = _annotated_keypoints(found)
    return {
        "category_id": found.class_index + 1,
        "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": float(area),
        "segmentation": [outline.ravel().tolist() for outline in outlines],
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
    }


def _annotated_keypoints(found: _Object) -> np.ndarray:
    """float64 [17, 3]: visibility 2 for points that are seen, 1 for hidden ones, 0 for the rest."""
    keypoints = np.zeros((len(_keypoint_names()), 3))
    if found.keypoints is None:
        return keypoints
    height, width = found.mask.shape
    for row, (x, y) in zip(keypoints, found.keypoints, strict=True):
        if 0 <= x < width - 1 and 0 <= y < height - 1:
            column, line = int(x), int(y)
            near = found.mask[max(line - 3, 0) : line + 4, max(column - 3, 0) : column + 4]
            row[:] = round(x, 2), round(y, 2), 2 if near.any() else 1
    return keypoints


def _keypoint_names() -> list[str]:
    known = metadata("keypoints_coco_2017_train")
    assert known is not None
    assert known.keypoint_names is not None
    return known.keypoint_names


def write_shapes(folder: Path, count: int, seed: int) -> None:
    """Draw `count` images and write them and `annotations.json` to a folder.

    Raises:
        InputError: the folder cannot be written, or `count` or `seed` cannot be used.
    """
    if count < 1 or seed < 0:
        raise InputError(f"{count} images of seed {seed}: give at least 1, and a seed of 0 or more")
    random = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        image, objects = draw_image(random)
        name = f"{number:06d}.jpg"
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        write_bytes_atomically(folder / "images" / name, encoded.tobytes())
        height, width = image.shape[:2]
        images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
        for annotation in map(_annotation, objects):
            if annotation is not None:
                ids = {"id": len(annotations) + 1, "image_id": number + 1}
                annotations.append(ids | annotation)
    categories: list[dict[str, Any]] = [
        {"id": index + 1, "name": name} for index, name in enumerate(CLASSES)
    ]
    categories[0] |= {"keypoints": _keypoint_names(), "skeleton": _COCO_SKELETON}
    write_json(
        folder / "annotations.json",
        {
            "info": {"description": "synthetic shapes"},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        },
    )
