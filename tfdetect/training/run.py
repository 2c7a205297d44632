"""Runs training, from the first step or the last checkpoint to the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.names import named_variables
from tfdetect.config.capabilities import capabilities
from tfdetect.config.tta import describe_tta
from tfdetect.data.training.input import training_dataset
from tfdetect.data.training.records import log_training_records, training_records
from tfdetect.errors import InputError
from tfdetect.modeling.build import build_model
from tfdetect.ops.backend import Backend
from tfdetect.training.checkpoints import BEST, FINAL, Checkpoints, load_trained, saved
from tfdetect.training.devices import Workers
from tfdetect.training.evaluation import Evaluation, Outcome
from tfdetect.training.events import Events
from tfdetect.training.hooks.base import Hook, TrainingState
from tfdetect.training.hooks.builtin import (
    EvalHook,
    PeriodicCheckpointer,
    PeriodicWriter,
    PicturesHook,
    PreciseBN,
    TTAEvalHook,
)
from tfdetect.training.hooks.ema import EMAHook
from tfdetect.training.hooks.selection import BestCheckpointer, EarlyStopping
from tfdetect.training.loop import Loop
from tfdetect.training.pictures import Pictures
from tfdetect.training.precise_bn import PreciseStatistics
from tfdetect.training.services import open_services
from tfdetect.training.test_data import EvaluationData
from tfdetect.training.trainable import trainable_variables
from tfdetect.training.trainer import Trainer
from tfdetect.training.weights import load_initial_weights
from tfdetect.training.writers import JSONWriter, TensorBoardWriter, Writer

_logger = logging.getLogger("tfdetect.train")


def run_training(
    cfg: CfgNode,
    metadata: dict[str, Any],
    workers: Workers,
    test_data: Sequence[EvaluationData],
    user_hooks: Sequence[Hook] = (),
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
        user_hooks: called after the built-in ones.
        seed: of all randomness in a new run; a resumed run continues with its own.
        resume: continue from the last checkpoint in OUTPUT_DIR, if there is one.

    Returns:
        Whether every evaluation succeeded, and the metrics in the end are TEST.EXPECTED_RESULTS.

    Raises:
        InputError: data, configuration or checkpoint cannot be used; the disk is full; a loss is
            not finite; a hook of the user's or the evaluation in the end failed. What is on disk
            then is whole. (An evaluation on the way that fails is logged.)
    """
    folder = Path(cfg.OUTPUT_DIR)
    writes = workers.index == 0
    previous = saved(folder)
    earlier = [path for _, path in previous] + [p for p in [folder / BEST] if p.exists()]
    if earlier and not resume:
        raise InputError(
            f"OUTPUT_DIR: {folder} has checkpoints of another training run, such as {earlier[-1]};"
            " add --resume to continue it, or set another OUTPUT_DIR"
        )
    # Kept for later: what is wrong with the data is said before the model is built.
    log_training_records(cfg)
    backend = Backend.for_device()
    if backend.device == "cpu":
        tf.config.experimental.enable_op_determinism()
    with workers.strategy.scope():
        model = build_model(cfg)
        parameters = [named.variable for named in trainable_variables(model, cfg)]
    if cfg.MODEL.ROI_BOX_HEAD.USE_FED_LOSS and capabilities(cfg).parts.roi_heads:
        set_federated_weights(cfg, model)
    if not previous:
        seed = int(workers.gather([str(seed)])[0])
        names = metadata["class_names"], metadata.get("stuff_class_names") or ()
        load_initial_weights(cfg, model, seed, *names)
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
        backend=backend,
    )
    ema = None
    if cfg.TRAIN.EMA.ENABLED:
        with workers.strategy.scope():
            ema = EMAHook(model, parameters, cfg.TRAIN.EMA.DECAY)
        trainer.state.averages = ema.averages
    checkpoints = Checkpoints(folder, cfg, model, metadata, trainer.state, writes=writes)
    restored = checkpoints.restore()
    if restored is not None and ema is not None:
        ema.swap()  # a checkpoint's model is the average
    start = 0 if restored is None else restored.iteration
    evaluation = Evaluation(cfg, model, metadata, workers, test_data)
    statistics = None
    if cfg.TEST.PRECISE_BN.ENABLED:
        statistics = PreciseStatistics(cfg, model, trainer, batches)
    _restore_hooks(user_hooks, {} if restored is None else restored.hooks)
    checkpointer = PeriodicCheckpointer(checkpoints, seed, lambda: _state_dicts(user_hooks))
    needed = [name for name in (cfg.TRAIN.BEST.METRIC, cfg.TRAIN.EARLY_STOP.METRIC) if name]
    eval_hook = EvalHook(evaluation, needed=needed)
    hooks: list[Hook] = [] if ema is None else [ema]
    hooks.append(PeriodicWriter())
    if cfg.VIS_PERIOD > 0 and writes:
        hooks.append(PicturesHook(Pictures(cfg, model, metadata), cfg.VIS_PERIOD))
    if statistics is not None:
        hooks.append(PreciseBN(statistics, checkpoints))
    hooks += [checkpointer, eval_hook]
    if cfg.TEST.AUG.ENABLED and test_data:
        hooks.append(TTAEvalHook(Evaluation(cfg, model, metadata, workers, test_data, tta=True)))
    if cfg.TRAIN.BEST.METRIC:
        hooks.append(BestCheckpointer(cfg, checkpoints))
    if cfg.TRAIN.EARLY_STOP.METRIC:
        hooks.append(EarlyStopping(cfg))
    events = _open_events(cfg, folder, start, writes=writes, resumed=restored is not None)
    _logger.info(
        "%d parameters in %d variables are trained, from iteration %d, seed %d",
        *(sum(v.shape.num_elements() for v in parameters), len(parameters), start, seed),
    )
    state = TrainingState(
        cfg=cfg,
        model=model,
        workers=workers,
        folder=folder,
        events=events,
        start=start,
        max_iter=cfg.SOLVER.MAX_ITER,
        iteration=start,
    )
    if ema is not None:
        state.evaluated_weights = ema.applied
    loop = Loop(
        state, trainer, hooks, user_hooks, save=checkpointer.save, advice=checkpoints.advice
    )
    try:
        loop.run(dataset)
        # A worker that ends while another still writes would break the cluster.
        workers.wait()
    finally:
        events.close()
    outcome = state.evaluation
    if outcome is None:
        return not eval_hook.failed
    if outcome.errors:
        raise InputError(f"{outcome.errors[0]}; the model is in {folder / FINAL}")
    return evaluation.holds(outcome.metrics) and not eval_hook.failed


