"""Conventions in which other libraries differ from Detectron2.

Detectron, maskrcnn-benchmark, torchvision and Detectron2 train the same networks, but differ in how
they place anchors, measure boxes, pool, resize and paste. Detectron2's conventions are the default
of every operator; MODEL.CONVENTIONS, which the converter sets, names the library whose conventions
to use.

Inside the model a box is continuous whatever the library: what Detectron and maskrcnn-benchmark
call (x1, y1, x2, y2), the pixels x1 to x2 inclusive and so x2 - x1 + 1 wide, is here (x1, y1,
x2 + 1, y2 + 1). With that their box coding and their overlap are Detectron2's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.errors import InputError


@dataclass(frozen=True)
class Conventions:
    """The conventions that differ; the defaults are Detectron2's.

    Attributes:
        inclusive_boxes: boxes are reported, pooled, clipped and rescaled by their last pixel (see
            above).
        anchors: "exact"; "rounded" corners, placed by strides that are whole quotients of the sizes
            of the input and the feature map (torchvision); or "quantized" sides, centred on the
            middle pixel of a feature-map pixel, ratios before sizes (Detectron).
        level_epsilon: added to sqrt(area) / 224 in the pooler before the logarithm.
        least_proposal: the width and the height that a proposal must exceed, in pixels.
        least_detection: the same for a detection before NMS; negative: no limit.
        resize: the library whose size rule and filter are used to resize the input.
        masks_as_images: masks are pasted by whole pixels (see `paste_masks`).
        keypoint_offset: where in a pixel, on both axes, COCO's keypoints of that pixel were put for
            training.
        keypoint_scores: column of `decode_keypoints`: 3 is the probability, 2 the logit.
    """

    inclusive_boxes: bool = False
    anchors: Literal["exact", "rounded", "quantized"] = "exact"
    level_epsilon: float = 1e-8
    least_proposal: float = 0.0
    least_detection: float = -1.0
    resize: Literal["detectron2", "torchvision", "maskrcnn_benchmark", "tensorpack"] = "detectron2"
    masks_as_images: bool = False
    keypoint_offset: float = 0.5
    keypoint_scores: int = 3


DETECTRON2 = Conventions()
_BY_NAME = {
    "detectron2": DETECTRON2,
    "tensorpack": Conventions(resize="tensorpack"),
    "torchvision": Conventions(
        anchors="rounded",
        level_epsilon=1e-6,
        least_proposal=1e-3,
        least_detection=1e-2,
        resize="torchvision",
        masks_as_images=True,
        keypoint_offset=0.0,
        keypoint_scores=2,
    ),
    "maskrcnn_benchmark": Conventions(
        inclusive_boxes=True,
        anchors="quantized",
        level_epsilon=1e-6,
        resize="maskrcnn_benchmark",
        masks_as_images=True,
        keypoint_offset=0.0,
        keypoint_scores=2,
    ),
}


_WITH_CASCADE = ("tensorpack",)


def conventions(cfg: CfgNode) -> Conventions:
    """Those of MODEL.CONVENTIONS.

    Raises:
        InputError: there are none of this name, or none for this kind of model.
    """
    name = cfg.MODEL.CONVENTIONS
    if name not in _BY_NAME:
        raise InputError(f"MODEL.CONVENTIONS: {name!r} is not one of {', '.join(_BY_NAME)}")
    able, model = capabilities(cfg), cfg.MODEL
    plain = able.parts.roi_heads and not able.has_semantic and not able.takes_proposals
    plain = plain and not able.rotated
    if name != "detectron2" and (not plain or (able.cascade and name not in _WITH_CASCADE)):
        kind = f"{model.META_ARCHITECTURE}/{model.PROPOSAL_GENERATOR.NAME}"
        raise InputError(
            f"MODEL.CONVENTIONS: {name} has no {kind} with {model.ROI_HEADS.NAME}; use detectron2"
        )
    return _BY_NAME[name]


def last_pixels(boxes: tf.Tensor) -> tf.Tensor:
    """Boxes [..., 4] by their last pixel: (x1, y1, x2 - 1, y2 - 1)."""
    return boxes - tf.constant([0.0, 0.0, 1.0, 1.0])
