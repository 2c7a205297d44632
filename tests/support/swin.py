"""A narrow Swin detector."""

from __future__ import annotations

# Options of a detector for small images, with absolute positions, in squares.
NARROW = [
    *("MODEL.BACKBONE.NAME", "build_swin_fpn_backbone", "MODEL.BACKBONE.SQUARE_PAD", 192),
    *("MODEL.FPN.IN_FEATURES", ["p0", "p1", "p2", "p3"], "MODEL.FPN.NORM", "LN"),
    *("MODEL.SWIN.EMBED_DIM", 16, "MODEL.SWIN.DEPTHS", [2, 2, 1, 1]),
    *("MODEL.SWIN.NUM_HEADS", [1, 2, 4, 8], "MODEL.SWIN.WINDOW_SIZE", 5),
    *("MODEL.SWIN.APE", True, "MODEL.SWIN.PRETRAIN_IMG_SIZE", 64),
    *("MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_BOX_HEAD.FC_DIM", 64),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 32, "MODEL.ROI_HEADS.NUM_CLASSES", 5),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", 200, "MODEL.RPN.POST_NMS_TOPK_TEST", 100),
    *("INPUT.MIN_SIZE_TEST", 128, "INPUT.MAX_SIZE_TEST", 192),
]
