"""Pictures of a training batch: ground truth and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.tta import with_tta
from tfdetect.detections import Detections
from tfdetect.inference.predictor import Predictor
from tfdetect.masks.polygon_rows import decode_polygons
from tfdetect.masks.polygons import rasterize_polygons
from tfdetect.visualize.pictures import draw_detections, draw_semantic

_THRESHOLD = 0.5


class Pictures:
    """Draws the first image of a batch twice, side by side: ground truth, and predictions."""

    def __init__(self, cfg: CfgNode, model: tf.Module, metadata: dict[str, Any]):
        self._reverse_channels = cfg.INPUT.FORMAT == "RGB"
        self._predictor = Predictor.of_model(with_tta(cfg, False), model, metadata)

    def __call__(self, batch: Mapping[str, tf.Tensor]) -> np.ndarray:
        """Draw.

        Args:
            batch: of `training_dataset`.

        Returns:
            uint8 [H, 2 W, 3] BGR, H and W a whole multiple of the image's: on the left the ground
            truth, on the right what the model finds with a score of 0.5 or more.
        """
        first = {name: value[0].numpy() for name, value in batch.items()}
        height, width = first["image_size"]
        image = np.ascontiguousarray(first["image"][:height, :width])
        if self._reverse_channels:
            image = np.ascontiguousarray(image[..., ::-1])
        proposals = None
        if "proposal_boxes" in first:
            proposals = [first["proposal_boxes"][: first["num_proposals"]]]
        shown = [ground_truth(first), *self._predictor.predict_batch([image], proposals)]
        drawn = [self._draw(image, detections) for detections in shown]
        return np.concatenate(drawn, axis=1)

    def _draw(self, image: np.ndarray, detections: Detections) -> np.ndarray:
        predictor = self._predictor
        if detections.sem_seg is not None and not predictor.class_names:  # no boxes
            names, colors = predictor.stuff_class_names, predictor.stuff_colors
            return draw_semantic(image, detections.sem_seg, names, colors)
        return draw_detections(
            image,
            detections,
            predictor.class_names,
            predictor.keypoint_connections,
            _THRESHOLD,
            predictor.keypoint_classes,
        )


def ground_truth(example: Mapping[str, np.ndarray]) -> Detections:
    """One image's part of a batch, as if a model had found all that is in it."""
    height, width = (int(length) for length in example["image_size"])
    valid = example["gt_valid"]
    masks = keypoints = None
    if "gt_polygons" in example:
        objects = decode_polygons(example["gt_polygons"])
        masks = np.zeros([valid.sum(), height, width], dtype=bool)
        for index, mask in enumerate(masks):
            mask[:] = rasterize_polygons(objects.get(index, []), height, width)
    elif "gt_bitmasks" in example:
        masks = example["gt_bitmasks"][valid, :height, :width]
    if "gt_keypoints" in example:
        keypoints = example["gt_keypoints"][valid]
    sem_seg = example.get("gt_sem_seg")
    return Detections(
        height=height,
        width=width,
        boxes=example["gt_boxes"][valid],
        scores=np.ones([valid.sum()], np.float32),
        classes=example["gt_classes"][valid].astype(np.int64),
        masks=masks,
        keypoints=keypoints,
        sem_seg=None if sem_seg is None else sem_seg[:height, :width].astype(np.int32),
    )
