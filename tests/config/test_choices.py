"""Keys that take one of a few names: another is refused at the start, with those that there are.

Every key of the schema whose value is a name, or a list of names, is either here or FREE, so that a
new one has to be put in its place.
"""

from __future__ import annotations

import pytest

from tests.support.paths import DEMO
from tfdetect.config import load_config
from tfdetect.config.checks import check_model
from tfdetect.config.choices import CONVENTIONS, NORMS, RESNET_DEPTHS
from tfdetect.config.defaults import DEFAULTS
from tfdetect.config.training_checks import check_training
from tfdetect.data.training.augmentation import AUGMENTATIONS, build_augmentation
from tfdetect.errors import InputError
from tfdetect.modeling import registries
from tfdetect.modeling.build import build_model
from tfdetect.modeling.conventions import _BY_NAME
from tfdetect.modeling.registries import check_box_losses, check_names
from tfdetect.tracking.registry import TRACKER_HEADS, build_tracker_head
from tfdetect.training.schedule import learning_rate

JOINT = str(DEMO / "joint_rcnn" / "config.yaml")
PANOPTIC = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x"
RETINANET, FCOS = "COCO-Detection/retinanet_R_50_FPN_1x", "COCO-Detection/fcos_R_50_FPN_1x"
REGNET = "new_baselines/mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ"
VIT, MVIT = "ViTDet/COCO/mask_rcnn_vitdet_b_100ep", "MViTv2/cascade_mask_rcnn_mvitv2_t_3x"
POINTS = "PointRend/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco"
SEMANTIC_POINTS = "PointRend/SemanticSegmentation/pointrend_semantic_R_101_FPN_1x_cityscapes"
EVALUATED = ["DATASETS.TEST", "('val',)", "TEST.EVAL_PERIOD", 5]

