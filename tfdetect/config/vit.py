"""What MODEL.VIT and MODEL.SIMPLE_FEATURE_PYRAMID may say."""

from __future__ import annotations

import itertools

from yacs.config import CfgNode

from tfdetect.config.rules import ABOVE_0, BELOW_1, MOST_BLOCKS, at_least, between, each
from tfdetect.errors import InputError

VIT = {
    "IMG_SIZE": at_least(1),
    "PATCH_SIZE": at_least(1),
    "EMBED_DIM": at_least(1),
    "DEPTH": between(1, MOST_BLOCKS),
    "NUM_HEADS": at_least(1),
    "MLP_RATIO": ABOVE_0,
    "DROP_PATH_RATE": BELOW_1,
    # 0: no block has windows.
    "WINDOW_SIZE": at_least(0),
    "WINDOW_BLOCK_INDEXES": each(at_least(0)),
    "RESIDUAL_BLOCK_INDEXES": each(at_least(0)),
    "PRETRAIN_IMG_SIZE": at_least(1),
}
SIMPLE_FEATURE_PYRAMID = {"OUT_CHANNELS": at_least(1)}


def check_vit(model: CfgNode) -> None:
    """Raise InputError for values of MODEL.VIT, each by itself as in `VIT`, that do not go
    together."""
    vit = model.VIT
    if vit.EMBED_DIM % vit.NUM_HEADS:
        raise InputError(
            f"MODEL.VIT.NUM_HEADS: {vit.NUM_HEADS} does not divide MODEL.VIT.EMBED_DIM, "
            f"{vit.EMBED_DIM}"
        )
    for key in ("IMG_SIZE", "PRETRAIN_IMG_SIZE"):
        if vit[key] < vit.PATCH_SIZE:
            raise InputError(
                f"MODEL.VIT.{key}: {vit[key]} is less than MODEL.VIT.PATCH_SIZE, {vit.PATCH_SIZE}"
            )


def check_simple_feature_pyramid(model: CfgNode) -> None:
    """Raise InputError for a pyramid that cannot be made of the ViT's feature."""
    pyramid = model.SIMPLE_FEATURE_PYRAMID
    section = "MODEL.SIMPLE_FEATURE_PYRAMID"
    factors = pyramid.SCALE_FACTORS
    if not factors or any(scale not in (4, 2, 1, 0.5) for scale in factors):
        raise InputError(
            f"{section}.SCALE_FACTORS: {factors} are not some of 4.0, 2.0, 1.0 and 0.5"
        )
    if any(high != 2 * low for high, low in itertools.pairwise(factors)):
        raise InputError(f"{section}.SCALE_FACTORS: {factors} are not halved at each step")
    if 4 in factors and pyramid.NORM in ("", None):
        raise InputError(f"{section}.NORM: is empty; the level of scale 4 needs a norm, such as LN")
    patch = model.VIT.PATCH_SIZE
    if patch & (patch - 1) or patch < max(factors):
        raise InputError(
            f"MODEL.VIT.PATCH_SIZE: {patch} is not a power of two, {max(factors):g} or more, of "
            "which levels are made"
        )
