"""What PointRend's mask heads have in common (Kirillov et al., 2020, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.features import Shapes, input_features
from tfdetect.modeling.point_head import point_features
from tfdetect.modeling.points import (
    mask_uncertainty,
    most_uncertain_on_grid,
    points_wrt_image,
    put_on_grid,
    random_points,
    regular_grid,
    sample_fine_grained_features,
)
from tfdetect.modeling.roi_heads.conv_fc_head import ConvFCHead
from tfdetect.modeling.roi_heads.mask_head import FeatureMaskHead
from tfdetect.modeling.roi_heads.point_losses import object_point_labels, roi_mask_point_loss
from tfdetect.modeling.roi_heads.sampling import SampledProposals
from tfdetect.modeling.structures import Targets
from tfdetect.ops.interpolate import upsample_2x_bilinear
from tfdetect.ops.probabilities import sigmoid

# Makes these random numbers independent of those of the samplers.
_STREAM = 2


class RegionBoxes(NamedTuple):
    """Boxes float32 [R, 4], and of each its image and its class, int32 [R]."""

    boxes: tf.Tensor
    image_indices: tf.Tensor
    classes: tf.Tensor


class PointMaskHead(FeatureMaskHead):
    """Pooling at points, and masks that are refined at points.

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
        regions = RegionBoxes(boxes, image_indices, classes)
        region_features = self._pool(features, boxes, image_indices, valid_sizes)
        representation = self._represent(region_features)
        side, count = self._initial_side, tf.shape(boxes)[0]
        points = tf.repeat(regular_grid(side)[None], count, axis=0)
        logits = self._logits_at(points, features, regions, representation, valid_sizes)
        mask = tf.reshape(logits, [count, side, side, 1])
        found = {"initial_logits": mask[..., 0]}
        for step in range(self._subdivision_steps):
            side *= 2
            mask = tf.reshape(upsample_2x_bilinear(mask), [count, side, side, 1])
            uncertainty = mask_uncertainty(mask[..., 0])
            indices, points = most_uncertain_on_grid(uncertainty, self._num_points)
            logits = self._logits_at(points, features, regions, representation, valid_sizes)
            mask = put_on_grid(mask, indices, logits[..., None])
            found |= {f"step_{step}_indices": indices, f"step_{step}_logits": logits}
        add_intermediates(found)
        return sigmoid(mask[..., 0])

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
        regions: RegionBoxes,
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

    def _random_points(
        self, seeds: tf.Tensor, regions: SampledProposals, count: int, which: int = 0
    ) -> tf.Tensor:
        """`random_points` of each region; with another `which` others."""
        return random_points(seeds, regions.image_indices, count, _STREAM + which)

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
        own = RegionBoxes(regions.boxes, regions.image_indices, regions.gt_classes)
        logits = self._logits_at(points, features, own, representation)
        add_intermediates(
            {"points_wrt_image": position, "point_labels": labels, "point_logits": logits}
        )
        return roi_mask_point_loss(logits, labels)


def require_features(shapes: Any, name: str) -> None:
    """Raise InputError for pooled regions, of which only the number of channels is given."""
    if not isinstance(shapes, dict):
        raise InputError(
            f"MODEL.ROI_MASK_HEAD.POOLER_TYPE: {name} samples the feature maps itself; set it to "
            "'', and MODEL.ROI_HEADS.NAME to StandardROIHeads"
        )


def build_conv_fc_head(cfg: CfgNode, shapes: Shapes, out_features: int) -> ConvFCHead:
    """The `ConvFCHead` of MODEL.ROI_MASK_HEAD; raises InputError for settings that make none."""
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


def common_options(cfg: CfgNode, shapes: Shapes) -> dict[str, Any]:
    """The arguments of `PointMaskHead` that both heads read alike."""
    return {
        "pooled_features": _pooled_features(cfg, shapes),
        "resolution": cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION,
        "point_features": point_features(cfg, shapes),
        "num_points": cfg.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS,
        "train_num_points": cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS,
    }
