"""What optimizers have in common: each parameter's own weight decay and learning rate."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


class Optimizer(tf.Module):
    """Takes steps that change parameters by their gradients.

    The weight decay and the factor on the learning rate are each parameter's own, because
    Detectron2 sets them by the kind of parameter (see `build_optimizer`).

    Attributes:
        parameters: the variables that are trained, in order.
        weight_decays, learning_rate_factors: of each.
    """

    def __init__(
        self,
        parameters: Sequence[tf.Variable],
        *,
        weight_decays: Sequence[float],
        learning_rate_factors: Sequence[float],
    ):
        """Under a tf.distribute strategy, call it within the strategy's scope.

        Args:
            parameters: variables of the model.
            weight_decays: of each parameter.
            learning_rate_factors: of each parameter, multiplied with the learning rate of a step.

        Raises:
            ValueError: if the sequences differ in length.
        """
        super().__init__()
        if not len(parameters) == len(weight_decays) == len(learning_rate_factors):
            raise ValueError(
                f"{len(parameters)} parameters, {len(weight_decays)} weight decays and "
                f"{len(learning_rate_factors)} learning-rate factors: they must be as many"
            )
        self.parameters = list(parameters)
        self.weight_decays = list(weight_decays)
        self.learning_rate_factors = list(learning_rate_factors)

    @property
    def state(self) -> dict[str, tf.Variable | list[tf.Variable]]:
        """What a checkpoint has to save, by name."""
        raise NotImplementedError

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
            usable: bool scalar; if false, parameters and state stay as they are. None: true.

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
        # In turn, so that a graph holds what is computed of one parameter, not of all. The last
        # ones first: they are of the last layers, whose gradients are known first and then freed.
        before: list[tf.Operation] = []
        for index in reversed(range(len(self.parameters))):
            if gradients[index] is None:
                continue
            arguments = (
                *(gradients[index], tuple(self._state_of(index))),
                *(learning_rate * self.learning_rate_factors[index], self.weight_decays[index]),
                usable,
            )
            with tf.control_dependencies(before):
                step = strategy.extended.update(self.parameters[index], self._step, args=arguments)
            before = [step]

    def _state_of(self, index: int) -> Sequence[tf.Variable]:
        """The variables beside a parameter that its step reads or writes."""
        raise NotImplementedError

    def _step(
        self,
        parameter: tf.Variable,
        gradient: tf.Tensor,
        state: Sequence[tf.Variable],
        learning_rate: tf.Tensor | float,
        decay: float,
        usable: tf.Tensor | None,
    ) -> tf.Operation | None:
        """Change one copy of a parameter and of what `_state_of` gave; the last operation of that,
        or None eagerly."""
        raise NotImplementedError


def assign_in_place(variable: tf.Variable, value: tf.Tensor) -> tf.Operation | None:
    """Write into the memory that a variable has.

    `assign` gives it that of the value, and so in each step what lasts as long as the training
    would come to lie elsewhere, among tensors that last for an operation: memory falls to pieces,
    and a process grows by half over some steps.
    """
    return tf.raw_ops.ResourceStridedSliceAssign(
        ref=variable.handle, begin=[0], end=[0], strides=[1], value=value, ellipsis_mask=1
    )


def keep_unless(usable: tf.Tensor | None, value: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """`value` where it is `usable` (None: always), else what there was before."""
    return value if usable is None else tf.where(usable, value, old)
