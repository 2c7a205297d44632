"""LazyConfigs become the same models: names and shapes, and the zoo's configurations."""

from __future__ import annotations

# ruff: noqa: E501 - messages and pieces of YAML, a line each
import pytest
import tensorflow as tf

from convert_d2.lazy_config.conversion import read_lazy_config
from tests.support.lazy_configs import BASELINES, FOLDER, NAMES, changed, recorded
from tests.support.paths import ROOT
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.config.capabilities import capabilities
from tfdetect.config.checks import check_model
from tfdetect.config.ignored import ignored_in_training
from tfdetect.config.training_checks import check_training
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model


def converted(name, opts=()):
    """The configuration of a recorded file, with its recorded state dict's shapes."""
    shapes = {key: tuple(shape) for key, shape in recorded("state_dicts")[name].items()}
    return read_lazy_config(FOLDER / f"{name}.yaml").configuration(opts, shapes)[0]


def of_text(tmp_path, text, opts=(), shapes=None):
    """The configuration of a text, and the notes on it."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    lazy = read_lazy_config(path)
    cfg, _ = lazy.configuration(opts, shapes)
    return cfg, lazy.notes


def refusal(tmp_path, *changes, name="mask_rcnn_R_50_FPN_1x_with_overrides"):
    """The message for a changed file, without its name."""
    with pytest.raises(InputError) as caught:
        of_text(tmp_path, changed(name, *changes))
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path / 'config.yaml'}: ")


def names_and_shapes(cfg):
    """Of the variables of a configuration's model."""
    with tf.device("cpu"):
        model = build_model(cfg)
    return {named.name: list(named.foreign_shape) for named in named_variables(model)}


def without_counters(shapes):
    """A state dict without the counters of PyTorch's BatchNorm, which nothing reads."""
    return {key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}


def test_eleven():
    assert len(NAMES) == 11


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes(name):
    cfg = converted(name)
    check_model(cfg)
    assert names_and_shapes(cfg) == without_counters(recorded("state_dicts")[name])


def test_fcos():
    """Names and shapes, and the constructors' defaults. Detectron2 has no YAML of it."""
    lazy = read_lazy_config(FOLDER / "more" / "fcos_R_50_FPN_1x.yaml")
    assert lazy.notes == []
    cfg, _ = lazy.configuration()
    check_model(cfg)
    check_training(cfg)
    assert names_and_shapes(cfg) == recorded("more/state_dicts")["fcos_R_50_FPN_1x"]
    fcos = cfg.MODEL.FCOS
    assert (fcos.OFFSET, fcos.NORMALIZE_BY_SIZE, fcos.CENTER_SAMPLING_RADIUS) == (0.5, True, 1.5)
    assert (fcos.SCORE_THRESH_TEST, fcos.NMS_THRESH_TEST, fcos.NORM) == (0.2, 0.6, "GN")
    zoo = load_config("COCO-Detection/fcos_R_50_FPN_1x").MODEL
    for section in ("FCOS", "FPN", "RESNETS"):
        assert differences(cfg.MODEL[section], zoo[section]) == {}


