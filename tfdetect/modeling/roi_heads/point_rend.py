"""PointRend's mask heads (Kirillov et al., 2020; implicit: Cheng et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.features import Shapes, input_features
from tfdetect.modeling.point_head import build_point_head, point_features
from tfdetect.modeling.points import (
    mask_uncertainty,
    most_uncertain_on_grid,
    own_logits,
    points_wrt_image,
    random_points,
    regular_grid,
    sample_fine_grained_features,
    uncertain_points_with_randomness,
)
from tfdetect.modeling.registries import MASK_HEADS, ROI_HEADS
from tfdetect.modeling.replicas import mean_count
from tfdetect.modeling.roi_heads.conv_fc_head import ConvFCHead
from tfdetect.modeling.roi_heads.mask_head import FeatureMaskHead
from tfdetect.modeling.roi_heads.mask_losses import mask_rcnn_loss
from tfdetect.modeling.roi_heads.point_losses import object_point_labels, roi_mask_point_loss
from tfdetect.modeling.roi_heads.roi_heads import StandardROIHeads
from tfdetect.modeling.roi_heads.sampling import SampledProposals
from tfdetect.modeling.structures import Targets
from tfdetect.ops.interpolate import upsample_2x_bilinear
from tfdetect.ops.point_sample import point_sample

# Makes these random numbers independent of those of the samplers.
_STREAM = 2


class _Regions(NamedTuple):
    """Boxes float32 [R, 4], and of each its image and its class, int32 [R]."""

    boxes: tf.Tensor
    image_indices: tf.Tensor
    classes: tf.Tensor


class _PointMaskHead(FeatureMaskHead):
    """What both heads have in common: pooling at points, and masks that are refined at points.

    Args:
        pooled_features: strides of the features that are pooled, by name.
        resolution: points of a pooled region along each side.
        point_head: of the features at a point.
        point_features: strides of the features that it looks at, by name.
        initial_side: of the mask that is computed at every point.
        subdivision_steps: how often it is then doubled and refined.
        num_points: how many points a step computes at most.
        train_num_points: of a region in training.
    """

    def __init__(
        self,
        *,
        pooled_features: Mapping[str, int],
        resolution: int,
        point_head: Any,
        point_features: Mapping[str, int],
        initial_side: int,
        subdivision_steps: int,
        num_points: int,
        train_num_points: int,
    ):
        super().__init__()
        self._pooled_features = dict(pooled_features)
        self._resolution = resolution
        self.point_head = point_head
        self._point_features = dict(point_features)
        self._initial_side = initial_side
        self._subdivision_steps = subdivision_steps
        self._num_points = num_points
        self._train_num_points = train_num_points

    def predict(
        self,
        features: Mapping[str, tf.Tensor],
        boxes: tf.Tensor,
        image_indices: tf.Tensor,
        classes: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> tf.Tensor:
        """As `FeatureMaskHead.predict`; M is `initial_side` doubled with every step.

        Only the class's own mask is refined: Detectron2 carries those of all classes along, which
        changes nothing in it. Intermediates: `initial_logits` [R, S, S], and of every step
        `step_K_indices` int32 [R, P], row * side + column, and `step_K_logits` [R, P].
        """
        regions = _Regions(boxes, image_indices, classes)
        region_features = self._pool(features, boxes, image_indices, valid_sizes)
        representation = self._represent(region_features)
        side, count = self._initial_side, tf.shape(boxes)[0]
        points = tf.repeat(regular_grid(side)[None], count, axis=0)
        logits = self._logits_at(points, features, regions, representation, valid_sizes)
        mask = tf.reshape(logits, [count, side, side])
        found = {"initial_logits": mask}
        for step in range(self._subdivision_steps):
            side *= 2
            mask = tf.reshape(upsample_2x_bilinear(mask[..., None]), [count, side, side])
            indices, points = most_uncertain_on_grid(mask_uncertainty(mask), self._num_points)
            logits = self._logits_at(points, features, regions, representation, valid_sizes)
            mask = _put(mask, indices, logits)
            found |= {f"step_{step}_indices": indices, f"step_{step}_logits": logits}
        add_intermediates(found)
        return tf.sigmoid(mask)

    def _pool(
        self,
        features: Mapping[str, tf.Tensor],
        boxes: tf.Tensor,
        image_indices: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> tf.Tensor:
        """Regions [R, resolution, resolution, C]: one sample in the middle of each bin."""
        side, count = self._resolution, tf.shape(boxes)[0]
        points = tf.repeat(regular_grid(side)[None], count, axis=0)
        pooled = sample_fine_grained_features(
            features, self._pooled_features, boxes, image_indices, points, valid_sizes
        )
        return tf.reshape(pooled, [count, side, side, pooled.shape[2]])

    def _logits_at(
        self,
        points: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        regions: _Regions,
        representation: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> tf.Tensor:
        """The logits of each region's class at points [R, P, 2] of its box: float32 [R, P]."""
        fine_grained = sample_fine_grained_features(
            features,
            self._point_features,
            regions.boxes,
            regions.image_indices,
            points,
            valid_sizes,
        )
        return self._run_point_head(fine_grained, points, representation, regions.classes)

    def _represent(self, region_features: tf.Tensor) -> tf.Tensor:
        """What a region's points are predicted from, beside the features at the points."""
        raise NotImplementedError

    def _run_point_head(
        self,
        fine_grained: tf.Tensor,
        points: tf.Tensor,
        representation: tf.Tensor,
        classes: tf.Tensor,
    ) -> tf.Tensor:
        """Logits of the classes [R, P]."""
        raise NotImplementedError

    def _point_loss(
        self,
        points: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        regions: SampledProposals,
        representation: tf.Tensor,
        targets: Targets,
        image_sizes: tf.Tensor,
    ) -> tf.Tensor:
        """`loss_mask_point` of points [R, P, 2]."""
        position = points_wrt_image(regions.boxes, points)
        labels = object_point_labels(position, regions, targets, image_sizes)
        own = _Regions(regions.boxes, regions.image_indices, regions.gt_classes)
        logits = self._logits_at(points, features, own, representation)
        add_intermediates(
            {"points_wrt_image": position, "point_labels": labels, "point_logits": logits}
        )
        return roi_mask_point_loss(logits, labels)


