"""What values of each key are rejected, what Detectron2 gives a special meaning to and so do we.

The refusals are Detectron2's assertions (`DefaultAnchorGenerator`, `ROIPooler`, `Matcher`,
`RetinaNetHead`, fvcore's schedules, torch.optim.SGD), and values that end there in an error of
PyTorch or a loss that is NaN. What needs the model to be built is in tests/modeling.
"""

from __future__ import annotations

import math

import pytest

from tests.support.paths import DEMO, ROOT
from tfdetect.config import load_config
from tfdetect.config.checks import check_model, model_sections
from tfdetect.config.defaults import DEFAULTS
from tfdetect.config.ignored import ignored_in_prediction, ignored_in_training
from tfdetect.config.training_checks import WITHOUT_LAYERS, check_output, check_training
from tfdetect.data.training.augmentation import build_augmentation
from tfdetect.errors import InputError
from tfdetect.modeling.registries import BACKBONES
from tfdetect.training.schedule import learning_rate

JOINT = DEMO / "joint_rcnn" / "config.yaml"
RETINANET = ROOT / "configs" / "COCO-Detection" / "retinanet_R_50_FPN_1x.yaml"
FCOS = RETINANET.with_name("fcos_R_50_FPN_1x.yaml")
CASCADE = ROOT / "configs" / "Misc" / "cascade_mask_rcnn_R_50_FPN_1x.yaml"
PANOPTIC = ROOT / "configs" / "COCO-PanopticSegmentation" / "panoptic_fpn_R_50_1x.yaml"
FAST = ROOT / "configs" / "COCO-Detection" / "fast_rcnn_R_50_FPN_1x.yaml"


EVALUATED = {"DATASETS.TEST": "('val',)", "TEST.EVAL_PERIOD": 5}
STOPS = {"TRAIN.EARLY_STOP.METRIC": "bbox/AP"}
CLIP = "SOLVER.CLIP_GRADIENTS"
CLIPS = {f"{CLIP}.ENABLED": True}
NO_CLIPPING = [
    *(("CLIP_TYPE", "median"), ("NORM_TYPE", 0.0)),
    *(("CLIP_VALUE", value) for value in (0.0, -1.0, math.nan, None)),
]


def check_all(cfg):
    """What train.py asks of a configuration before TensorFlow is loaded."""
    check_model(cfg)
    check_output(cfg)
    check_training(cfg)
    learning_rate(cfg, 0)
    build_augmentation(cfg)


def refusal(check, path, *opts) -> str:
    with pytest.raises(InputError) as caught:
        check(load_config(path, opts))
    assert "\n" not in str(caught.value)
    return str(caught.value)


