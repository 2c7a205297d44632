"""Implicit PointRend's mask head (Cheng et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.modeling.features import Shapes
from tfdetect.modeling.point_head import build_point_head
from tfdetect.modeling.registries import MASK_HEADS
from tfdetect.modeling.replicas import mean_count
from tfdetect.modeling.roi_heads.conv_fc_head import ConvFCHead
from tfdetect.modeling.roi_heads.point_mask_head import (
    PointMaskHead,
    build_conv_fc_head,
    common_options,
    require_features,
)
from tfdetect.modeling.roi_heads.sampling import SampledProposals
from tfdetect.modeling.structures import Targets


@MASK_HEADS.register()
class ImplicitPointRendMaskHead(PointMaskHead):
    """Of each region the parameters of a network that gives the mask at any point.

    Args:
        parameter_head: a `ConvFCHead`, whose results the parameters are.
        regularizer: the weight of their mean square in the loss.
        options: of `PointMaskHead`.
    """

    def __init__(self, *, parameter_head: ConvFCHead, regularizer: float, **options: Any):
        super().__init__(**options)
        self.parameter_head = parameter_head
        self._regularizer = regularizer

    @classmethod
    def from_config(cls, cfg: CfgNode, shapes: Shapes) -> ImplicitPointRendMaskHead:
        """From MODEL.ROI_MASK_HEAD, MODEL.POINT_HEAD and MODEL.IMPLICIT_POINTREND.

        Args:
            cfg: the whole configuration.
            shapes: (channels, stride) by name of the features of MODEL.ROI_HEADS.IN_FEATURES.
        """
        require_features(shapes, cfg.MODEL.ROI_MASK_HEAD.NAME)
        points, classes = cfg.MODEL.POINT_HEAD, cfg.MODEL.ROI_HEADS.NUM_CLASSES
        side = math.isqrt(points.SUBDIVISION_NUM_POINTS)
        if side**2 != points.SUBDIVISION_NUM_POINTS:
            raise InputError(
                f"MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS: is {points.SUBDIVISION_NUM_POINTS}, but "
                "ImplicitPointRendMaskHead begins with a square of as many points; give a square "
                f"number such as {side**2}"
            )
        point_head = build_point_head(
            cfg, shapes, classes, "MODEL.ROI_HEADS.NUM_CLASSES", implicit=True
        )
        return cls(
            parameter_head=build_conv_fc_head(cfg, shapes, point_head.num_params),
            regularizer=cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER,
            point_head=point_head,
            initial_side=side,
            subdivision_steps=points.SUBDIVISION_STEPS,
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
        """`loss_l2` of the parameters and `loss_mask_point` at random points.

        Without a region both are 0. (Detectron2's `loss_l2` is NaN then, which ends its training.)
        """
        region_features = self._pool(features, regions.boxes, regions.image_indices)
        parameters = self._represent(region_features)
        points = self._random_points(seeds, regions, self._train_num_points)
        # One region at a time, for the accuracy of a sum of so many terms.
        squares = tf.reduce_sum(tf.reduce_mean(tf.square(parameters), 1))
        return {
            "loss_l2": self._regularizer * squares / mean_count(tf.shape(parameters)[0]),
            "loss_mask_point": self._point_loss(
                points, features, regions, parameters, targets, image_sizes
            ),
        }

    def _represent(self, region_features: tf.Tensor) -> tf.Tensor:
        """Parameters of the point head, float32 [R, its number]."""
        parameters = self.parameter_head(region_features)
        add_intermediates({"parameters": parameters})
        return parameters

    def _run_point_head(
        self,
        fine_grained: tf.Tensor,
        points: tf.Tensor,
        representation: tf.Tensor,
        classes: tf.Tensor,
    ) -> tf.Tensor:
        return self.point_head(fine_grained, points, representation, classes)
