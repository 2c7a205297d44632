"""Detectron's models: Caffe2's names of the whole network, in a `.pkl` under "blobs".

They follow the same conventions as maskrcnn-benchmark's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convert_d2.libraries.caffe2_names import rename_caffe2
from convert_d2.libraries.renaming import Rule, background_last, numbered, rename, without_epsilon

# Names that a detector of Detectron has, and no other library's; the second of an RPN alone.
MARKERS = ("conv1_w", "cls_score_w")
RPN_MARKERS = ("conv1_w", "conv_rpn_w")


def from_detectron(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Detectron's blobs as a state dict of Detectron2.

    The momentum is dropped, and so is the bilinear upsampling of keypoint heatmaps, a layer with
    fixed weights. A norm is a scale and a shift: its mean is 0 and its
    variance 1, and there is no epsilon.
    """
    fpn = any(name.startswith("fpn_") for name in arrays)
    fixed = {"kps_score_w", "kps_score_b"} if "kps_score_lowres_w" in arrays else set()
    renamed = rename_caffe2({name: x for name, x in arrays.items() if name not in fixed})
    renamed = rename(renamed, _rules(fpn))
    for name in list(renamed):
        layer, separator, _ = name.rpartition(".norm.weight")
        if separator and f"{layer}.norm.running_var" not in renamed:
            renamed[f"{layer}.norm.running_mean"] = np.zeros_like(renamed[name])
            renamed[f"{layer}.norm.running_var"] = np.ones_like(renamed[name])
    return without_epsilon(background_last(renamed))


def _rules(fpn: bool) -> list[Rule]:
    rpn, mask = "proposal_generator.rpn_head", "roi_heads.mask_head"
    keypoint = "roi_heads.keypoint_head"
    layers = {
        # The first level's RPN is that of all.
        r"conv_rpn(?:_fpn2)?": f"{rpn}.conv",
        r"rpn_cls_logits(?:_fpn2)?": f"{rpn}.objectness_logits",
        r"rpn_bbox_pred(?:_fpn2)?": f"{rpn}.anchor_deltas",
        "cls_score": "roi_heads.box_predictor.cls_score",
        "bbox_pred": "roi_heads.box_predictor.bbox_pred",
        "fc6": "roi_heads.box_head.fc1",
        "fc7": "roi_heads.box_head.fc2",
        "conv5_mask": f"{mask}.deconv",
        "mask_fcn_logits": f"{mask}.predictor",
        "kps_score_lowres": f"{keypoint}.score_lowres",
    }
    body = "backbone.bottom_up" if fpn else "backbone"
    return [
        *(
            (rf"{theirs}_{kind[0]}", f"{ours}.{kind}")
            for theirs, ours in layers.items()
            for kind in ("weight", "bias")
        ),
        *_numbered(r"fpn_inner_res(\d)_\d+_sum(?:_lateral)?", "backbone.fpn_lateral{}"),
        *_numbered(r"fpn_res(\d)_\d+_sum", "backbone.fpn_output{}"),
        *_numbered(r"_\[mask\]_fcn(\d)", f"{mask}.mask_fcn{{}}"),
        *_numbered(r"conv_fcn(\d)", f"{keypoint}.conv_fcn{{}}"),
        # `rename_caffe2` has named the ResNet; in a C4 model res5 belongs to the heads.
        (r"(res5\..*)", rf"{body if fpn else 'roi_heads'}.\1"),
        (r"((?:stem|res\d)\..*)", rf"{body}.\1"),
    ]


def _numbered(pattern: str, replacement: str) -> list[Rule]:
    return [
        numbered(rf"{pattern}_({kind[0]})", f"{replacement}.{kind}", 0)
        for kind in ("weight", "bias")
    ]