HORIZONTAL = ("ROIAlignV2", "ROIAlign", "ROIPool")
LOSSES = ("smooth_l1", "giou", "diou", "ciou")
NORM_NAMES = NORMS[1:]
# key: a configuration that reads it, other keys set there, and the names that there are.
NAMES = {
    "FLOAT32_PRECISION": (JOINT, [], ("highest", "high", "medium")),
    "MODEL.DEVICE": (JOINT, [], ("cuda", "cpu")),
    "MODEL.META_ARCHITECTURE": (JOINT, [], tuple(registries.META_ARCHITECTURES)),
    "MODEL.CONVENTIONS": (JOINT, [], tuple(_BY_NAME)),
    "MODEL.BACKBONE.NAME": (JOINT, [], tuple(registries.BACKBONES)),
    "MODEL.FPN.NORM": (JOINT, [], NORM_NAMES),
    "MODEL.FPN.FUSE_TYPE": (JOINT, [], ("sum", "avg")),
    "MODEL.PROPOSAL_GENERATOR.NAME": (JOINT, [], ("RPN", "RRPN")),
    "MODEL.ANCHOR_GENERATOR.NAME": (JOINT, [], ("DefaultAnchorGenerator",)),
    "MODEL.RPN.HEAD_NAME": (JOINT, [], ("StandardRPNHead",)),
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": (JOINT, [], LOSSES),
    "MODEL.ROI_HEADS.NAME": (JOINT, [], tuple(registries.ROI_HEADS)),
    "MODEL.ROI_BOX_HEAD.NAME": (JOINT, [], ("FastRCNNConvFCHead",)),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": (JOINT, [], LOSSES),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": (JOINT, [], HORIZONTAL),
    "MODEL.ROI_BOX_HEAD.NORM": (JOINT, [], NORM_NAMES),
    "MODEL.ROI_MASK_HEAD.NAME": (JOINT, [], tuple(registries.MASK_HEADS)),
    "MODEL.ROI_MASK_HEAD.NORM": (JOINT, [], NORM_NAMES),
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": (JOINT, [], HORIZONTAL),
    "MODEL.POINT_HEAD.NAME": (POINTS, [], tuple(registries.POINT_HEADS)),
    "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME": (SEMANTIC_POINTS, [], ("SemSegFPNHead",)),
    "MODEL.ROI_KEYPOINT_HEAD.NAME": (JOINT, [], ("KRCNNConvDeconvUpsampleHead",)),
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE": (JOINT, [], HORIZONTAL),
    "MODEL.SEM_SEG_HEAD.NAME": (PANOPTIC, [], tuple(registries.SEM_SEG_HEADS)),
    "MODEL.SEM_SEG_HEAD.NORM": (PANOPTIC, [], NORM_NAMES),
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": (RETINANET, [], LOSSES),
    "MODEL.RETINANET.NORM": (RETINANET, [], NORM_NAMES),
    "MODEL.FCOS.NORM": (FCOS, [], NORM_NAMES),
    "MODEL.RESNETS.OUT_FEATURES": (JOINT, [], ("stem", "res2", "res3", "res4", "res5")),
    "MODEL.RESNETS.NORM": (JOINT, [], NORM_NAMES),
    "MODEL.REGNETS.NORM": (REGNET, [], NORM_NAMES),
    "MODEL.SIMPLE_FEATURE_PYRAMID.NORM": (VIT, [], NORM_NAMES),
    "MODEL.MVIT.OUT_FEATURES": (MVIT, [], ("scale2", "scale3", "scale4", "scale5")),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": (JOINT, [], ("choice", "range")),
    "INPUT.RANDOM_FLIP": (JOINT, [], ("horizontal", "vertical", "none")),
    "INPUT.FORMAT": (JOINT, [], ("BGR", "RGB")),
    "INPUT.MASK_FORMAT": (JOINT, [], ("polygon", "bitmask")),
    "INPUT.CROP.TYPE": (
        JOINT,
        ["INPUT.CROP.ENABLED", True],
        ("relative_range", "relative", "absolute", "absolute_range"),
    ),
    "INPUT.AUGMENTATIONS": (JOINT, [], tuple(AUGMENTATIONS)),
    "DATALOADER.SAMPLER_TRAIN": (
        JOINT,
        [],
        ("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"),
    ),
    "DATALOADER.ON_ERROR": (JOINT, [], ("stop", "skip")),
    "SOLVER.LR_SCHEDULER_NAME": (JOINT, [], ("WarmupMultiStepLR", "WarmupCosineLR")),
    "SOLVER.OPTIMIZER": (JOINT, [], ("SGD", "AdamW")),
    "SOLVER.WARMUP_METHOD": (JOINT, [], ("linear", "constant")),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": (
        JOINT,
        ["SOLVER.CLIP_GRADIENTS.ENABLED", True],
        ("value", "norm", "full_model"),
    ),
    "SOLVER.AMP.DTYPE": (JOINT, ["SOLVER.AMP.ENABLED", True], ("float16", "bfloat16")),
    "TRAIN.WRITERS": (JOINT, [], ("wandb", "mlflow")),
    "TRAIN.BEST.MODE": (JOINT, [*EVALUATED, "TRAIN.BEST.METRIC", "bbox/AP"], ("max", "min")),
    "TRAIN.EARLY_STOP.MODE": (
        JOINT,
        [*EVALUATED, "TRAIN.EARLY_STOP.METRIC", "bbox/AP"],
        ("max", "min"),
    ),
    "TRACKER_HEADS.TRACKER_NAME": (JOINT, [], tuple(TRACKER_HEADS)),
}
# Numbers of which there are a few.
NUMBERS = {
    "MODEL.RESNETS.DEPTH": (JOINT, 77, tuple(map(str, RESNET_DEPTHS))),
    "MODEL.RESNETS.RES5_DILATION": (JOINT, 3, ("1", "2")),
}
# Features are those of the backbone, which is known when it is built.
FEATURES = {
    "MODEL.FPN.IN_FEATURES": (JOINT, ("res2", "res5")),
    "MODEL.RPN.IN_FEATURES": (JOINT, ("p2", "p6")),
    "MODEL.ROI_HEADS.IN_FEATURES": (JOINT, ("p2", "p6")),
    "MODEL.ROI_MASK_HEAD.IN_FEATURES": (POINTS, ("p2", "p5")),
    "MODEL.POINT_HEAD.IN_FEATURES": (POINTS, ("p2", "p5")),
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": (PANOPTIC, ("p2", "p6")),
    "MODEL.RETINANET.IN_FEATURES": (RETINANET, ("p3", "p7")),
    "MODEL.FCOS.IN_FEATURES": (FCOS, ("p3", "p7")),
    "MODEL.REGNETS.OUT_FEATURES": (REGNET, ("s1", "s4")),
}
# Files, folders, data sets, metrics and hooks of the user's, and lists of other things than names.
FREE = {
    "OUTPUT_DIR",
    "MODEL.WEIGHTS",
    "MODEL.VIT.RESIDUAL_BLOCK_INDEXES",
    "DATASETS.TRAIN",
    "DATASETS.TRAIN_REPEAT_FACTOR",
    "DATASETS.PROPOSAL_FILES_TRAIN",
    "DATASETS.TEST",
    "DATASETS.PROPOSAL_FILES_TEST",
    "SOLVER.WEIGHT_DECAY_OVERRIDES",
    "TEST.EXPECTED_RESULTS",
    "TEST.KEYPOINT_OKS_SIGMAS",
    "TRAIN.HOOKS",
    "TRAIN.BEST.METRIC",
    "TRAIN.EARLY_STOP.METRIC",
}


