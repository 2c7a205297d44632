"""What Detectron2 accepts, rejects or gives a special meaning to where a model is built and run."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.paths import DEMO, ROOT
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.modeling.proposal_generator.rpn import RPN
from tfdetect.modeling.proposal_generator.selection import select_proposals
from tfdetect.modeling.roi_heads.pooler import RoIPooler
from tfdetect.modeling.roi_heads.selection import select_detections
from tfdetect.ops.backend import Backend

JOINT = DEMO / "joint_rcnn" / "config.yaml"
SHAPES = {f"p{level}": (16, 2**level) for level in range(2, 7)}
SIZES = "MODEL.ANCHOR_GENERATOR.SIZES"
RATIOS = "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"


def joint(*opts):
    return load_config(JOINT, opts)


def names(*opts):
    return {named.name for named in named_variables(build_model(joint(*opts)))}


@pytest.mark.parametrize(
    ("strides", "passes"),
    [
        ([4, 8, 16, 32], True),
        ([16], True),
        # Its ends and its length are a pyramid's: Detectron2's assertion lets it through.
        ([4, 16, 8, 32], True),
        ([32, 16, 8, 4], False),
        ([8, 4], False),
        ([4, 16], False),
        ([4, 4], False),
        ([4, 8, 32], False),
        ([12], False),
        ([6, 12], False),
    ],
)
def test_strides_that_a_pooler_takes(strides, passes):
    """The assertions of Detectron2's `ROIPooler`."""

    def pooler():
        return RoIPooler("MODEL.ROI_BOX_HEAD", "ROIAlignV2", 7, 0, strides)

    if passes:
        pooler()
    else:
        with pytest.raises(InputError, match=r"^MODEL\.ROI_HEADS\.IN_FEATURES: "):
            pooler()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.ROI_HEADS.IN_FEATURES", ["p5", "p4", "p3", "p2"]),
        ("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p4"]),
        ("MODEL.RPN.IN_FEATURES", []),
        (SIZES, []),
        (SIZES, [[]]),
        (SIZES, [[8], [16]]),
        (SIZES, [[8, 16], [8], [8], [8], [8]]),
        (SIZES, [8, [16]]),
        (SIZES, [[0]]),
        (SIZES, [[-8]]),
        (RATIOS, []),
        (RATIOS, [[1.0, 0.0]]),
        (RATIOS, [[1.0], [2.0]]),
        ("MODEL.FPN.NORM", "XN"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIMaxPool"),
        ("MODEL.ROI_MASK_HEAD.POOLER_TYPE", ""),
        ("MODEL.ROI_HEADS.NUM_CLASSES", -1),
    ],
)
def test_refused_by_name(key, value):
    with pytest.raises(InputError) as caught:
        build_model(joint(key, value))
    assert str(caught.value).startswith(f"{key}: ")
    assert "\n" not in str(caught.value)


def test_levels_of_an_rpn_have_equal_channels():
    """Detectron2: `StandardRPNHead.from_config`."""
    with pytest.raises(InputError, match=r"^MODEL\.RPN\.IN_FEATURES: .* channels"):
        RPN.from_config(joint(SIZES, [[8]]), SHAPES | {"p3": (8, 8)})


def test_anchor_sizes_that_are_no_lists_are_those_of_every_level():
    """Detectron2: `_broadcast_params`."""
    features = [tf.zeros([1, 2, 2, 16])] * 5
    flat, nested = (
        RPN.from_config(joint(SIZES, sizes, RATIOS, ratios), SHAPES)._anchors(features)
        for sizes, ratios in (([8, 16], [0.5, 1.0]), ([[8, 16]] * 5, [[0.5, 1.0]]))
    )
    for a, b in zip(flat, nested, strict=True):
        np.testing.assert_array_equal(a, b)


def test_norm_null():
    """Detectron2's `get_norm(None)` is none; an FPN then has no bias either, other heads have."""
    fpn = "backbone.fpn_lateral2."
    assert f"{fpn}bias" in names("MODEL.FPN.NORM", "")
    assert not any(".norm." in name for name in names("MODEL.FPN.NORM", None) if fpn in name)
    assert f"{fpn}bias" not in names("MODEL.FPN.NORM", None)
    for key in ("MODEL.ROI_MASK_HEAD.NORM", "MODEL.ROI_BOX_HEAD.NORM"):
        assert names(key, None) == names(key, "")
    assert names("MODEL.RESNETS.NORM", None) == names("MODEL.RESNETS.NORM", "")


