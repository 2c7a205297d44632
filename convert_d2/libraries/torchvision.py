"""torchvision's Faster, Mask and Keypoint R-CNN with a ResNet-FPN, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

# Names that a detector of torchvision has, and no other library's.
MARKERS = ("backbone.body.conv1.weight", "rpn.head.cls_logits.weight")


def torchvision_options(found: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration options for models from torchvision, where images are in 0..1."""
    return {
        "MODEL.CONVENTIONS": "torchvision",
        "MODEL.PIXEL_MEAN": [255 * mean for mean in (0.485, 0.456, 0.406)],
        "MODEL.PIXEL_STD": [255 * std for std in (0.229, 0.224, 0.225)],
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "INPUT.FORMAT": "RGB",
    } | pooler_options("ROIAlign", 2)


def from_torchvision(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of torchvision as one of Detectron2.

    Norms that do not count batches are frozen ones. With those torchvision trained the weights it
    publishes for version 1, and it sets their epsilon to 0 when it loads these.
    """
    frozen = "backbone.body.bn1.num_batches_tracked" not in arrays
    renamed = background_last(rename(arrays, _rules("rpn.head.conv.1.0.weight" in arrays)))
    return without_epsilon(renamed) if frozen else renamed


def is_torchvision_backbone(names: Iterable[str]) -> bool:
    """Whether arrays of these names are a ResNet of torchvision's classifiers."""
    return {"conv1.weight", "layer1.0.conv1.weight"} <= set(names)


def rename_torchvision_backbone(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A ResNet of torchvision's under Detectron2's names, without what stands before `stem`.

    Other names than those of its convolutions and norms (the classifier's `fc.weight`) stay.
    """
    renamed = rename(arrays, resnet_rules("", "", ""))
    return {name.removeprefix("."): array for name, array in renamed.items()}


def _rules(several_rpn_convs: bool) -> list[Rule]:
    rpn, box, mask = "proposal_generator.rpn_head", "roi_heads.box_head", "roi_heads.mask_head"
    keypoint = "roi_heads.keypoint_head"
    fpn, norm = r"backbone\.fpn\.", r"\.1\.(\w+)"
    # Before torchvision 0.13 a convolution had no number of its own behind the layer's.
    conv = r"(?:\.0)?\.(weight|bias)"
    rpn_conv = f"{rpn}.conv.conv{{}}.{{}}" if several_rpn_convs else f"{rpn}.conv.{{1}}"
    return [
        *resnet_rules(r"backbone\.body\.", r"backbone\.body\.", "backbone.bottom_up"),
        numbered(rf"{fpn}inner_blocks\.(\d){norm}", "backbone.fpn_lateral{}.norm.{}", 2),
        numbered(rf"{fpn}inner_blocks\.(\d){conv}", "backbone.fpn_lateral{}.{}", 2),
        numbered(rf"{fpn}layer_blocks\.(\d){norm}", "backbone.fpn_output{}.norm.{}", 2),
        numbered(rf"{fpn}layer_blocks\.(\d){conv}", "backbone.fpn_output{}.{}", 2),
        (r"rpn\.head\.conv\.(weight|bias)", rf"{rpn}.conv.\1"),
        numbered(r"rpn\.head\.conv\.(\d)\.0\.(weight|bias)", rpn_conv, 0),
        (r"rpn\.head\.cls_logits\.(\w+)", rf"{rpn}.objectness_logits.\1"),
        (r"rpn\.head\.bbox_pred\.(\w+)", rf"{rpn}.anchor_deltas.\1"),
        numbered(r"roi_heads\.box_head\.fc(\d)\.(\w+)", f"{box}.fc{{}}.{{}}", -5),
        numbered(rf"roi_heads\.box_head\.(\d){norm}", f"{box}.conv{{}}.norm.{{}}", 1),
        numbered(r"roi_heads\.box_head\.(\d)\.0\.(\w+)", f"{box}.conv{{}}.{{}}", 1),
        (r"roi_heads\.box_head\.\d\.(weight|bias)", rf"{box}.fc1.\1"),
        numbered(rf"roi_heads\.mask_head\.(\d){norm}", f"{mask}.mask_fcn{{}}.norm.{{}}", 1),
        numbered(r"roi_heads\.mask_head\.(\d)\.0\.(\w+)", f"{mask}.mask_fcn{{}}.{{}}", 1),
        (r"roi_heads\.mask_predictor\.conv5_mask\.(\w+)", rf"{mask}.deconv.\1"),
        (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(\w+)", rf"{mask}.predictor.\1"),
        numbered(r"roi_heads\.keypoint_head\.(\d+)\.(\w+)", f"{keypoint}.conv_fcn{{}}.{{}}", 1, 2),
        (
            r"roi_heads\.keypoint_predictor\.kps_score_lowres\.(\w+)",
            rf"{keypoint}.score_lowres.\1",
        ),
    ]
