"""A training from its first step, or from the last checkpoint, to its end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.names import named_variables
from tfdetect.config.capabilities import capabilities
from tfdetect.data.training.input import input_errors, training_dataset
from tfdetect.data.training.records import training_records
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.training.checkpoints import (
    FINAL,
    Checkpoints,
    Progress,
    load_trained,
    saved,
)
from tfdetect.training.devices import Workers
from tfdetect.training.evaluation import Evaluation, Outcome
from tfdetect.training.events import Events
from tfdetect.training.pictures import Pictures
from tfdetect.training.precise_bn import PreciseStatistics
from tfdetect.training.schedule import learning_rate
from tfdetect.training.test_data import EvaluationData
from tfdetect.training.trainable import trainable_variables
from tfdetect.training.trainer import Trainer
from tfdetect.training.weights import load_initial_weights

_logger = logging.getLogger("tfdetect.train")


def train(
    cfg: CfgNode,
    metadata: dict[str, Any],
    workers: Workers,
    test_data: Sequence[EvaluationData],
    *,
    seed: int,
    resume: bool,
) -> bool:
    """Train up to SOLVER.MAX_ITER, writing to OUTPUT_DIR, and evaluate.

    On the CPU it is deterministic: the same seed, data and configuration give the same weights, bit
    for bit, in one go or with interruptions.

    Args:
        cfg: the configuration.
        metadata: of the model directories.
        workers: of this training; every one calls this.
        test_data: of `open_test_data`.
        seed: of everything random in a training that starts; one that resumes goes on with its own.
        resume: go on from the last checkpoint in OUTPUT_DIR, if there is one.

    Returns:
        Whether every evaluation succeeded, and the metrics in the end are TEST.EXPECTED_RESULTS.

    Raises:
        InputError: data, configuration or checkpoint cannot be used; the disk is full; a loss is
            not finite; the evaluation in the end failed. What is on disk then is whole. (One on the
            way that fails is logged.)
    """
    folder = Path(cfg.OUTPUT_DIR)
    writes = workers.index == 0
    previous = saved(folder)
    if previous and not resume:
        raise InputError(
            f"OUTPUT_DIR: {folder} has checkpoints of another training, such as {previous[-1][1]};"
            " add --resume to go on with it, or set another OUTPUT_DIR"
        )
    # Kept for later: what is wrong with the data is said before the model is built.
    training_records(cfg)
    if not tf.config.list_logical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    with workers.strategy.scope():
        model = build_model(cfg)
        parameters = [named.variable for named in trainable_variables(model, cfg)]
    if cfg.MODEL.ROI_BOX_HEAD.USE_FED_LOSS and capabilities(cfg).parts.roi_heads:
        set_federated_weights(cfg, model)
    if not previous:
        seed = int(workers.gather([str(seed)])[0])
        load_initial_weights(cfg, model, seed, metadata["class_names"])
    else:
        seed = previous[-1][0].seed

    def batches(first: int) -> tf.data.Dataset:
        shard = workers.index, workers.count
        return training_dataset(cfg, seed=seed, start_batch=first, shard=shard)

    dataset = batches(previous[-1][0].iteration if previous else 0)
    trainer = Trainer(
        cfg,
        model,
        parameters,
        dataset.element_spec,
        seed=seed,
        strategy=workers.strategy,
        local_replicas=workers.replicas,
    )
    checkpoints = Checkpoints(folder, cfg, model, metadata, trainer.state, writes=writes)
    restored = checkpoints.restore()
    start = 0 if restored is None else restored.iteration
    evaluation = Evaluation(cfg, model, metadata, workers, test_data)
    events = None
    if writes:
        events = Events(
            folder, start=start, max_iter=cfg.SOLVER.MAX_ITER, period=cfg.SOLVER.LOG_PERIOD
        )
    _logger.info(
        "%d parameters in %d variables are trained, from iteration %d, seed %d",
        *(sum(v.shape.num_elements() for v in parameters), len(parameters), start, seed),
    )
    loop = _Loop(cfg, trainer, checkpoints, evaluation, events)
    if cfg.VIS_PERIOD > 0 and writes:
        loop.pictures = Pictures(cfg, model, metadata)
    if cfg.TEST.PRECISE_BN.ENABLED:
        loop.precise_statistics = PreciseStatistics(cfg, model, trainer, batches)
    try:
        outcome = loop.run(dataset, start, seed)
        # Who ends while another still writes would be missed.
        workers.wait()
        if outcome.errors:
            raise InputError(f"{outcome.errors[0]}; the model is in {folder / FINAL}")
        return evaluation.holds(outcome.metrics) and not loop.failed
    finally:
        if events is not None:
            events.close()


def evaluate(
    cfg: CfgNode,
    metadata: dict[str, Any],
    workers: Workers,
    test_data: Sequence[EvaluationData],
    *,
    resume: bool,
) -> bool:
    """Evaluate MODEL.WEIGHTS, or with `resume` the last checkpoint in OUTPUT_DIR if there is one.

    Returns:
        Whether the metrics are TEST.EXPECTED_RESULTS.

    Raises:
        InputError: weights, data or configuration cannot be used, or the evaluation failed.
    """
    previous = saved(Path(cfg.OUTPUT_DIR)) if resume else []
    with workers.strategy.scope():
        model = build_model(cfg)
    if previous:
        load_trained(previous[-1][1], cfg, model)
    elif cfg.MODEL.WEIGHTS:
        load_initial_weights(cfg, model, 0)
    else:
        raise InputError("MODEL.WEIGHTS: is empty; set it to what --eval-only is to evaluate")
    evaluation = Evaluation(cfg, model, metadata, workers, test_data)
    outcome = evaluation()
    if outcome.errors:
        raise outcome.errors[0]
    return evaluation.holds(outcome.metrics)


class _Loop:
    """Iterations, and what is done after some of them."""

    def __init__(
        self,
        cfg: CfgNode,
        trainer: Trainer,
        checkpoints: Checkpoints,
        evaluation: Evaluation,
        events: Events | None,
    ):
        self._cfg = cfg
        self._trainer = trainer
        self._checkpoints = checkpoints
        self._evaluation = evaluation
        self._events = events
        self.failed = False  # an evaluation on the way
        self.pictures: Pictures | None = None
        self.precise_statistics: PreciseStatistics | None = None

    def run(self, dataset: tf.data.Dataset, start: int, seed: int) -> Outcome:
        """Go to SOLVER.MAX_ITER; how the evaluation in the end went."""
        max_iter = self._cfg.SOLVER.MAX_ITER
        batches = iter(dataset)
        for iteration in range(start, max_iter):
            began = time.perf_counter()
            with input_errors():
                batch = next(batches)
            data_seconds = time.perf_counter() - began
            losses = self._trainer(batch, iteration)
            self._check(iteration, losses, batch)
            done = iteration + 1
            if self._events is not None:
                self._events.add(
                    iteration,
                    losses,
                    rate=learning_rate(self._cfg, iteration),
                    seconds=time.perf_counter() - began,
                    data_seconds=data_seconds,
                )
                if self.pictures is not None and done % self._cfg.VIS_PERIOD == 0:
                    drawn = self.pictures(batch)
                    self._events.add_image(iteration, "ground truth | predictions", drawn)
            evaluates = done == max_iter or _is_due(done, self._cfg.TEST.EVAL_PERIOD)
            if evaluates and self.precise_statistics is not None:
                self.precise_statistics(done)
            if done == max_iter or _is_due(done, self._cfg.SOLVER.CHECKPOINT_PERIOD):
                path = self._checkpoints.save(Progress(done, seed), final=done == max_iter)
                if self._events is not None:
                    _logger.info("saved %s", path)
            if evaluates and done < max_iter:
                # Its errors must not cost what was trained since the last checkpoint.
                self.failed |= bool(self._evaluate(iteration).errors)
        return self._evaluate(max_iter - 1)

    def _evaluate(self, iteration: int) -> Outcome:
        try:
            outcome = self._evaluation()
        except Exception as error:  # as the network needs more memory than there is
            reason = str(getattr(error, "message", error)).strip().partition("\n")[0]
            failure = InputError(f"evaluation failed ({type(error).__name__}: {reason})")
            _logger.error("%s", failure)
            return Outcome(errors=[failure])
        if outcome.metrics and self._events is not None:
            self._events.write(iteration, outcome.metrics)
        return outcome

    def _check(
        self, iteration: int, losses: Mapping[str, float], batch: Mapping[str, tf.Tensor]
    ) -> None:
        """Raise InputError if a loss is not finite."""
        if all(math.isfinite(loss) for loss in losses.values()):
            return
        records = training_records(self._cfg)
        files = [records[index].file_name for index in batch["record"].numpy()]
        values = ", ".join(f"{name}={loss:.4g}" for name, loss in losses.items())
        raise InputError(
            f"iteration {iteration}: a loss is not finite ({values}) on the images "
            f"{', '.join(files)}; {self._checkpoints.advice()}"
        )


def _is_due(done: int, period: int) -> bool:
    return period > 0 and done % period == 0


def set_federated_weights(cfg: CfgNode, model: tf.Module) -> None:
    """Have the federated loss draw classes by their numbers of images.

    What MODEL.WEIGHTS says of it goes before. Detectron2: `get_fed_loss_cls_weights`.
    """
    power = cfg.MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER
    weights = np.power(class_image_counts(cfg), power, dtype=np.float32)
    for named in named_variables(model):
        if named.name.endswith(".fed_loss_cls_weights"):
            named.variable.assign(weights)


def class_image_counts(cfg: CfgNode) -> np.ndarray:
    """float32 [K]: in how many images of DATASETS.TRAIN each class is."""
    counts = np.zeros([cfg.MODEL.ROI_HEADS.NUM_CLASSES], np.float32)
    for record in training_records(cfg):
        counts[list({annotation.class_index for annotation in record.annotations})] += 1
    return counts
