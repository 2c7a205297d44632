"""One image's results as plain data, for JSON and Parquet."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from tfdetect.data.panoptic import segment_colors
from tfdetect.detections import Detections, PanopticSegmentation
from tfdetect.masks.rle import encode_mask


def prediction_to_dict(file_name: str, detections: Detections) -> dict[str, Any]:
    """One image's detections for JSON.

    Returns:
        file_name, height, width, pred_boxes [[x1, y1, x2, y2]] (of a model of rotated boxes [[x
        centre, y centre, width, height, angle]]), scores, pred_classes, and where the detections
        have them pred_masks [RLE] and pred_keypoints [[[x, y, score]]]; pixels of
        the original image in continuous coordinates, nothing rounded. Where the model segments
        images, sem_seg and segments_info (`semantic_to_list`, `segments_to_list`); the map of the
        segments is apart, `panoptic_png`.
    """
    record = {
        "file_name": file_name,
        "height": detections.height,
        "width": detections.width,
        "pred_boxes": detections.boxes.tolist(),
        "scores": detections.scores.tolist(),
        "pred_classes": detections.classes.tolist(),
    }
    masks = detections.rle_masks
    if masks is not None:
        record["pred_masks"] = masks.to_coco()
    if detections.keypoints is not None:
        record["pred_keypoints"] = detections.keypoints.tolist()
    if detections.sem_seg is not None:
        record["sem_seg"] = semantic_to_list(detections.sem_seg)
    if detections.panoptic is not None:
        record["segments_info"] = segments_to_list(detections.panoptic)
    return record


def panoptic_png(panoptic: PanopticSegmentation) -> bytes:
    """A PNG of the segments' ids: red + 256 green + 256^2 blue, COCO's form."""
    colors = segment_colors(panoptic.ids)
    return cv2.imencode(".png", colors[:, :, ::-1])[1].tobytes()


def semantic_to_list(sem_seg: np.ndarray) -> list[dict[str, Any]]:
    """Of every class in int32 [height, width], `category_id` and `segmentation` (RLE), as in
    Detectron2's sem_seg_predictions.json."""
    return [
        {"category_id": label, "segmentation": encode_mask(sem_seg == label)}
        for label in np.unique(sem_seg).tolist()
    ]


def segments_to_list(panoptic: PanopticSegmentation) -> list[dict[str, Any]]:
    """Of every segment id, category_id, isthing, area, and of things score and instance_id (an
    index into the image's detections), as in Detectron2's `segments_info`."""
    return [
        {key: value for key, value in vars(segment).items() if value is not None}
        for segment in panoptic.segments
    ]
