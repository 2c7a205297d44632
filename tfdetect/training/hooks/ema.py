"""TRAIN.EMA: an exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from tfdetect.layers.norm import batch_norms_that_train
from tfdetect.training.hooks.base import Hook, TrainingState


class EMAHook(Hook):
    """Averages what training changes: parameters, and running statistics of batch norms.

    After each step average <- decay * average + (1 - decay) * weight, from the initial weights on
    (d2go's `EMAHook`, which averages buffers too). What is evaluated and what stands in every
    model directory are the averaged weights; the trained ones are in the checkpoint's state.

    Attributes:
        averages: a variable for each; within `applied` it holds the trained weight.
    """

    def __init__(self, model: tf.Module, parameters: Sequence[tf.Variable], decay: float):
        """Under a tf.distribute strategy, call it within the strategy's scope.

        Args:
            model: with its initial weights.
            parameters: its variables that are trained.
            decay: TRAIN.EMA.DECAY.
        """
        layers = batch_norms_that_train(model)
        statistics = [v for layer in layers for v in (layer.running_mean, layer.running_var)]
        self._variables = [*parameters, *statistics]
        self._decay = decay
        self.averages = [tf.Variable(v, trainable=False, name="average") for v in self._variables]
        self._applied = False
        self._update = tf.function(self._update_averages, autograph=False)

    def after_step(self, state: TrainingState) -> None:
        self._update()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averaged weights."""
        if self._applied:
            yield
            return
        self.swap()
        self._applied = True
        try:
            yield
        finally:
            self._applied = False
            self.swap()

    def swap(self) -> None:
        """Exchange the model's weights and the averages."""
        for variable, average in zip(self._variables, self.averages, strict=True):
            value = tf.identity(variable)
            variable.assign(tf.identity(average))
            average.assign(value)

    def _update_averages(self) -> None:
        for variable, average in zip(self._variables, self.averages, strict=True):
            average.assign(self._decay * average + (1 - self._decay) * variable)
