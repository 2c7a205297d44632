"""What MODEL.MVIT may say, and the blocks that it describes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from yacs.config import CfgNode

from tfdetect.config.rules import ABOVE_0, MOST_BLOCKS, Rule, at_least, between
from tfdetect.errors import InputError

FEATURES = ("scale2", "scale3", "scale4", "scale5")


class BlockPlan(NamedTuple):
    """A block of an MViT.

    Attributes:
        stage: from 0.
        halved: by how many halves the block's grid and windows are smaller than the first ones; the
            first block of a stage, which halves the grid, has those of the stage before.
        stride_q, stride_kv: of the pooling of queries, and of keys and values.
        window_size: in tokens before this pooling; 0 for no windows.
    """

    stage: int
    halved: int
    stride_q: int
    stride_kv: int
    window_size: int


def plan_blocks(
    depth: int, last_block_indexes: Sequence[int], kv_stride: int, window_size: int
) -> list[BlockPlan]:
    """The blocks, as the constructor of Detectron2's `MViT` makes them of these arguments."""
    plans = []
    stage = halved = 0
    for index in range(depth):
        stride_kv = max(kv_stride // 2**stage, 1)
        if index in last_block_indexes[1:3]:
            stride_kv *= 2
        first = index - 1 in last_block_indexes
        side = 0 if index in last_block_indexes[1:] else window_size // 2**halved
        plans.append(BlockPlan(stage, halved, 2 if first else 1, stride_kv, side))
        stage += index in last_block_indexes
        halved += first
    return plans


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _is_pair(value: Any, least: int) -> bool:
    return len(value) == 2 and value[0] == value[1] and _is_whole(value[0], least)


def _is_power(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _are_last_blocks(value: Any) -> bool:
    whole = len(value) == len(FEATURES) and all(_is_whole(index, 0) for index in value)
    return whole and all(low < high for low, high in itertools.pairwise(value))


def _are_features(value: Any) -> bool:
    names = list(value)
    return 0 < len(names) == len({*names}) and all(name in FEATURES for name in names)


# Kernels are odd, and padded by half of them: then a map has its size over the stride, rounded up,
# and what is pooled fits what is beside it.
_ODD = Rule(lambda value: _is_pair(value, 1) and value[0] % 2 == 1, "two equal odd numbers")
_PIXELS = Rule(lambda value: _is_whole(value, 1), "a whole number above 0")
MVIT = {
    "IMG_SIZE": _PIXELS,
    "PATCH_KERNEL": _ODD,
    "PATCH_STRIDE": Rule(
        lambda value: _is_pair(value, 1) and _is_power(value[0]), "two equal powers of 2"
    ),
    "PATCH_PADDING": Rule(lambda value: _is_pair(value, 0), "two equal whole numbers"),
    "EMBED_DIM": at_least(1),
    "DEPTH": between(len(FEATURES), MOST_BLOCKS),
    "NUM_HEADS": at_least(1),
    "LAST_BLOCK_INDEXES": Rule(
        _are_last_blocks, "the last blocks of four stages, rising whole numbers from 0 on"
    ),
    "QKV_POOL_KERNEL": _ODD,
    "ADAPTIVE_KV_STRIDE": Rule(_is_power, "a power of 2"),
    "ADAPTIVE_WINDOW_SIZE": at_least(0),
    "MLP_RATIO": ABOVE_0,
    "DROP_PATH_RATE": between(0, 1),
    "PRETRAIN_IMG_SIZE": _PIXELS,
    "OUT_FEATURES": Rule(_are_features, f"some of {', '.join(FEATURES)}, each once"),
}


def check_mvit(model: CfgNode) -> None:
    """Raise InputError for values, each by itself as in `MVIT`, that do not go together."""
    mvit = model.MVIT
    (kernel, _), (padding, _), (stride, _) = (
        mvit.PATCH_KERNEL,
        mvit.PATCH_PADDING,
        mvit.PATCH_STRIDE,
    )
    if padding != kernel // 2:
        raise InputError(
            f"MODEL.MVIT.PATCH_PADDING: is {padding}, which does not centre patches of "
            f"MODEL.MVIT.PATCH_KERNEL {kernel}; give {kernel // 2} twice"
        )
    if mvit.EMBED_DIM % mvit.NUM_HEADS:
        raise InputError(
            f"MODEL.MVIT.NUM_HEADS: {mvit.NUM_HEADS} does not divide MODEL.MVIT.EMBED_DIM, "
            f"{mvit.EMBED_DIM}"
        )
    if int(mvit.EMBED_DIM * mvit.MLP_RATIO) < 1:
        raise InputError(
            f"MODEL.MVIT.MLP_RATIO: is {mvit.MLP_RATIO}, which leaves no channels of "
            f"{mvit.EMBED_DIM}; give more"
        )
    if mvit.LAST_BLOCK_INDEXES[-1] >= mvit.DEPTH:
        raise InputError(
            f"MODEL.MVIT.LAST_BLOCK_INDEXES: {mvit.LAST_BLOCK_INDEXES[-1]} is not among the "
            f"{mvit.DEPTH} blocks of MODEL.MVIT.DEPTH, which are counted from 0"
        )
    if mvit.USE_ABS_POS and stride > mvit.PRETRAIN_IMG_SIZE:
        raise InputError(
            f"MODEL.MVIT.PRETRAIN_IMG_SIZE: {mvit.PRETRAIN_IMG_SIZE} is less than "
            f"MODEL.MVIT.PATCH_STRIDE, {stride}"
        )
    plans = plan_blocks(
        mvit.DEPTH, mvit.LAST_BLOCK_INDEXES, mvit.ADAPTIVE_KV_STRIDE, mvit.ADAPTIVE_WINDOW_SIZE
    )
    for index, plan in enumerate(plans):
        side = mvit.IMG_SIZE // stride // 2**plan.halved
        if mvit.USE_REL_POS and side < min(plan.stride_q, plan.stride_kv):
            raise InputError(
                f"MODEL.MVIT.IMG_SIZE: {mvit.IMG_SIZE} leaves no tokens for the relative positions "
                f"of block {index}; give more"
            )
        # Deviates from Detectron2, which fails at most image sizes instead: the windows of queries
        # and of keys are not as many.
        if plan.window_size % plan.stride_q or plan.window_size % plan.stride_kv:
            raise InputError(
                f"MODEL.MVIT.ADAPTIVE_WINDOW_SIZE: {mvit.ADAPTIVE_WINDOW_SIZE} makes windows of "
                f"{plan.window_size} in block {index}, which its strides {plan.stride_q} and "
                f"{plan.stride_kv} do not divide; give a multiple, such as 56"
            )
