"""The conventions of Detectron, maskrcnn-benchmark and torchvision, on hand-computed cases.

A box of inclusive pixels (x1, y1, x2, y2), as the first two have it, is (x1, y1, x2 + 1, y2 + 1)
here. Everything is exact unless a test says otherwise.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import ROOT
from tfdetect.config import load_config
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.coco import to_results
from tfdetect.evaluation.registry import open_dataset
from tfdetect.layers.valid_sizes import ValidSizes
from tfdetect.modeling.anchors import AnchorGenerator, cell_anchors, quantized_cell_anchors
from tfdetect.modeling.build import build_model
from tfdetect.modeling.conventions import last_pixels
from tfdetect.modeling.postprocess import rescale_detections
from tfdetect.modeling.proposal_generator.rpn import RPN
from tfdetect.modeling.roi_heads.pooler import RoIPooler, assign_levels
from tfdetect.modeling.roi_heads.selection import select_detections
from tfdetect.modeling.structures import Instances
from tfdetect.ops.boxes import apply_deltas, clip_boxes
from tfdetect.ops.nms import batched_nms
from tfdetect.ops.paste_masks import paste_masks
from tfdetect.ops.resize import shortest_edge_size
from tfdetect.ops.roi_align import roi_align

FASTER_RCNN = ROOT / "configs" / "COCO-Detection" / "faster_rcnn_R_50_FPN_1x.yaml"


def inclusive(*boxes):
    """Inclusive boxes in this project's form."""
    return tf.constant(boxes, tf.float32) + tf.constant([0.0, 0.0, 1.0, 1.0])


def test_quantized_anchors_are_faster_rcnns():
    """The nine of Faster R-CNN's first implementation (stride 16), less 1 for counting from 0."""
    matlab = [
        *([-83, -39, 100, 56], [-175, -87, 192, 104], [-359, -183, 376, 200]),
        *([-55, -55, 72, 72], [-119, -119, 136, 136], [-247, -247, 264, 264]),
        *([-35, -79, 52, 96], [-79, -167, 96, 184], [-167, -343, 184, 360]),
    ]
    anchors = quantized_cell_anchors([128, 256, 512], [0.5, 1.0, 2.0], 16)
    np.testing.assert_array_equal(last_pixels(anchors), np.array(matlab) - 1)


def test_rounded_anchors():
    """sqrt(2) 32 = 45.25 by 22.63; half of each, rounded: 23 and 11."""
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    np.testing.assert_array_equal(cell_anchors([32], [0.5, 1.0, 2.0], rounded=True), expected)


def test_rounded_anchors_are_placed_by_whole_quotients():
    """An input 160 high and 32 wide; the last map has ceil(5 / 2) = 3 rows, 160 // 3 = 53 apart."""
    cfg = load_config(FASTER_RCNN, ["MODEL.CONVENTIONS", "torchvision"])
    generator = AnchorGenerator.from_config(cfg, [4, 8, 16, 32, 64])
    features = [
        tf.zeros([1, rows, columns, 1])
        for rows, columns in [(40, 8), (20, 4), (10, 2), (5, 1), (3, 1)]
    ]
    last = generator(features)[-1].numpy().reshape(3, 3, 4)
    np.testing.assert_array_equal(last[:, 1, 1] + 256, [0, 53, 106])
    np.testing.assert_array_equal(last[:, 1, 0] + 256, [0, 0, 0])
    # In a batch an image 128 high has its own: 2 rows, 64 apart.
    valid_sizes = ValidSizes(tf.constant([[160, 32], [128, 32]]))
    batch = [tf.zeros([2, *feature.shape[1:]]) for feature in features]
    last = generator(batch, valid_sizes)[-1].numpy().reshape(2, 3, 3, 4)
    np.testing.assert_array_equal(last[:, :, 1, 1] + 256, [[0, 53, 106], [0, 64, 128]])


def test_box_coding():
    """Inclusive (0, 0, 9, 19) is 10 by 20 about (5, 10): moved by a tenth, doubled in width."""
    deltas = tf.constant([[0.1, -0.1, math.log(2.0), 0.0]])
    decoded = last_pixels(apply_deltas(deltas, inclusive([0, 0, 9, 19]), [1.0] * 4))
    # Detectron: centre (6, 8), 20 by 20, so 6 - 10 .. 6 + 10 - 1 and 8 - 10 .. 8 + 10 - 1.
    np.testing.assert_allclose(decoded, [[-4, -2, 15, 17]], atol=1e-5)


