"""TEST.PRECISE_BN: batch norm statistics over many batches with fixed weights."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.data.training.input import input_errors
from tfdetect.errors import InputError
from tfdetect.layers.norm import batch_norms_that_train
from tfdetect.training.trainer import Trainer

_logger = logging.getLogger("tfdetect.train")


class PreciseStatistics:
    """Sets the statistics of batch norms that train to those of all of NUM_ITER batches.

    Running averages are of batches that earlier weights saw. These are of the weights as they are:
    the mean and the (biased) variance of all elements of all batches together, a larger batch
    counting for more (Wu and Johnson 2021, appendix; fvcore's `update_bn_stats`, Detectron2's hook
    `PreciseBN`). A mean of the batches' variances would leave out how far their means are apart,
    which is much of it where a batch has few images. Detectron2's workers each see their own
    batches, and the first one's statistics are saved; here those of all replicas count. The batches
    are the next ones that training would use, so they depend only on seed and iteration.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: tf.Module,
        trainer: Trainer,
        batches: Callable[[int], tf.data.Dataset],
    ):
        """Nothing is computed yet.

        Args:
            cfg: TEST.PRECISE_BN.
            model: the model with the batch norms.
            trainer: of the model.
            batches: the batches of training from a given iteration on.

        Raises:
            InputError: TEST.PRECISE_BN.NUM_ITER is not positive.
        """
        self._count = cfg.TEST.PRECISE_BN.NUM_ITER
        if self._count < 1:
            raise InputError(f"TEST.PRECISE_BN.NUM_ITER: is {self._count}; give at least 1")
        self._layers = batch_norms_that_train(model)
        self._trainer = trainer
        self._batches = batches

    def __call__(self, iteration: int) -> None:
        """Set the statistics, with batches from `iteration` on.

        A layer that saw no elements (no foreground proposals) keeps its statistics.

        Raises:
            InputError: an image cannot be used.
        """
        if not self._layers:
            return
        _logger.info("precise batch norm statistics of %d batches", self._count)
        totals = [np.zeros([3, *layer.running_mean.shape]) for layer in self._layers]
        batches = iter(self._batches(iteration))
        for number in range(iteration, iteration + self._count):
            with input_errors():
                batch = next(batches)
            moments = self._trainer.batch_moments(batch, number)
            totals = [total + found for total, found in zip(totals, moments, strict=True)]
        for layer, (count, values, squares) in zip(self._layers, totals, strict=True):
            if count.any():
                mean = values / count
                layer.running_mean.assign(mean.astype(np.float32))
                layer.running_var.assign((squares / count - mean**2).clip(0).astype(np.float32))
