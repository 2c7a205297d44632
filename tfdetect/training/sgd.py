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


class SGD(tf.Module):
    """Detectron2's optimizer (torch.optim.SGD without dampening).

    The weight decay and the factor on the learning rate are each parameter's own, because
    Detectron2 sets them by the kind of parameter (SOLVER.WEIGHT_DECAY, WEIGHT_DECAY_NORM,
    WEIGHT_DECAY_BIAS, BIAS_LR_FACTOR).

    Attributes:
        parameters: the variables that are trained, in order.
        momentum_buffers: a variable for each, zero before the first step.
        momentum, nesterov: of all of them.
        weight_decays, learning_rate_factors: of each.
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
        """Under a tf.distribute strategy, call it within the strategy's scope.

        Args:
            parameters: variables of the model.
            momentum: SOLVER.MOMENTUM.
            weight_decays: of each parameter.
            learning_rate_factors: of each parameter, multiplied with the learning rate of a step.
            nesterov: SOLVER.NESTEROV.

        Raises:
            ValueError: if the sequences differ in length.
        """
        super().__init__(name="sgd")
        if not len(parameters) == len(weight_decays) == len(learning_rate_factors):
            raise ValueError(
                f"{len(parameters)} parameters, {len(weight_decays)} weight decays and "
                f"{len(learning_rate_factors)} learning-rate factors: they must be as many"
            )
        self.parameters = list(parameters)
        self.momentum_buffers = [
            tf.Variable(tf.zeros_like(parameter), trainable=False, name="momentum_buffer")
            for parameter in parameters
        ]
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decays = list(weight_decays)
        self.learning_rate_factors = list(learning_rate_factors)

    def apply_gradients(
        self,
        gradients: Sequence[tf.Tensor | None],
        learning_rate: tf.Tensor | float,
        usable: tf.Tensor | None = None,
    ) -> None:
        """Take a step.

        Args:
            gradients: for each parameter, of its shape; a parameter with None is left alone. Under
                a strategy, in replica context, they are already reduced: every replica gives the
                same ones.
            learning_rate: of this step, before the parameters' factors.
            usable: bool scalar; if false, parameters and buffers stay as they are. None: true.

        Raises:
            ValueError: if there are not as many gradients as parameters.
        """
        if len(gradients) != len(self.parameters):
            raise ValueError(f"{len(gradients)} gradients for {len(self.parameters)} parameters")
        # Mirrored variables are written in cross-replica context, each copy by its own device.
        context = tf.distribute.get_replica_context()
        context.merge_call(self._apply, args=(list(gradients), learning_rate, usable))

    def _apply(
        self,
        strategy: tf.distribute.Strategy,
        gradients: list[tf.Tensor | None],
        learning_rate: tf.Tensor | float,
        usable: tf.Tensor | None,
    ) -> None:
        for parameter, buffer, gradient, decay, factor in zip(
            self.parameters,
            self.momentum_buffers,
            gradients,
            self.weight_decays,
            self.learning_rate_factors,
            strict=True,
        ):
            if gradient is not None:
                arguments = (buffer, gradient, learning_rate, decay, factor, usable)
                strategy.extended.update(parameter, self._step, args=arguments)

    def _step(
        self,
        parameter: tf.Variable,
        buffer: tf.Variable,
        gradient: tf.Tensor,
        learning_rate: tf.Tensor | float,
        decay: float,
        factor: float,
        usable: tf.Tensor | None,
    ) -> None:
        gradient = gradient + decay * parameter
        new_buffer = self.momentum * buffer + gradient
        if usable is not None:
            new_buffer = tf.where(usable, new_buffer, buffer)
        buffer.assign(new_buffer)
        direction = gradient + self.momentum * buffer if self.nesterov else buffer
        step = tf.cast(learning_rate * factor, parameter.dtype) * direction
        parameter.assign_sub(step if usable is None else tf.where(usable, step, 0.0))
