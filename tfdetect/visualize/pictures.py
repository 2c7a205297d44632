"""Draws detections and segmentations."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence

import cv2
import numpy as np
import supervision as sv

from tfdetect.data.rotated import around_rotated, corners_of_rotated
from tfdetect.detections import Detections, PanopticSegmentation
from tfdetect.errors import InputError
from tfdetect.visualize.labels import draw_labels

KEYPOINT_THRESHOLD = 0.05
"""Keypoints of no higher score are not drawn: the number of Detectron2's Visualizer."""

# Adjacent colours differ in hue, and all stand out on dark and on light images.
# fmt: off
PALETTE = sv.ColorPalette.from_hex([
    "#ff4b4b", "#2f9bff", "#2ecc71", "#ffb020", "#b15cff", "#00c8c8", "#ff66b3", "#a3d900",
    "#ff7a1a", "#6b78ff", "#e6c700", "#00a36c", "#e04dff", "#5fd0ff", "#ff9e8a", "#9c6b4f",
])
# fmt: on

_SMALL = 640
"""Images whose longer side is smaller are enlarged to about this, to make labels legible."""

_LARGE = 2048
"""Pictures whose longer side is larger need no antialiasing: their lines are wide."""

_FARTHEST = 1e6
"""Corners beyond are moved here, in pixels: what OpenCV draws are integers."""

_MASK_OPACITY = 0.4

