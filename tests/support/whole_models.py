"""What is compared of a whole model: its heads on given boxes, and its detections as records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdetect.detections import Detections
from tfdetect.layers.intermediates import collect_intermediates
from tfdetect.masks.rle import encode_mask
from tfdetect.modeling.points import own_logits
from tfdetect.modeling.roi_heads.cascade_rcnn import CascadeROIHeads
from tfdetect.modeling.roi_heads.mask_head import FeatureMaskHead
from tfdetect.modeling.roi_heads.res5 import Res5ROIHeads
from tfdetect.ops.paste_masks import paste_masks


def on_given_boxes(heads, features, recorded) -> dict[str, tf.Tensor]:
    """The heads on the boxes of the record, whatever the proposals were."""

    def on_first(count, pool):
        return pool(recorded["given_boxes"][:count], tf.zeros([count], tf.int32))

    def pool_with(pooler):
        return lambda boxes, box_indices: pooler(features, boxes, box_indices)

    if isinstance(heads.mask_head, FeatureMaskHead):
        return _points_of_given_boxes(heads.mask_head, features, recorded)
    features = list(features.values())
    every = len(recorded["given_boxes"])
    if isinstance(heads, Res5ROIHeads):

        def region_features(boxes, box_indices):
            return heads.region_features(features[0], boxes, box_indices)

        predictions = {"": heads.predict_boxes(on_first(every, region_features))}
        mask_features, result = region_features, {}
    else:
        pooled = on_first(every, pool_with(heads.box_pooler))
        result = {"box_pooled": pooled}
        if isinstance(heads, CascadeROIHeads):
            stages = zip(heads.box_head, heads.box_predictor, strict=True)
            predictions = {
                f"_{k}": predictor(head(pooled)) for k, (head, predictor) in enumerate(stages)
            }
        else:
            result["box_head"] = heads.box_head(pooled)
            predictions = {"": heads.box_predictor(result["box_head"])}
        mask_features = pool_with(heads.mask_pooler) if heads.mask_head is not None else None
    for suffix, (logits, deltas) in predictions.items():
        result[f"given_box_logits{suffix}"] = logits
        result[f"given_box_deltas{suffix}"] = deltas
    if "mask_logits" in recorded:
        result["mask_logits"] = heads.mask_head(
            on_first(len(recorded["mask_logits"]), mask_features)
        )
    if "keypoint_heatmaps" in recorded:
        result["keypoint_heatmaps"] = heads.keypoint_head(
            on_first(len(recorded["keypoint_heatmaps"]), pool_with(heads.keypoint_pooler))
        )
    return result


def _points_of_given_boxes(head, features, recorded) -> dict[str, tf.Tensor]:
    """What PointRend's mask head sees and gives in the boxes of the record, of their classes."""
    classes = tf.constant(recorded["given_classes"].astype(np.int32))
    images = tf.zeros_like(classes)
    with collect_intermediates() as found:
        final = head.predict(features, tf.constant(recorded["given_boxes"]), images, classes)
    result = {"coarse_logits": own_logits(found["coarse_logits"], classes)}
    result["initial_logits"] = tf.reshape(found["initial_logits"], [classes.shape[0], -1])
    count = len(recorded["final_probabilities"])
    result["final_probabilities"] = final[:count, ::4, ::4]
    return result | {name: found[name] for name in found if name.startswith("step_")}


def found_record(
    detections: Mapping[str, tf.Tensor], size: Sequence[int], index: int = 0, masks: bool = True
) -> dict[str, Any]:
    """Of image `index`, of (height, width) `size`, as predict.py --json writes it."""
    count = int(detections["num_detections"][index])
    found = {
        key: value[index, :count]
        for key, value in detections.items()
        if key.startswith(("pred_", "scores"))
    }
    record = _header(size)
    for name in ("pred_boxes", "scores", "pred_classes", "pred_keypoints"):
        if name in found:
            record[name] = found[name].numpy()
    if masks and "pred_masks" in found:
        pasted = paste_masks(found["pred_masks"], found["pred_boxes"], tf.constant(size[:2]))
        record["pred_masks"] = [encode_mask(mask) for mask in pasted.numpy()]
    return record


def predicted_record(detections: Detections) -> dict[str, Any]:
    """The same of what a `Predictor` gave."""
    record = _header((detections.height, detections.width)) | {
        "pred_boxes": detections.boxes,
        "scores": detections.scores,
        "pred_classes": detections.classes,
    }
    if detections.masks is not None:
        record["pred_masks"] = [encode_mask(mask) for mask in detections.masks]
    return record


def recorded_record(
    recorded: Mapping[str, np.ndarray], size: Sequence[int], before: str = "", after: str = ""
) -> dict[str, Any]:
    """The same of what is recorded as pred_X, or with this before and after X.

    A mask that the record leaves out is None.
    """

    def get(name: str) -> np.ndarray | None:
        return recorded.get(f"pred_{before}{name}{after}")

    boxes = recorded[f"pred_{before}boxes{after}"]
    classes = get("classes")
    record = _header(size) | {
        "pred_boxes": boxes,
        "scores": get("scores"),
        "pred_classes": np.zeros(len(boxes), int) if classes is None else classes,
    }
    if (masks := get("masks_rle")) is not None:
        record["pred_masks"] = [
            None if counts is None else {"size": list(size[:2]), "counts": counts}
            for counts in json.loads(str(masks))
        ]
    if (keypoints := get("keypoints")) is not None:
        record["pred_keypoints"] = keypoints
    return record


def _header(size: Sequence[int]) -> dict[str, Any]:
    return {"file_name": "coffee.png", "height": int(size[0]), "width": int(size[1])}