def test_rotated():
    """A user's file of rotated boxes, from common/models/mask_rcnn_fpn.py."""
    lazy = read_lazy_config(FOLDER / "more" / "rotated_faster_rcnn_R_50_FPN.yaml")
    assert [note.partition(": ")[2] for note in lazy.notes] == [
        "is missing; training would take the defaults of the configuration"
    ] * 4
    cfg, _ = lazy.configuration()
    model = cfg.MODEL
    assert (model.PROPOSAL_GENERATOR.NAME, model.ROI_HEADS.NAME) == ("RRPN", "RROIHeads")
    assert model.ANCHOR_GENERATOR.NAME == "RotatedAnchorGenerator"
    assert model.ANCHOR_GENERATOR.ANGLES == [[-90, -60, -30, 0, 30, 60]]
    assert model.RPN.BBOX_REG_WEIGHTS == (1, 1, 1, 1, 1)
    assert model.ROI_BOX_HEAD.BBOX_REG_WEIGHTS == (10, 10, 5, 5, 1)
    assert (model.ROI_BOX_HEAD.POOLER_TYPE, model.MASK_ON) == ("ROIAlignRotated", False)
    assert names_and_shapes(cfg) == without_counters(
        recorded("more/state_dicts")["rotated_faster_rcnn_R_50_FPN"]
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{eps: 1.0e-06}", "{eps: 1.0e-05}", "net.norm_layer: is LayerNorm with eps 1e-05; only eps 1e-06 is supported"),
        ("{eps: 1.0e-06}", "{eps: 1.0e-06, bias: false}", "net.norm_layer: is functools.partial of torch.nn.modules.normalization.LayerNorm; only LayerNorm with eps 1e-06 is supported"),
        ("      num_heads: 12", "      act_layer: !!python/name:torch.nn.modules.activation.ReLU ''\n      num_heads: 12", "net.act_layer: is torch.nn.modules.activation.ReLU; only torch.nn.GELU is supported"),
        ("      num_heads: 12", "      in_chans: 4\n      num_heads: 12", "net.in_chans: is 4, but images have three channels here; give 3"),
        ("    top_block: {_target_: detectron2.modeling.backbone.fpn.LastLevelMaxPool}\n", "", "top_block: is None; give LastLevelMaxPool"),
    ],
)  # fmt: skip
def test_vitdet_refusals(old, new, message, tmp_path):
    assert (
        refusal(tmp_path, (old, new), name="vitdet_b_mask_rcnn_100ep")
        == f"model.backbone.{message}"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr_decay_rate: 0.7, num_layers: 12", "lr_decay_rate: 0.7, num_layers: 24", "optimizer.params.lr_factor_func: is for num_layers 24, but the backbone has 12 blocks; without layer decay"),
        ("lr_decay_rate: 0.7, num_layers: 12", "rate: 0.7", "optimizer.params.lr_factor_func: functools.partial of detectron2.modeling.backbone.vit.get_vit_lr_decay_rate has no counterpart in training"),
        ("pos_embed: {weight_decay: 0.0}", "pos_embed: {lr: 0.0}", "optimizer.params.overrides: a mapping has no counterpart in training"),
    ],
)  # fmt: skip
def test_training_of_vitdet_without_counterpart(old, new, message, tmp_path):
    _, notes = of_text(tmp_path, changed("vitdet_b_mask_rcnn_100ep", (old, new)))
    assert [note for note in notes if note.startswith("optimizer.")] == [message]


def differences(cfg, other, prefix=""):
    """Key -> both values where two configurations differ."""
    found = {}
    for key, value in cfg.items():
        if isinstance(value, dict):
            found |= differences(value, other[key], f"{prefix}{key}.")
        elif value != other[key]:
            found[prefix + key] = value, other[key]
    return found


@pytest.mark.parametrize(
    "name", ["mask_rcnn_R_50_FPN_100ep_LSJ", "mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ"]
)
def test_new_baselines_are_the_zoos(name):
    zoo = load_config(ROOT / "configs" / "new_baselines" / f"{name}.yaml")
    unused = {"MODEL.RESNETS.NORM", "MODEL.RESNETS.OUT_FEATURES"} if "regnet" in name else set()
    found = differences(converted(name), zoo)
    assert {key: both for key, both in found.items() if key not in unused} == {
        # LazyConfig's trainer keeps a hundred; the zoo's has this project's default.
        "SOLVER.CHECKPOINTS_KEPT": (100, 5),
        # Neither has an effect with LARGE_SCALE_JITTER, and LazyConfig does not have it.
        "INPUT.MIN_SIZE_TRAIN": ((800,), (640, 672, 704, 736, 768, 800)),
    }


