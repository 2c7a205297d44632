"""Detectron2's detections of an image, as tests/arrays has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as mask_codec

from tfdetect.detections import Detections


def detections_of(record: dict[str, Any]) -> Detections:
    """The detections that a record holds as JSON."""
    masks = keypoints = None
    if "pred_masks" in record:
        masks = np.zeros((len(record["scores"]), record["height"], record["width"]), bool)
        for mask, rle in zip(masks, record["pred_masks"], strict=True):
            mask[:] = mask_codec.decode(rle)
    if "pred_keypoints" in record:
        keypoints = np.array(record["pred_keypoints"], np.float32).reshape(-1, 17, 3)
    return Detections(
        height=record["height"],
        width=record["width"],
        boxes=np.array(record["pred_boxes"], np.float32).reshape(-1, 4),
        scores=np.array(record["scores"], np.float32),
        classes=np.array(record["pred_classes"], np.int64),
        masks=masks,
        keypoints=keypoints,
    )
