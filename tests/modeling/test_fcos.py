"""FCOS's matching, coding, losses and selection on given arrays, against Detectron2."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.dense_records import FOLDER
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import get_cfg
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.modeling.dense.fcos import FCOS
from tfdetect.modeling.dense.fcos_targets import centerness, label_locations
from tfdetect.modeling.structures import Targets
from tfdetect.ops.linear_deltas import apply_linear_deltas, get_linear_deltas

with np.load(FOLDER / "fcos_ops.npz") as _arrays:
    RECORD = dict(_arrays)
LEVELS = range(5)
ANCHORS = [tf.constant(RECORD[f"anchors_{level}"]) for level in LEVELS]
CLASSES = RECORD["pred_logits_0"].shape[1]
NAMES = {"cls": "logits", "loc": "deltas", "ctr": "centerness"}


class _Backbone(tf.Module):
    """Gives what it is made of, whatever the image."""

    size_divisibility = 1

    def __call__(self, images, valid_sizes):
        return {str(level): tf.zeros([3, *RECORD["feature_hw"][level], 1]) for level in LEVELS}


class _Head(tf.Module):
    def __init__(self, *maps):
        super().__init__()
        self.maps = maps

    def __call__(self, features, valid_sizes):
        return self.maps


def recorded_maps():
    """Logits, deltas and centerness of all levels, NHWC."""
    return tuple(
        [tf.constant(RECORD[f"pred_{name}_{level}"].transpose(0, 2, 3, 1)) for level in LEVELS]
        for name in NAMES.values()
    )


def detector(maps):
    return FCOS(
        _Backbone(),
        _Head(*maps),
        RECORD["strides"].tolist(),
        offset=0.5,
        in_features=[str(level) for level in LEVELS],
        num_classes=CLASSES,
        selection={
            "score_threshold": float(RECORD["test_score_thresh"]),
            "topk_candidates": 1000,
            "nms_threshold": 0.6,
            "max_detections": 100,
        },
        normalize_by_size=True,
        radius=1.5,
        focal={"alpha": 0.25, "gamma": 2.0},
    )


def recorded_targets():
    counts = [len(RECORD[f"gt_boxes_{image}"]) for image in range(3)]
    boxes = np.zeros([3, max(counts), 4], np.float32)
    classes = np.zeros([3, max(counts)], np.int32)
    for image, count in enumerate(counts):
        boxes[image, :count] = RECORD[f"gt_boxes_{image}"]
        classes[image, :count] = RECORD[f"gt_classes_{image}"]
    valid = np.arange(max(counts)) < np.array(counts)[:, None]
    return Targets(tf.constant(boxes), tf.constant(classes), tf.constant(valid))


def test_locations():
    """Squares about the middle of each cell, exactly."""
    features = [tf.zeros([1, *RECORD["feature_hw"][level], 1]) for level in LEVELS]
    for found, expected in zip(
        detector(recorded_maps()).anchor_generator(features), ANCHORS, strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_labels():
    """All of them, and each object, exactly; the second image has no object."""
    targets = recorded_targets()
    labels, matches = label_locations(ANCHORS, targets, num_classes=CLASSES, radius=1.5)
    np.testing.assert_array_equal(labels, RECORD["gt_labels"])
    found = tf.gather(targets.gt_boxes, matches, batch_dims=1).numpy()
    np.testing.assert_array_equal(found, RECORD["matched_gt_boxes"])


def test_coding():
    """To float32 rounding; and what is negative counts as nothing."""
    anchors = tf.concat(ANCHORS, 0)
    deltas = get_linear_deltas(anchors, RECORD["matched_gt_boxes"][0])
    np.testing.assert_allclose(deltas, RECORD["linear_deltas_0"], rtol=1e-6, atol=1e-6)
    boxes = apply_linear_deltas(RECORD["apply_in"], anchors)
    np.testing.assert_allclose(boxes, RECORD["apply_out"], rtol=1e-6, atol=1e-5)
    inside = (deltas.numpy() > 0).all(1)
    assert inside.any()
    again = apply_linear_deltas(deltas, anchors).numpy()
    np.testing.assert_allclose(
        again[inside], RECORD["matched_gt_boxes"][0][inside], rtol=1e-6, atol=1e-4
    )


def test_in_pixels():
    boxes = tf.constant([[0.0, 0, 8, 8], [8, 0, 16, 8]])
    targets = tf.constant([[1.0, 2, 9, 5], [0, 0, 20, 30]])
    deltas = get_linear_deltas(boxes, targets, normalize_by_size=False)
    np.testing.assert_array_equal(deltas, [[3, 2, 5, 1], [12, 4, 8, 26]])
    by_size = get_linear_deltas(boxes, targets)
    np.testing.assert_array_equal(by_size, deltas / 8)
    for normalize, values in ((False, deltas), (True, by_size)):
        found = apply_linear_deltas(values, boxes, normalize_by_size=normalize)
        np.testing.assert_array_equal(found, targets)


def test_centerness():
    """Of positives, to 1e-6; elsewhere it has no meaning."""
    anchors = tf.concat(ANCHORS, 0)
    for image in range(3):
        positive = RECORD["gt_labels"][image] != CLASSES
        deltas = get_linear_deltas(anchors, RECORD["matched_gt_boxes"][image])[positive]
        expected = RECORD["centerness_targets"][image][positive]
        np.testing.assert_allclose(centerness(deltas), expected, rtol=1e-6)


def test_losses_and_gradients():
    """Relative to 1e-5, a gradient to its largest value; the normaliser after its first step."""
    maps = recorded_maps()
    model = detector(maps)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        losses = model.losses(
            tf.zeros([3, 144, 208, 3]), tf.fill([3, 2], 0), recorded_targets(), tf.constant([0, 0])
        )
    normalizer = model.training_state["loss_normalizer"].numpy()
    np.testing.assert_allclose(normalizer, RECORD["loss_normalizer_after"], rtol=1e-7)
    for (kind, name), kind_maps in zip(NAMES.items(), maps, strict=True):
        loss = losses[f"loss_fcos_{kind}"]
        np.testing.assert_allclose(loss, RECORD[f"loss_fcos_{kind}"], rtol=1e-5)
        for level, gradient in enumerate(tape.gradient(loss, kind_maps)):
            expected = RECORD[f"grad_loss_fcos_{kind}_{name}_{level}"]
            found = np.transpose(tf.convert_to_tensor(gradient), [0, 3, 1, 2])
            largest = max(np.abs(expected).max(), 1e-6)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * largest)


def test_detections(implementation):
    """Boxes and classes one by one, scores to 1e-6."""
    maps = recorded_maps()
    found = detector(maps)(tf.zeros([3, 144, 208, 3]), tf.fill([3, 2], 0)).instances
    for image in range(3):
        expected = {
            name: RECORD[f"inference_{name}_{image}"] for name in ("boxes", "scores", "classes")
        }
        assert int(found.num_detections[image]) == len(expected["scores"])
        np.testing.assert_allclose(found.scores[image], expected["scores"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.pred_boxes[image], expected["boxes"], rtol=0, atol=1e-4)
        np.testing.assert_array_equal(found.pred_classes[image], expected["classes"])


def one_image(boxes, levels, radius=1.5):
    count = len(boxes)
    targets = Targets(
        tf.constant([boxes], tf.float32), tf.range(count)[None], tf.ones([1, count], tf.bool)
    )
    labels, _ = label_locations(levels, targets, num_classes=9, radius=radius)
    return labels.numpy()[0]


def squares(stride, count):
    """A row of locations."""
    x = np.arange(count, dtype=np.float32) * stride
    return tf.constant(np.stack([x, 0 * x, x + stride, 0 * x + stride], 1))


def test_bounds_are_exclusive():
    """A location on a box's side, or just 1.5 strides from its centre, has none."""
    row = [squares(8, 8)]  # centres at 4, 12, 20, ...
    np.testing.assert_array_equal(one_image([[4, 0, 28, 8]], row), [9, 0, 0, 9, 9, 9, 9, 9])
    np.testing.assert_array_equal(one_image([[0, 0, 48, 8]], row), [9, 9, 0, 0, 9, 9, 9, 9])
    # Centre 24: 12 and 36 are 12 = 1.5 strides away.
    np.testing.assert_array_equal(one_image([[0, 0, 48, 8]], row, 1.51), [9, 0, 0, 0, 0, 9, 9, 9])
    everywhere = one_image([[0, 0, 48, 8]], row, float("inf"))
    np.testing.assert_array_equal(everywhere, [0, 0, 0, 0, 0, 0, 9, 9])


def test_equal_areas_go_to_the_first():
    """Areas are compared in steps of 8, as 1e8 less the area is a float32."""
    row = [squares(8, 4)]
    small, near = [0, 0, 32, 8], [0, 0, 32, 8.1]
    assert one_image([small, near], row)[1] == one_image([near, small], row)[1] == 0
    large = [0, 0, 32, 16]
    assert one_image([large, small], row)[1] == 1


def test_what_is_not_supported():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "FCOS"
    with pytest.raises(InputError, match=r"MODEL\.FCOS\.IN_FEATURES: 'p3' is not a feature"):
        build_model(cfg)


def test_names():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "FCOS"
    cfg.MODEL.FCOS.IN_FEATURES = ["res4"]
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 32
    names = {named.name for named in named_variables(build_model(cfg))}
    layers = [f"{subnet}_subnet.{place}" for subnet in ("cls", "bbox") for place in (0, 1, 9, 10)]
    layers += ["cls_score", "bbox_pred", "ctrness"]
    assert {f"head.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")} <= names
    assert not any("normalizer" in name or "anchor" in name for name in names)
