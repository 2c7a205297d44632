"""torchvision's and maskrcnn-benchmark's models at full size, with seeded weights, against records.

Each record was made by the library itself. What is asked: feature maps within 1e-4 of their scale
(float32 through a hundred layers), at least 99 % of the detections at IoU > 0.99 and scores within
2e-3, masks of those at a mean IoU above 0.99 and 99 % of the keypoints within 0.02 pixels.
"""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import seeded_weights
from convert_d2.libraries.sources import find_library, make_config
from tests.support.comparison import compare
from tests.support.paths import DATA
from tfdetect.checkpoint.assign import assign_state_dict
from tfdetect.data.images import read_image
from tfdetect.inference.optimization import optimize
from tfdetect.inference.predictor import Predictor
from tfdetect.masks.rle import encode_mask
from tfdetect.modeling.build import build_model
from tfdetect.modeling.preprocess import Preprocessor
from tfdetect.ops.backend import Backend

QUICK = [("torchvision", "maskrcnn_resnet50_fpn")]
THOROUGH = [
    ("maskrcnn_benchmark", "e2e_mask_rcnn_R_50_FPN_1x"),
    ("torchvision", "fasterrcnn_resnet50_fpn"),
    ("torchvision", "fasterrcnn_resnet50_fpn_v2"),
    ("torchvision", "maskrcnn_resnet50_fpn_v2"),
    ("torchvision", "keypointrcnn_resnet50_fpn"),
    ("maskrcnn_benchmark", "e2e_faster_rcnn_R_50_FPN_1x"),
    ("maskrcnn_benchmark", "e2e_mask_rcnn_R_50_C4_1x"),
    ("maskrcnn_benchmark", "e2e_keypoint_rcnn_R_50_FPN_1x"),
]
# The records hold every so many channels, rows and columns of a feature map.
_CHANNEL_STEP, _STEP = 32, 8


@pytest.mark.parametrize(("library", "name"), QUICK)
def test_detections(library, name):
    check(library, name)


@pytest.mark.full
@pytest.mark.parametrize(("library", "name"), THOROUGH)
def test_detections_of_the_others(library, name):
    check(library, name)


def check(library, name):
    with gzip.open(DATA / library / "state_dicts.json.gz", "rt") as file:
        arrays = seeded_weights.state_dict(json.load(file)[name])
    source_library = find_library(arrays)
    assert source_library.name.replace("-", "_") == library
    arrays = source_library.to_detectron2(arrays)
    cfg = make_config(source_library, arrays, [], name)
    model = build_model(cfg)
    assign_state_dict(model, arrays, source=name)
    with np.load(DATA / library / f"{name}.npz") as file:
        recorded = dict(file)
    image = read_image(DATA / "full" / "coffee.png")

    backend = Backend.for_device()
    model = optimize(model, backend)  # as `Predictor` has it
    with backend.active():
        check_features(cfg, model, image, recorded)
    predictor = Predictor.of_model(cfg, model, {"class_names": []}, backend)
    found = predictor(image)
    result = compare(
        [as_record(found.boxes, found.scores, found.classes, found.masks, found.keypoints)],
        [
            as_record(
                recorded["boxes"],
                recorded["scores"],
                recorded["labels"] - 1,
                None,
                recorded.get("keypoints"),
            )
            | recorded_masks(recorded)
        ],
        iou=0.99,
        score=2e-3,
    )
    assert result.matched >= 0.99 * result.expected > 0
    assert result.extra <= 0.01 * result.expected
    if "masks_rle" in recorded:
        assert np.mean(result.mask_ious) > 0.99
    if "keypoints" in recorded:
        assert np.mean(np.array(result.keypoints) < 0.02) > 0.99


def check_features(cfg, model, image, recorded):
    preprocess = Preprocessor.from_config(cfg, model.size_divisibility)
    batch, _ = preprocess(tf.constant(image)[None], tf.constant([image.shape[:2]]))
    padded = recorded["padded_hw"] if "padded_hw" in recorded else recorded["batched_hw"]
    assert batch.shape[1:3] == tuple(padded)
    features = model.backbone(batch)
    for name, feature in zip(recorded_features(recorded), features.values(), strict=False):
        ours = feature.numpy().transpose(0, 3, 1, 2)[:, ::_CHANNEL_STEP, ::_STEP, ::_STEP]
        theirs = recorded[name]
        assert ours.shape == theirs.shape, name
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max(), name


def recorded_features(recorded):
    return [name for name in recorded if name.startswith("feat_") and name != "feat_std"]


def as_record(boxes, scores, classes, masks, keypoints):
    record = {
        "file_name": "coffee.png",
        "height": 400,
        "width": 600,
        "pred_boxes": boxes,
        "scores": scores,
        "pred_classes": classes,
    }
    if masks is not None:
        record["pred_masks"] = [encode_mask(mask) for mask in masks]
    return record if keypoints is None else record | {"pred_keypoints": keypoints}


def recorded_masks(recorded):
    if "masks_rle" not in recorded:
        return {}
    counts = json.loads(str(recorded["masks_rle"]))
    return {"pred_masks": [{"size": [400, 600], "counts": text} for text in counts]}
