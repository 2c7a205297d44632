"""Anchors, selections and refusals of models of rotated boxes, against Detectron2."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.support.rotated import FOLDER, assert_same_boxes, record
from tfdetect.config import load_config
from tfdetect.config.capabilities import capabilities
from tfdetect.config.checks import check_model
from tfdetect.config.training_checks import check_training
from tfdetect.errors import InputError
from tfdetect.modeling.anchors import (
    RotatedAnchorGenerator,
    cell_anchors,
    grid_anchors,
    rotated_cell_anchors,
)
from tfdetect.modeling.build import build_model
from tfdetect.modeling.proposal_generator.selection import best_of_levels, select_proposals
from tfdetect.modeling.roi_heads.selection import select_detections

NARROW = FOLDER / "narrow.yaml"


@pytest.mark.parametrize("name", ["fpn", "c4", "offset"])
def test_recorded_anchors(name):
    """`offset` has other numbers of anchors on each level, which an RPN cannot have."""
    data = record("anchors")
    options = json.loads(str(data[f"{name}_arguments"]))
    for level, (height, width) in enumerate(data[f"{name}_hw"]):
        sizes, ratios, angles = (
            options[key][level if len(options[key]) > 1 else 0]
            for key in ("sizes", "aspect_ratios", "angles")
        )
        base_anchors = rotated_cell_anchors(cell_anchors(sizes, ratios), angles)
        np.testing.assert_allclose(base_anchors, data[f"{name}_cell_{level}"], rtol=1e-6, atol=0)
        stride = options["strides"][level]
        anchors = grid_anchors(base_anchors, int(height), int(width), stride, options["offset"])
        np.testing.assert_allclose(anchors, data[f"{name}_{level}"], rtol=0, atol=1e-4)
    if name == "fpn":
        offset = options.pop("offset")
        generator = RotatedAnchorGenerator(**options, offset=offset)
        features = [tf.zeros([1, *map(int, size), 1]) for size in data["fpn_hw"]]
        np.testing.assert_array_equal(generator(features)[level], anchors)
        assert generator.anchors_per_location == len(base_anchors)


def test_recorded_proposals(implementation):
    """`find_top_rrpn_proposals`, NaN and infinity among the inputs: the same rows."""
    data = record("inference")
    logits = [tf.constant(data[f"logits_{level}"]) for level in range(3)]
    best = best_of_levels(logits, int(data["pre_nms_topk"]))
    candidates = [
        tf.gather(data[f"proposals_{level}"], indices, batch_dims=1)
        for level, indices in enumerate(best.indices)
    ]
    found = select_proposals(
        tf.concat(candidates, 1),
        best.logits,
        best.levels,
        tf.constant(data["image_sizes"], tf.int32),
        nms_threshold=float(data["nms_thresh"]),
        post_nms_topk=int(data["post_nms_topk"]),
        min_box_size=float(data["min_box_size"]),
    )
    for image in range(2):
        count = int(found.num_valid[image])
        np.testing.assert_array_equal(found.logits[image, :count], data[f"top_logits_{image}"])
        assert_same_boxes(found.boxes[image, :count], data[f"top_boxes_{image}"], 1e-4, 5e-5)


@pytest.mark.parametrize("image", [0, 1, 2])
def test_recorded_detections(implementation, image):
    """`fast_rcnn_inference_rotated`: the same rows; the last image has none."""
    data = record("inference")
    scores = data[f"det_in_scores_{image}"]
    found = select_detections(
        tf.constant(data[f"det_in_boxes_{image}"][None]),
        tf.constant(scores[None]),
        tf.constant([len(scores)]),
        tf.constant(data["det_image_sizes"][image : image + 1], tf.int32),
        score_threshold=float(data["det_score_thresh"]),
        nms_threshold=float(data["det_nms_thresh"]),
        max_detections=int(data["det_topk"]),
        box_dim=5,
    )
    count = int(found.num_detections[0])
    np.testing.assert_array_equal(found.scores[0, :count], data[f"det_scores_{image}"])
    np.testing.assert_array_equal(found.pred_classes[0, :count], data[f"det_classes_{image}"])
    # Detectron2 counts the rows without those that are not finite.
    boxes = data[f"det_in_boxes_{image}"]
    finite = np.flatnonzero(np.isfinite(boxes).all(1) & np.isfinite(scores).all(1))
    rows = finite[data[f"det_rows_{image}"]] if len(finite) else []
    np.testing.assert_array_equal(found.region_indices[0, :count], rows)
    assert_same_boxes(found.pred_boxes[0, :count], data[f"det_boxes_{image}"], 1e-4, 5e-5)


REFUSED = [
    ("MODEL.PROPOSAL_GENERATOR.NAME", "RPN"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"),
    ("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator"),
    ("MODEL.ANCHOR_GENERATOR.ANGLES", []),
    ("MODEL.ANCHOR_GENERATOR.ANGLES", [[0], [90]]),
    ("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
    ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
    ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2"),
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", [10.0, 10.0, 5.0, 5.0]),
    ("MODEL.RPN.BBOX_REG_WEIGHTS", [1.0, 1.0, 1.0, 1.0]),
    ("MODEL.RPN.BOUNDARY_THRESH", 0),
    ("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True),
    ("MODEL.MASK_ON", True),
    ("MODEL.KEYPOINT_ON", True),
]


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_parts_for_horizontal_boxes_are_refused(key, value):
    with pytest.raises(InputError) as refused:
        build_model(load_config(NARROW, [key, value]))
    assert str(refused.value).startswith(f"{key}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("section", ["RPN", "ROI_BOX_HEAD"])
def test_losses_of_horizontal_boxes_are_refused(section):
    key = f"MODEL.{section}.BBOX_REG_LOSS_TYPE"
    cfg = load_config(NARROW, [key, "giou", "DATASETS.TRAIN", "('a',)"])
    check_model(cfg)
    with pytest.raises(InputError, match=key):
        check_training(cfg)


def test_capabilities():
    cfg = load_config(NARROW)
    assert capabilities(cfg).rotated
    assert capabilities(cfg).box_dim == 5
    assert not capabilities(load_config(NARROW.parents[3] / "demo" / "train.yaml")).rotated