def test_a_semantic_feature_named_twice_counts_once():
    path = ROOT / "configs" / "COCO-PanopticSegmentation" / "panoptic_fpn_R_50_1x.yaml"
    key = "MODEL.SEM_SEG_HEAD.IN_FEATURES"
    cfg = load_config(
        path, [key, ["p3", "p2", "p3"], "MODEL.META_ARCHITECTURE", "SemanticSegmentor"]
    )
    assert build_model(cfg).sem_seg_head._in_features == ["p2", "p3"]


def test_rpn_without_convolution():
    """CONV_DIMS empty: Detectron2's `nn.Sequential()` of nothing. Training looks at the same."""
    rpn = RPN.from_config(joint("MODEL.RPN.CONV_DIMS", []), SHAPES)
    assert not any(named.name.startswith("rpn_head.conv") for named in named_variables(rpn))
    feature = tf.random.stateless_normal([1, 3, 4, 16], [1, 2])
    logits, _ = rpn.rpn_head(feature)
    at = rpn.rpn_head.at([feature], [tf.constant([[0, 2, 1]], tf.int64)])
    np.testing.assert_allclose(at[0, :, 0], logits[0, 2, 1], rtol=1e-5)  # sums in another order


@pytest.mark.parametrize(("least", "kept"), [(-1, 3), (0, 2), (5, 1)])
def test_least_size_of_a_proposal(least, kept):
    """`Boxes.nonempty(threshold=)`: a negative one keeps boxes without area."""
    rpn = RPN.from_config(joint("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", least), SHAPES)
    boxes = tf.constant([[[0.0, 0, 9, 9], [20, 20, 24, 24], [40, 40, 40, 49]]])
    options = rpn._selection | {"post_nms_topk": 9}
    del options["pre_nms_topk"]
    logits, levels = tf.constant([[3.0, 2.0, 1.0]]), tf.zeros([3], tf.int32)
    _, counts, _ = select_proposals(boxes, logits, levels, tf.constant([[50, 50]]), **options)
    assert counts[0] == kept


@pytest.mark.parametrize("ratio", [0, -1, -7])
def test_sampling_ratio_of_nothing(implementation, ratio):
    """torchvision's `roi_align` takes ceil(size / resolution) samples where it is not positive."""
    feature = tf.random.stateless_normal([1, 20, 20, 3], [3, 4])
    boxes, image = tf.constant([[1.0, 2.0, 70.0, 33.0]]), tf.constant([0])
    found, expected = (
        RoIPooler("MODEL.ROI_BOX_HEAD", "ROIAlignV2", 4, each, [4])([feature], boxes, image)
        for each in (ratio, 0)
    )
    np.testing.assert_array_equal(found, expected)


def candidates():
    random = np.random.default_rng(5)
    corners = random.uniform(0, 50, [2, 30, 2]).astype(np.float32)
    boxes = np.concatenate([corners, corners + 6], 2)
    scores = random.dirichlet(np.ones(4), [2, 30]).astype(np.float32)
    return boxes, scores, np.array([30, 4], np.int32), np.array([[60, 60]] * 2, np.int32)


def select(most, counts=None, **options):
    boxes, scores, number, sizes = candidates()
    options = {"score_threshold": 0.05, "nms_threshold": 0.5} | options
    number = number if counts is None else np.array(counts, np.int32)
    return select_detections(boxes, scores, number, sizes, max_detections=most, **options)


def test_no_limit_of_detections():
    """Detectron2's `fast_rcnn_inference`: "Set < 0 to return all detections"."""
    everything, limited = select(-1), select(500)
    most = int(tf.reduce_max(limited.num_detections))
    assert most > 20
    for name, values in everything.as_dict().items():
        expected = getattr(limited, name)
        expected = expected if name == "num_detections" else expected[:, :most]
        np.testing.assert_array_equal(values, expected)
    assert select(-1, counts=[0, 0]).pred_boxes.shape == (2, 0, 4)
    assert select(0).pred_boxes.shape == (2, 0, 4)
    with (
        Backend(fixed_shapes=True).active(),
        pytest.raises(InputError, match=r"^TEST\.DETECTIONS_PER_IMAGE: "),
    ):
        select(-1)


def test_thresholds_beyond_their_range():
    """A score of 0 is above -1, an overlap of 0 above -1; padding is never a detection."""
    assert select(500, score_threshold=2.0).num_detections.numpy().tolist() == [0, 0]
    found = select(500, score_threshold=-1.0, nms_threshold=1.5).num_detections
    assert found.numpy().tolist() == [90, 12]
    one_of_each_class = select(500, score_threshold=-1.0, nms_threshold=-1.0).num_detections
    assert one_of_each_class.numpy().tolist() == [3, 3]
