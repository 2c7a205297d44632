"""TEST.PRECISE_BN: statistics of batch norms that are true averages over many batches."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.data.training.input import input_errors
from tfdetect.engine.trainer import Trainer
from tfdetect.errors import InputError
from tfdetect.layers.norm import MOMENTUM, BatchNorm

_logger = logging.getLogger("tfdetect.train")


class PreciseStatistics:
    """Sets the statistics of batch norms that train to the averages over NUM_ITER batches.

    Running averages are of batches that earlier weights saw. These are of the weights as they are:
    the mean of the batches' means, and of their unbiased variances (Ioffe and Szegedy 2015,
    algorithm 2; fvcore's `update_bn_stats`, Detectron2's hook `PreciseBN`). The batches are those
    that training would go on with, so that they depend on seed and iteration alone.
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
            cfg: TEST.PRECISE_BN and SOLVER.ACCUMULATION_STEPS.
            model: whose batch norms are meant.
            trainer: of the model.
            batches: the batches of training from a given iteration on.

        Raises:
            InputError: TEST.PRECISE_BN.NUM_ITER is not positive.
        """
        self._count = cfg.TEST.PRECISE_BN.NUM_ITER
        if self._count < 1:
            raise InputError(f"TEST.PRECISE_BN.NUM_ITER: is {self._count}; give at least 1")
        self._layers = [
            module
            for module in model.submodules
            if isinstance(module, BatchNorm) and module.weight.trainable
        ]
        self._trainer = trainer
        self._batches = batches
        # Of a running average that was 0, how much is now of what came in.
        self._share = 1 - (1 - MOMENTUM) ** cfg.SOLVER.ACCUMULATION_STEPS

    def __call__(self, iteration: int) -> None:
        """Set the statistics, with batches from `iteration` on.

        Raises:
            InputError: an image cannot be used.
        """
        if not self._layers:
            return
        _logger.info("precise batch norm statistics of %d batches", self._count)
        before = [_statistics(layer) for layer in self._layers]
        sums = [np.zeros(np.shape(found), np.float64) for found in before]
        seen = [0] * len(sums)
        batches = iter(self._batches(iteration))
        for number in range(iteration, iteration + self._count):
            for layer in self._layers:
                _set(layer, np.zeros([2, *layer.running_mean.shape], np.float32))
            with input_errors():
                batch = next(batches)
            self._trainer.observe(batch, number)
            for index, layer in enumerate(self._layers):
                found = _statistics(layer)
                # Untouched by a batch that had nothing for the layer: no region is foreground.
                if found.any():
                    sums[index] += found / self._share
                    seen[index] += 1
        for layer, old, total, times in zip(self._layers, before, sums, seen, strict=True):
            _set(layer, (total / times).astype(np.float32) if times else old)


def _statistics(layer: BatchNorm) -> np.ndarray:
    """float32 [2, channels]: running mean and variance."""
    return np.stack([layer.running_mean.numpy(), layer.running_var.numpy()])


def _set(layer: BatchNorm, statistics: np.ndarray) -> None:
    layer.running_mean.assign(statistics[0])
    layer.running_var.assign(statistics[1])