@pytest.mark.parametrize(
    ("name", "zoo", "expected"),
    [
        ("retinanet_R_50_FPN_1x", "COCO-Detection/retinanet_R_50_FPN_1x", {}),
        # The zoo's has a mask head that is switched off.
        (
            "keypoint_rcnn_R_50_FPN_1x",
            "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
            {"MODEL.ROI_MASK_HEAD.NUM_CONV": (0, 4)},
        ),
        ("panoptic_fpn_R_50_1x", "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x", {}),
        ("mask_rcnn_R_50_C4_1x", "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x", {}),
    ],
)
def test_models_are_the_zoos(name, zoo, expected):
    """MODEL and INPUT, which both kinds of configuration of one model say."""
    cfg, other = converted(name), load_config(zoo)
    for section in ("MODEL", "INPUT"):
        found = differences(cfg[section], other[section], f"{section}.")
        if section == "MODEL" and cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
            found = {
                key: both
                for key, both in found.items()
                if not key.startswith(("MODEL.ROI_", "MODEL.RPN"))
            }
        assert found == (expected if section == "MODEL" else {})


def test_overrides():
    cfg = converted("mask_rcnn_R_50_FPN_1x_with_overrides")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.2
    assert cfg.MODEL.WEIGHTS == "/data/model_final.pth"
    assert cfg.OUTPUT_DIR == "/data/out"
    assert cfg.SOLVER.IMS_PER_BATCH == 4


def test_own_file():
    """freeze_at is left out, so nothing is frozen; the schedule is for 270000 iterations of which
    90000 are run, so its steps come at a third."""
    cfg = converted("cascade_rcnn_own_file")
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0
    assert cfg.MODEL.ROI_HEADS.NAME == "CascadeROIHeads"
    assert cfg.MODEL.ROI_BOX_CASCADE_HEAD.IOUS == (0.5, 0.6, 0.7)
    assert cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS == (
        (10, 10, 5, 5),
        (20, 20, 10, 10),
        (30, 30, 15, 15),
    )
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (90000, (70000, 83334))
    assert cfg.SOLVER.WARMUP_ITERS == 333


def test_constructors_defaults_are_not_yacs(tmp_path):
    """What a file leaves out is what Detectron2's constructor has by default."""
    text = changed(
        "mask_rcnn_R_50_FPN_1x_with_overrides",
        ("      offset: 0.0\n", ""),
        ("depth: 50, norm: FrozenBN, stride_in_1x1: true", "depth: 50"),
        ("in_channels: 3, norm: FrozenBN, out_channels: 64", "in_channels: 3"),
        ("      test_score_thresh: 0.2\n", ""),
    )
    cfg, _ = of_text(tmp_path, text)
    assert cfg.MODEL.ANCHOR_GENERATOR.OFFSET == 0.5
    assert (cfg.MODEL.RESNETS.NORM, cfg.MODEL.RESNETS.STRIDE_IN_1X1) == ("BN", False)
    assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.0


