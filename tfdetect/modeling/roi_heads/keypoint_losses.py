"""Losses of the keypoint head (Mask R-CNN, section 5)."""

from __future__ import annotations

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.modeling.keypoint_targets import keypoints_to_heatmap
from tfdetect.modeling.replicas import mean_count


class KeypointRCNNLoss:
    """Cross-entropy over a heatmap's pixels, summed over the visible keypoints of each proposal.

    Detectron2: `keypoint_rcnn_loss`.

    Args:
        heatmap_size: S, the side of a heatmap.
        num_keypoints: K.
        loss_weight: a factor.
        max_per_image: the loss is divided by this times the number of images; None for the number
            of keypoints to find (NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS).
    """

    def __init__(
        self,
        heatmap_size: int,
        *,
        num_keypoints: int,
        loss_weight: float = 1.0,
        max_per_image: float | None = None,
    ):
        self._heatmap_size = heatmap_size
        self._keypoints = num_keypoints
        self._weight = loss_weight
        self._max_per_image = max_per_image

    @classmethod
    def from_config(cls, cfg: CfgNode, heatmap_size: int) -> KeypointRCNNLoss:
        """From MODEL.ROI_KEYPOINT_HEAD and MODEL.ROI_HEADS."""
        head, heads = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        most = head.NUM_KEYPOINTS * heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION
        return cls(
            heatmap_size,
            num_keypoints=head.NUM_KEYPOINTS,
            loss_weight=head.LOSS_WEIGHT,
            max_per_image=None if head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS else most,
        )

    def __call__(
        self, heatmaps: tf.Tensor, keypoints: tf.Tensor, boxes: tf.Tensor, num_images: tf.Tensor
    ) -> tf.Tensor:
        """The loss, a scalar; 0 if there are no visible keypoints.

        Args:
            heatmaps: float32 [R, S, S, K] logits.
            keypoints: float32 [R, K, 3], those of each region's object.
            boxes: float32 [R, 4], of the regions, in the same pixels.
            num_images: of the batch.
        """
        wanted, valid = keypoints_to_heatmap(keypoints, boxes, self._heatmap_size)
        logits = tf.reshape(
            tf.transpose(heatmaps, [0, 3, 1, 2]), [-1, self._keypoints, self._heatmap_size**2]
        )
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
        loss = tf.reduce_sum(tf.where(valid, losses, 0.0)) * self._weight
        if self._max_per_image is None:
            return loss / mean_count(tf.math.count_nonzero(valid))
        return loss / (self._max_per_image * tf.cast(num_images, tf.float32))


def has_visible_keypoints(keypoints: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Which proposals have a labelled keypoint of their object inside or on their box: bool [R].

    Args:
        keypoints: float32 [R, K, 3].
        boxes: float32 [R, 4].

    Detectron2: `select_proposals_with_visible_keypoints`.
    """
    points = keypoints[..., :2]
    inside = (points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])
    return tf.reduce_any(tf.reduce_all(inside, -1) & (keypoints[..., 2] >= 1), 1)
