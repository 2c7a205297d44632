"""The part of docs/parity.md on rotated boxes."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tests.support.native import using_ops
from tests.support.recorded_steps import relative_differences
from tests.support.rotated import IOU_GROUPS, is_extreme, nearest, record
from tests.support.rotated_model import images_of, narrow_model, take_recorded_steps
from tfdetect.inference.pipeline import Pipeline
from tfdetect.ops.backend import Backend
from tfdetect.ops.roi_align_rotated import roi_align_rotated
from tfdetect.ops.rotated_iou import pairwise_iou_rotated

TEXT = """
Operators on Detectron2's records: the largest difference where its own value does not jump by 1e-4
when its boxes move by half an ulp. (NMS keeps the same boxes in all ten records.)

| operators | IoU of {pairs} pairs | RoIAlign, 7 x 7, adaptive |
|---|---|---|
{operators}

A quarter-width R50-FPN with RRPN and RROIHeads and seeded weights, on two images in a batch padded
as in Detectron2: {matched} of {expected} detections have a counterpart of the same class of which
no number differs by more than 0.015 pixels or degrees; these are within {box:.1e}, scores within
{score:.1e}.

Three training steps, every anchor and proposal sampled: the losses are within {losses} of
Detectron2's (relative; when its weights move by a relative 1e-6, it differs from itself by
1.6e-06, 2.8e-06 and 4.9e-05).
"""


def rotated() -> str:
    rows, pairs = [], 0
    for operators in ("native", "portable"):
        with using_ops(operators):
            largest = [_iou_difference(group) for group in IOU_GROUPS]
            pairs = sum(count for _, count in largest)
            iou = max(difference for difference, _ in largest)
            rows.append(f"| {operators} | {iou:.1e} | {_roi_align_difference():.1e} |")
    detections = _detections()
    recorded, steps, _ = take_recorded_steps()
    losses = [
        f"{max(relative_differences(*pair).values()):.1e}"
        for pair in zip(steps.losses, recorded["losses"], strict=True)
    ]
    return TEXT.format(
        pairs=pairs, operators="\n".join(rows), losses=", ".join(losses), **detections
    )


def _iou_difference(group):
    data = record("iou")
    boxes = [data[f"{group}_boxes{i}"] for i in (1, 2)]
    extreme = is_extreme(boxes[0])[:, None] | is_extreme(boxes[1])
    means = (data[f"{group}_floor"] < 1e-4) & ~extreme
    found = pairwise_iou_rotated(*boxes).numpy()
    return np.abs(found - data[group])[means].max(), int(means.sum())


def _roi_align_difference():
    data = record("roi_align_rotated")
    rois, steady = data["rois"], data["sr0_7x7_floor"] < 1e-4
    features = tf.constant(np.transpose(data["feats"], [0, 2, 3, 1]))
    pooled = roi_align_rotated(
        features, rois[:, 1:], rois[:, 0].astype(np.int32), 7, float(data["spatial_scale"])
    )
    return np.abs(np.transpose(pooled, [0, 3, 1, 2]) - data["sr0_7x7"])[steady].max()


def _detections():
    cfg, model = narrow_model()
    pipeline = Pipeline(cfg, model, Backend.for_device(), "detectron2")
    batch = images_of(["000000.jpg", "000001.jpg"])
    found = pipeline.detect(*map(tf.constant, batch))
    data, boxes, scores, expected = record("narrow_stages"), [], [], 0
    for image in range(2):
        apart = nearest(found["pred_boxes"][image].numpy(), data[f"pred_boxes_{image}"])
        classes = found["pred_classes"][image].numpy()
        apart[classes[None] != data[f"pred_classes_{image}"][:, None]] = np.inf
        close = apart.min(1) < 0.015
        partners = found["scores"][image].numpy()[apart.argmin(1)]
        boxes += apart.min(1)[close].tolist()
        scores += np.abs(partners - data[f"pred_scores_{image}"])[close].tolist()
        expected += len(close)
    return {
        "matched": len(boxes),
        "expected": expected,
        "box": max(boxes),
        "score": max(scores),
    }
