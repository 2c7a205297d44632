"""`train`: a training of a configuration, for library callers and the command alike."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yacs.config import CfgNode

from tfdetect.config import dump_config
from tfdetect.config.ignored import ignored_in_training
from tfdetect.config.training_checks import check_training
from tfdetect.files import write_text_atomically
from tfdetect.training.hooks.base import Hook
from tfdetect.training.preparation import (
    Preparation,
    check_hooks,
    check_shares,
    prepare,
    scale_to_replicas,
)

if TYPE_CHECKING:
    from tfdetect.training.devices import Workers

_logger = logging.getLogger("tfdetect.train")

CONFIG = "config.yaml"


def train(
    cfg: CfgNode,
    hooks: Sequence[Hook] = (),
    *,
    resume: bool = False,
    workers: Workers | None = None,
    preparation: Preparation | None = None,
) -> bool:
    """Train a model and evaluate it, as the command `tfdetect train` does (docs/training.md).

    Checkpoints, metrics, log and results go to cfg.OUTPUT_DIR, whose folder `model_final` is for
    `tfdetect predict` and `Predictor`. Detectron2: `DefaultTrainer`.

    Args:
        cfg: of `load_config`. DATASETS.TRAIN names data sets that are known
            (`tfdetect.data.registry.register_coco_dataset`).
        hooks: called after the built-in ones and those of TRAIN.HOOKS.
        resume: continue from the last checkpoint in OUTPUT_DIR, if there is one. Without it, an
            OUTPUT_DIR with checkpoints is rejected.
        workers: of `tfdetect.training.devices.set_up_devices`, for several devices or machines;
            None for one device, a GPU where there is one and MODEL.DEVICE is cuda.
        preparation: what `prepare` gave, where it was called before TensorFlow was loaded.

    Returns:
        Whether every evaluation succeeded, and the metrics in the end are TEST.EXPECTED_RESULTS.

    Raises:
        InputError: data, configuration or checkpoint cannot be used; the disk is full; a loss is
            not finite; one of the hooks or the evaluation in the end failed; another worker was
            lost. What is on disk then is whole, and `resume` continues from it.
    """
    check_hooks(hooks, "hooks")
    if preparation is None:
        preparation = prepare(cfg, resume=resume)
    from tfdetect.training.checkpoints import what_is_kept
    from tfdetect.training.devices import lost_workers, set_up_devices
    from tfdetect.training.events import logging_to
    from tfdetect.training.run import run_training

    if workers is None:
        workers = set_up_devices(None, cfg.MODEL.DEVICE)
    replicas = workers.count * workers.replicas
    cfg = scale_to_replicas(cfg, replicas)
    check_training(cfg)
    check_shares(cfg, replicas)
    folder = Path(cfg.OUTPUT_DIR)
    writes = workers.index == 0

    def advice() -> str:
        return f"{what_is_kept(folder)}, with any number of workers that divides the batch"

    with lost_workers(workers, advice), logging_to(folder if writes else None):
        for line in ignored_in_training(cfg):
            _logger.warning(line)
        if writes:
            write_text_atomically(folder / CONFIG, dump_config(cfg))
        return run_training(
            cfg,
            preparation.metadata,
            workers,
            preparation.test_data,
            [*preparation.hooks, *hooks],
            seed=cfg.SEED if cfg.SEED >= 0 else secrets.randbelow(2**31),
            resume=resume,
        )
