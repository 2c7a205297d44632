"""A narrow MViT detector."""

from __future__ import annotations

# Options of a detector for small images.
NARROW = [
    *("MODEL.BACKBONE.NAME", "build_mvit_fpn_backbone"),
    *("MODEL.FPN.IN_FEATURES", ["scale2", "scale3", "scale4", "scale5"]),
    *("MODEL.MVIT.IMG_SIZE", 64, "MODEL.MVIT.PRETRAIN_IMG_SIZE", 64),
    *("MODEL.MVIT.EMBED_DIM", 16, "MODEL.MVIT.DEPTH", 5),
    *("MODEL.MVIT.LAST_BLOCK_INDEXES", [0, 1, 3, 4], "MODEL.MVIT.ADAPTIVE_WINDOW_SIZE", 28),
    *("MODEL.MVIT.USE_ABS_POS", True),
    *("MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_BOX_HEAD.FC_DIM", 64),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 32, "MODEL.ROI_HEADS.NUM_CLASSES", 5),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", 200, "MODEL.RPN.POST_NMS_TOPK_TEST", 100),
    *("INPUT.MIN_SIZE_TEST", 160, "INPUT.MAX_SIZE_TEST", 256),
]
