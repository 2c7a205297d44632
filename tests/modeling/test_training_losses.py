"""The losses of every kind of model: that they are there, of use, and what they are divided by."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native, using_ops
from tests.support.small_training import (
    C4,
    C4_OPTIONS,
    CASCADE,
    CLASSES,
    KEYPOINT_RCNN,
    MASK_RCNN,
    RPN,
    batch,
    losses_and_gradients,
    small_model,
)
from tfdetect.errors import InputError
from tfdetect.modeling.losses import BoxRegressionLoss
from tfdetect.modeling.roi_heads.box_losses import federated_classes
from tfdetect.modeling.roi_heads.sampling import label_and_sample_proposals, match_proposals
from tfdetect.modeling.structures import Proposals, Targets

RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x"
FCOS = "COCO-Detection/fcos_R_50_FPN_1x"
FCOS_LOSSES = {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}
RPN_LOSSES = {"loss_rpn_cls", "loss_rpn_loc"}
BOX_LOSSES = {"loss_cls", "loss_box_reg"}
STAGES = {f"{name}_stage{stage}" for name in BOX_LOSSES for stage in range(3)}
FEDERATED = {
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 4,
}
AGNOSTIC = {
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
}
GIOU = {
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True,
}
SYNC = {"MODEL.RESNETS.NORM": "SyncBN", "MODEL.FPN.NORM": "GN", "MODEL.BACKBONE.FREEZE_AT": 0}
CASES = {
    "mask": (MASK_RCNN, {}, RPN_LOSSES | BOX_LOSSES | {"loss_mask"}),
    "keypoint": (KEYPOINT_RCNN, {}, RPN_LOSSES | BOX_LOSSES | {"loss_keypoint"}),
    "cascade": (CASCADE, {}, RPN_LOSSES | STAGES | {"loss_mask"}),
    "c4": (C4, C4_OPTIONS, RPN_LOSSES | BOX_LOSSES | {"loss_mask"}),
    "federated": (MASK_RCNN, FEDERATED, RPN_LOSSES | BOX_LOSSES | {"loss_mask"}),
    "agnostic": (MASK_RCNN, AGNOSTIC, RPN_LOSSES | BOX_LOSSES | {"loss_mask"}),
    "giou": (MASK_RCNN, GIOU, RPN_LOSSES | BOX_LOSSES | {"loss_mask"}),
    "norms": (MASK_RCNN, SYNC, RPN_LOSSES | BOX_LOSSES | {"loss_mask"}),
    "rpn": (RPN, {}, RPN_LOSSES),
    "retinanet": (RETINANET, {}, BOX_LOSSES),
    "retinanet_101": (RETINANET.replace("50_FPN_1x", "101_FPN_3x"), {}, BOX_LOSSES),
    "retinanet_3x": (RETINANET.replace("1x", "3x"), {}, BOX_LOSSES),
    "retinanet_norms": (
        RETINANET,
        {"MODEL.RETINANET.NORM": "SyncBN", "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "giou"},
        BOX_LOSSES,
    ),
    "fcos": (FCOS, {}, FCOS_LOSSES),
    "fcos_norms": (FCOS, {"MODEL.FCOS.NORM": "BN"}, FCOS_LOSSES),
}


@pytest.mark.parametrize("case", CASES)
def test_everything_that_trains_has_a_gradient(case):
    name, options, expected = CASES[case]
    _, model, named = small_model(name, options)
    if case == "federated":
        weights = np.arange(1.0, CLASSES + 1, dtype=np.float32)
        model.roi_heads.box_predictor.fed_loss_cls_weights.assign(weights)
    losses, gradients = losses_and_gradients(model, named, batch())
    assert losses.keys() == expected
    assert all(np.isfinite(loss) and loss > 0 for loss in losses.values()), losses
    for key, gradient in gradients.items():
        assert gradient is not None, key
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), key
    # The configurations freeze the stem and res2; FrozenBN does not train anywhere.
    bottom_up = [key for key in gradients if ".bottom_up." in key or ".stem." in key]
    frozen = case != "norms"
    assert frozen == (not any(".stem." in k or ".res2." in k or "norm" in k for k in bottom_up))


@pytest.mark.parametrize("form", ["gt_polygons", "gt_bitmasks"])
@pytest.mark.parametrize("name", [MASK_RCNN, KEYPOINT_RCNN, CASCADE])
def test_no_objects_at_all(name, form):
    _, model, named = small_model(name)
    losses, gradients = losses_and_gradients(model, named, batch((0, 0), form))
    assert all(np.isfinite(loss) for loss in losses.values())
    for key, loss in losses.items():
        # Only background is there to be learnt.
        assert (loss > 0) == ("_cls" in key), key
    for key, gradient in gradients.items():
        assert gradient is None or np.isfinite(tf.convert_to_tensor(gradient)).all(), key


def test_bitmasks_and_polygons_of_whole_pixels_agree():
    _, model, named = small_model(MASK_RCNN)
    # Away from 0, so that a pixel's cost depends on its target.
    model.roi_heads.mask_head.predictor.bias.assign(tf.ones([CLASSES]))
    losses = [
        losses_and_gradients(model, named, batch(form=form, whole_pixels=True))[0]["loss_mask"]
        for form in ("gt_polygons", "gt_bitmasks")
    ]
    # Both draw the same rectangles, with another opinion of the pixels on their outlines.
    np.testing.assert_allclose(*losses, rtol=0.02)


def test_native_and_portable_operators_agree():
    _, model, named = small_model(MASK_RCNN)
    results = []
    for operators in ("native", "portable"):
        if operators == "native":
            require_native()
        with using_ops(operators):
            results.append(losses_and_gradients(model, named, batch()))
    (losses, gradients), (portable_losses, portable_gradients) = results
    for key, loss in losses.items():
        np.testing.assert_allclose(portable_losses[key], loss, rtol=1e-5, err_msg=key)
    for key, gradient in gradients.items():
        one = tf.convert_to_tensor(gradient).numpy()
        # float32 sums in another order, relative to the largest.
        np.testing.assert_allclose(
            portable_gradients[key], one, rtol=0, atol=1e-4 * np.abs(one).max(), err_msg=key
        )


def test_random_choices_are_the_seeds_and_each_images_own():
    _, model, named = small_model(MASK_RCNN)
    images, sizes, targets = batch((3, 2))
    first = losses_and_gradients(model, named, (images, sizes, targets), (7, 3))[0]
    again = losses_and_gradients(model, named, (images, sizes, targets), (7, 3))[0]
    other = losses_and_gradients(model, named, (images, sizes, targets), (7, 4))[0]
    assert first == again
    assert first["loss_cls"] != other["loss_cls"]
    alone = [
        losses_and_gradients(
            model,
            named,
            (
                images[i : i + 1],
                sizes[i : i + 1],
                Targets(*(t if t is None else t[i : i + 1] for t in targets)),
            ),
            (7, 3 + i),
        )[0]
        for i in (0, 1)
    ]
    # Sums of some hundred float32; both images have as many anchors and regions.
    for key in ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"):
        np.testing.assert_allclose(first[key], (alone[0][key] + alone[1][key]) / 2, rtol=1e-5)


def test_both_normalisers_of_keypoints():
    losses = {}
    for by_visible in (True, False):
        options = {"MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": by_visible}
        options["MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT"] = 1.0
        _, model, named = small_model(KEYPOINT_RCNN, options)
        losses[by_visible] = losses_and_gradients(model, named, batch())[0]["loss_keypoint"]
    # 3 keypoints of 16 regions a quarter of which may be foreground, in each of two images.
    visible = losses[False] * (3 * 16 * 0.25 * 2) / losses[True]
    assert visible == pytest.approx(round(visible), rel=1e-4)
    assert 0 < visible <= 24


def test_unsupported_box_loss():
    loss = BoxRegressionLoss("MODEL.RPN", "iou", 0.0, [1, 1, 1, 1])
    with pytest.raises(InputError, match=r"MODEL.RPN.BBOX_REG_LOSS_TYPE: 'iou'"):
        loss(tf.zeros([0, 4]), tf.zeros([0, 4]), tf.zeros([0, 4]))


def test_federated_classes():
    present = tf.constant([True, False, False, False, False, False, True])
    weights = np.array([1, 1, 0, 1, 1, 1], np.float32)
    counts = np.zeros(6)
    for step in range(50):
        chosen = federated_classes(present, weights, 4, tf.constant([0, step])).numpy()
        # Two are there, background among them, so that two more are drawn.
        assert chosen.sum() == 3
        assert chosen[0]
        counts += chosen
    assert counts[2] == 0
    assert (counts[[1, 3, 4, 5]] > 10).all()
    everything = federated_classes(tf.ones([7], tf.bool), weights, 4, tf.constant([0, 0]))
    assert everything.numpy().all()


def test_sampled_regions():
    """Of image 0, ground truth and near it; image 1 has no object, and one proposal that counts."""
    proposals = tf.constant(
        [[[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], [[0, 0, 10, 10]] * 3]
    )
    targets = Targets(
        gt_boxes=tf.constant([[[0.0, 0, 10, 10], [20, 20, 40, 40]], [[0.0] * 4] * 2]),
        gt_classes=tf.constant([[3, 1], [0, 0]]),
        gt_valid=tf.constant([[True, True], [False, False]]),
    )
    regions = label_and_sample_proposals(
        Proposals(proposals, tf.constant([3, 1])),
        targets,
        tf.constant([[0, 0], [0, 1]]),
        thresholds=[0.5],
        labels=[0, 1],
        num_classes=5,
        batch_size_per_image=16,
        positive_fraction=0.5,
        append_gt=True,
    )
    np.testing.assert_array_equal(regions.image_indices, [0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(regions.gt_classes, [3, 3, 5, 3, 1, 5])
    np.testing.assert_array_equal(regions.gt_indices[:5], [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(regions.gt_boxes[4], [20, 20, 40, 40])
    again = match_proposals(regions.boxes, regions.image_indices, targets, 0.95, 5)
    np.testing.assert_array_equal(again.gt_classes, [3, 5, 5, 3, 1, 5])


# Every anchor and proposal takes part: what is sampled by chance else differs with the last digit.
EVERY_REGION = {
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 10000,
    "MODEL.RPN.POSITIVE_FRACTION": 1.0,
    "MODEL.RPN.NMS_THRESH": 1.0,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 10000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 10000,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 10000,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 1.0,
}


def test_mixed_precision():
    _, model, named = small_model(MASK_RCNN, EVERY_REGION | {"MODEL.RESNETS.NORM": "GN"})
    images, sizes, targets = batch()
    exact, exact_gradients = losses_and_gradients(model, named, (images / 50, sizes, targets))
    # They round to 11 and 8 bits. Measured: losses within 3e-5 and 3e-4, gradients 1e-4 and 0.03.
    for dtype, tolerance in ((tf.float16, 5e-4), (tf.bfloat16, 4e-3)):
        data = tf.cast(images / 50, dtype), sizes, targets
        mixed, gradients = losses_and_gradients(model, named, data)
        assert mixed == pytest.approx(exact, rel=tolerance), dtype
        for name, gradient in gradients.items():
            assert gradient.dtype == tf.float32, name
            assert np.isfinite(gradient).all(), name
        assert norm(gradients) == pytest.approx(norm(exact_gradients), rel=20 * tolerance)


def norm(gradients):
    return np.sqrt(sum(np.square(np.float64(g)).sum() for g in gradients.values()))
