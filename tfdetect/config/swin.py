"""What MODEL.SWIN may say."""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from tfdetect.config.rules import (
    ABOVE_0,
    MOST_BLOCKS,
    Rule,
    at_least,
    between,
    differ,
    each,
    is_number,
)
from tfdetect.errors import InputError


def _counts(value: Any) -> bool:
    return len(value) > 0 and all(type(count) is int and count > 0 for count in value)


_COUNTS = Rule(_counts, "one whole number above 0 for each stage")
_DEPTHS = Rule(
    lambda value: _counts(value) and sum(value) <= MOST_BLOCKS,
    f"one whole number above 0 for each stage, {MOST_BLOCKS} together at most",
)

SWIN = {
    "PRETRAIN_IMG_SIZE": at_least(1),
    # The strides of Detectron2's Swin are those of patches of 4 pixels, whatever is set here.
    "PATCH_SIZE": Rule(lambda value: value == 4, "4, which the features' strides go with"),
    "EMBED_DIM": at_least(1),
    "DEPTHS": _DEPTHS,
    "NUM_HEADS": _COUNTS,
    "WINDOW_SIZE": at_least(1),
    "MLP_RATIO": ABOVE_0,
    "QK_SCALE": Rule(is_number, "a number, or 0 for that of the heads' width"),
    "DROP_PATH_RATE": between(0, 1),
    "OUT_INDICES": each(Rule(lambda value: type(value) is int and value >= 0, "stages from 0 on")),
    "FROZEN_STAGES": at_least(-1),
}


def check_swin(model: CfgNode) -> None:
    """Raise InputError for values, each by itself as in `SWIN`, that do not go together."""
    swin = model.SWIN
    stages = len(swin.DEPTHS)
    if len(swin.NUM_HEADS) != stages:
        raise InputError(
            f"MODEL.SWIN.NUM_HEADS: has {len(swin.NUM_HEADS)} stages, and MODEL.SWIN.DEPTHS has "
            f"{stages}; give one number for each stage in both"
        )
    for stage, heads in enumerate(swin.NUM_HEADS):
        channels = swin.EMBED_DIM * 2**stage
        if channels % heads:
            raise InputError(
                f"MODEL.SWIN.NUM_HEADS: {heads} heads do not divide the {channels} channels of "
                f"stage {stage}; with MODEL.SWIN.EMBED_DIM {swin.EMBED_DIM} give a divisor"
            )
    if int(swin.EMBED_DIM * swin.MLP_RATIO) < 1:
        raise InputError(
            f"MODEL.SWIN.MLP_RATIO: is {swin.MLP_RATIO}, which leaves no channels of "
            f"{swin.EMBED_DIM}; give more"
        )
    if not swin.OUT_INDICES or not differ(swin.OUT_INDICES) or max(swin.OUT_INDICES) >= stages:
        raise InputError(
            f"MODEL.SWIN.OUT_INDICES: is {list(swin.OUT_INDICES)}; give some of "
            f"{list(range(stages))}, each once"
        )
    if stages + 1 < swin.FROZEN_STAGES:
        raise InputError(
            f"MODEL.SWIN.FROZEN_STAGES: is {swin.FROZEN_STAGES}; {stages + 1} freezes all stages, "
            "give at most that"
        )
    if swin.APE and swin.PRETRAIN_IMG_SIZE < swin.PATCH_SIZE:
        raise InputError(
            f"MODEL.SWIN.PRETRAIN_IMG_SIZE: is {swin.PRETRAIN_IMG_SIZE}, less than a patch of "
            f"{swin.PATCH_SIZE} pixels; give the size of the images of the absolute positions"
        )
