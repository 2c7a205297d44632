"""PointRend's semantic head (Kirillov et al., 2020, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.features import Shapes
from tfdetect.modeling.point_head import build_point_head, point_features
from tfdetect.modeling.points import (
    most_uncertain_on_grid,
    random_points,
    semantic_uncertainty,
    uncertain_points_with_randomness,
)
from tfdetect.modeling.registries import SEM_SEG_HEADS
from tfdetect.modeling.semantic_loss import cross_entropy_of_labelled
from tfdetect.ops.point_sample import point_sample


@SEM_SEG_HEADS.register()
class PointRendSemSegHead(tf.Module):
    """A semantic head whose logits are doubled, and computed again where they are uncertain.

    Args:
        coarse_sem_seg_head: the head.
        coarse_stride: of its logits.
        point_head: of the features at a point.
        point_features: strides of the features that it looks at, by name. Detectron2 trains with
            several, but fails to predict with them.
        subdivision_steps: how often the logits are doubled.
        num_points: of an image that are then computed again, at most.
        train_num_points: of an image in training.
        oversample_ratio, importance_sample_ratio: see `uncertain_points_with_randomness`.
        ignore_value: of pixels that the loss leaves out.
    """

    def __init__(
        self,
        coarse_sem_seg_head: Any,
        *,
        coarse_stride: int,
        point_head: Any,
        point_features: Mapping[str, int],
        subdivision_steps: int,
        num_points: int,
        train_num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
        ignore_value: int,
    ):
        super().__init__()
        self.coarse_sem_seg_head = coarse_sem_seg_head
        self._coarse_stride = coarse_stride
        self.point_head = point_head
        self._point_features = dict(point_features)
        self._subdivision_steps = subdivision_steps
        self._num_points = num_points
        self._sampling: dict[str, Any] = {
            "num_points": train_num_points,
            "oversample_ratio": oversample_ratio,
            "importance_sample_ratio": importance_sample_ratio,
        }
        self._ignore_value = ignore_value

    @classmethod
    def from_config(cls, cfg: CfgNode, shapes: Shapes) -> PointRendSemSegHead:
        """From MODEL.POINT_HEAD and MODEL.SEM_SEG_HEAD.

        Args:
            cfg: the whole configuration.
            shapes: (channels, stride) of the backbone's features by name.
        """
        head, points = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.POINT_HEAD
        if head.NUM_CLASSES < 2:
            raise InputError(
                f"MODEL.SEM_SEG_HEAD.NUM_CLASSES: is {head.NUM_CLASSES}, but PointRendSemSegHead "
                "compares the best two classes; give 2 or more"
            )
        if points.CLS_AGNOSTIC_MASK:
            raise InputError(
                "MODEL.POINT_HEAD.CLS_AGNOSTIC_MASK: is True, but PointRendSemSegHead needs logits "
                "of every class; set it to False"
            )
        if points.COARSE_SEM_SEG_HEAD_NAME == head.NAME:
            raise InputError(
                f"MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME: is {head.NAME} itself; use "
                "SemSegFPNHead"
            )
        if head.COMMON_STRIDE % 2**points.SUBDIVISION_STEPS:
            raise InputError(
                f"MODEL.POINT_HEAD.SUBDIVISION_STEPS: {points.SUBDIVISION_STEPS} doublings do not "
                f"lead from MODEL.SEM_SEG_HEAD.COMMON_STRIDE {head.COMMON_STRIDE} to whole pixels; "
                "give less"
            )
        coarse = SEM_SEG_HEADS.build(cfg, "MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME", shapes)
        return cls(
            coarse,
            coarse_stride=head.COMMON_STRIDE,
            point_head=build_point_head(
                cfg, shapes, head.NUM_CLASSES, "MODEL.SEM_SEG_HEAD.NUM_CLASSES"
            ),
            point_features=point_features(cfg, shapes),
            subdivision_steps=points.SUBDIVISION_STEPS,
            num_points=points.SUBDIVISION_NUM_POINTS,
            train_num_points=points.TRAIN_NUM_POINTS,
            oversample_ratio=points.OVERSAMPLE_RATIO,
            importance_sample_ratio=points.IMPORTANCE_SAMPLE_RATIO,
            ignore_value=head.IGNORE_VALUE,
        )

    @profile_scope("sem_seg_head")
    def __call__(
        self, features: dict[str, tf.Tensor], valid_sizes: ValidSizes = WHOLE
    ) -> tf.Tensor:
        """Features [B, H, W, C] by name -> logits float32 [B, s H', s W', K].

        H' and W' are those of the coarse head, and s is 2 ** subdivision_steps. With the valid
        sizes of the images, each image's points are chosen from its own part. (Detectron2 chooses
        from the padded batch.) Intermediates: `coarse_logits` [B, H', W', K], and of every step
        `step_K_indices` int32 [B, P], row * width + column, and `step_K_logits` [B, P, K].
        """
        coarse = self.coarse_sem_seg_head(features, valid_sizes)
        found = {"coarse_logits": coarse}
        logits, sizes = coarse, valid_sizes.strided(self._coarse_stride)
        for step in range(self._subdivision_steps):
            # Between pixel centres; what is beyond an image's own part repeats its edge.
            logits = tf.image.resize(sizes.extend(logits), 2 * tf.shape(logits)[1:3])
            sizes = WHOLE if sizes.sizes is None else ValidSizes(2 * sizes.sizes)
            indices, points = most_uncertain_on_grid(
                semantic_uncertainty(logits), self._num_points, sizes.sizes
            )
            at_points = self._logits_at(points, features, coarse, valid_sizes)
            logits = _put(logits, indices, at_points)
            found |= {f"step_{step}_indices": indices, f"step_{step}_logits": at_points}
        add_intermediates(found)
        return logits

    def losses(
        self, features: dict[str, tf.Tensor], labels: tf.Tensor, seeds: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The coarse head's losses, and `loss_sem_seg_point` at points where it is unsure.

        Args:
            features: [B, H, W, C] by name.
            labels: integer [B, H, W], the class of each pixel of the images, or the ignored value.
            seeds: int [B, 2], of each image, for the choice of points.
        """
        coarse = self.coarse_sem_seg_head(features)
        images = tf.range(tf.shape(coarse)[0])
        points = uncertain_points_with_randomness(
            coarse,
            semantic_uncertainty,
            lambda count, which: random_points(seeds, images, count, which),
            **self._sampling,
        )
        logits = self._logits_at(points, features, coarse)
        size = self._coarse_stride * tf.shape(coarse)[1:3]
        found = sample_labels(labels, points, size, self._ignore_value)
        add_intermediates({"point_coords": points, "point_labels": found, "point_logits": logits})
        losses = self.coarse_sem_seg_head.losses_of_logits(coarse, labels)
        loss = cross_entropy_of_labelled(logits, found, self._ignore_value)
        return losses | {"loss_sem_seg_point": loss}

    def _logits_at(
        self,
        points: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        coarse: tf.Tensor,
        valid_sizes: ValidSizes = WHOLE,
    ) -> tf.Tensor:
        """Logits of points [B, P, 2] of each image: float32 [B, P, K]."""

        def sample(feature: tf.Tensor, stride: int) -> tf.Tensor:
            return point_sample(feature, points, sizes=valid_sizes.strided(stride).sizes)

        fine_grained = [
            sample(features[name], stride) for name, stride in self._point_features.items()
        ]
        return self.point_head(tf.concat(fine_grained, 2), sample(coarse, self._coarse_stride))


