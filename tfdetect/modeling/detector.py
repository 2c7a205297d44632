"""The whole detector: Detectron2's GeneralizedRCNN."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.modeling.backbone.fpn import build_resnet_fpn
from tfdetect.modeling.proposal_generator.rpn import RPN
from tfdetect.modeling.roi_heads.roi_heads import StandardROIHeads

_BACKBONES: dict[str, Callable] = {"build_resnet_fpn_backbone": build_resnet_fpn}
_PROPOSAL_GENERATORS: dict[str, Callable] = {"RPN": RPN}
_ROI_HEADS: dict[str, Callable] = {"StandardROIHeads": StandardROIHeads}


class GeneralizedRCNN(tf.Module):
    """Backbone, proposal generator and RoI heads, built from a configuration.

    The path of every variable is its key in Detectron2's state dict.

    Raises:
        InputError: for a part that is not supported, naming the configuration key.
    """

    def __init__(self, cfg: CfgNode):
        super().__init__()
        model = cfg.MODEL
        _choose({"GeneralizedRCNN": None}, "MODEL.META_ARCHITECTURE", model.META_ARCHITECTURE)
        if model.LOAD_PROPOSALS:
            raise InputError("MODEL.LOAD_PROPOSALS: precomputed proposals are not supported")
        self.backbone = _choose(_BACKBONES, "MODEL.BACKBONE.NAME", model.BACKBONE.NAME)(cfg)
        shapes = self.backbone.output_shapes
        make_rpn = _choose(
            _PROPOSAL_GENERATORS, "MODEL.PROPOSAL_GENERATOR.NAME", model.PROPOSAL_GENERATOR.NAME
        )
        self.proposal_generator = make_rpn(cfg, shapes)
        make_heads = _choose(_ROI_HEADS, "MODEL.ROI_HEADS.NAME", model.ROI_HEADS.NAME)
        self.roi_heads = make_heads(cfg, shapes)

    @property
    def size_divisibility(self) -> int:
        """Height and width of the padded image batch are multiples of this."""
        return self.backbone.size_divisibility

    def __call__(
        self, images: tf.Tensor, image_sizes: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Detect objects.

        Args:
            images: float32 [B, H, W, 3], normalised, zero beyond each image's own size.
            image_sizes: int32 [B, 2], (height, width) of each image without padding.

        Returns:
            The detections in pixels of `images` (see `StandardROIHeads`), and the stages by name:
            the backbone's features, those of `RPN` and those of `StandardROIHeads`.
        """
        features, bottom_up = self.backbone(images)
        proposals, counts, rpn_stages = self.proposal_generator(features, image_sizes)
        detections, head_stages = self.roi_heads(features, proposals, counts, image_sizes)
        return detections, {**bottom_up, **features, **rpn_stages, **head_stages}


def _choose(known: dict[str, Callable] | dict[str, None], key: str, name: str) -> Callable:
    if name not in known:
        raise InputError(f"{key}: {name!r} is not supported; use {' or '.join(known)}")
    return known[name]  # type: ignore[return-value]
