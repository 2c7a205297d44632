"""PointRend's mask head (Kirillov et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.modeling.features import Shapes
from tfdetect.modeling.point_head import build_point_head
from tfdetect.modeling.points import (
    mask_uncertainty,
    own_logits,
    uncertain_points_with_randomness,
)
from tfdetect.modeling.registries import MASK_HEADS, ROI_HEADS
from tfdetect.modeling.roi_heads.conv_fc_head import ConvFCHead
from tfdetect.modeling.roi_heads.mask_losses import mask_rcnn_loss
from tfdetect.modeling.roi_heads.point_mask_head import (
    PointMaskHead,
    build_conv_fc_head,
    common_options,
    require_features,
)
from tfdetect.modeling.roi_heads.roi_heads import StandardROIHeads
from tfdetect.modeling.roi_heads.sampling import SampledProposals
from tfdetect.modeling.structures import Targets
from tfdetect.ops.point_sample import point_sample


@MASK_HEADS.register()
class PointRendMaskHead(PointMaskHead):
    """A coarse mask of each region, and a point head that looks at it and at the feature maps.

    Args:
        coarse_head: a `ConvFCHead`, whose results are masks, class by class.
        coarse_side: of these masks.
        oversample_ratio, importance_sample_ratio: see `uncertain_points_with_randomness`.
        options: of `PointMaskHead`.
    """

    def __init__(
        self,
        *,
        coarse_head: ConvFCHead,
        coarse_side: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
        **options: Any,
    ):
        super().__init__(**options)
        self.coarse_head = coarse_head
        self._coarse_side = coarse_side
        self._sampling: dict[str, Any] = {
            "num_points": self._train_num_points,
            "oversample_ratio": oversample_ratio,
            "importance_sample_ratio": importance_sample_ratio,
        }

    @classmethod
    def from_config(cls, cfg: CfgNode, shapes: Shapes) -> PointRendMaskHead:
        """From MODEL.ROI_MASK_HEAD and MODEL.POINT_HEAD.

        Args:
            cfg: the whole configuration.
            shapes: (channels, stride) by name of the features of MODEL.ROI_HEADS.IN_FEATURES.
        """
        require_features(shapes, cfg.MODEL.ROI_MASK_HEAD.NAME)
        head, points = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
        if not head.POINT_HEAD_ON:
            raise InputError(
                "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON: is False, but PointRendMaskHead predicts with "
                "its point head; set it to True"
            )
        classes, coarse_side = cfg.MODEL.ROI_HEADS.NUM_CLASSES, head.OUTPUT_SIDE_RESOLUTION
        # Where every point of a doubled mask would be computed again, it is not computed before.
        side, steps = coarse_side, points.SUBDIVISION_STEPS
        while 4 * side**2 <= points.SUBDIVISION_NUM_POINTS:
            side *= 2
            steps -= 1
        if steps < 0:
            largest = 4 * (coarse_side * 2**points.SUBDIVISION_STEPS) ** 2 - 1
            raise InputError(
                f"MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS: is {points.SUBDIVISION_NUM_POINTS}, but "
                f"masks of {coarse_side} x {coarse_side} that are doubled SUBDIVISION_STEPS "
                f"{points.SUBDIVISION_STEPS} times have fewer points; give {largest} or less, or "
                "more steps"
            )
        return cls(
            coarse_head=build_conv_fc_head(cfg, shapes, classes * coarse_side**2),
            coarse_side=coarse_side,
            oversample_ratio=points.OVERSAMPLE_RATIO,
            importance_sample_ratio=points.IMPORTANCE_SAMPLE_RATIO,
            point_head=build_point_head(cfg, shapes, classes, "MODEL.ROI_HEADS.NUM_CLASSES"),
            initial_side=side,
            subdivision_steps=steps,
            **common_options(cfg, shapes),
        )

    def losses(
        self,
        features: Mapping[str, tf.Tensor],
        regions: SampledProposals,
        targets: Targets,
        image_sizes: tf.Tensor,
        seeds: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """`loss_mask` of the coarse masks and `loss_mask_point` at points where they are unsure."""
        region_features = self._pool(features, regions.boxes, regions.image_indices)
        coarse = self._represent(region_features)
        of_class = own_logits(coarse, regions.gt_classes)[..., None]
        points = uncertain_points_with_randomness(
            of_class,
            lambda logits: mask_uncertainty(logits[..., 0]),
            lambda count, which: self._random_points(seeds, regions, count, which),
            **self._sampling,
        )
        return {
            "loss_mask": mask_rcnn_loss(coarse, regions, targets, self._coarse_side),
            "loss_mask_point": self._point_loss(
                points, features, regions, coarse, targets, image_sizes
            ),
        }

    def _represent(self, region_features: tf.Tensor) -> tf.Tensor:
        """Coarse masks, float32 [R, side, side, K]."""
        flat, side = self.coarse_head(region_features), self._coarse_side
        masks = tf.reshape(flat, [-1, flat.shape[1] // side**2, side, side])
        coarse = tf.transpose(masks, [0, 2, 3, 1])
        add_intermediates({"coarse_logits": coarse})
        return coarse

    def _run_point_head(
        self,
        fine_grained: tf.Tensor,
        points: tf.Tensor,
        representation: tf.Tensor,
        classes: tf.Tensor,
    ) -> tf.Tensor:
        coarse = point_sample(representation, points)
        return own_logits(self.point_head(fine_grained, coarse), classes)


@ROI_HEADS.register()
class PointRendROIHeads(StandardROIHeads):
    """StandardROIHeads, under the name that configurations before PointRend's version 2 give them.

    They call the mask head CoarseMaskHead, which is a PointRendMaskHead now. (The parameters of
    models of that time are renamed when a checkpoint is read.)
    """

    @classmethod
    def _mask_options(cls, cfg: CfgNode, names: Sequence[str], shapes: Shapes) -> dict[str, Any]:
        name = cfg.MODEL.ROI_MASK_HEAD.NAME
        if name == "CoarseMaskHead":
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
            cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = ""
        elif name != "PointRendMaskHead":
            raise InputError(
                f"MODEL.ROI_MASK_HEAD.NAME: {name!r} is not for PointRendROIHeads; use "
                "PointRendMaskHead, or MODEL.ROI_HEADS.NAME StandardROIHeads"
            )
        return super()._mask_options(cfg, names, shapes)
