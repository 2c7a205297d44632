"""The YAMLs of projects/ViTDet and MViTv2 have the values of Detectron2's Python configs."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.support.paths import DATA, ROOT
from tfdetect.config import load_config
from tfdetect.config.checks import check_model
from tfdetect.config.training_checks import check_training
from tfdetect.data.training.augmentation import build_augmentation

with gzip.open(DATA / "vitdet" / "settings.json.gz", "rt") as _file:
    RECORDED = json.load(_file)
# Of the classes that this project has one of each.
FIXED_ARGUMENTS = {
    "in_chans": 3,
    "rel_pos_zero_init": True,
    "out_feature": "last_feat",
    "drop_rate": 0.0,
    "attn_drop_rate": 0.0,
    "act_layer": {"_class_": "torch.nn.modules.activation.GELU"},
}
SECTIONS = {"ViT": "VIT", "SwinTransformer": "SWIN", "MViT": "MVIT"}
NAMES = {
    "ViT": "build_vit_simple_feature_pyramid_backbone",
    "SwinTransformer": "build_swin_fpn_backbone",
    "MViT": "build_mvit_fpn_backbone",
}
# The models whose backbones are here.
PRESENT = [name for name, row in RECORDED.items() if row["settings"]["backbone"] in NAMES]
NAIVE = {"norm": "NaiveSyncBatchNorm", "eps": 1e-5, "stats_mode": "N"}


def norm(name):
    return NAIVE if name == "naiveSyncBN_N" else name


def test_these_and_no_others():
    folders = ("ViTDet", "MViTv2")
    present = [path for folder in folders for path in (ROOT / "configs" / folder).rglob("*.yaml")]
    names = {str(path.relative_to(ROOT / "configs").with_suffix("")) for path in present}
    assert {name for name in names if "/Base-" not in name} == set(PRESENT)


def backbone_settings(cfg, recorded):
    """Those of the backbone and of what is on top of it."""
    kind = recorded["backbone"]
    model, section = cfg.MODEL, cfg.MODEL[SECTIONS[kind]]
    arguments = {}
    for name, value in recorded["backbone_arguments"].items():
        if name == "norm_layer":
            # An eps has no key: each class has the one of all its published models.
            assert value["eps"] == recorded["backbone_norm_eps"]
            assert value["eps"] == (1e-5 if kind == "SwinTransformer" else 1e-6)
            arguments[name] = value
        elif name in FIXED_ARGUMENTS:
            arguments[name] = FIXED_ARGUMENTS[name]
        elif name == "qk_scale":
            arguments[name] = section.QK_SCALE or None
        else:
            arguments[name] = section[name.upper()]
    vit = kind == "ViT"
    pyramid = model.SIMPLE_FEATURE_PYRAMID
    neck_norm = pyramid.NORM if vit else model.FPN.NORM
    return {
        "backbone": {name: kind for kind, name in NAMES.items()}[model.BACKBONE.NAME],
        "backbone_arguments": arguments,
        "backbone_norm_eps": recorded["backbone_norm_eps"],
        "neck": "SimpleFeaturePyramid" if vit else "FPN",
        "neck_norm": neck_norm,
        "neck_norm_eps": 1e-6 if neck_norm == "LN" else None,
        "out_channels": pyramid.OUT_CHANNELS if vit else model.FPN.OUT_CHANNELS,
        "in_features": ["last_feat"] if vit else model.FPN.IN_FEATURES,
        "scale_factors": pyramid.SCALE_FACTORS if vit else None,
        "square_pad": model.BACKBONE.SQUARE_PAD,
        "size_divisibility_used": 0 if vit else 32,
        "top_block": "LastLevelMaxPool on p5",
        "out_features": model.RPN.IN_FEATURES,
    }


def pooler(head):
    return {
        "output_size": head.POOLER_RESOLUTION,
        "scales": [1 / 4, 1 / 8, 1 / 16, 1 / 32],
        "sampling_ratio": head.POOLER_SAMPLING_RATIO,
        "pooler_type": head.POOLER_TYPE,
        "canonical_box_size": 224,
        "canonical_level": 4,
    }


def head_settings(cfg):
    model = cfg.MODEL
    anchors, rpn, roi = model.ANCHOR_GENERATOR, model.RPN, model.ROI_HEADS
    box, mask, cascade = model.ROI_BOX_HEAD, model.ROI_MASK_HEAD, model.ROI_BOX_CASCADE_HEAD
    assert roi.IN_FEATURES == ["p2", "p3", "p4", "p5"]
    assert model.MASK_ON
    stages = roi.NAME == "CascadeROIHeads"
    return {
        "input_format": cfg.INPUT.FORMAT,
        "pixel_mean": model.PIXEL_MEAN,
        "pixel_std": model.PIXEL_STD,
        "test_short_edge": cfg.INPUT.MIN_SIZE_TEST,
        "test_max_size": cfg.INPUT.MAX_SIZE_TEST,
        "anchors": {
            "sizes": anchors.SIZES,
            "aspect_ratios": anchors.ASPECT_RATIOS[0],
            "strides": [4, 8, 16, 32, 64],
            "offset": anchors.OFFSET,
        },
        "rpn_conv_dims": rpn.CONV_DIMS,
        "rpn_pre_nms_topk_train_test": [rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST],
        "rpn_post_nms_topk_train_test": [rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST],
        "rpn_nms_thresh": rpn.NMS_THRESH,
        "rpn_box_weights": list(rpn.BBOX_REG_WEIGHTS),
        "roi_heads": roi.NAME,
        "num_classes": roi.NUM_CLASSES,
        "box_pooler": pooler(box),
        "box_head_conv_dims": [box.CONV_DIM] * box.NUM_CONV,
        "box_head_fc_dims": [box.FC_DIM] * box.NUM_FC,
        "box_head_norm": norm(box.NORM),
        "cls_agnostic_bbox_reg": box.CLS_AGNOSTIC_BBOX_REG,
        "box_weights": [
            list(weights)
            for weights in (cascade.BBOX_REG_WEIGHTS if stages else [box.BBOX_REG_WEIGHTS])
        ],
        "cascade_ious": list(cascade.IOUS) if stages else None,
        "smooth_l1_beta": box.SMOOTH_L1_BETA,
        "box_reg_loss_type": box.BBOX_REG_LOSS_TYPE,
        "scores": "sigmoid" if box.USE_SIGMOID_CE else "softmax",
        "use_fed_loss": box.USE_FED_LOSS,
        "test_score_thresh": roi.SCORE_THRESH_TEST,
        "test_nms_thresh": roi.NMS_THRESH_TEST,
        "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        "mask_pooler": pooler(mask),
        "mask_head_conv_dims": [mask.CONV_DIM] * (mask.NUM_CONV + 1),
        "mask_head_norm": norm(mask.NORM),
        "cls_agnostic_mask": mask.CLS_AGNOSTIC_MASK,
    }


DEFAULT_ARGUMENTS = {
    "RandomFlip": {"prob": 0.5, "horizontal": True, "vertical": False},
    "ResizeScale": {"interp": 2},
    "ResizeShortestEdge": {"max_size": 2**63 - 1, "sample_style": "range", "interp": 2},
    "FixedSizeCrop": {"pad": True, "pad_value": 128.0, "seg_pad_value": 255},
}


def augmentation(entry):
    """An entry of INPUT.AUGMENTATIONS as Detectron2 calls it, with its default arguments."""
    name, arguments = entry
    values = {**DEFAULT_ARGUMENTS.get(name, {}), **arguments}
    if "augs" in values:
        values["augs"] = [augmentation(inner) for inner in values["augs"]]
    if "tfm_or_aug" in values:
        values["tfm_or_aug"] = augmentation(values["tfm_or_aug"])
    module = "augmentation" if name == "AugmentationList" else "augmentation_impl"
    return {"_target_": f"detectron2.data.transforms.{module}.{name}", **values}


def training_settings(cfg, recorded):
    solver, loader = cfg.SOLVER, cfg.DATALOADER
    assert (solver.LR_SCHEDULER_NAME, solver.WARMUP_METHOD) == ("WarmupMultiStepLR", "linear")
    assert (solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS) == (1.0, None)
    assert not solver.CLIP_GRADIENTS.ENABLED
    assert recorded["warmup_iterations"] == pytest.approx(solver.WARMUP_ITERS, abs=0.5)
    # Its last milestone may be the end.
    end = [recorded["max_iter"]] if recorded["max_iter"] in recorded["lr_milestones"] else []
    decay = recorded["lr_decay"] and {
        "num_layers": cfg.MODEL.VIT.DEPTH,
        "lr_decay_rate": solver.LAYER_DECAY,
    }
    assert (decay["lr_decay_rate"] if decay else 1.0) == solver.LAYER_DECAY
    repeat = loader.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"
    return {
        "max_iter": solver.MAX_ITER,
        "amp": solver.AMP.ENABLED,
        "total_batch_size": solver.IMS_PER_BATCH,
        "init_checkpoint": cfg.MODEL.WEIGHTS,
        "optimizer": solver.OPTIMIZER,
        "lr": solver.BASE_LR,
        "betas": list(solver.BETAS),
        "weight_decay": solver.WEIGHT_DECAY,
        "weight_decay_norm": solver.WEIGHT_DECAY_NORM,
        "overrides": {k: {"weight_decay": value} for k, value in solver.WEIGHT_DECAY_OVERRIDES},
        "lr_decay": decay,
        "lr_values": [1.0, solver.GAMMA, pytest.approx(solver.GAMMA**2)],
        "lr_milestones": [*solver.STEPS, *end],
        "warmup_iterations": recorded["warmup_iterations"],
        "warmup_factor": solver.WARMUP_FACTOR,
        "augmentations": [augmentation(entry) for entry in cfg.INPUT.AUGMENTATIONS],
        "recompute_boxes": cfg.INPUT.RECOMPUTE_BOXES,
        "sampler": f"{loader.SAMPLER_TRAIN}({loader.REPEAT_THRESHOLD})" if repeat else None,
    }


@pytest.mark.parametrize("name", PRESENT)
def test_values(name):
    cfg = load_config(name)
    recorded = RECORDED[name]
    settings = backbone_settings(cfg, recorded["settings"]) | head_settings(cfg)
    assert settings == recorded["settings"]
    assert training_settings(cfg, recorded["training"]) == recorded["training"]
    data = "lvis_v1" if recorded["dataset"] == "LVIS" else "coco_2017"
    assert (list(cfg.DATASETS.TRAIN), list(cfg.DATASETS.TEST)) == (
        [f"{data}_train"],
        [f"{data}_val"],
    )
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0
    check_model(cfg)
    check_training(cfg)
    assert len(build_augmentation(cfg)) == len(cfg.INPUT.AUGMENTATIONS)