def test_clipping():
    """To pixels 0..9 across and 0..4 down, each end for itself: a box outside keeps one pixel."""
    boxes = inclusive([-3, -2, 12, 3], [11, 7, 15, 9], [-5, -5, -2, -3], [2, 1, 3, 2])[None]
    clipped = last_pixels(clip_boxes(boxes, tf.constant([[5, 10]]), inclusive=True))[0]
    expected = [[0, 0, 9, 3], [9, 4, 9, 4], [0, 0, 0, 0], [2, 1, 3, 2]]
    np.testing.assert_array_equal(clipped, expected)


def test_overlap(implementation):
    """10 by 10 and 10 by 5 pixels overlap by 50 of 100; in Detectron2's form by 36 of 81."""
    boxes, scores, groups = inclusive([0, 0, 9, 9], [0, 0, 9, 4]), [0.9, 0.8], tf.constant([0, 0])
    kept = [batched_nms(boxes, scores, groups, t).numpy().tolist() for t in (0.499, 0.5)]
    assert kept == [[True, False], [True, True]]
    assert batched_nms(last_pixels(boxes), scores, groups, 0.499).numpy().all()


def test_levels():
    """A hair below 224 pixels: 1e-6 in the logarithm lifts the box by a level, 1e-8 does not."""
    side = np.float32(224) - np.float32(1e-4)
    box = tf.constant([[0, 0, side, side]])
    assert assign_levels(box, 2, 5).numpy() == [3]
    assert assign_levels(box, 2, 5, 1e-6).numpy() == [4]


def test_pooling(implementation):
    """Regions reach from the first to the last pixel, unshifted, and are at least a feature-map
    pixel wide.
    """
    feature = tf.reshape(tf.range(64, dtype=tf.float32), [1, 8, 8, 1])
    pooler = RoIPooler("X", "ROIAlign", 2, 2, [1], inclusive_boxes=True)
    index = tf.zeros([2], tf.int32)
    pooled = pooler([feature], inclusive([1, 2, 5, 6], [3, 3, 3, 3]), index)[..., 0]
    # 4 by 4 feature-map pixels from (1, 2): bins of 2, whose middles are at (2, 3), (4, 3), (2, 5),
    # (4, 5).
    np.testing.assert_allclose(pooled[0], [[26, 28], [42, 44]], atol=1e-5)
    # A feature-map pixel from (3, 3): middles at 3.25 and 3.75.
    np.testing.assert_allclose(pooled[1], [[29.25, 29.75], [33.25, 33.75]], atol=1e-5)
    same = roi_align(feature, tf.constant([[1.0, 2, 5, 6]]), index[:1], 2, 1.0, 2, False)
    np.testing.assert_allclose(pooled[:1], same[..., 0], atol=1e-6)


def resized_as_image(mask, height, width):
    """Bilinear between the centres of feature-map pixels, as image libraries resize without
    antialiasing.
    """

    def weights(mask_size, size):
        position = np.clip((np.arange(size) + 0.5) * mask_size / size - 0.5, 0, mask_size - 1)
        return np.maximum(1 - np.abs(position[:, None] - np.arange(mask_size)), 0)

    return weights(len(mask), height) @ mask @ weights(len(mask[0]), width).T