def _open_events(cfg: CfgNode, folder: Path, start: int, *, writes: bool, resumed: bool) -> Events:
    writers: list[Writer] = []
    if writes:
        writers = [JSONWriter(folder, start), TensorBoardWriter(folder)]
        writers += open_services(cfg, folder, resumed=resumed)
    return Events(
        writers,
        start=start,
        max_iter=cfg.SOLVER.MAX_ITER,
        period=cfg.SOLVER.LOG_PERIOD,
        shows=writes,
    )


def _state_dicts(hooks: Sequence[Hook]) -> dict[str, dict[str, Any]]:
    """What hooks have to save, by class; of two of a class the first one's."""
    found: dict[str, dict[str, Any]] = {}
    for hook in hooks:
        content = hook.state_dict()
        if content:
            found.setdefault(type(hook).__qualname__, content)
    return found


def _restore_hooks(hooks: Sequence[Hook], saved_states: Mapping[str, dict[str, Any]]) -> None:
    left = dict(saved_states)
    for hook in hooks:
        content = left.pop(type(hook).__qualname__, None)
        if content is not None:
            hook.load_state_dict(content)


def evaluate(
    cfg: CfgNode,
    metadata: dict[str, Any],
    workers: Workers,
    test_data: Sequence[EvaluationData],
    *,
    resume: bool,
) -> bool:
    """Evaluate MODEL.WEIGHTS, or with `resume` the last checkpoint in OUTPUT_DIR if there is one.

    With TEST.AUG.ENABLED it is evaluated again with test-time augmentation.

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
    if cfg.TEST.AUG.ENABLED and not outcome.errors:
        _logger.info("%s", describe_tta(cfg))
        augmented = Evaluation(cfg, model, metadata, workers, test_data, tta=True)()
        outcome = Outcome(outcome.metrics | augmented.metrics, augmented.errors)
    if outcome.errors:
        raise outcome.errors[0]
    return evaluation.holds(outcome.metrics)


def set_federated_weights(cfg: CfgNode, model: tf.Module) -> None:
    """Set the federated loss's class sampling weights from the number of images per class.

    Weights from MODEL.WEIGHTS take precedence. Detectron2: `get_fed_loss_cls_weights`.
    """
    power = cfg.MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER
    # In float64: NumPy's float32 power is one bit off with some versions and processors.
    weights = np.power(class_image_counts(cfg), power, dtype=np.float64).astype(np.float32)
    for named in named_variables(model):
        if named.name.endswith(".fed_loss_cls_weights"):
            named.variable.assign(weights)


def class_image_counts(cfg: CfgNode) -> np.ndarray:
    """float32 [K]: the number of images of DATASETS.TRAIN that contain each class."""
    counts = np.zeros([cfg.MODEL.ROI_HEADS.NUM_CLASSES], np.float32)
    for record in training_records(cfg):
        counts[list({annotation.class_index for annotation in record.annotations})] += 1
    return counts