MODEL_REFUSED = [
    (JOINT, "MODEL.PIXEL_MEAN", [120.0]),
    (JOINT, "MODEL.PIXEL_MEAN", []),
    (JOINT, "MODEL.PIXEL_MEAN", [1.0, 2.0, 3.0, 4.0]),
    (JOINT, "MODEL.PIXEL_MEAN", [[1.0, 2.0, 3.0]]),
    (JOINT, "MODEL.PIXEL_MEAN", [1.0, 2.0, math.nan]),
    (JOINT, "MODEL.PIXEL_STD", [1.0, 1.0]),
    (JOINT, "MODEL.PIXEL_STD", [1.0, 1.0, 0.0]),
    (JOINT, "MODEL.ANCHOR_GENERATOR.OFFSET", 1.0),
    (JOINT, "MODEL.ANCHOR_GENERATOR.OFFSET", -0.1),
    (JOINT, "MODEL.ANCHOR_GENERATOR.OFFSET", math.nan),
    (JOINT, "MODEL.RPN.PRE_NMS_TOPK_TEST", -1),
    (JOINT, "MODEL.RPN.POST_NMS_TOPK_TEST", -1),
    (JOINT, "MODEL.RPN.BBOX_REG_WEIGHTS", [1.0, 1.0]),
    (JOINT, "MODEL.RPN.BBOX_REG_WEIGHTS", [1.0, 1.0, 1.0, 0.0]),
    (JOINT, "MODEL.RPN.CONV_DIMS", [0]),
    (JOINT, "MODEL.RPN.CONV_DIMS", [-1, -2]),
    (JOINT, "MODEL.ROI_HEADS.NUM_CLASSES", 0),
    (JOINT, "MODEL.ROI_HEADS.NUM_CLASSES", -1),
    (JOINT, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", math.nan),
    (JOINT, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 0),
    (JOINT, "MODEL.ROI_BOX_HEAD.FC_DIM", 0),
    (JOINT, "MODEL.ROI_BOX_HEAD.NUM_FC", -1),
    (JOINT, "MODEL.ROI_MASK_HEAD.CONV_DIM", -1),
    (JOINT, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 0),
    (JOINT, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [-1]),
    (JOINT, "MODEL.RESNETS.NUM_GROUPS", 0),
    (JOINT, "MODEL.RESNETS.STEM_OUT_CHANNELS", -64),
    (JOINT, "MODEL.FPN.OUT_CHANNELS", 0),
    (JOINT, "INPUT.MIN_SIZE_TEST", -1),
    (JOINT, "INPUT.MAX_SIZE_TEST", 0),
    (RETINANET, "MODEL.RETINANET.NUM_CONVS", 0),
    (RETINANET, "MODEL.RETINANET.NUM_CLASSES", 0),
    (RETINANET, "MODEL.RETINANET.PRIOR_PROB", 0.0),
    (RETINANET, "MODEL.RETINANET.PRIOR_PROB", 1.0),
    (FCOS, "MODEL.FCOS.PRIOR_PROB", math.nan),
    (FCOS, "MODEL.FCOS.NUM_CONVS", 0),
    (FCOS, "MODEL.FCOS.NUM_CLASSES", -1),
    (FCOS, "MODEL.FCOS.OFFSET", 1.0),
    (FCOS, "MODEL.FCOS.SCORE_THRESH_TEST", math.nan),
    (FCOS, "MODEL.FCOS.TOPK_CANDIDATES_TEST", -1),
    (FCOS, "TEST.DETECTIONS_PER_IMAGE", -1),
    (RETINANET, "TEST.DETECTIONS_PER_IMAGE", -1),
    (CASCADE, "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", []),
    (CASCADE, "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", [[1.0, 1.0]]),
    (PANOPTIC, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 0),
]
TRAINING_REFUSED = [
    ("OUTPUT_DIR", ""),
    ("OUTPUT_DIR", "hdfs://host/folder"),
    ("SOLVER.MAX_ITER", 0),
    ("SOLVER.BASE_LR", -0.1),
    ("SOLVER.BASE_LR", math.inf),
    ("SOLVER.OPTIMIZER", "adamw"),
    ("SOLVER.BETAS", (0.9, 1.0)),
    ("SOLVER.BETAS", (0.9,)),
    ("SOLVER.LAYER_DECAY", 0.0),
    ("SOLVER.LAYER_DECAY", 1.1),
    ("SOLVER.LAYER_DECAY", math.nan),
    ("SOLVER.WEIGHT_DECAY_OVERRIDES", ["pos_embed", 0.0]),
    ("SOLVER.WEIGHT_DECAY_OVERRIDES", [["pos_embed", -0.1]]),
    ("SOLVER.WEIGHT_DECAY_OVERRIDES", [["pos_embed", "none"]]),
    ("SOLVER.WEIGHT_DECAY_OVERRIDES", [["net.pos_embed", 0.0]]),
    ("SOLVER.WEIGHT_DECAY_OVERRIDES", [["pos_embed", 0.0], ["pos_embed", 0.1]]),
    ("SOLVER.MOMENTUM", -0.5),
    ("SOLVER.WEIGHT_DECAY", -1.0),
    ("SOLVER.WEIGHT_DECAY_NORM", -1.0),
    ("SOLVER.WEIGHT_DECAY_BIAS", -1.0),
    ("SOLVER.STEPS", (-1,)),
    ("SOLVER.STEPS", (0, 5)),
    ("SOLVER.STEPS", (5, 5)),
    ("SOLVER.STEPS", (9, 5)),
    ("SOLVER.WARMUP_ITERS", -1),
    ("SOLVER.WARMUP_METHOD", "burnin"),
    ("SOLVER.LR_SCHEDULER_NAME", ""),
    ("SOLVER.CHECKPOINT_PERIOD", -1),
    ("SOLVER.CHECKPOINTS_KEPT", -1),
    ("SOLVER.LOG_PERIOD", 0),
    ("SOLVER.IMS_PER_BATCH", 0),
    ("SOLVER.ACCUMULATION_STEPS", 0),
    ("SOLVER.REFERENCE_WORLD_SIZE", -1),
    ("DATALOADER.NUM_WORKERS", -1),
    ("DATALOADER.REPEAT_THRESHOLD", -0.1),
    ("DATALOADER.SAMPLER_TRAIN", "Sampler"),
    ("DATALOADER.RANDOM_SUBSET_RATIO", 0.0),
    ("DATALOADER.RANDOM_SUBSET_RATIO", 1.1),
    ("DATASETS.TRAIN_REPEAT_FACTOR", ["a", 2.0]),
    ("DATASETS.TRAIN_REPEAT_FACTOR", [["a", 0.0]]),
    ("DATASETS.TRAIN_REPEAT_FACTOR", [["a", "b"]]),
    ("DATASETS.TRAIN_REPEAT_FACTOR", [[2.0, "a"]]),
    ("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", -1),
    ("INPUT.MIN_SIZE_TRAIN", ()),
    ("INPUT.MIN_SIZE_TRAIN", (-8,)),
    ("INPUT.MIN_SIZE_TRAIN", (8.5,)),
    ("INPUT.MAX_SIZE_TRAIN", 0),
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", ""),
    ("INPUT.RANDOM_FLIP", ""),
    ("MODEL.RPN.IOU_THRESHOLDS", []),
    ("MODEL.RPN.IOU_THRESHOLDS", [0.7, 0.3]),
    ("MODEL.RPN.IOU_THRESHOLDS", [0.0, 0.3]),
    ("MODEL.RPN.IOU_LABELS", [0, 1]),
    ("MODEL.RPN.IOU_LABELS", [0, 2, 1]),
    ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 0),
    ("MODEL.RPN.POSITIVE_FRACTION", 1.5),
    ("MODEL.RPN.PRE_NMS_TOPK_TRAIN", -1),
    ("MODEL.ROI_HEADS.IOU_LABELS", []),
    ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", -1),
    ("MODEL.ROI_HEADS.POSITIVE_FRACTION", -0.5),
    ("TRAIN.HOOKS", ["Mine", "Mine"]),
    ("TRAIN.HOOKS", [3]),
    ("TRAIN.HOOKS", [["Mine"]]),
    ("TRAIN.WRITERS", ["tensorboard"]),
    ("TRAIN.WRITERS", ["wandb", "wandb"]),
]
# Each has a meaning in Detectron2: see the comments in tfdetect/config/*checks.py.
ACCEPTED = [
    ("MODEL.WEIGHTS", None),
    ("MODEL.WEIGHTS", ""),
    ("MODEL.BACKBONE.FREEZE_AT", 0),
    ("MODEL.BACKBONE.FREEZE_AT", -1),
    ("MODEL.BACKBONE.FREEZE_AT", 9),
    ("MODEL.FPN.NORM", None),
    ("MODEL.RESNETS.NORM", None),
    ("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", -1),
    ("MODEL.RPN.BOUNDARY_THRESH", -1),
    ("MODEL.RPN.CONV_DIMS", [-1, -1]),
    ("MODEL.RPN.CONV_DIMS", []),
    ("MODEL.RPN.SMOOTH_L1_BETA", -1.0),
    ("MODEL.RPN.NMS_THRESH", 1.5),
    ("MODEL.RPN.LOSS_WEIGHT", 0.0),
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", -1.0),
    ("MODEL.ROI_HEADS.NMS_THRESH_TEST", -1.0),
    ("MODEL.ROI_HEADS.IOU_LABELS", [-1, 1]),
    ("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", -1),
    ("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", []),
    ("MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE", -1),
    ("TEST.DETECTIONS_PER_IMAGE", -1),
    ("TEST.DETECTIONS_PER_IMAGE", 0),
    ("TEST.KEYPOINT_OKS_SIGMAS", None),
    ("TEST.KEYPOINT_OKS_SIGMAS", []),
    ("TEST.EVAL_PERIOD", -1),
    ("TEST.EVAL_PERIOD", 0),
    ("VIS_PERIOD", -1),
    ("SEED", -5),
    ("INPUT.MIN_SIZE_TEST", 0),
    ("INPUT.MIN_SIZE_TRAIN", (0,)),
    ("DATASETS.TEST", ()),
    ("DATALOADER.NUM_WORKERS", 0),
    ("DATALOADER.REPEAT_THRESHOLD", 0.0),
    ("DATALOADER.RANDOM_SUBSET_RATIO", 1.0),
    ("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", 0),
    ("SOLVER.BASE_LR", 0.0),
    ("SOLVER.STEPS", ()),
    ("SOLVER.STEPS", (10**9,)),
    ("SOLVER.WARMUP_ITERS", 0),
    ("SOLVER.WARMUP_ITERS", 10**9),
    ("SOLVER.CHECKPOINT_PERIOD", 0),
    ("SOLVER.CHECKPOINTS_KEPT", 0),
    ("SOLVER.REFERENCE_WORLD_SIZE", 0),
    ("SOLVER.WEIGHT_DECAY_NORM", None),
    ("SOLVER.WEIGHT_DECAY_BIAS", None),
    ("SOLVER.BIAS_LR_FACTOR", None),
    ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", math.inf),
]
# (keys set, the key that the line begins with)
SAMPLING_RATIO = "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO"
IGNORED_IN_PREDICTION = [
    (JOINT, {"GLOBAL.HACK": 2.0}, "GLOBAL.HACK"),
    (JOINT, {"MODEL.LOAD_PROPOSALS": True}, "MODEL.LOAD_PROPOSALS"),
    (JOINT, {"DATASETS.PROPOSAL_FILES_TEST": ("x.pkl",)}, "DATASETS.PROPOSAL_FILES_TEST"),
    (FAST, {}, "DATASETS.PROPOSAL_FILES_TEST"),
    (JOINT, {"INPUT.MIN_SIZE_TEST": 2000}, "INPUT.MIN_SIZE_TEST"),
    (
        JOINT,
        {"MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool", SAMPLING_RATIO: 2},
        SAMPLING_RATIO,
    ),
    (RETINANET, {"MODEL.MASK_ON": True}, "MODEL.MASK_ON"),
    (RETINANET, {"MODEL.KEYPOINT_ON": True}, "MODEL.KEYPOINT_ON"),
    (PANOPTIC, {"MODEL.PANOPTIC_FPN.COMBINE.ENABLED": False}, "MODEL.PANOPTIC_FPN.COMBINE.ENABLED"),
]
IGNORED_IN_TRAINING = [
    {"CUDNN_BENCHMARK": True},
    {"SOLVER.STEPS": (60, 10**6)},
    {"SOLVER.BASE_LR_END": 0.0001},
    {"SOLVER.NUM_DECAYS": 4},
    {"SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.5},
    {"SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm"},
    {"SOLVER.AMP.DTYPE": "bfloat16"},
    {"DATALOADER.REPEAT_THRESHOLD": 0.001},
    {"DATALOADER.REPEAT_SQRT": False},
    {"DATALOADER.RANDOM_SUBSET_RATIO": 0.5},
    {"DATASETS.TRAIN_REPEAT_FACTOR": [["a", 2.0]]},
    {"INPUT.CROP.SIZE": [0.5, 0.5]},
    {"INPUT.CROP.ENABLED": True, "INPUT.LARGE_SCALE_JITTER.ENABLED": True},
    {"INPUT.LARGE_SCALE_JITTER.SIZE": 512},
    {"INPUT.MIN_SIZE_TRAIN": (640, 2000)},
    {"DATASETS.PROPOSAL_FILES_TRAIN": ("x.pkl",)},
    {"TEST.EVAL_PERIOD": 5},
    {"TEST.AUG.ENABLED": True},
    {"TEST.AUG.MIN_SIZES": (160,)},
    {"TEST.AUG.MAX_SIZE": 320},
    {"TEST.AUG.FLIP": False},
    {"TEST.PRECISE_BN.NUM_ITER": 5},
    {"TRAIN.EMA.DECAY": 0.5},
    {"MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 5},
]


def flat(options):
    return [word for pair in options.items() for word in pair]


@pytest.mark.parametrize(("path", "key", "value"), MODEL_REFUSED)
def test_refused_for_the_model(path, key, value):
    assert refusal(check_model, path, key, value).startswith(f"{key}: ")


@pytest.mark.parametrize(("key", "value"), TRAINING_REFUSED)
def test_refused_for_training(key, value):
    assert refusal(check_all, JOINT, key, value).startswith(f"{key}: ")
    check_model(load_config(JOINT, [key, value]))  # it is nothing to a prediction


@pytest.mark.parametrize(
    ("opts", "key"),
    [
        ({"SOLVER.NESTEROV": True, "SOLVER.MOMENTUM": 0.0}, "SOLVER.NESTEROV"),
        ({"SOLVER.IMS_PER_BATCH": 3, "SOLVER.ACCUMULATION_STEPS": 2}, "SOLVER.IMS_PER_BATCH"),
        (
            {"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR", "SOLVER.BASE_LR": 0.0},
            "SOLVER.BASE_LR",
        ),
        (
            {"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR", "SOLVER.BASE_LR_END": 1.0},
            "SOLVER.BASE_LR_END",
        ),
        *(({**CLIPS, f"{CLIP}.{key}": value}, f"{CLIP}.{key}") for key, value in NO_CLIPPING),
        ({"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": "float8"}, "SOLVER.AMP.DTYPE"),
        ({"SOLVER.LAYER_DECAY": 0.7}, "SOLVER.LAYER_DECAY"),
        ({"MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True}, "MODEL.ROI_BOX_HEAD.USE_FED_LOSS"),
        (
            {"TEST.EXPECTED_RESULTS": [["bbox", "AP", 1, 1]], "DATASETS.TEST": ()},
            "TEST.EXPECTED_RESULTS",
        ),
        ({"TRAIN.EMA.ENABLED": True, "TRAIN.EMA.DECAY": 1.0}, "TRAIN.EMA.DECAY"),
        ({"TRAIN.EMA.ENABLED": True, "TRAIN.EMA.DECAY": -0.1}, "TRAIN.EMA.DECAY"),
        ({"TRAIN.EMA.ENABLED": True, "TRAIN.EMA.DECAY": math.nan}, "TRAIN.EMA.DECAY"),
        ({"TRAIN.EMA.ENABLED": True, "TRAIN.EMA.DECAY": None}, "TRAIN.EMA.DECAY"),
        ({**EVALUATED, "TRAIN.BEST.METRIC": "a/b", "TRAIN.BEST.MODE": "up"}, "TRAIN.BEST.MODE"),
        ({**EVALUATED, "DATASETS.TEST": (), "TRAIN.BEST.METRIC": "a/b"}, "TRAIN.BEST.METRIC"),
        ({**EVALUATED, **STOPS, "TEST.EVAL_PERIOD": 0}, "TRAIN.EARLY_STOP.METRIC"),
        ({**EVALUATED, **STOPS, "TRAIN.EARLY_STOP.PATIENCE": 0}, "TRAIN.EARLY_STOP.PATIENCE"),
        ({**EVALUATED, **STOPS, "TRAIN.EARLY_STOP.MODE": None}, "TRAIN.EARLY_STOP.MODE"),
        ({"DATASETS.TRAIN_REPEAT_FACTOR": [["other", 2.0]]}, "DATASETS.TRAIN_REPEAT_FACTOR"),
        (
            {"MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals"},
            "MODEL.LOAD_PROPOSALS",
        ),
        ({"INPUT.CROP.ENABLED": True, "INPUT.CROP.SIZE": []}, "INPUT.CROP.SIZE"),
        ({"INPUT.CROP.ENABLED": True, "INPUT.CROP.SIZE": None}, "INPUT.CROP.SIZE"),
        (
            {"INPUT.MIN_SIZE_TRAIN_SAMPLING": "range", "INPUT.MIN_SIZE_TRAIN": (1, 2, 3)},
            "INPUT.MIN_SIZE_TRAIN",
        ),
    ],
)
def test_refused_together(opts, key):
    assert refusal(check_all, JOINT, *flat(opts)).startswith(f"{key}: ")


def test_layer_decay_is_refused_before_the_model_is_built():
    """Of the built-in backbones that know no layers: all but the ViTs. A user's is asked later."""
    able = {name for name in BACKBONES if "_vit_" in name}
    own = {name for name in BACKBONES if BACKBONES.get("", name).__module__.startswith("tfdetect.")}
    assert own - able == set(WITHOUT_LAYERS)
    for name in ("build_vit_simple_feature_pyramid_backbone", "build_my_backbone"):
        check_training(load_config(JOINT, ["SOLVER.LAYER_DECAY", 0.7, "MODEL.BACKBONE.NAME", name]))


@pytest.mark.parametrize(("key", "value"), ACCEPTED)
def test_special_values_are_accepted(key, value):
    check_all(load_config(JOINT, [key, value]))


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (RETINANET, "MODEL.RETINANET.IOU_LABELS", [0, 2, 1]),
        (RETINANET, "MODEL.RETINANET.IOU_LABELS", [0, 1]),
        (RETINANET, "MODEL.RETINANET.IOU_THRESHOLDS", [0.5, 0.4]),
        (RETINANET, "MODEL.RETINANET.FOCAL_LOSS_GAMMA", -1.0),
        (RETINANET, "MODEL.RETINANET.FOCAL_LOSS_ALPHA", math.inf),
        (FCOS, "MODEL.FCOS.FOCAL_LOSS_ALPHA", math.nan),
        (FCOS, "MODEL.FCOS.CENTER_SAMPLING_RADIUS", 0.0),
        (FCOS, "MODEL.FCOS.CENTER_SAMPLING_RADIUS", math.nan),
    ],
)
def test_refused_in_training_of_dense_detectors(path, key, value):
    assert refusal(check_all, path, key, value).startswith(f"{key}: ")


def test_channels_that_do_not_make_groups():
    message = refusal(check_model, FCOS, "MODEL.FPN.OUT_CHANNELS", 48)
    assert message.startswith("MODEL.FPN.OUT_CHANNELS: is 48, ")
    assert "MODEL.FCOS.NORM GN" in message


def test_parts_that_a_model_has_not_are_not_looked_at():
    """Detectron2 does not read them either."""
    cfg = load_config(JOINT, ["MODEL.RETINANET.NUM_CLASSES", 0, "MODEL.SEM_SEG_HEAD.NORM", "x"])
    check_model(cfg)
    check_model(load_config(RETINANET, ["MODEL.ROI_HEADS.NUM_CLASSES", 0]))


def keys(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_null_at_every_key():
    """It is rejected by name wherever a part that is there would read it, but where it means
    something."""
    meant = {"MODEL.WEIGHTS", "TEST.KEYPOINT_OKS_SIGMAS", "SOLVER.WEIGHT_DECAY_NORM"}
    meant |= {"SOLVER.WEIGHT_DECAY_BIAS", "SOLVER.BIAS_LR_FACTOR"}
    never_read = {"VERSION", "CUDNN_BENCHMARK", "GLOBAL.HACK"}
    sections = {f"MODEL.{section}" for section in model_sections(load_config(JOINT))}
    # Those of TRACKER_HEADS are read, and checked, by `tfdetect track` alone.
    read = {key for key in keys(DEFAULTS) if not key.startswith("TRACKER_HEADS.")} - never_read
    for key in read:
        section = key.rpartition(".")[0]
        if key.startswith("MODEL."):
            unused = section not in {"MODEL", *sections}
        else:  # the keys of what is not ENABLED
            unused = section.count(".") and not key.endswith(".ENABLED")
        if key in meant or key.endswith(".NORM") or unused:
            check_all(load_config(JOINT, [key, None]))
        else:
            assert key in refusal(check_all, JOINT, key, None).partition(" ")[0], key


@pytest.mark.parametrize(("path", "opts", "key"), IGNORED_IN_PREDICTION)
def test_without_effect_on_a_prediction(path, opts, key):
    base = ["DATASETS.PROPOSAL_FILES_TEST", "()", "INPUT.MAX_SIZE_TEST", 1333] if opts else []
    (line,) = ignored_in_prediction(load_config(path, [*base, *flat(opts)]))
    assert line.startswith(f"{key}: has no effect, ")


@pytest.mark.parametrize("opts", IGNORED_IN_TRAINING)
def test_without_effect_on_training(opts):
    base = ["DATASETS.TEST", "()", "TEST.EVAL_PERIOD", 0, "SOLVER.MAX_ITER", 100]
    base += ["SOLVER.STEPS", "(60,)", "TEST.EXPECTED_RESULTS", "[]"]
    assert ignored_in_training(load_config(JOINT, base)) == []
    (line,) = ignored_in_training(load_config(JOINT, [*base, *flat(opts)]))
    assert line.startswith(f"{next(iter(opts))}: has no effect, ")


def test_the_zoo_is_neither_rejected_nor_noted():
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        cfg = load_config(path)
        check_model(cfg)
        if path != FAST:
            assert ignored_in_prediction(cfg) == [], path
