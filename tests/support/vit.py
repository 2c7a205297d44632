"""A narrow ViT detector."""

from __future__ import annotations

# Options for a Mask R-CNN of configs/ with a tenth of the blocks and channels.
NARROW = [
    item
    for pair in {
        "MODEL.BACKBONE.NAME": "build_vit_simple_feature_pyramid_backbone",
        "MODEL.VIT.IMG_SIZE": 128,
        "MODEL.VIT.EMBED_DIM": 48,
        "MODEL.VIT.DEPTH": 3,
        "MODEL.VIT.NUM_HEADS": 3,
        "MODEL.VIT.WINDOW_SIZE": 5,
        "MODEL.VIT.WINDOW_BLOCK_INDEXES": [0, 2],
        "MODEL.VIT.RESIDUAL_BLOCK_INDEXES": [1],
        "MODEL.SIMPLE_FEATURE_PYRAMID.OUT_CHANNELS": 32,
        "INPUT.MIN_SIZE_TEST": 96,
        "INPUT.MAX_SIZE_TEST": 160,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 100,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
        "MODEL.ROI_HEADS.NUM_CLASSES": 5,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
        "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    }.items()
    for item in pair
]