def keys(node, prefix=""):
    """The keys of names, with their default values."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")
        elif isinstance(value, str) or (
            isinstance(value, (list, tuple)) and (not value or isinstance(value[0], str))
        ):
            yield f"{prefix}{name}", value


def check_start(cfg):
    """What the commands ask of a configuration before TensorFlow is loaded."""
    check_model(cfg)
    check_names(cfg)
    check_training(cfg)
    check_box_losses(cfg)
    learning_rate(cfg, 0)
    build_augmentation(cfg)
    build_tracker_head(cfg)


def refused(check, key, cfg, names):
    with pytest.raises(InputError) as caught:
        check(cfg)
    message = str(caught.value)
    assert message.startswith(f"{key}: "), message
    assert "\n" not in message
    for name in names:
        assert name in message, (name, message)


def test_every_key_has_its_place():
    assert {key for key, _ in keys(DEFAULTS)} == {*NAMES, *FEATURES, *FREE}
    assert set(CONVENTIONS) == set(_BY_NAME)


@pytest.mark.parametrize("key", NAMES)
def test_unknown_name(key):
    path, options, names = NAMES[key]
    default = dict(keys(DEFAULTS))[key]
    wrong = "nonsense" if isinstance(default, str) else ["nonsense"]
    refused(check_start, key, load_config(path, [*options, key, wrong]), names)


@pytest.mark.parametrize("key", NUMBERS)
def test_unknown_number(key):
    path, wrong, numbers = NUMBERS[key]
    refused(check_start, key, load_config(path, [key, wrong]), numbers)


@pytest.mark.parametrize("key", FEATURES)
def test_unknown_feature(key):
    path, names = FEATURES[key]
    refused(build_model, key, load_config(path, [key, ["nonsense"]]), names)


def test_a_part_of_the_users():
    """Registered by --import, it is known; keys that it may read otherwise are not looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registries.PROPOSAL_GENERATORS._entries, "mine", object)
        options = ["MODEL.PROPOSAL_GENERATOR.NAME", "mine", "MODEL.ANCHOR_GENERATOR.NAME", "mine"]
        cfg = load_config(JOINT, options)
        check_model(cfg)
        check_names(cfg)
    with pytest.raises(InputError, match=r"^MODEL\.PROPOSAL_GENERATOR\.NAME: 'mine' "):
        check_names(cfg)


def test_names_are_registered_where_they_are_said_to_be():
    """A registry knows the names of what it has not imported yet."""
    for registry in vars(registries).values():
        if isinstance(registry, registries.Registry):
            assert sorted(registry) == sorted(registry._names)
