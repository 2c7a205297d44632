"""TEST.AUG: which models test-time augmentation is for, and what its values may be."""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.errors import InputError

_LONGEST = 2**26
"""Of an augmented image's sides: more than the network's input may have pixels."""


def check_tta(cfg: CfgNode) -> None:
    """Raise InputError if TEST.AUG cannot be applied to the configured model.

    Detectron2 asserts that the model is a GeneralizedRCNN without keypoints or given proposals.
    """
    able, architecture = capabilities(cfg), cfg.MODEL.META_ARCHITECTURE
    reason = None
    if able.takes_proposals:
        reason = "the given proposals are of the image as it is"
    elif not able.has_boxes:
        reason = f"it merges detected boxes, and {architecture} detects none"
    elif able.has_semantic:
        reason = f"it merges detected boxes alone, and {architecture} segments all pixels too"
    elif able.rotated:
        reason = "its boxes are rotated"
    elif cfg.MODEL.CONVENTIONS != "detectron2":
        reason = f"it is Detectron2's, and the model follows {cfg.MODEL.CONVENTIONS}'s conventions"
    if reason is not None:
        raise InputError(
            f"TEST.AUG.ENABLED: there is no test-time augmentation of this model ({reason}); set "
            "it to False"
        )
    sizes = cfg.TEST.AUG.MIN_SIZES
    # 0: the image is not resized.
    if not sizes or not all(_is_whole(size, 0) for size in sizes):
        raise InputError(
            f"TEST.AUG.MIN_SIZES: is {_shown(sizes)}; give at least one whole number, each from 0 "
            f"to {_LONGEST}"
        )
    if not _is_whole(cfg.TEST.AUG.MAX_SIZE, 1):
        raise InputError(
            f"TEST.AUG.MAX_SIZE: is {_shown(cfg.TEST.AUG.MAX_SIZE)}; give a whole number from 1 to "
            f"{_LONGEST}"
        )
    if not isinstance(cfg.TEST.AUG.FLIP, bool):
        raise InputError(f"TEST.AUG.FLIP: is {cfg.TEST.AUG.FLIP}; give True or False")


def describe_tta(cfg: CfgNode) -> str:
    """A line that says what TEST.AUG does."""
    aug = cfg.TEST.AUG
    sizes = ", ".join(str(size) for size in aug.MIN_SIZES)
    count = len(aug.MIN_SIZES) * (2 if aug.FLIP else 1)
    flipped = ", each flipped too" if aug.FLIP else ""
    return (
        f"TEST.AUG.ENABLED: test-time augmentation is on: {count} images in place of each (shorter "
        f"edge {sizes}{flipped})"
    )


def with_tta(cfg: CfgNode, enabled: bool) -> CfgNode:
    """The configuration with this TEST.AUG.ENABLED, frozen."""
    changed = cfg.clone()
    changed.defrost()
    changed.TEST.AUG.ENABLED = enabled
    changed.freeze()
    return changed


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= _LONGEST


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "too large"
    return text if len(text) <= 200 else f"{text[:200]}..."
