"""Adam with decoupled weight decay (Loshchilov and Hutter, 2019), in PyTorch's form.

With the learning rate l, the weight decay d and the betas b1 and b2, in its t-th step a parameter p
with gradient g and the moments m and v becomes

    p <- (1 - l d) p
    m <- b1 m + (1 - b1) g
    v <- b2 v + (1 - b2) g^2
    p <- p - l (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + 1e-8)

so that the decay is not scaled by the moments, and epsilon is added after the correction of v's
bias: TensorFlow's own has it before.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.training.optimizer_base import Optimizer, assign_in_place, keep_unless

_EPSILON = 1e-8


class AdamW(Optimizer):
    """The optimizer of Detectron2's transformers (torch.optim.AdamW without amsgrad).

    Attributes:
        exp_avgs, exp_avg_sqs: the moments m and v of each parameter, zero before the first step.
        step_count: int64 scalar, how many steps were taken.
        betas: b1 and b2.
    """

    def __init__(
        self,
        parameters: Sequence[tf.Variable],
        *,
        betas: Sequence[float],
        weight_decays: Sequence[float],
        learning_rate_factors: Sequence[float],
    ):
        """See `Optimizer`.

        Args:
            parameters, weight_decays, learning_rate_factors: see there.
            betas: SOLVER.BETAS.
        """
        super().__init__(
            parameters, weight_decays=weight_decays, learning_rate_factors=learning_rate_factors
        )
        self.exp_avgs, self.exp_avg_sqs = (
            [tf.Variable(tf.zeros_like(p), trainable=False, name=name) for p in parameters]
            for name in ("exp_avg", "exp_avg_sq")
        )
        self.step_count = tf.Variable(0, dtype=tf.int64, trainable=False, name="step_count")
        self.betas = tuple(betas)

    @property
    def state(self) -> dict[str, tf.Variable | list[tf.Variable]]:
        return {
            "exp_avgs": self.exp_avgs,
            "exp_avg_sqs": self.exp_avg_sqs,
            "step_count": self.step_count,
        }

    def _apply(
        self,
        strategy: tf.distribute.Strategy,
        gradients: list[tf.Tensor | None],
        learning_rate: tf.Tensor | float,
        usable: tf.Tensor | None,
    ) -> None:
        strategy.extended.update(self.step_count, _count, args=(usable,))
        super()._apply(strategy, gradients, learning_rate, usable)

    def _state_of(self, index: int) -> Sequence[tf.Variable]:
        return [self.exp_avgs[index], self.exp_avg_sqs[index], self.step_count]

    def _step(
        self,
        parameter: tf.Variable,
        gradient: tf.Tensor,
        state: Sequence[tf.Variable],
        learning_rate: tf.Tensor | float,
        decay: float,
        usable: tf.Tensor | None,
    ) -> tf.Operation | None:
        exp_avg, exp_avg_sq, step_count = state
        beta1, beta2 = self.betas
        # In double precision, as Python's numbers are in PyTorch: 1 - 0.999 is not, in float32.
        rate = tf.cast(learning_rate, tf.float64)
        taken = tf.cast(step_count, tf.float64)
        scalars = (
            *(1 - rate * decay, rate / (1 - tf.constant(beta1, tf.float64) ** taken)),
            tf.sqrt(1 - tf.constant(beta2, tf.float64) ** taken),
        )
        kept, step_size, root = (tf.cast(scalar, parameter.dtype) for scalar in scalars)
        average = exp_avg + (1 - beta1) * (gradient - exp_avg)
        squares = beta2 * exp_avg_sq + (1 - beta2) * gradient * gradient
        new = parameter * kept - step_size * average / (tf.sqrt(squares) / root + _EPSILON)
        assigned = [
            assign_in_place(variable, keep_unless(usable, value, variable))
            for variable, value in ((exp_avg, average), (exp_avg_sq, squares), (parameter, new))
        ]
        return tf.group(assigned)


def _count(step_count: tf.Variable, usable: tf.Tensor | None) -> None:
    step_count.assign_add(1 if usable is None else tf.cast(usable, step_count.dtype))
