"""Mixed precision: the compute dtype, and loss scaling for float16."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from yacs.config import CfgNode

# torch.cuda.amp.GradScaler's.
_FIRST_SCALE = 65536.0
_GROWTH_INTERVAL = 2000


def compute_dtype(cfg: CfgNode) -> tf.DType:
    """The dtype of features according to SOLVER.AMP; variables are float32."""
    return tf.as_dtype(cfg.SOLVER.AMP.DTYPE) if cfg.SOLVER.AMP.ENABLED else tf.float32


class LossScale(tf.Module):
    """A factor on the loss that keeps float16's gradients from vanishing.

    It doubles after 2000 steps in a row with finite gradients, and halves after a step without,
    which is not taken (torch.cuda.amp.GradScaler).

    Attributes:
        scale: float32 scalar.
        good_steps: int32 scalar, steps since it last changed.
    """

    def __init__(self) -> None:
        """Under a tf.distribute strategy, call it within the strategy's scope."""
        super().__init__(name="loss_scale")
        # Every replica assigns the same value, so that any copy will do.
        shared = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self.scale = tf.Variable(_FIRST_SCALE, **shared)
        self.good_steps = tf.Variable(0, **shared)

    def unscale(
        self, gradients: Sequence[tf.Tensor | None]
    ) -> tuple[list[tf.Tensor | None], tf.Tensor]:
        """Gradients of the loss itself from those of the scaled one, and whether all are finite."""
        unscaled = [g if g is None else g / self.scale for g in gradients]
        finite = [tf.reduce_all(tf.math.is_finite(g)) for g in unscaled if g is not None]
        return unscaled, tf.reduce_all(tf.stack(finite))

    def update(self, finite: tf.Tensor) -> None:
        """Set the scale for the next step, given whether this one's gradients were finite."""
        steps = tf.where(finite, self.good_steps + 1, 0)
        grows = steps >= _GROWTH_INTERVAL
        self.scale.assign(self.scale * tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5))
        self.good_steps.assign(tf.where(grows, 0, steps))
