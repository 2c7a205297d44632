"""RetinaNet's record where float32 has no order: hundreds of scores that are exactly 1.

With seeded weights the sigmoid of 789 logits is 1.0. Detectron2 sorts scores, so which of the equal
ones come first, and with that which survive NMS, is up to PyTorch's partial sort, and changes with
the last bit of other scores (what was tried, with numbers, is in docs/parity.md). What can be asked
is that *some* order of the equal scores gives the record: here that of the record itself, and then
what it drops for lying outside the image.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdetect.modeling.dense.retinanet import RetinaNet
from tfdetect.modeling.dense.selection import select_dense_detections
from tfdetect.modeling.structures import Predictions


def select_in_recorded_order(
    model: RetinaNet, intermediates: dict[str, tf.Tensor], recorded: dict[str, np.ndarray]
) -> Predictions:
    """What the model gives for one image, equal scores of 1 in the order of the record."""
    features = [intermediates[f"p{level}"] for level in (3, 4, 5, 6, 7)]
    anchors = model.anchor_generator(features)
    deltas = [intermediates[f"anchor_deltas_{level}"] for level in range(5)]
    logits = [intermediates[f"cls_logits_{level}"].numpy() for level in range(5)]
    classes = logits[0].shape[3] * 4 // deltas[0].shape[3]
    height, width = recorded["image_hw"]
    scale = np.tile(recorded["image_hw"] / recorded["resized_hw"], 2)[[1, 0, 3, 2]]
    pairs = []  # (level, flat index, class, box in the original image)
    for level, level_logits in enumerate(logits):
        flat = level_logits.reshape(-1)
        saturated = np.flatnonzero(np.float32(1) / (np.float32(1) + np.exp(-flat)) == 1)
        anchor = saturated // classes
        boxes = model.selection["decode"](
            tf.gather(tf.reshape(deltas[level], [-1, 4]), anchor),
            tf.gather(anchors[level], anchor),
        )
        boxes = np.clip(boxes.numpy() * scale, 0, [width, height, width, height])
        pairs += zip([level] * len(anchor), saturated, saturated % classes, boxes, strict=True)

    labels = np.array([label for *_, label, _ in pairs])
    boxes = np.array([box for *_, box in pairs])
    order = []
    for box, label in zip(recorded["pred_boxes"], recorded["pred_classes"], strict=True):
        distance = np.abs(boxes - box).max(1) + np.where(labels == label, 0, np.inf)
        order.append(int(distance.argmin()))
        assert distance[order[-1]] < 1e-3, "not among the scores of 1"
    order += np.flatnonzero((boxes[:, 2:] <= boxes[:, :2]).any(1)).tolist()
    for rank, index in enumerate(order):
        level, position, *_ = pairs[index]
        logits[level].reshape(-1)[position] = 1e4 - rank  # its score is still 1
    return Predictions(select_dense_detections(logits, deltas, anchors, **model.selection))
