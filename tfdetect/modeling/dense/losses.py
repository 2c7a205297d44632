"""What the losses of dense detectors have in common."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.norm import stores_state
from tfdetect.modeling.replicas import mean_over_replicas

_MOMENTUM = 0.9


class LossNormalizer:
    """A running mean of the number of positive anchors, by which the losses are divided.

    It belongs to the state of a training, not to the model: no checkpoint of Detectron2 has it, and
    no inference needs it. (So this is not a tf.Module, whose variables would be the model's.) There
    it is an attribute, which begins again when a training is resumed; here it is saved with the
    training's state, so that a resumed training goes on as if it had not been interrupted.

    Replicas share the mean of their numbers, where each of Detectron2's workers has its own. With
    SOLVER.ACCUMULATION_STEPS it is updated for each part of a batch.

    Args:
        initial: the number to begin with.

    Attributes:
        value: float64 scalar variable.

    Detectron2: `DenseDetector._ema_update`.
    """

    def __init__(self, initial: float):
        """Under a tf.distribute strategy, call it within the strategy's scope."""
        self.value = tf.Variable(
            initial,
            trainable=False,
            dtype=tf.float64,
            name="loss_normalizer",
            # Every replica assigns the same value, so that any copy will do.
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def __call__(self, num_positives: tf.Tensor) -> tf.Tensor:
        """The divisor for a batch with so many positive anchors, which it takes into account.

        Args:
            num_positives: integer scalar, of this replica.

        Returns:
            float32 scalar.
        """
        number = tf.maximum(mean_over_replicas(tf.cast(num_positives, tf.float32)), 1.0)
        value = self.value * _MOMENTUM + tf.cast(number, tf.float64) * (1 - _MOMENTUM)
        if stores_state():
            self.value.assign(value)
        return tf.cast(value, tf.float32)


def sigmoid_focal_loss(
    logits: tf.Tensor, targets: tf.Tensor, *, alpha: float, gamma: float
) -> tf.Tensor:
    """Focal loss (Lin et al., 2017) of independent classes.

    Args:
        logits: float32 of any shape.
        targets: bool of the same shape.
        alpha: weight of what is true, 1 - alpha that of what is false; negative: both weigh 1.
        gamma: exponent of the error in the probability; 0 is the cross entropy.

    Returns:
        The loss of each element, of the shape of `logits`.

    fvcore's `sigmoid_focal_loss`, as Detectron2 uses it.
    """
    wrong = tf.where(targets, -logits, logits)  # the logit of the other outcome
    loss = tf.nn.softplus(wrong)
    if gamma:
        loss *= tf.sigmoid(wrong) ** gamma
    if alpha >= 0:
        loss *= tf.where(targets, alpha, 1.0 - alpha)
    return loss


def classification_loss(
    logits: tf.Tensor, labels: tf.Tensor, *, alpha: float, gamma: float
) -> tf.Tensor:
    """The focal loss of all anchors, summed.

    Args:
        logits: float32 [B, R, K].
        labels: int32 [B, R], in [0, K); K is background, -1 is ignored.
        alpha, gamma: of `sigmoid_focal_loss`.
    """
    targets = labels[..., None] == tf.range(tf.shape(logits)[2])
    losses = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma)
    # One axis at a time, as float32 sums of millions of terms are not exact.
    return tf.reduce_sum(tf.where(labels >= 0, tf.reduce_sum(losses, 2), 0.0))
