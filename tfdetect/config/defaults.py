"""Every key of Detectron2's configuration with its default value.

The names, the nesting, the types and the values are Detectron2's (`detectron2.config.get_cfg`),
so that its YAML files, which state only what differs from them, mean the same here. Keys that no
model of this project reads (`CUDNN_BENCHMARK`, `GLOBAL.HACK`, ...) are kept: the complete
`config.yaml` that Detectron2's trainer writes has them. `OWN_KEYS` are this project's.
"""

from __future__ import annotations

from typing import Any

DEFAULTS: dict[str, Any] = {
    # Detectron2 counts changes of the schema here; files of version 1 precede its release.
    "VERSION": 2,
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "CUDNN_BENCHMARK": False,
    "FLOAT32_PRECISION": "",
    "VIS_PERIOD": 0,
    "MODEL": {
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
        "RESNETS": {
            "DEPTH": 50,
            "OUT_FEATURES": ["res4"],
            "NUM_GROUPS": 1,
            "NORM": "FrozenBN",
            "WIDTH_PER_GROUP": 64,
            "STRIDE_IN_1X1": True,
            "RES5_DILATION": 1,
            "RES2_OUT_CHANNELS": 256,
            "STEM_OUT_CHANNELS": 64,
            "DEFORM_ON_PER_STAGE": [False, False, False, False],
            "DEFORM_MODULATED": False,
            "DEFORM_NUM_GROUPS": 1,
        },
        # This project's own: Detectron2's schema has no RegNet, only its Python configs build one.
        # The values are those of RegNetX 4GF in its new_baselines.
        "REGNETS": {
            "OUT_FEATURES": ["s1", "s2", "s3", "s4"],
            "STEM_WIDTH": 32,
            # Blocks altogether, and the widths of them all: see `tfdetect...backbone.regnet`.
            "DEPTH": 23,
            "W_A": 38.65,
            "W_0": 96,
            "W_M": 2.43,
            # Channels per group of the 3 x 3 convolutions.
            "GROUP_WIDTH": 40,
            # Squeeze-and-excitation channels per input channel; 0 is RegNetX, which has none.
            "SE_RATIO": 0.0,
            "NORM": "SyncBN",
        },
        # This project's own: Detectron2's schema has no Swin, only its Python configs build one.
        # The arguments of its `SwinTransformer`, with the values of Swin-B in projects/ViTDet.
        "SWIN": {
            # Pixels: the images that the absolute positions (APE) are for.
            "PRETRAIN_IMG_SIZE": 224,
            "PATCH_SIZE": 4,
            "EMBED_DIM": 128,
            # Of each stage: blocks, and heads.
            "DEPTHS": [2, 2, 18, 2],
            "NUM_HEADS": [4, 8, 16, 32],
            # Tokens.
            "WINDOW_SIZE": 7,
            "MLP_RATIO": 4.0,
            "QKV_BIAS": True,
            # 0: (channels of a head) ** -0.5.
            "QK_SCALE": 0.0,
            "DROP_PATH_RATE": 0.4,
            "APE": False,
            "PATCH_NORM": True,
            # The stages whose outputs are p0, p1, ...
            "OUT_INDICES": [0, 1, 2, 3],
            # In place of MODEL.BACKBONE.FREEZE_AT: 0 freezes the patch embedding, 1 the absolute
            # positions as well, 2 the first stage, and so on; -1 nothing.
            "FROZEN_STAGES": -1,
            # Blocks are computed again for their gradients: more time for less memory.
            "USE_CHECKPOINT": False,
        },
        # This project's own, as Detectron2 has no keys for its transformers: the arguments of its
        # ViT. The values are those of ViTDet-B.
        "VIT": {
            # Pixels: of a side of the images, of a patch, and of the images it was pretrained on.
            "IMG_SIZE": 1024,
            "PATCH_SIZE": 16,
            "EMBED_DIM": 768,
            "DEPTH": 12,
            "NUM_HEADS": 12,
            "MLP_RATIO": 4.0,
            "QKV_BIAS": True,
            "DROP_PATH_RATE": 0.1,
            "USE_ABS_POS": True,
            "USE_REL_POS": True,
            # Tokens; the blocks that are not listed attend globally.
            "WINDOW_SIZE": 14,
            "WINDOW_BLOCK_INDEXES": [0, 1, 3, 4, 6, 7, 9, 10],
            # Blocks with convolutions behind them.
            "RESIDUAL_BLOCK_INDEXES": [],
            # Blocks are computed again for their gradients: more time for less memory.
            "USE_ACT_CHECKPOINT": False,
            "PRETRAIN_IMG_SIZE": 224,
            "PRETRAIN_USE_CLS_TOKEN": True,
        },
        "SIMPLE_FEATURE_PYRAMID": {
            "OUT_CHANNELS": 256,
            "NORM": "LN",
            "SCALE_FACTORS": [4.0, 2.0, 1.0, 0.5],
        },
        # The same, of its MViT. The values are those of MViTv2-T.
        "MVIT": {
            # Pixels: of a side of the images that the relative positions are for.
            "IMG_SIZE": 224,
            # (height, width).
            "PATCH_KERNEL": [7, 7],
            "PATCH_STRIDE": [4, 4],
            "PATCH_PADDING": [3, 3],
            # Of the first stage; each stage has twice those of the one before.
            "EMBED_DIM": 96,
            "NUM_HEADS": 1,
            "DEPTH": 10,
            # Of the four stages; all but the first attend globally.
            "LAST_BLOCK_INDEXES": [0, 2, 7, 9],
            "QKV_POOL_KERNEL": [3, 3],
            # Of the first stage, halved from stage to stage; the windows' sides in tokens.
            "ADAPTIVE_KV_STRIDE": 4,
            "ADAPTIVE_WINDOW_SIZE": 56,
            "RESIDUAL_POOLING": True,
            "MLP_RATIO": 4.0,
            "QKV_BIAS": True,
            "DROP_PATH_RATE": 0.2,
            "USE_ABS_POS": False,
            "USE_REL_POS": True,
            # Blocks are computed again for their gradients: more time for less memory.
            "USE_ACT_CHECKPOINT": False,
            # Of the absolute positions.
            "PRETRAIN_IMG_SIZE": 224,
            "PRETRAIN_USE_CLS_TOKEN": True,
            "OUT_FEATURES": ["scale2", "scale3", "scale4", "scale5"],
        },
    },
    "INPUT": {
        # Pixels: the short edge aimed at, and what the long edge may be at most.
        "MIN_SIZE_TRAIN": (800,),
        "MIN_SIZE_TRAIN_SAMPLING": "choice",
        "MAX_SIZE_TRAIN": 1333,
        "MIN_SIZE_TEST": 800,
        "MAX_SIZE_TEST": 1333,
        "RANDOM_FLIP": "horizontal",
        "FORMAT": "BGR",
        "MASK_FORMAT": "polygon",
        "CROP": {
            "ENABLED": False,
            "TYPE": "relative_range",
            "SIZE": [0.9, 0.9],
            # PointRend's, as COLOR_AUG_SSD, for semantic segmentation: crops are drawn again until
            # no class has more than this share of one.
            "SINGLE_CATEGORY_MAX_AREA": 1.0,
        },
        "COLOR_AUG_SSD": False,
        # This project's own: names of registered augmentations, or pairs [name, {argument: value}],
        # in their order, in place of everything that INPUT says otherwise of what is done to images
        # in training.
        "AUGMENTATIONS": [],
        # This project's own: whether boxes are drawn again around what augmentations that crop
        # leave of masks. Without, they are cut off.
        "RECOMPUTE_BOXES": True,
        # This project's own: Detectron2 has it in Python configs only (its new_baselines). It
        # takes the place of MIN_SIZE_TRAIN, MAX_SIZE_TRAIN and CROP.
        "LARGE_SCALE_JITTER": {
            "ENABLED": False,
            # The image is fitted into a square of SIZE times a random scale of this range, and
            # cropped or padded to SIZE x SIZE pixels.
            "SCALE": [0.1, 2.0],
            "SIZE": 1024,
        },
    },
    "DATASETS": {
        "TRAIN": (),
        # Pairs of a data set and a factor, for weighted samplers; 1 for what is not named.
        # Detectron2 reads this key, but its schema does not have it.
        "TRAIN_REPEAT_FACTOR": [],
        "PROPOSAL_FILES_TRAIN": (),
        "PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000,
        "TEST": (),
        "PROPOSAL_FILES_TEST": (),
        "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000,
    },
    "DATALOADER": {
        "NUM_WORKERS": 4,
        "ASPECT_RATIO_GROUPING": True,
        "SAMPLER_TRAIN": "TrainingSampler",
        # Of RandomSubsetTrainingSampler. Detectron2 reads this key, but its schema does not have
        # it.
        "RANDOM_SUBSET_RATIO": 1.0,
        "REPEAT_THRESHOLD": 0.0,
        "REPEAT_SQRT": True,
        "FILTER_EMPTY_ANNOTATIONS": True,
        # This project's own: what to do about a broken annotation, or an image that cannot be
        # read, in training: "stop", or "skip" it, name it and go on.
        "ON_ERROR": "stop",
    },
    "SOLVER": {
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "MAX_ITER": 40000,
        "BASE_LR": 0.001,
        "BASE_LR_END": 0.0,
        # This project's own, as what Detectron2's LazyConfigs call them: SGD or AdamW; of AdamW its
        # betas; the factor on the learning rate from each layer of a ViT to the one below; weight
        # decays by the last component of a parameter's name, such as [["pos_embed", 0.0]].
        "OPTIMIZER": "SGD",
        "BETAS": (0.9, 0.999),
        "LAYER_DECAY": 1.0,
        "WEIGHT_DECAY_OVERRIDES": (),
        "MOMENTUM": 0.9,
        "NESTEROV": False,
        "WEIGHT_DECAY": 0.0001,
        # None: WEIGHT_DECAY holds for norms too.
        "WEIGHT_DECAY_NORM": 0.0,
        "GAMMA": 0.1,
        "STEPS": (30000,),
        "NUM_DECAYS": 3,
        "WARMUP_FACTOR": 0.001,
        "WARMUP_ITERS": 1000,
        "WARMUP_METHOD": "linear",
        "RESCALE_INTERVAL": False,
        "CHECKPOINT_PERIOD": 5000,
        # This project's own: the newest checkpoints that are kept; 0 keeps all.
        "CHECKPOINTS_KEPT": 5,
        # This project's own: iterations from one line of metrics.json and of the log to the next.
        "LOG_PERIOD": 20,
        "IMS_PER_BATCH": 16,
        # This project's own: in how many equal parts, one after the other, a device computes its
        # share of a batch. More take less memory; losses and gradients are averaged over them.
        "ACCUMULATION_STEPS": 1,
        # 0: no rescaling of the schedule with the number of workers.
        "REFERENCE_WORLD_SIZE": 0,
        "BIAS_LR_FACTOR": 1.0,
        # None: WEIGHT_DECAY holds for biases too.
        "WEIGHT_DECAY_BIAS": None,
        "CLIP_GRADIENTS": {
            "ENABLED": False,
            # value, norm (of each parameter) or full_model (the norm of all, as DETR's trainer).
            "CLIP_TYPE": "value",
            "CLIP_VALUE": 1.0,
            "NORM_TYPE": 2.0,
        },
        "AMP": {
            "ENABLED": False,
            # This project's own: float16, which is Detectron2's, with loss scaling; or bfloat16.
            "DTYPE": "float16",
        },
    },
    "TEST": {
        "EXPECTED_RESULTS": [],
        "EVAL_PERIOD": 0,
        "KEYPOINT_OKS_SIGMAS": [],
        "DETECTIONS_PER_IMAGE": 100,
        "AUG": {
            "ENABLED": False,
            "MIN_SIZES": (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
            "MAX_SIZE": 4000,
            "FLIP": True,
        },
        "PRECISE_BN": {
            "ENABLED": False,
            "NUM_ITER": 200,
        },
    },
    # This project's own: hooks of the training loop.
    "TRAIN": {
        # Names of registered hooks of the user's (`tfdetect.training.HOOKS`), in order.
        "HOOKS": [],
        # Where metrics go beside metrics.json and TensorBoard: wandb, mlflow.
        "WRITERS": [],
        # Keep the model of the best evaluation by a metric such as bbox/AP; '' keeps none.
        "BEST": {
            "METRIC": "",
            "MODE": "max",
        },
        # End after PATIENCE evaluations in which METRIC did not improve; '' never does.
        "EARLY_STOP": {
            "METRIC": "",
            "MODE": "max",
            "PATIENCE": 5,
        },
        # Average the weights over the iterations; evaluate and save the averages.
        "EMA": {
            "ENABLED": False,
            "DECAY": 0.999,
        },
    },
    # Detectron2's `build_tracker_head` reads this section, which its `get_cfg` lacks.
    "TRACKER_HEADS": {
        "TRACKER_NAME": "BBoxIOUTracker",
        # Pixels; 0: those of the frames.
        "VIDEO_HEIGHT": 0,
        "VIDEO_WIDTH": 0,
        "MAX_NUM_INSTANCES": 200,
        # Frames.
        "MAX_LOST_FRAME_COUNT": 0,
        # A fraction of the video's width and height.
        "MIN_BOX_REL_DIM": 0.02,
        "MIN_INSTANCE_PERIOD": 1,
        "TRACK_IOU_THRESHOLD": 0.5,
        # This project's own: arguments of `trackers.ByteTrackTracker`, with its defaults.
        "BYTETRACK": {
            # Frames at 30 per second.
            "LOST_TRACK_BUFFER": 30,
            # 0: that of the video of `tfdetect track`, else 30.
            "FRAME_RATE": 0.0,
            "TRACK_ACTIVATION_THRESHOLD": 0.7,
            "MINIMUM_CONSECUTIVE_FRAMES": 2,
            "MINIMUM_IOU_THRESHOLD": 0.1,
            "HIGH_CONF_DET_THRESHOLD": 0.6,
        },
    },
    "GLOBAL": {
        "HACK": 1.0,
    },
}

# The keys and sections that Detectron2's schema lacks.
OWN_KEYS = (
    "MODEL.CONVENTIONS",
    "MODEL.FCOS",
    "MODEL.REGNETS",
    "MODEL.BACKBONE.SQUARE_PAD",
    "MODEL.VIT",
    "MODEL.SIMPLE_FEATURE_PYRAMID",
    "MODEL.MVIT",
    "MODEL.SWIN",
    "INPUT.AUGMENTATIONS",
    "INPUT.RECOMPUTE_BOXES",
    "INPUT.LARGE_SCALE_JITTER",
    "DATASETS.TRAIN_REPEAT_FACTOR",
    "DATALOADER.RANDOM_SUBSET_RATIO",
    "DATALOADER.ON_ERROR",
    "SOLVER.CHECKPOINTS_KEPT",
    "SOLVER.LOG_PERIOD",
    "SOLVER.ACCUMULATION_STEPS",
    "SOLVER.AMP.DTYPE",
    "SOLVER.OPTIMIZER",
    "SOLVER.BETAS",
    "SOLVER.LAYER_DECAY",
    "SOLVER.WEIGHT_DECAY_OVERRIDES",
    "TRAIN",
    "TRACKER_HEADS",
)

# The keys that `add_pointrend_config` of Detectron2's projects/PointRend adds to its schema.
POINTREND_KEYS = (
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA",
    "INPUT.COLOR_AUG_SSD",
    "MODEL.ROI_MASK_HEAD.IN_FEATURES",
    "MODEL.ROI_MASK_HEAD.FC_DIM",
    "MODEL.ROI_MASK_HEAD.NUM_FC",
    "MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION",
    "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON",
    "MODEL.POINT_HEAD",
    "MODEL.IMPLICIT_POINTREND",
)

# The keys whose lists may hold mappings.
TAKES_MAPPINGS = ("INPUT.AUGMENTATIONS",)

# Keys of version 1 and what Detectron2 calls them since (its `compat.ConverterV1` and `V2`).
RENAMED: dict[str, str] = {
    "MODEL.WEIGHT": "MODEL.WEIGHTS",
    "MODEL.RPN_HEAD.NAME": "MODEL.RPN.HEAD_NAME",
    "MODEL.RPN.ANCHOR_SIZES": "MODEL.ANCHOR_GENERATOR.SIZES",
    "MODEL.RPN.ANCHOR_ASPECT_RATIOS": "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "MODEL.RETINANET.ANCHOR_SIZES": "MODEL.ANCHOR_GENERATOR.SIZES",
    "MODEL.RETINANET.ANCHOR_ASPECT_RATIOS": "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD": "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES": "MODEL.RETINANET.TOPK_CANDIDATES_TEST",
    "MODEL.RETINANET.INFERENCE_NMS_THRESHOLD": "MODEL.RETINANET.NMS_THRESH_TEST",
    "MODEL.ROI_HEADS.SCORE_THRESH": "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS": "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE": "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE": "MODEL.RPN.LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_SCALE": "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN.COMBINE_ON": "MODEL.PANOPTIC_FPN.COMBINE.ENABLED",
    "MODEL.PANOPTIC_FPN.COMBINE_OVERLAP_THRESHOLD": "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH",
    "MODEL.PANOPTIC_FPN.COMBINE_STUFF_AREA_LIMIT": "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT",
    "MODEL.PANOPTIC_FPN.COMBINE_INSTANCES_CONFIDENCE_THRESHOLD": (
        "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH"
    ),
    "TEST.DETECTIONS_PER_IMG": "TEST.DETECTIONS_PER_IMAGE",
    "TEST.AUG_ON": "TEST.AUG.ENABLED",
    "TEST.AUG_MIN_SIZES": "TEST.AUG.MIN_SIZES",
    "TEST.AUG_MAX_SIZE": "TEST.AUG.MAX_SIZE",
    "TEST.AUG_FLIP": "TEST.AUG.FLIP",
}
