"""Defaults of MODEL: what models consist of, but for the backbones' own sections."""

from __future__ import annotations

from typing import Any

from tfdetect.config.defaults.backbones import BACKBONES

MODEL: dict[str, Any] = {
    "LOAD_PROPOSALS": False,
    "MASK_ON": False,
    "KEYPOINT_ON": False,
    "DEVICE": "cuda",
    "META_ARCHITECTURE": "GeneralizedRCNN",
    # This project's own: the library whose conventions for anchors, boxes, pooling, resizing
    # and pasting are used: detectron2, torchvision, tensorpack or maskrcnn_benchmark (which is
    # Detectron's).
    "CONVENTIONS": "detectron2",
    "WEIGHTS": "",
    # In the channel order of INPUT.FORMAT, on grey levels of 0..255.
    "PIXEL_MEAN": [103.53, 116.28, 123.675],
    "PIXEL_STD": [1.0, 1.0, 1.0],
    "BACKBONE": {
        "NAME": "build_resnet_backbone",
        # Number of frozen stages; the stem is the first.
        "FREEZE_AT": 2,
        # This project's own, Detectron2's `padding_constraints`: the side in pixels of the
        # square that every image is padded to; 0 for no more than its own multiples.
        "SQUARE_PAD": 0,
    },
    "FPN": {
        "IN_FEATURES": [],
        "OUT_CHANNELS": 256,
        "NORM": "",
        "FUSE_TYPE": "sum",
    },
    "PROPOSAL_GENERATOR": {
        "NAME": "RPN",
        "MIN_SIZE": 0,
    },
    "ANCHOR_GENERATOR": {
        "NAME": "DefaultAnchorGenerator",
        # Pixels of the network's input, a list per feature map (or one list for all).
        "SIZES": [[32, 64, 128, 256, 512]],
        # Height over width.
        "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
        "ANGLES": [[-90, 0, 90]],
        # Shift of the anchor grid, in strides.
        "OFFSET": 0.0,
    },
    "RPN": {
        "HEAD_NAME": "StandardRPNHead",
        "IN_FEATURES": ["res4"],
        "BOUNDARY_THRESH": -1,
        "IOU_THRESHOLDS": [0.3, 0.7],
        "IOU_LABELS": [0, -1, 1],
        "BATCH_SIZE_PER_IMAGE": 256,
        "POSITIVE_FRACTION": 0.5,
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
        # 0 is the L1 loss.
        "SMOOTH_L1_BETA": 0.0,
        "LOSS_WEIGHT": 1.0,
        # PRE: per feature map. POST: per image, over all feature maps.
        "PRE_NMS_TOPK_TRAIN": 12000,
        "PRE_NMS_TOPK_TEST": 6000,
        "POST_NMS_TOPK_TRAIN": 2000,
        "POST_NMS_TOPK_TEST": 1000,
        "NMS_THRESH": 0.7,
        # -1: as many channels as the feature map has.
        "CONV_DIMS": [-1],
    },
    "ROI_HEADS": {
        "NAME": "Res5ROIHeads",
        "NUM_CLASSES": 80,
        "IN_FEATURES": ["res4"],
        "IOU_THRESHOLDS": [0.5],
        "IOU_LABELS": [0, 1],
        "BATCH_SIZE_PER_IMAGE": 512,
        "POSITIVE_FRACTION": 0.25,
        "SCORE_THRESH_TEST": 0.05,
        "NMS_THRESH_TEST": 0.5,
        "PROPOSAL_APPEND_GT": True,
    },
    "ROI_BOX_HEAD": {
        "NAME": "",
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
        # 0 is the L1 loss.
        "SMOOTH_L1_BETA": 0.0,
        # A sampling ratio of 0 uses ceil(RoI size / resolution) samples per bin and axis.
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "POOLER_TYPE": "ROIAlignV2",
        "NUM_FC": 0,
        "FC_DIM": 1024,
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NORM": "",
        "CLS_AGNOSTIC_BBOX_REG": False,
        "TRAIN_ON_PRED_BOXES": False,
        "USE_FED_LOSS": False,
        "USE_SIGMOID_CE": False,
        "FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
        "FED_LOSS_NUM_CLASSES": 50,
    },
    "ROI_BOX_CASCADE_HEAD": {
        "BBOX_REG_WEIGHTS": (
            (10.0, 10.0, 5.0, 5.0),
            (20.0, 20.0, 10.0, 10.0),
            (30.0, 30.0, 15.0, 15.0),
        ),
        "IOUS": (0.5, 0.6, 0.7),
    },
    "ROI_MASK_HEAD": {
        "NAME": "MaskRCNNConvUpsampleHead",
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NORM": "",
        "CLS_AGNOSTIC_MASK": False,
        "POOLER_TYPE": "ROIAlignV2",
        # PointRend's: the features that are pooled, its fully connected layers, and the side of
        # the coarse mask.
        "IN_FEATURES": ("p2",),
        "FC_DIM": 1024,
        "NUM_FC": 2,
        "OUTPUT_SIDE_RESOLUTION": 7,
        "POINT_HEAD_ON": False,
    },
    "POINT_HEAD": {
        "NAME": "StandardPointHead",
        "NUM_CLASSES": 80,
        "IN_FEATURES": ("p2",),
        # In training: points of a region or an image, how many more are drawn to choose from,
        # and the share that is chosen by uncertainty.
        "TRAIN_NUM_POINTS": 196,
        "OVERSAMPLE_RATIO": 3,
        "IMPORTANCE_SAMPLE_RATIO": 0.75,
        # In prediction: how often the mask is doubled, and the most points that are computed
        # after each time.
        "SUBDIVISION_STEPS": 5,
        "SUBDIVISION_NUM_POINTS": 784,
        "FC_DIM": 256,
        "NUM_FC": 3,
        "CLS_AGNOSTIC_MASK": False,
        "COARSE_PRED_EACH_LAYER": True,
        "COARSE_SEM_SEG_HEAD_NAME": "SemSegFPNHead",
    },
    "IMPLICIT_POINTREND": {
        "IMAGE_FEATURE_ENABLED": True,
        "POS_ENC_ENABLED": True,
        "PARAMS_L2_REGULARIZER": 0.00001,
    },
    "ROI_KEYPOINT_HEAD": {
        "NAME": "KRCNNConvDeconvUpsampleHead",
        "POOLER_RESOLUTION": 14,
        "POOLER_SAMPLING_RATIO": 0,
        "CONV_DIMS": (512, 512, 512, 512, 512, 512, 512, 512),
        "NUM_KEYPOINTS": 17,
        "MIN_KEYPOINTS_PER_IMAGE": 1,
        "NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": True,
        "LOSS_WEIGHT": 1.0,
        "POOLER_TYPE": "ROIAlignV2",
    },
    "SEM_SEG_HEAD": {
        "NAME": "SemSegFPNHead",
        "IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "IGNORE_VALUE": 255,
        "NUM_CLASSES": 54,
        "CONVS_DIM": 128,
        "COMMON_STRIDE": 4,
        "NORM": "GN",
        "LOSS_WEIGHT": 1.0,
    },
    "PANOPTIC_FPN": {
        "INSTANCE_LOSS_WEIGHT": 1.0,
        "COMBINE": {
            "ENABLED": True,
            "OVERLAP_THRESH": 0.5,
            "STUFF_AREA_LIMIT": 4096,
            "INSTANCES_CONFIDENCE_THRESH": 0.5,
        },
    },
    "RETINANET": {
        "NUM_CLASSES": 80,
        "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
        "NUM_CONVS": 4,
        "IOU_THRESHOLDS": [0.4, 0.5],
        "IOU_LABELS": [0, -1, 1],
        "PRIOR_PROB": 0.01,
        "SCORE_THRESH_TEST": 0.05,
        "TOPK_CANDIDATES_TEST": 1000,
        "NMS_THRESH_TEST": 0.5,
        "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
        "FOCAL_LOSS_GAMMA": 2.0,
        "FOCAL_LOSS_ALPHA": 0.25,
        "SMOOTH_L1_LOSS_BETA": 0.1,
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "NORM": "",
    },
    # This project's own: Detectron2's schema has no FCOS, only its Python configs build one.
    # The values are theirs and, of what they leave out, its constructor's.
    "FCOS": {
        "NUM_CLASSES": 80,
        "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
        "NUM_CONVS": 4,
        "NORM": "GN",
        "PRIOR_PROB": 0.01,
        # Where in its cell a location is, in strides. (MODEL.ANCHOR_GENERATOR is not read.)
        "OFFSET": 0.5,
        # Whether distances are predicted in strides, not in pixels.
        "NORMALIZE_BY_SIZE": True,
        # How far from an object's centre a location may be, in strides.
        "CENTER_SAMPLING_RADIUS": 1.5,
        "FOCAL_LOSS_ALPHA": 0.25,
        "FOCAL_LOSS_GAMMA": 2.0,
        "SCORE_THRESH_TEST": 0.2,
        "TOPK_CANDIDATES_TEST": 1000,
        "NMS_THRESH_TEST": 0.6,
    },
    **BACKBONES,
}
