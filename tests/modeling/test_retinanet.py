"""RetinaNet: its selection against a plain loop, the head's norms, and small models."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from tests.support.comparison import pairwise_iou
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import get_cfg
from tfdetect.errors import InputError
from tfdetect.layers.norm import LevelBatchNorm
from tfdetect.layers.valid_sizes import WHOLE
from tfdetect.modeling.build import build_model
from tfdetect.modeling.dense.heads import RetinaNetHead
from tfdetect.modeling.dense.selection import select_dense_detections
from tfdetect.ops.boxes import apply_deltas

WEIGHTS = [1.0, 2.0, 3.0, 4.0]
OPTIONS = {
    "to_scores": tf.sigmoid,
    "decode": partial(apply_deltas, weights=WEIGHTS),
    "score_threshold": 0.3,
    "topk_candidates": 40,
    "nms_threshold": 0.4,
    "max_detections": 25,
}


def random_levels(seed, classes=4, anchors_per_location=3):
    rng = np.random.default_rng(seed)
    levels = []
    for height, width in ((6, 8), (3, 4), (1, 2)):
        count = height * width * anchors_per_location
        logits = rng.normal(0, 2, [2, height, width, anchors_per_location * classes])
        deltas = rng.normal(0, 0.5, [2, height, width, anchors_per_location * 4])
        corner = rng.uniform(0, 60, [count, 2])
        anchors = np.concatenate([corner, corner + rng.uniform(5, 60, [count, 2])], 1)
        levels.append([x.astype(np.float32) for x in (logits, deltas, anchors)])
    return [list(column) for column in zip(*levels, strict=True)]


def plain_loop(logits, deltas, anchors, image, classes=4):
    """One image, one candidate after another, in float64."""
    found = []
    for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
        scores = 1 / (1 + np.exp(-level_logits[image].reshape(-1, classes).astype(np.float64)))
        offsets = level_deltas[image].reshape(-1, 4) / np.array(WEIGHTS)
        pairs = [
            (score, anchor, label)
            for (anchor, label), score in np.ndenumerate(scores)
            if score > OPTIONS["score_threshold"]
        ]
        for score, anchor, label in sorted(pairs, reverse=True)[: OPTIONS["topk_candidates"]]:
            x1, y1, x2, y2 = level_anchors[anchor].astype(np.float64)
            dx, dy, dw, dh = offsets[anchor]
            width, height = x2 - x1, y2 - y1
            x, y = x1 + width / 2 + dx * width, y1 + height / 2 + dy * height
            width, height = width * np.exp(dw), height * np.exp(dh)
            box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            found.append((score, label, box))
    kept = []
    for score, label, box in sorted(found, reverse=True):
        rivals = np.array([other for _, its, other in kept if its == label]).reshape(-1, 4)
        if not (pairwise_iou(np.array([box]), rivals) > OPTIONS["nms_threshold"]).any():
            kept.append((score, label, box))
    return kept[: OPTIONS["max_detections"]]


@pytest.mark.parametrize("seed", range(3))
def test_selection(implementation, seed):
    """Which and in which order exactly; scores to 1e-6, boxes to 1e-3 pixels (float32)."""
    logits, deltas, anchors = random_levels(seed)
    found = tf.function(lambda *a: select_dense_detections(*a, **OPTIONS), autograph=False)(
        logits, deltas, anchors
    )
    for image in range(2):
        expected = plain_loop(logits, deltas, anchors, image)
        count = int(found.num_detections[image])
        assert count == len(expected)
        scores, labels, boxes = (np.array(column) for column in zip(*expected, strict=True))
        np.testing.assert_array_equal(found.pred_classes[image, :count], labels)
        np.testing.assert_allclose(found.scores[image, :count], scores, atol=1e-6)
        np.testing.assert_allclose(found.pred_boxes[image, :count], boxes, atol=1e-3)
        assert not found.scores[image, count:].numpy().any()


def test_selection_without_candidates_and_with_nan(implementation):
    """NaN is not a score; fewer candidates than detections are padded."""
    logits, deltas, anchors = random_levels(0)
    nothing = [np.full_like(level, -30) for level in logits]
    nothing[1][0, 0, 0, 0] = np.nan
    nothing[2][1, 0, 1, 2] = 3  # class 2 of the first anchor
    found = select_dense_detections(nothing, deltas, anchors, **OPTIONS)
    np.testing.assert_array_equal(found.num_detections, [0, 1])
    assert found.pred_classes[1, 0] == 2
    assert found.pred_boxes.shape == (2, 25, 4)
    few = select_dense_detections(
        nothing[2:], deltas[2:], anchors[2:], **OPTIONS | {"max_detections": 50}
    )
    assert few.pred_boxes.shape == (2, 50, 4)
    np.testing.assert_array_equal(few.num_detections, [0, 1])


def head(norm):
    return RetinaNetHead(32, 2, 2, num_classes=3, num_convs=2, norm=norm)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("", ["0.weight", "0.bias", "2.weight", "2.bias"]),
        ("GN", ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "4.weight"]),
        ("SyncBN", ["1.weight", "1.bias", "1.0.running_mean", "1.1.running_var", "3.weight"]),
    ],
)
def test_names_in_the_subnets(norm, expected):
    """The places of nn.Sequential, and a list of statistics within a batch norm."""
    names = {named.name for named in named_variables(head(norm))}
    assert {f"cls_subnet.{name}" for name in expected} <= names
    assert {f"bbox_subnet.{name}" for name in expected} <= names
    assert ("cls_subnet.1.weight" in names) == bool(norm)


def test_each_level_has_its_own_statistics():
    norm = LevelBatchNorm(2, "BN", 2)
    norm.weight.assign([2.0, 1.0])
    norm.bias.assign([0.5, 0.0])
    statistics = {named.name: named.variable for named in named_variables(norm)}
    statistics["1.running_mean"].assign([1.0, 0.0])
    statistics["1.running_var"].assign([4.0, 1.0])
    x = tf.constant([[3.0, 3.0]])
    np.testing.assert_allclose(norm(x, 0), [[6.5, 3.0]], rtol=1e-5)  # epsilon is 1e-5
    np.testing.assert_allclose(norm(x, 1), [[2.5, 3.0]], rtol=1e-5)


@pytest.mark.parametrize("norm", ["BN", "GN"])
def test_head_with_norms_runs(norm):
    features = [tf.ones([1, 4, 4, 32]), tf.ones([1, 2, 2, 32])]
    logits, deltas = head(norm)(features, [WHOLE, WHOLE])
    assert [x.shape for x in logits] == [(1, 4, 4, 6), (1, 2, 2, 6)]
    assert [x.shape for x in deltas] == [(1, 4, 4, 8), (1, 2, 2, 8)]


def test_unknown_feature_is_named():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    with pytest.raises(InputError, match=r"MODEL\.RETINANET\.IN_FEATURES: 'p3' is not a feature"):
        build_model(cfg)
