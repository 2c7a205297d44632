"""Selection of proposals and of detections against Detectron2's, with NaN and inf in the inputs."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfdetect.modeling.proposal_generator.selection import best_of_levels, select_proposals
from tfdetect.modeling.roi_heads.selection import select_detections


def test_recorded_proposals(oracle, implementation):
    """The parameters of the record: NMS 0.7, 300 before it per level, 120 after it."""
    data = oracle("inference")
    best = best_of_levels([tf.constant(data[f"logits{level}"]) for level in range(3)], 300)
    candidates = [
        tf.gather(data[f"proposals{level}"], indices, batch_dims=1)
        for level, indices in enumerate(best.indices)
    ]
    boxes, counts, logits = select_proposals(
        tf.concat(candidates, 1),
        best.logits,
        best.levels,
        tf.constant(data["image_sizes"], tf.int32),
        nms_threshold=0.7,
        post_nms_topk=120,
        min_box_size=0.0,
    )
    for image in range(2):
        expected = data[f"out_boxes{image}"]
        assert counts[image] == len(expected)
        np.testing.assert_array_equal(boxes[image, : len(expected)], expected)
        np.testing.assert_array_equal(logits[image, : len(expected)], data[f"out_logits{image}"])


def test_recorded_detections(oracle, implementation):
    data = oracle("inference")
    expected = data["det_out_boxes"]
    detections = select_detections(
        tf.constant(data["det_boxes"])[None],
        tf.constant(data["det_scores"])[None],
        tf.constant([len(data["det_boxes"])]),
        tf.constant(data["image_sizes"][:1], tf.int32),
        score_threshold=0.05,
        nms_threshold=0.5,
        max_detections=50,
    )
    assert detections.num_detections[0] == len(expected)
    np.testing.assert_array_equal(detections.pred_boxes[0], expected)
    np.testing.assert_array_equal(detections.scores[0], data["det_out_scores"])
    np.testing.assert_array_equal(detections.pred_classes[0], data["det_out_classes"])
    np.testing.assert_array_equal(detections.region_indices[0], data["det_kept"])


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_no_candidates(implementation, batch):
    """Scores all below the threshold, and all proposals empty: padded results, nothing counted."""
    sizes = tf.fill([batch, 2], 100)
    detections = tf.function(select_detections, autograph=False)(
        tf.zeros([batch, 7, 20]),
        tf.zeros([batch, 7, 6]),
        tf.fill([batch], 7),
        sizes,
        score_threshold=0.05,
        nms_threshold=0.5,
        max_detections=10,
    )
    assert detections.pred_boxes.shape == (batch, 10, 4)
    assert not detections.num_detections.numpy().any()
    boxes, counts, _ = tf.function(select_proposals, autograph=False)(
        tf.zeros([batch, 50, 4]),
        tf.zeros([batch, 50]),
        tf.zeros([50], tf.int32),
        sizes,
        nms_threshold=0.7,
        post_nms_topk=60,
        min_box_size=0.0,
    )
    assert boxes.shape == (batch, 60, 4)
    assert not counts.numpy().any()
