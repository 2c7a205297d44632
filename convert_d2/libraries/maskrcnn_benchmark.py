"""maskrcnn-benchmark's Faster, Mask and Keypoint R-CNN, with FPN and C4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convert_d2.libraries.architecture import pooler_options
from convert_d2.libraries.renaming import (
    Rule,
    background_last,
    numbered,
    rename,
    resnet_rules,
    without_epsilon,
)

# Names that a detector of maskrcnn-benchmark has, and no other library's.
MARKERS = ("backbone.body.stem.conv1.weight", "rpn.head.cls_logits.weight")


def maskrcnn_benchmark_options(found: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration options for models from maskrcnn-benchmark and Detectron."""
    fpn = found["MODEL.BACKBONE.NAME"] == "build_resnet_fpn_backbone"
    return {
        "MODEL.CONVENTIONS": "maskrcnn_benchmark",
        "MODEL.PIXEL_MEAN": [102.9801, 115.9465, 122.7717],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        # MSRA's ResNets have the stride there, ResNeXts do not.
        "MODEL.RESNETS.STRIDE_IN_1X1": found["MODEL.RESNETS.NUM_GROUPS"] == 1,
        "INPUT.FORMAT": "BGR",
    } | pooler_options("ROIAlign", 2 if fpn else 0)


def from_maskrcnn_benchmark(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of maskrcnn-benchmark as one of Detectron2.

    Its frozen norms have no epsilon. In C4 models the mask head's res5 is the box head's, under a
    second name; it is loaded after the other, so that it counts.
    """
    fpn = "backbone.fpn.fpn_inner1.weight" in arrays
    arrays = {name: array for name, array in arrays.items() if "anchor_generator" not in name}
    return without_epsilon(background_last(rename(arrays, _rules(fpn))))


def _rules(fpn: bool) -> list[Rule]:
    rpn, mask = "proposal_generator.rpn_head", "roi_heads.mask_head"
    prefix = "backbone.bottom_up" if fpn else "backbone"
    keypoint = "roi_heads.keypoint_head"
    heads = r"roi_heads\.(?:box|mask|keypoint)\.feature_extractor\."
    return [
        *resnet_rules(r"backbone\.body\.", r"backbone\.body\.stem\.", prefix),
        *resnet_rules(rf"{heads}head\.", r"(?!)", "roi_heads"),
        numbered(r"backbone\.fpn\.fpn_inner(\d)\.(\w+)", "backbone.fpn_lateral{}.{}", 1),
        numbered(r"backbone\.fpn\.fpn_layer(\d)\.(\w+)", "backbone.fpn_output{}.{}", 1),
        (r"rpn\.head\.conv\.(\w+)", rf"{rpn}.conv.\1"),
        (r"rpn\.head\.cls_logits\.(\w+)", rf"{rpn}.objectness_logits.\1"),
        (r"rpn\.head\.bbox_pred\.(\w+)", rf"{rpn}.anchor_deltas.\1"),
        numbered(rf"{heads}fc(\d)\.(\w+)", "roi_heads.box_head.fc{}.{}", -5),
        (r"roi_heads\.box\.predictor\.(\w+)\.(\w+)", r"roi_heads.box_predictor.\1.\2"),
        (rf"{heads}(mask_fcn\d\.\w+)", rf"{mask}.\1"),
        (r"roi_heads\.mask\.predictor\.conv5_mask\.(\w+)", rf"{mask}.deconv.\1"),
        (r"roi_heads\.mask\.predictor\.mask_fcn_logits\.(\w+)", rf"{mask}.predictor.\1"),
        (rf"{heads}(conv_fcn\d\.\w+)", rf"{keypoint}.\1"),
        (
            r"roi_heads\.keypoint\.predictor\.kps_score_lowres\.(\w+)",
            rf"{keypoint}.score_lowres.\1",
        ),
    ]