def test_parts_that_are_left_out_or_changed(tmp_path):
    name = "mask_rcnn_R_50_FPN_1x_with_overrides"
    stages = "stages: {_target_: detectron2.modeling.ResNet.make_default_stages, depth: 50, norm: FrozenBN, stride_in_1x1: true}"
    text = changed(name)
    start, end = text.index("    mask_head:"), text.index("    num_classes: 3")
    cfg, _ = of_text(tmp_path, text[:start] + text[end:])
    assert not cfg.MODEL.MASK_ON
    cfg, _ = of_text(tmp_path, changed(name, ("depth: 50, ", "depth: 50, num_groups: 32, ")))
    assert (cfg.MODEL.RESNETS.NUM_GROUPS, cfg.MODEL.RESNETS.WIDTH_PER_GROUP) == (32, 2)
    # ResNeXt-101 32x8d with deformable stages, which only single stages can express.
    lines = ["stages:"]
    for index, count in enumerate((3, 4, 23, 3)):
        block = "BottleneckBlock" if index < 2 else "DeformBottleneckBlock"
        out = 256 * 2**index
        strides = [1 if index == 0 else 2] + [1] * (count - 1)
        lines.append(
            "      - {_target_: detectron2.modeling.ResNet.make_stage, block_class: !!python/name:"
            f"detectron2.modeling.backbone.resnet.{block} '', num_blocks: {count}, in_channels: "
            f"{64 if index == 0 else out // 2}, bottleneck_channels: {out}, out_channels: {out}, "
            f"num_groups: 32, stride_per_block: {strides}, norm: FrozenBN, stride_in_1x1: false"
            + (", deform_modulated: true}" if index >= 2 else "}")
        )
    cfg, _ = of_text(tmp_path, changed(name, (stages, "\n".join(lines))))
    resnets = cfg.MODEL.RESNETS
    assert (resnets.DEPTH, resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP) == (101, 32, 8)
    assert resnets.DEFORM_ON_PER_STAGE == [False, False, True, True]
    assert resnets.DEFORM_MODULATED
    start, end = text.index("  proposal_generator:"), text.index("  roi_heads:")
    cfg, _ = of_text(tmp_path, text[:start] + "  proposal_generator: null\n" + text[end:])
    assert cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals"
    # What the object of a shape says is what a call of its class says.
    spec = "!!python/object:detectron2.layers.shape_spec.ShapeSpec {channels: 1024, height: null, stride: null, width: null}"
    cfg, _ = of_text(tmp_path, changed(name, (spec, "1024")))
    assert cfg == of_text(tmp_path, text)[0]