_LEAST_LABELLED = 400
"""Regions of a smaller part of the image than one in so many have no label."""


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    keypoint_connections: Sequence[tuple[int, int]] = (),
    confidence_threshold: float = 0.5,
    keypoint_classes: Collection[int] | None = None,
    font: str | os.PathLike[str] | None = None,
    ids: np.ndarray | None = None,
    *,
    with_scores: bool = True,
) -> np.ndarray:
    """A copy of the image with its detections drawn on it.

    Each has a box and a label of class and score, and where there are any a translucent mask
    with its contour, and keypoints joined by the skeleton. Colours distinguish ids if these are
    given, else instances if there are masks or keypoints, else classes; they are the same in every
    run.
    Small images are enlarged by a whole number, so the picture may be larger than the image.

    Args:
        image: uint8 [height, width, 3], BGR, the image that the detections are of.
        detections: in pixels of the image.
        class_names: of each class; a class beyond them shows as its number.
        keypoint_connections: the skeleton's edges, as pairs of keypoint indices from 0.
        confidence_threshold: detections of a lower score are left out.
        keypoint_classes: the classes that have keypoints; None means all. (A keypoint head
            predicts some for every detection, of a ball or a tree too.)
        font: a TrueType or OpenType file for the labels; DejaVu Sans by default (`load_font`).
        ids: int [N], of tracked detections, for the labels.
        with_scores: whether labels have them, which those of ground truth do not.

    Returns:
        uint8 [k * height, k * width, 3], BGR, k >= 1.

    Raises:
        InputError: the skeleton has a keypoint that does not exist, or the font cannot be read.
    """
    height, width = image.shape[:2]
    if (height, width) != (detections.height, detections.width):
        raise ValueError(
            f"image of {height} x {width}, detections of {detections.height} x {detections.width}"
        )
    if detections.keypoints is not None:
        check_connections("keypoint_connections", keypoint_connections, detections.keypoints)
    by_class = not detections.has_masks and detections.keypoints is None
    color_indices = detections.classes if by_class else np.arange(len(detections))
    color_indices = color_indices if ids is None else ids
    shown = np.flatnonzero(detections.scores >= confidence_threshold)
    # Small ones last, so that large ones do not hide them.
    shown = shown[np.argsort(-_areas(detections.boxes[shown]), kind="stable")]
    detections = detections.select(shown)
    colors = [PALETTE.by_idx(int(index)) for index in color_indices[shown]]

    enlarge, fine, line, canvas = _enlarge(image)
    scale = fine * enlarge
    masks = detections.rle_masks
    if masks is not None:
        for index, color in enumerate(colors):
            _draw_part(canvas, *masks.part(index), (height, width), scale, color, line // 2)
    if detections.rotated:
        boxes = around_rotated(detections.boxes)
        for outline, color in zip(corners_of_rotated(detections.boxes), colors, strict=True):
            _draw_rotated_box(canvas, outline * scale, color, line)
    else:
        boxes = detections.boxes
        for box, color in zip(boxes, colors, strict=True):
            _draw_box(canvas, box * scale, color, line)
    for index, color in enumerate(colors):
        if detections.keypoints is not None and (
            keypoint_classes is None or int(detections.classes[index]) in keypoint_classes
        ):
            keypoints = detections.keypoints[index] * (scale, scale, 1)
            _draw_keypoints(canvas, keypoints, keypoint_connections, color, line)
    texts = [
        label_name(class_names, index) + (f" {score:.0%}" if with_scores else "")
        for index, score in zip(detections.classes.tolist(), detections.scores, strict=True)
    ]
    if ids is not None:
        texts = [f"#{number} {text}" for number, text in zip(ids[shown], texts, strict=True)]
    return draw_labels(_reduce(canvas, fine), texts, boxes * enlarge, colors, font)


def draw_semantic(
    image: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    class_colors: Sequence[Sequence[int]] | None = None,
    font: str | os.PathLike[str] | None = None,
) -> np.ndarray:
    """A copy of the image with its semantic segmentation laid over it.

    Args:
        image: uint8 [height, width, 3], BGR.
        labels: int [height, width], the class of each pixel.
        class_names: of each class; a class beyond them shows as its number.
        class_colors: (red, green, blue) of each class; those of the palette without them.
        font: as `draw_detections`'s.

    Returns:
        uint8 [k * height, k * width, 3], BGR, k >= 1, as `draw_detections` gives.
    """
    shown = [int(label) for label in np.unique(labels)]
    return _draw_regions(
        image,
        [labels == label for label in shown],
        [label_name(class_names, label) for label in shown],
        [_class_color(class_colors, label) for label in shown],
        font,
    )


def draw_panoptic(
    image: np.ndarray,
    panoptic: PanopticSegmentation,
    class_names: Sequence[str],
    stuff_class_names: Sequence[str],
    stuff_colors: Sequence[Sequence[int]] | None = None,
    font: str | os.PathLike[str] | None = None,
) -> np.ndarray:
    """A copy of the image with its panoptic segmentation laid over it.

    Stuff has the colour of its class; things have one for each, and their score in the label.

    Args:
        image: uint8 [height, width, 3], BGR.
        panoptic: of the image.
        class_names: of the things.
        stuff_class_names: of the stuff.
        stuff_colors: (red, green, blue) of each stuff class; those of the palette without them.
        font: as `draw_detections`'s.

    Returns:
        uint8 [k * height, k * width, 3], BGR, k >= 1, as `draw_detections` gives.
    """
    # Things last, so that their contours are whole.
    segments = sorted(panoptic.segments, key=lambda segment: segment.isthing)
    texts, colors = [], []
    for segment in segments:
        if segment.isthing:
            texts.append(f"{label_name(class_names, segment.category_id)} {segment.score:.0%}")
            colors.append(PALETTE.by_idx(segment.id - 1))
        else:
            texts.append(label_name(stuff_class_names, segment.category_id))
            colors.append(_class_color(stuff_colors, segment.category_id))
    masks = [panoptic.ids == segment.id for segment in segments]
    return _draw_regions(image, masks, texts, colors, font)


def label_name(names: Sequence[str], index: int) -> str:
    """A class's name on one line, without what cannot be printed; its number if it has none."""
    name = names[index] if index < len(names) else ""
    printable = "".join(character if character.isprintable() else " " for character in name)
    return " ".join(printable.split()) or str(index)


def check_connections(
    source: str, connections: Sequence[tuple[int, int]], keypoints: np.ndarray | int
) -> None:
    """Raise InputError if a skeleton has a keypoint that does not exist.

    Args:
        source: what the message begins with.
        connections: pairs of keypoint indices.
        keypoints: [N, K, 3], or K.
    """
    count = keypoints if isinstance(keypoints, int) else keypoints.shape[1]
    for pair in connections:
        if len(pair) != 2 or not all(isinstance(i, (int, np.integer)) for i in pair):
            raise InputError(f"{source}: {pair!r} is not a pair of keypoint indices")
        if not all(0 <= index < count for index in pair):
            raise InputError(
                f"{source}: joins keypoints {pair[0]} and {pair[1]}, but there are {count}, "
                f"numbered from 0"
            )


def _class_color(colors: Sequence[Sequence[int]] | None, index: int) -> sv.Color:
    if colors is None or index >= len(colors):
        return PALETTE.by_idx(index)
    return sv.Color(*colors[index])


def _enlarge(image: np.ndarray) -> tuple[int, int, int, np.ndarray]:
    """Scale factors from image to picture and from picture to canvas, the line width on the canvas,
    and the canvas."""
    height, width = image.shape[:2]
    enlarge = min(8, max(1, round(_SMALL / max(height, width))))
    picture = image.copy()
    if enlarge > 1:
        picture = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    # supervision's lines have hard edges: draw at twice the size and average. Repeated pixels
    # average to themselves, so what is not drawn on stays as it is.
    fine = 2 if max(picture.shape) <= _LARGE else 1
    line = fine * max(2, round(math.sqrt(height * width) * enlarge / 400))
    if fine > 1:
        picture = picture.repeat(fine, axis=0).repeat(fine, axis=1)
    return enlarge, fine, line, picture


def _reduce(canvas: np.ndarray, fine: int) -> np.ndarray:
    """The picture of a canvas that is `fine` times as large."""
    if fine == 1:
        return canvas
    height, width = canvas.shape[:2]
    return cv2.resize(canvas, (width // fine, height // fine), interpolation=cv2.INTER_AREA)


def _draw_regions(
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    texts: Sequence[str],
    colors: Sequence[sv.Color],
    font: str | os.PathLike[str] | None,
) -> np.ndarray:
    """Masks that do not overlap, each with its label in the middle of its widest part."""
    enlarge, fine, line, canvas = _enlarge(image)
    labelled, points = [], []
    for index, (mask, color) in enumerate(zip(masks, colors, strict=True)):
        _draw_mask(canvas, mask, fine * enlarge, color, line // 2)
        # Slivers have no room for a label.
        if mask.sum() * _LEAST_LABELLED >= mask.size:
            framed = np.pad(mask, 1).astype(np.uint8)
            distance = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            y, x = np.unravel_index(np.argmax(distance), distance.shape)
            labelled.append(index)
            points.append([x - 0.5, y - 0.5] * 2)
    return draw_labels(
        _reduce(canvas, fine),
        [texts[index] for index in labelled],
        np.array(points, np.float64).reshape(-1, 4) * enlarge,
        [colors[index] for index in labelled],
        font,
    )


def _draw_mask(
    canvas: np.ndarray, mask: np.ndarray, scale: int, color: sv.Color, contour: int
) -> None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size:
        top, left = rows[0], columns[0]
        part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
        _draw_part(canvas, top, left, part, mask.shape, scale, color, contour)


def _draw_part(
    canvas: np.ndarray,
    top: int,
    left: int,
    part: np.ndarray,
    size: Sequence[int],
    scale: int,
    color: sv.Color,
    contour: int,
) -> None:
    """Only the part of the canvas that holds the mask: crowds are quicker."""
    if part.size == 0:
        return
    # A pixel wider for the contour, within the image.
    bottom, right = top + part.shape[0], left + part.shape[1]
    above, before = min(top, 1), min(left, 1)
    margins = (above, min(size[0] - bottom, 1)), (before, min(size[1] - right, 1))
    part = np.pad(part, margins)
    top, left = top - above, left - before
    bottom, right = top + part.shape[0], left + part.shape[1]
    # Interpolated, so that an enlarged mask has no steps.
    enlarged = cv2.resize(
        part.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR
    )
    target = canvas[top * scale : bottom * scale, left * scale : right * scale]
    height, width = target.shape[:2]
    instance = sv.Detections(
        xyxy=np.array([[0, 0, width, height]], np.float32), mask=(enlarged >= 0.5)[None]
    )
    index = sv.ColorLookup.INDEX
    scene = sv.MaskAnnotator(color, _MASK_OPACITY, index).annotate(target.copy(), instance)
    target[:] = sv.PolygonAnnotator(color, contour, index).annotate(scene, instance)


def _draw_box(canvas: np.ndarray, box: np.ndarray, color: sv.Color, line: int) -> None:
    height, width = canvas.shape[:2]
    # The line runs on both sides of its path: keep all of it in the picture.
    margin = line // 2
    inside = np.clip(box, margin, [width - 1 - margin, height - 1 - margin] * 2)
    sv.BoxAnnotator(color, line, sv.ColorLookup.INDEX).annotate(
        canvas, sv.Detections(xyxy=inside[None])
    )


def _draw_rotated_box(canvas: np.ndarray, corners: np.ndarray, color: sv.Color, line: int) -> None:
    """Its outline through [4, 2] corners; parts beyond the picture are not drawn."""
    corners = np.clip(corners, -_FARTHEST, _FARTHEST)
    around = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    boxes = sv.Detections(xyxy=around[None], data={"xyxyxyxy": corners[None]})
    sv.OrientedBoxAnnotator(color, line, sv.ColorLookup.INDEX).annotate(canvas, boxes)


def _areas(boxes: np.ndarray) -> np.ndarray:
    """Of boxes [N, 4], or rotated ones [N, 5]."""
    rotated = boxes.shape[1] == 5
    return np.prod(boxes[:, 2:4] if rotated else boxes[:, 2:] - boxes[:, :2], axis=1)


def _draw_keypoints(
    canvas: np.ndarray,
    keypoints: np.ndarray,
    connections: Sequence[tuple[int, int]],
    color: sv.Color,
    line: int,
) -> None:
    visible = keypoints[:, 2] > KEYPOINT_THRESHOLD
    if not visible.any():
        return
    # supervision counts a skeleton's vertices from 1.
    edges = [(a + 1, b + 1) for a, b in connections if visible[a] and visible[b]]
    if edges:
        every = sv.KeyPoints(xy=keypoints[None, :, :2])
        for thickness, shade in ((line + 4, sv.Color.BLACK), (line, color)):
            sv.EdgeAnnotator(shade, thickness, edges).annotate(canvas, every)
    points = sv.KeyPoints(xy=keypoints[None, visible, :2])
    for radius, shade in ((line + 2, sv.Color.BLACK), (line, sv.Color.WHITE)):
        sv.VertexAnnotator(shade, radius).annotate(canvas, points)
