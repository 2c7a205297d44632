"""Run a full-size model with seeded weights and compare every stage with Detectron2's record."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import seeded_weights
import tensorflow as tf
from comparison import Differences, compare
from conftest import DATA, ROOT

from tfdetect.checkpoint.assign import assign_state_dict
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.evaluation.coco import encode_mask
from tfdetect.modeling.build import build_model
from tfdetect.modeling.postprocess import rescale_detections
from tfdetect.modeling.preprocess import Preprocessor
from tfdetect.ops.paste_masks import paste_masks

# The configurations with a record in data/full.
FULL_SIZE_CONFIGS = sorted(
    path.stem.replace("__", "/") for path in (DATA / "full").glob("*__*.npz")
)


@dataclass
class FullSizeResult:
    """Largest difference of each stage, as a share of the stage's scale, and the detections."""

    stages: dict[str, float]
    detections: Differences


def run_full_size(config: str) -> FullSizeResult:
    """Run `config` (such as "COCO-Detection/faster_rcnn_R_50_FPN_3x") on the recorded image."""
    with np.load(DATA / "full" / f"{config.replace('/', '__')}.npz") as arrays:
        recorded = dict(arrays)
    cfg = load_config(ROOT / "configs" / f"{config}.yaml")
    model = build_model(cfg)
    shapes = {named.name: named.foreign_shape for named in named_variables(model)}
    assign_state_dict(model, seeded_weights.state_dict(shapes), source="seeded weights")
    image = read_image(DATA / "full" / "coffee.png")
    size = tf.constant([image.shape[:2]])
    preprocess = Preprocessor(cfg, model.size_divisibility)

    @tf.function(autograph=False)
    def run() -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        batch, sizes = preprocess(tf.constant(image)[None], size)
        detections, stages = model(batch, sizes)
        given = tf.constant(recorded["given_boxes"])
        stages |= _on_given_boxes(model, stages, given, recorded)
        stages["resized_hw"], stages["padded_hw"] = sizes[0], tf.shape(batch)[1:3]
        return rescale_detections(detections, sizes, size), stages

    detections, stages = run()
    for name in ("resized_hw", "padded_hw"):
        np.testing.assert_array_equal(stages[name], recorded[name])
    return FullSizeResult(
        _compare_stages(stages, recorded),
        compare(
            [_found_record(detections, image.shape)],
            [_recorded_record(recorded, image.shape)],
            iou=0.99,
            score=2e-3,
        ),
    )


def _on_given_boxes(model, stages, boxes, recorded) -> dict[str, tf.Tensor]:
    """The heads on the boxes of the record, whatever the proposals were."""
    heads = model.roi_heads
    features = [stages[name] for name in ("p2", "p3", "p4", "p5")]

    def pool(pooler, count):
        return pooler(features, boxes[:count], tf.zeros([count], tf.int32))

    pooled = pool(heads.box_pooler, boxes.shape[0])
    logits, deltas = heads.box_predictor(heads.box_head(pooled))
    result = {"box_pooled": pooled, "given_box_logits": logits, "given_box_deltas": deltas}
    if "mask_logits" in recorded:
        pooled = pool(heads.mask_pooler, len(recorded["mask_logits"]))
        result["mask_logits"] = heads.mask_head(pooled)
    if "keypoint_heatmaps" in recorded:
        pooled = pool(heads.keypoint_pooler, len(recorded["keypoint_heatmaps"]))
        result["keypoint_heatmaps"] = heads.keypoint_head(pooled)
    return result


def _compare_stages(stages, recorded) -> dict[str, float]:
    """Every recorded stage, each subsampled as the record is (channels, rows, columns)."""
    differences = {}
    for name, expected in recorded.items():
        ours = name.removeprefix("feat_")
        if name in ("box_logits", "box_deltas"):
            ours = f"given_{name}"
        if ours not in stages or expected.dtype != np.float32 or name.startswith("proposal"):
            continue
        result = stages[ours].numpy()
        if result.ndim == 4:
            result = np.transpose(result, [0, 3, 1, 2])
            steps = [
                -(-have // want) for have, want in zip(result.shape, expected.shape, strict=True)
            ]
            if f"{name}_step" in recorded:
                channel_step, step = recorded[f"{name}_step"]
                steps = [1, channel_step, step, step]
            result = result[:: steps[0], :: steps[1], :: steps[2], :: steps[3]]
        assert result.shape == expected.shape, (name, result.shape, expected.shape)
        differences[name] = float(np.abs(result - expected).max() / np.abs(expected).max())
    return differences


def _found_record(detections, shape) -> dict:
    count = int(detections["num_detections"][0])
    found = {key: value[0][:count] for key, value in detections.items() if key != "num_detections"}
    record = {
        "file_name": "coffee.png",
        "height": shape[0],
        "width": shape[1],
        "pred_boxes": found["pred_boxes"].numpy(),
        "scores": found["scores"].numpy(),
        "pred_classes": found["pred_classes"].numpy(),
    }
    if "pred_masks" in found:
        masks = paste_masks(found["pred_masks"], found["pred_boxes"], tf.constant(shape[:2]))
        record["pred_masks"] = [encode_mask(mask) for mask in masks.numpy()]
    if "pred_keypoints" in found:
        record["pred_keypoints"] = found["pred_keypoints"].numpy()
    return record


def _recorded_record(recorded, shape) -> dict:
    record = {
        "file_name": "coffee.png",
        "height": shape[0],
        "width": shape[1],
        "pred_boxes": recorded["pred_boxes"],
        "scores": recorded["pred_scores"],
        "pred_classes": recorded["pred_classes"],
    }
    if "pred_masks_rle" in recorded:
        counts = json.loads(str(recorded["pred_masks_rle"]))
        record["pred_masks"] = [{"size": list(shape[:2]), "counts": text} for text in counts]
    if "pred_keypoints" in recorded:
        record["pred_keypoints"] = recorded["pred_keypoints"]
    return record
