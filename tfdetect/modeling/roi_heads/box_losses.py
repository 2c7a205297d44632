"""Losses of the box head (Fast R-CNN, section 2.3; federated: Zhou et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.modeling.losses import BoxRegressionLoss
from tfdetect.modeling.replicas import mean_count, mean_over_replicas, of_first_replica
from tfdetect.modeling.roi_heads.sampling import SampledProposals
from tfdetect.ops.boxes import apply_deltas


class FastRCNNLosses:
    """The losses of a box predictor (Detectron2: `FastRCNNOutputLayers.losses`).

    Args:
        num_classes: K, without the background.
        weights: of the box deltas, see `apply_deltas`.
        box_loss: of the foreground's deltas.
        box_loss_weight: a factor of it.
        use_sigmoid_ce: whether each class has a cross-entropy of its own, or all of them one.
        use_fed_loss: whether only some classes count, see `federated_classes`.
        fed_loss_num_classes: how many.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        weights: Sequence[float],
        box_loss: BoxRegressionLoss,
        box_loss_weight: float = 1.0,
        use_sigmoid_ce: bool = False,
        use_fed_loss: bool = False,
        fed_loss_num_classes: int = 50,
    ):
        self._classes = num_classes
        self._weights = weights
        self._box_loss = box_loss
        self._box_loss_weight = box_loss_weight
        self._sigmoid = use_sigmoid_ce
        self._federated = use_fed_loss
        self._federated_classes = fed_loss_num_classes

    @classmethod
    def from_config(cls, cfg: CfgNode, weights: Sequence[float]) -> FastRCNNLosses:
        """From MODEL.ROI_HEADS and MODEL.ROI_BOX_HEAD."""
        head = cfg.MODEL.ROI_BOX_HEAD
        return cls(
            num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            weights=weights,
            box_loss=BoxRegressionLoss(
                "MODEL.ROI_BOX_HEAD", head.BBOX_REG_LOSS_TYPE, head.SMOOTH_L1_BETA, weights
            ),
            box_loss_weight=head.BBOX_REG_LOSS_WEIGHT,
            use_sigmoid_ce=head.USE_SIGMOID_CE,
            use_fed_loss=head.USE_FED_LOSS,
            fed_loss_num_classes=head.FED_LOSS_NUM_CLASSES,
        )

    def __call__(
        self,
        logits: tf.Tensor,
        deltas: tf.Tensor,
        regions: SampledProposals,
        class_weights: tf.Variable | None,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Both losses are divided by the number of sampled proposals, including background.

        Args:
            logits: float32 [R, K + 1].
            deltas: float32 [R, K * 4], or [R, 4] if they do not depend on the class.
            regions: R of them.
            class_weights: float32 [K], sampling weight of each class in the federated loss.
            seed: int [2], of the federated loss's choice of classes.

        Returns:
            `loss_cls` and `loss_box_reg`.

        Raises:
            InputError: the configured losses do not exist.
        """
        count = mean_count(tf.shape(logits)[0])
        if self._sigmoid:
            loss_cls = self._sigmoid_loss(logits, regions.gt_classes, class_weights, seed)
        elif self._federated:
            raise InputError(
                "MODEL.ROI_BOX_HEAD.USE_FED_LOSS: needs USE_SIGMOID_CE; set both or neither"
            )
        else:
            loss_cls = tf.reduce_sum(
                tf.nn.sparse_softmax_cross_entropy_with_logits(regions.gt_classes, logits)
            )
        foreground = regions.gt_classes < self._classes
        objects = regions.where(foreground)
        loss_box_reg = self._box_loss(
            self._deltas_of_classes(tf.boolean_mask(deltas, foreground), objects.gt_classes),
            objects.boxes,
            objects.gt_boxes,
        )
        return {
            "loss_cls": loss_cls / count,
            "loss_box_reg": loss_box_reg * self._box_loss_weight / count,
        }

    def predicted_boxes(self, deltas: tf.Tensor, regions: SampledProposals) -> tf.Tensor:
        """Boxes [R, 4] that the deltas of each region's own class give; R foreground regions."""
        deltas = self._deltas_of_classes(deltas, regions.gt_classes)
        return apply_deltas(deltas, regions.boxes, self._weights)

    def _deltas_of_classes(self, deltas: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        box_dim = len(self._weights)
        if deltas.shape[1] == box_dim:
            return deltas
        return tf.gather(tf.reshape(deltas, [-1, self._classes, box_dim]), classes, batch_dims=1)

    def _sigmoid_loss(
        self,
        logits: tf.Tensor,
        gt_classes: tf.Tensor,
        class_weights: tf.Variable | None,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """The sum over regions and classes; background is not a class of its own."""
        wanted = tf.one_hot(gt_classes, self._classes)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits[:, :-1])
        if self._federated:
            # Of the global batch: all replicas choose alike.
            present = tf.reduce_any(tf.one_hot(gt_classes, self._classes + 1, True, False), 0)
            present = mean_over_replicas(tf.cast(present, tf.float32)) > 0
            weights = tf.convert_to_tensor(class_weights)
            chosen = federated_classes(present, weights, self._federated_classes, seed)
            entropy *= tf.cast(chosen, tf.float32)
        return tf.reduce_sum(entropy)


def federated_classes(
    present: tf.Tensor, weights: tf.Tensor, num_classes: int, seed: tf.Tensor
) -> tf.Tensor:
    """The classes used in the federated loss: those present, and others sampled at random.

    Args:
        present: bool [K + 1], background last; it counts, although it is not a class of the loss.
        weights: float32 [K], sampling weight of each class; sampling is without replacement.
        num_classes: how many classes to use, including those present.
        seed: int [2]; under a strategy the first replica's is used.

    Returns:
        bool [K].

    Detectron2: `FastRCNNOutputLayers.get_fed_loss_classes`.
    """
    there = present[:-1]
    missing = num_classes - tf.math.count_nonzero(present, dtype=tf.int32)
    # The first arrivals of exponential clocks that tick at these rates.
    draws = of_first_replica(tf.random.stateless_uniform(tf.shape(weights), seed, minval=1e-20))
    candidate = ~there & (weights > 0)
    arrivals = tf.where(candidate, -tf.math.log(draws) / weights, float("inf"))
    rank = tf.argsort(tf.argsort(arrivals, stable=True), stable=True)
    return there | (candidate & (rank < missing))