@MASK_HEADS.register()
class PointRendMaskHead(_PointMaskHead):
    """A coarse mask of each region, and a point head that looks at it and at the feature maps.

    Args:
        coarse_head: a `ConvFCHead`, whose results are masks, class by class.
        coarse_side: of these masks.
        oversample_ratio, importance_sample_ratio: see `uncertain_points_with_randomness`.
        options: of `_PointMaskHead`.
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
        _require_features(shapes, cfg.MODEL.ROI_MASK_HEAD.NAME)
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
            raise InputError(
                f"MODEL.POINT_HEAD.SUBDIVISION_STEPS: is {points.SUBDIVISION_STEPS}, but a mask of "
                f"{coarse_side} x {coarse_side} is doubled {points.SUBDIVISION_STEPS - steps} "
                f"times before it has SUBDIVISION_NUM_POINTS {points.SUBDIVISION_NUM_POINTS}; give "
                f"{points.SUBDIVISION_STEPS - steps} or more"
            )
        return cls(
            coarse_head=_conv_fc_head(cfg, shapes, classes * coarse_side**2),
            coarse_side=coarse_side,
            oversample_ratio=points.OVERSAMPLE_RATIO,
            importance_sample_ratio=points.IMPORTANCE_SAMPLE_RATIO,
            point_head=build_point_head(cfg, shapes, classes, "MODEL.ROI_HEADS.NUM_CLASSES"),
            initial_side=side,
            subdivision_steps=steps,
            **_common_options(cfg, shapes),
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

        def draw(count: int, which: int) -> tf.Tensor:
            return random_points(seeds, regions.image_indices, count, _STREAM + which)

        points = uncertain_points_with_randomness(
            of_class,
            lambda logits: mask_uncertainty(logits[..., 0]),
            draw,
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


@MASK_HEADS.register()
class ImplicitPointRendMaskHead(_PointMaskHead):
    """Of each region the parameters of a network that gives the mask at any point.

    Args:
        parameter_head: a `ConvFCHead`, whose results the parameters are.
        regularizer: the weight of their mean square in the loss.
        options: of `_PointMaskHead`.
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
        _require_features(shapes, cfg.MODEL.ROI_MASK_HEAD.NAME)
        points, classes = cfg.MODEL.POINT_HEAD, cfg.MODEL.ROI_HEADS.NUM_CLASSES
        side = math.isqrt(points.SUBDIVISION_NUM_POINTS)
        if side**2 != points.SUBDIVISION_NUM_POINTS:
            raise InputError(
                f"MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS: is {points.SUBDIVISION_NUM_POINTS}, but "
                "ImplicitPointRendMaskHead begins with a square of as many points; give a square "
                f"number such as {side**2}"
            )
        point_head = build_point_head(cfg, shapes, classes, "MODEL.ROI_HEADS.NUM_CLASSES")
        return cls(
            parameter_head=_conv_fc_head(cfg, shapes, point_head.num_params),
            regularizer=cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER,
            point_head=point_head,
            initial_side=side,
            subdivision_steps=points.SUBDIVISION_STEPS,
            **_common_options(cfg, shapes),
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
        points = random_points(seeds, regions.image_indices, self._train_num_points, _STREAM)
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


def _put(mask: tf.Tensor, indices: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """mask [R, S, S] with logits [R, P] at its locations `indices` [R, P], each another one."""
    shape = tf.shape(mask)
    locations = shape[1] * shape[2]
    places = indices + tf.range(shape[0])[:, None] * locations
    flat = tf.tensor_scatter_nd_update(
        tf.reshape(mask, [-1]), tf.reshape(places, [-1, 1]), tf.reshape(logits, [-1])
    )
    return tf.reshape(flat, shape)


def _require_features(shapes: Any, name: str) -> None:
    """Raise InputError for pooled regions, of which only the number of channels is given."""
    if not isinstance(shapes, dict):
        raise InputError(
            f"MODEL.ROI_MASK_HEAD.POOLER_TYPE: {name} samples the feature maps itself; set it to "
            "'', and MODEL.ROI_HEADS.NAME to StandardROIHeads"
        )


def _conv_fc_head(cfg: CfgNode, shapes: Shapes, out_features: int) -> ConvFCHead:
    head = cfg.MODEL.ROI_MASK_HEAD
    channels = sum(shapes[name][0] for name in _pooled_features(cfg, shapes))
    if channels < head.CONV_DIM:
        raise InputError(
            f"MODEL.ROI_MASK_HEAD.CONV_DIM: is {head.CONV_DIM}, more than the {channels} channels "
            f"of IN_FEATURES {list(head.IN_FEATURES)}; give {channels} or less"
        )
    if head.POOLER_RESOLUTION % 2:
        raise InputError(
            f"MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION: is {head.POOLER_RESOLUTION}, which "
            f"{head.NAME} cannot halve; give an even number"
        )
    return ConvFCHead(
        channels,
        head.POOLER_RESOLUTION,
        conv_dim=head.CONV_DIM,
        fc_dims=[head.FC_DIM] * head.NUM_FC,
        out_features=out_features,
    )


def _pooled_features(cfg: CfgNode, shapes: Shapes) -> dict[str, int]:
    key = "MODEL.ROI_MASK_HEAD.IN_FEATURES"
    names = input_features(key, cfg.MODEL.ROI_MASK_HEAD.IN_FEATURES, shapes, equal_channels=False)
    return {name: shapes[name][1] for name in names}


def _common_options(cfg: CfgNode, shapes: Shapes) -> dict[str, Any]:
    return {
        "pooled_features": _pooled_features(cfg, shapes),
        "resolution": cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION,
        "point_features": point_features(cfg, shapes),
        "num_points": cfg.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS,
        "train_num_points": cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS,
    }
