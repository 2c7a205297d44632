"""Defaults of the sections of MODEL that describe one kind of backbone each."""

from __future__ import annotations

from typing import Any

BACKBONES: dict[str, Any] = {
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
}
