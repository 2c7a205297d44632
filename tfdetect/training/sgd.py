"""Stochastic gradient descent with momentum and weight decay, in PyTorch's form.

With the learning rate l, the momentum m and the weight decay d, a parameter p with gradient g and
momentum buffer b becomes

    b <- m b + (g + d p)
    p <- p - l b                      (or p - l (g + d p + m b) with Nesterov's momentum)

so that the learning rate scales the buffer when it is used and not when it is filled: other than
with TensorFlow's optimizers, a change of learning rate acts on the momentum at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.training.optimizer_base import Optimizer, assign_in_place, keep_unless


class SGD(Optimizer):
    """Detectron2's optimizer (torch.optim.SGD without dampening).

    Attributes:
        momentum_buffers: a variable for each parameter, zero before the first step.
        momentum, nesterov: of all of them.
    """

    def __init__(
        self,
        parameters: Sequence[tf.Variable],
        *,
        momentum: float,
        weight_decays: Sequence[float],
        learning_rate_factors: Sequence[float],
        nesterov: bool = False,
    ):
        """See `Optimizer`.

        Args:
            parameters, weight_decays, learning_rate_factors: see there.
            momentum: SOLVER.MOMENTUM.
            nesterov: SOLVER.NESTEROV.
        """
        super().__init__(
            parameters, weight_decays=weight_decays, learning_rate_factors=learning_rate_factors
        )
        self.momentum_buffers = [
            tf.Variable(tf.zeros_like(parameter), trainable=False, name="momentum_buffer")
            for parameter in parameters
        ]
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def state(self) -> dict[str, tf.Variable | list[tf.Variable]]:
        return {"momentum_buffers": self.momentum_buffers}

    def _state_of(self, index: int) -> Sequence[tf.Variable]:
        return [self.momentum_buffers[index]]

    def _step(
        self,
        parameter: tf.Variable,
        gradient: tf.Tensor,
        state: Sequence[tf.Variable],
        learning_rate: tf.Tensor | float,
        decay: float,
        usable: tf.Tensor | None,
    ) -> tf.Operation | None:
        (buffer,) = state
        if current_backend().native_on_cpu and parameter.dtype == tf.float32:
            return kernels.library().tfdetect_sgd_step(
                parameter=parameter.handle,
                buffer=buffer.handle,
                gradient=gradient,
                learning_rate=tf.cast(learning_rate, tf.float32),
                usable=True if usable is None else usable,
                momentum=self.momentum,
                decay=decay,
                nesterov=self.nesterov,
            )
        gradient = gradient + decay * parameter
        momentum = keep_unless(usable, self.momentum * buffer + gradient, buffer)
        assign_in_place(buffer, momentum)
        direction = gradient + self.momentum * buffer if self.nesterov else buffer
        step = tf.cast(learning_rate, parameter.dtype) * direction
        step = keep_unless(usable, step, tf.zeros_like(step))
        return parameter.assign_sub(step, read_value=False)