CONTRADICTIONS = [
    (("    batch_size_per_image: 512", "    batch_size_per_image: x"), "model.roi_heads.batch_size_per_image: is x; give an integer"),
    (("[0.25, 0.125, 0.0625, 0.03125]", "[0.25, 0.125, 0.0625, 0.0625]"), "model.roi_heads.box_pooler.scales: is [0.25, 0.125, 0.0625, 0.0625], but the strides"),
    (("strides: [4, 8, 16, 32, 64]", "strides: [4, 8, 16, 32, 32]"), "model.proposal_generator.anchor_generator.strides: is [4, 8, 16, 32, 32], but"),
    (("num_anchors: 3", "num_anchors: 9"), "model.proposal_generator.head.num_anchors: is 9, but the anchor generator has 3"),
    (("StandardRPNHead, in_channels: 256", "StandardRPNHead, in_channels: 128"), "head.in_channels: is 128, but the feature maps have 256"),
    (("{channels: 256, height: 7,", "{channels: 128, height: 7,"), "box_head.input_shape: has channels 128, but the layer before has 256"),
    (("output_size: 7", "output_size: 14"), "box_head.input_shape: is 7 x 7, but the pooler's output_size is 14"),
    (("{channels: 1024, height: null", "{channels: 512, height: null"), "box_predictor.input_shape: is of 512 numbers, but the layers before give 1024"),
    (("fc_dims: [1024, 1024]", "fc_dims: [1024, 512]"), "box_head.fc_dims: is [1024, 512]; all must be equal"),
    (("conv_dims: [256, 256, 256, 256, 256]", "conv_dims: [256, 128]"), "mask_head.conv_dims: is [256, 128]; give one or more, all equal"),
    (("mask_in_features: [p2, p3, p4, p5]", "mask_in_features: [p2, p3]"), "model.roi_heads.mask_in_features: is ['p2', 'p3'], but model.roi_heads.box_in_features is ['p2', 'p3', 'p4', 'p5']; here both are MODEL.ROI_HEADS.IN_FEATURES"),
    (("norm: FrozenBN, out_channels: 64", "norm: GN, out_channels: 64"), "here both are MODEL.RESNETS.NORM, so make them equal"),
    (("input_format: BGR", "input_format: RGB"), "dataloader.train.mapper.image_format: is BGR, but model.input_format is RGB; here both are INPUT.FORMAT"),
    (("in_features: ${.bottom_up.out_features}", "in_features: [res2, res6]"), "model.backbone.in_features: 'res6' is not among"),
    (("top_block: {_target_: detectron2.modeling.backbone.fpn.LastLevelMaxPool}", "top_block: null"), "model.backbone.top_block: an FPN without one is not supported"),
    (("pooler_type: ROIAlignV2", "pooler_type: ROIAlignV2\n      canonical_level: 5"), "box_pooler.canonical_level: is 5, but other levels are not supported"),
    (("pooler_type: ROIAlignV2", "pooler_type: ROIAlignV2\n      mine: 5"), "box_pooler.mine: Detectron2's ROIPooler has no such argument, or none with a counterpart here"),
    (("depth: 50", "depth: 42"), "stages.depth: 42 is not one of 18, 34, 50, 101, 152"),
    (("depth: 50, ", "depth: 50, dilation: 2, "), "stages: dilation of res2 is 2; MODEL.RESNETS can only describe"),
    (("norm: FrozenBN", "norm: XN"), "the norm XN is not supported"),
    (("    num_classes: 3\n", ""), "there is no num_classes in model.roi_heads"),
    (("    num_classes: 3", "    num_classes: '???'"), "model.roi_heads.num_classes: is ???"),
    (("_target_: detectron2.modeling.StandardROIHeads", "_target_: mine.Heads"), "model.roi_heads: mine.Heads is not one of the classes of Detectron2"),
    (("_target_: detectron2.modeling.StandardROIHeads", "_target_: detectron2.modeling.FPN"), "model.roi_heads: detectron2.modeling.backbone.fpn.FPN is a backbone; give RoI heads"),
    (("_target_: detectron2.modeling.GeneralizedRCNN", "_target_: detectron2.modeling.mmdet_wrapper.MMDetDetector"), "model: detectron2.modeling.mmdet_wrapper.MMDetDetector needs mmdetection"),
    (("\nmodel:", "\nmodle:"), "model: is missing"),
    (("weights: [10, 10, 5, 5]", "weights: [10, 10]"), "box2box_transform.weights: is [10, 10]; give 4 numbers"),
    (("box2box_transform:\n        _target_: detectron2.modeling.box_regression.Box2BoxTransform", "box2box_transform: 5\n      x: {_target_: a, "), "not YAML"),
    (("pixel_std: [1.0, 1.0, 1.0]", "pixel_std: [1.0, .nan, 1.0]"), "model.pixel_std: is [1.0, nan, 1.0]; give a list of numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CONTRADICTIONS, ids=range(len(CONTRADICTIONS)))
def test_contradictions_are_named(change, expected, tmp_path):
    assert expected in refusal(tmp_path, change)


def test_cascade_is_checked(tmp_path):
    name = "cascade_rcnn_own_file"
    assert "cls_agnostic_bbox_reg: is false; a cascade needs true" in refusal(
        tmp_path, ("cls_agnostic_bbox_reg: true", "cls_agnostic_bbox_reg: false"), name=name
    )
    assert "proposal_matchers[0]: give one threshold" in refusal(
        tmp_path, ("thresholds: [0.5]", "thresholds: [0.4, 0.5]"), name=name
    )
    # Thresholds are the last stage's, as in Detectron2; of the others nothing is said.
    text = changed(name)
    head, _, tail = text.rpartition("test_score_thresh: 0.05")
    cfg, _ = of_text(tmp_path, f"{head}test_score_thresh: 0.3{tail}")
    assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.3


def test_norms_as_objects(tmp_path):
    name = "mask_rcnn_R_50_FPN_100ep_LSJ"
    lambda_tag = "&id001 !!python/name:None.%3Clambda%3E ''"
    partial = (
        "&id001 !!python/object/apply:functools.partial {args: [&f !!python/name:"
        "detectron2.layers.batch_norm.NaiveSyncBatchNorm ''], state: !!python/tuple [*f, "
        "!!python/tuple [], {stats_mode: N}, null]}"
    )
    for norm, expected in (
        (partial, "naiveSyncBN_N"),
        (partial.replace("stats_mode: N", "stats_mode: ''"), "naiveSyncBN"),
        ("&id001 !!python/name:torch.nn.modules.batchnorm.BatchNorm2d ''", "BN"),
        ("&id001 !!python/name:detectron2.layers.FrozenBatchNorm2d ''", "FrozenBN"),
        ("&id001 null", ""),
    ):
        cfg, _ = of_text(tmp_path, changed(name, (lambda_tag, norm)))
        assert expected == cfg.MODEL.ROI_BOX_HEAD.NORM == cfg.MODEL.ROI_MASK_HEAD.NORM
    message = refusal(
        tmp_path, (lambda_tag, partial.replace("stats_mode: N", "eps: 0.1")), name=name
    )
    assert "model.roi_heads.box_head.conv_norm: the norm functools.partial of" in message


def test_lambdas_follow_from_the_checkpoint():
    name = "mask_rcnn_R_50_FPN_100ep_LSJ"
    shapes = {key: tuple(shape) for key, shape in recorded("state_dicts")[name].items()}
    lazy = read_lazy_config(FOLDER / f"{name}.yaml")
    cfg, notes = lazy.configuration((), shapes)
    assert cfg.MODEL.ROI_BOX_HEAD.NORM == cfg.MODEL.ROI_MASK_HEAD.NORM == "naiveSyncBN_N"
    assert [note.partition(":")[0] for note in notes] == [
        "model.roi_heads.box_head.conv_norm",
        "model.roi_heads.mask_head.conv_norm",
    ]
    # Without norms in the heads there was none; a norm without statistics may be any.
    none = {
        key: shape for key, shape in shapes.items() if "roi_heads" not in key or ".norm." not in key
    }
    assert lazy.configuration((), none)[0].MODEL.ROI_BOX_HEAD.NORM == ""
    other = {
        key: shape
        for key, shape in shapes.items()
        if "roi_heads" not in key or "running" not in key
    }
    other = {key: shape for key, shape in other.items() if "num_batches" not in key}
    with pytest.raises(InputError, match=r"does not show which norm it made; give it with --opts"):
        lazy.configuration((), other)
    opts = ["MODEL.ROI_BOX_HEAD.NORM", "GN", "MODEL.ROI_MASK_HEAD.NORM", "GN"]
    cfg, notes = lazy.configuration(opts, other)
    assert (cfg.MODEL.ROI_BOX_HEAD.NORM, cfg.MODEL.ROI_MASK_HEAD.NORM, notes) == ("GN", "GN", [])


@pytest.mark.parametrize("name", BASELINES)
def test_trainable_configurations_pass_training_checks(name):
    """No note on the recorded files but these; and nothing in the result has no effect."""
    lazy = read_lazy_config(FOLDER / f"{name}.yaml")
    expected = {
        "mask_rcnn_R_50_FPN_100ep_LSJ": ["train.ddp.fp16_compression: True has no counterpart"],
        "mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ": ["train.ddp.fp16_compression: True has no"],
        "cascade_rcnn_own_file": ["lr_multiplier.warmup_length: is 333.33 iterations"],
    }.get(name, [])
    assert len(lazy.notes) == len(expected)
    assert all(map(str.startswith, lazy.notes, expected))
    cfg = converted(name)
    if capabilities(cfg).trainable:
        check_training(cfg)
    # TensorFlow's own choice, which the zoo's configurations of RegNets say too.
    lines = [line for line in ignored_in_training(cfg) if not line.startswith("CUDNN_BENCHMARK")]
    assert lines == []