def test_masks_as_images(implementation):
    """Detectron's steps one by one; soft values within 1e-5 of the threshold may fall anywhere."""
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=[30, 14, 14]).astype(np.float32)
    start = rng.uniform(-20, 50, [30, 2])
    boxes = np.concatenate([start, start + rng.uniform(0, 40, [30, 2])], 1).astype(np.float32)
    pasted = paste_masks(masks, boxes, tf.constant([50, 60]), as_images=True).numpy()
    for mask, box, result in zip(masks, boxes, pasted, strict=True):
        center, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * np.float32(16 / 14)
        (x1, y1), (x2, y2) = (center - half).astype(int), (center + half).astype(int)
        soft = resized_as_image(np.pad(mask, 1), max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        whole = np.zeros([150, 160])  # the image, and 50 pixels around it
        whole[y1 + 50 : y2 + 51, x1 + 50 : x2 + 51] = soft
        soft = whole[50:100, 50:110]
        assert not ((result != (soft > 0.5)) & (np.abs(soft - 0.5) > 1e-5)).any()
    assert pasted.any(axis=(1, 2)).sum() > 15


def test_threshold_of_masks_as_images(implementation):
    """Detectron takes what is above the threshold, Detectron2 what reaches it."""
    masks, boxes = tf.fill([1, 4, 4], 0.5), tf.constant([[0.0, 0.0, 8.0, 8.0]])
    assert not paste_masks(masks, boxes, tf.constant([8, 8]), as_images=True).numpy().any()
    assert paste_masks(masks, boxes, tf.constant([8, 8])).numpy().any()


@pytest.mark.parametrize(
    ("rule", "size", "expected"),
    [
        # 800 / 427 * 640 = 1199.06; torchvision multiplies 427 by the quotient again, too.
        ("torchvision", (427, 640), (math.floor(427 * (800 / 427)), 1199)),
        ("torchvision", (480, 641), (800, 1068)),  # 1068.33
        ("torchvision", (400, 1000), (533, 1333)),  # 533.2
        ("maskrcnn_benchmark", (480, 641), (800, 1068)),
        # 800 would make 2000: 1333 * 400 / 1000 = 533.2 -> 533, and then 533 * 1000 / 400 = 1332.5.
        ("maskrcnn_benchmark", (400, 1000), (533, 1332)),
        ("maskrcnn_benchmark", (1000, 400), (1332, 533)),
        ("maskrcnn_benchmark", (500, 500), (800, 800)),
        ("detectron2", (400, 1000), (533, 1333)),
    ],
)
def test_sizes(rule, size, expected):
    resized = shortest_edge_size(tf.constant([size]), 800, 1333, rule)
    assert tuple(resized.numpy()[0]) == expected


def test_boxes_are_given_by_their_last_pixel():
    """Halved with the image; a box of one pixel stays, where Detectron2 drops an empty one."""
    detections = Instances(
        pred_boxes=inclusive([0, 0, 1199, 799], [600, 10, 600, 10], [0, 0, 0, 0])[None],
        scores=tf.constant([[0.9, 0.8, 0.0]]),
        pred_classes=tf.constant([[1, 2, 0]]),
        num_detections=tf.constant([2]),
    )
    sizes = tf.constant([[800, 1200]]), tf.constant([[400, 600]])
    result = rescale_detections(detections, *sizes, inclusive_boxes=True)
    expected = [[0, 0, 599.5, 399.5], [300, 5, 300, 5], [0, 0, 0, 0]]
    np.testing.assert_array_equal(result.pred_boxes[0], expected)
    assert result.num_detections.numpy() == [2]


def test_torchvision_drops_small_boxes_before_nms():
    """A box 0.01 wide would suppress nothing, but count among the detections."""
    boxes = tf.constant([[[0, 0, 0.005, 10], [0, 0, 10, 10]]])
    scores = tf.constant([[[0.9, 0.1], [0.8, 0.2]]])
    options = {"score_threshold": 0.05, "nms_threshold": 0.5, "max_detections": 3}
    arguments = boxes, scores, tf.constant([2]), tf.constant([[20, 20]])
    found = select_detections(*arguments, **options, min_box_size=1e-2)
    assert found.num_detections.numpy() == [1]
    assert select_detections(*arguments, **options).num_detections.numpy() == [2]


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (
            FASTER_RCNN,
            ["MODEL.CONVENTIONS", "caffe"],
            r"MODEL\.CONVENTIONS: 'caffe' is not supported",
        ),
        (
            FASTER_RCNN.with_name("retinanet_R_50_FPN_1x.yaml"),
            ["MODEL.CONVENTIONS", "torchvision"],
            r"MODEL\.CONVENTIONS: torchvision has no RetinaNet",
        ),
    ],
)
def test_refusals(config, changes, message):
    with pytest.raises(InputError, match=message):
        build_model(load_config(config, changes))


def test_results_for_coco():
    """Width and height with the last pixel; keypoints as they are."""
    detections = Detections(
        height=50,
        width=60,
        boxes=np.array([[1.0, 2.0, 4.0, 8.0]], np.float32),
        scores=np.array([0.5], np.float32),
        classes=np.array([0]),
        keypoints=np.array([[[3.0, 4.0, 7.0]]], np.float32),
        box_extent=1.0,
        keypoint_offset=0.0,
    )
    (result,) = to_results(detections, 7, [1])
    assert result["bbox"] == [1, 2, 4, 7]
    assert result["keypoints"] == [3, 4, 7]


def test_classes_that_coco_does_not_show(tmp_path):
    """torchvision's class 11 is not one of COCO's and is left out; the others go by their names."""
    categories = [{"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]
    image = {"id": 5, "file_name": "a.jpg", "height": 50, "width": 60}
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": [image], "annotations": [], "categories": categories}))
    dataset = open_dataset(path, ["bbox"], ["person", "N/A 12", "stop sign"])
    detections = Detections(
        height=50,
        width=60,
        boxes=np.zeros([3, 4], np.float32),
        scores=np.ones([3], np.float32),
        classes=np.array([2, 1, 0]),
    )
    assert [r["category_id"] for r in dataset.to_results(0, detections)] == [13, 1]


def test_training_is_refused():
    cfg = load_config(FASTER_RCNN, ["MODEL.CONVENTIONS", "torchvision"])
    rpn = RPN.from_config(cfg, {f"p{level}": (8, 2**level) for level in range(2, 7)})
    with pytest.raises(InputError, match=r"MODEL\.CONVENTIONS: a model with those"):
        rpn.losses({}, None, {}, None)
