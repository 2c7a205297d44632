"""Rotated boxes of annotations, in NumPy: what an augmentation makes of them, and corners.

A rotated box is (x centre, y centre, width, height, angle) in pixels and degrees, turned
counter-clockwise as it is seen on the screen, where y points down.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from tfdetect.data.geometry import Transform

_CLIPPED_ANGLE = 1.0
"""In degrees, the largest angle of a box that is clipped to its image."""


def rotated_of_horizontal(boxes: np.ndarray | Sequence[float]) -> np.ndarray:
    """COCO's boxes [..., 4] (left, top, width, height) as rotated ones of angle 0, float64."""
    boxes = np.asarray(boxes, np.float64)
    centers = boxes[..., :2] + boxes[..., 2:] / 2
    return np.concatenate([centers, boxes[..., 2:], np.zeros_like(boxes[..., :1])], axis=-1)


def rotated_of_quadrilateral(corners: np.ndarray) -> np.ndarray:
    """The smallest rotated box around four points, as of DOTA.

    Args:
        corners: [4, 2] in pixels, x and y, in their order around the object.

    Returns:
        float64 [5]. Its width lies along the side from the first point to the second, as nearly as
        one of its sides does, so that the angle says where the object's top is.
    """
    corners = np.asarray(corners, np.float64)
    middle = corners.mean(axis=0)
    # OpenCV computes in float32, which is exact enough only near the origin.
    (x, y), (width, height), turned = cv2.minAreaRect((corners - middle).astype(np.float32))
    side = corners[1] - corners[0]
    wanted = -np.rad2deg(np.arctan2(side[1], side[0]))
    # OpenCV turns clockwise. A quarter of a turn swaps width and height.
    quarters = int(np.rint((wanted + turned) / 90.0))
    if quarters % 2:
        width, height = height, width
    angle = (quarters * 90.0 - turned + 180.0) % 360.0 - 180.0
    return np.array([middle[0] + x, middle[1] + y, width, height, angle])


def corners_of_rotated(boxes: np.ndarray) -> np.ndarray:
    """The corners of boxes [N, 5]: float64 [N, 4, 2], top left, top right and so on around."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 5)
    right, down = _axes(boxes)
    right, down = right * boxes[:, 2:3] / 2, down * boxes[:, 3:4] / 2
    offsets = [-right - down, right - down, right + down, down - right]
    return boxes[:, None, :2] + np.stack(offsets, axis=1)


def around_rotated(boxes: np.ndarray) -> np.ndarray:
    """The horizontal boxes around boxes [N, 5]: float64 [N, 4] XYXY."""
    corners = corners_of_rotated(boxes)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def transform_rotated_boxes(
    boxes: np.ndarray,
    transforms: Sequence[Transform],
    size_before: tuple[int, int],
    size_after: tuple[int, int],
) -> np.ndarray:
    """Rotated boxes after an augmentation.

    A map makes a parallelogram of a box that is not horizontal. The box for it has the lengths
    of the lines between the middles of opposite edges, and the direction of the one from top to
    bottom. For resizes and horizontal flips this is what Detectron2's `apply_rotated_box` gives,
    angles but for whole turns; it has no other augmentation of rotated boxes.

    Args:
        boxes: [N, 5] in pixels of the image before.
        transforms: what happens to the image, in order.
        size_before: height and width of the image before.
        size_after: height and width of the image after.

    Returns:
        float32 [N, 5] in pixels of the image after, clipped as by `clip_rotated_boxes`. A box
        whose centre was in the image and is not any more has no width and height.
    """
    boxes = np.array(boxes, np.float64).reshape(-1, 5)
    was_inside = _centers_inside(boxes, size_before)
    for transform in transforms:
        right, down = _axes(boxes)
        points = np.concatenate([boxes[:, :2], boxes[:, :2] + right, boxes[:, :2] + down])
        centers, right, down = transform.apply_coords(points).reshape(3, -1, 2)
        right, down = right - centers, down - centers
        boxes = np.column_stack(
            [
                centers,
                boxes[:, 2] * np.linalg.norm(right, axis=1),
                boxes[:, 3] * np.linalg.norm(down, axis=1),
                np.rad2deg(np.arctan2(down[:, 0], down[:, 1])),
            ]
        )
    gone = was_inside & ~_centers_inside(boxes, size_after)
    boxes = clip_rotated_boxes(boxes.astype(np.float32), size_after)
    boxes[gone, 2:4] = 0
    return boxes


def clip_rotated_boxes(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Clip nearly horizontal boxes to their image (Detectron2's `RotatedBoxes.clip`).

    Args:
        boxes: float32 [N, 5].
        image_size: height and width, in pixels.

    Returns:
        float32 [N, 5], none larger than it was, with angles in [-180, 180).
    """
    boxes = boxes.copy()
    boxes[:, 4] = (boxes[:, 4] + np.float32(180)) % np.float32(360) - np.float32(180)
    horizontal = np.abs(boxes[:, 4]) <= _CLIPPED_ANGLE
    centers, sizes = boxes[horizontal, :2], boxes[horizontal, 2:4]
    limits = np.array(image_size[::-1], np.float32)
    low = np.clip(centers - sizes / 2, 0, limits)
    high = np.clip(centers + sizes / 2, 0, limits)
    boxes[horizontal, :2] = (low + high) / 2
    boxes[horizontal, 2:4] = np.minimum(sizes, high - low)
    return boxes


def _axes(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [N, 2] along the width and the height of boxes [N, 5]."""
    theta = np.deg2rad(boxes[:, 4])
    cos, sin = np.cos(theta), np.sin(theta)
    return np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)


def _centers_inside(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """bool [N]."""
    height, width = image_size
    inside = (boxes[:, :2] >= 0) & (boxes[:, :2] <= [width, height])
    return np.all(inside, axis=1)