def sample_labels(
    labels: tf.Tensor, points: tf.Tensor, size: tf.Tensor, ignore_value: int
) -> tf.Tensor:
    """The labels at points: int32 [B, P].

    Args:
        labels: integer [B, H, W], beyond which everything is ignored.
        points: float32 [B, P, 2] of (x, y), (1, 1) being the corner of `size`.
        size: int32 [2], (height, width) of the padded images, not less than H and W.
        ignore_value: see there.
    """
    below, right = tf.unstack(size - tf.shape(labels)[1:3])
    padding = [[0, 0], [0, below], [0, right]]
    labels = tf.pad(tf.cast(labels, tf.int32), padding, constant_values=ignore_value)
    return point_sample(labels[..., None], points, nearest=True)[..., 0]


def _put(logits: tf.Tensor, indices: tf.Tensor, at_points: tf.Tensor) -> tf.Tensor:
    """logits [B, H, W, K] with `at_points` [B, P, K] at row * W + column `indices` [B, P]."""
    shape = tf.shape(logits)
    places = indices + tf.range(shape[0])[:, None] * (shape[1] * shape[2])
    classes = logits.shape[3]
    flat = tf.tensor_scatter_nd_update(
        tf.reshape(logits, [-1, classes]),
        tf.reshape(places, [-1, 1]),
        tf.reshape(at_points, [-1, classes]),
    )
    return tf.reshape(flat, shape)
