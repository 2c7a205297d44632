"""Train a detector."""

from __future__ import annotations

import argparse
import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from tfdetect.checkpoint.description import METADATA, read_metadata
from tfdetect.cli.heap import keep_freed_memory
from tfdetect.cli.quiet import import_tensorflow
from tfdetect.config import dump_config, load_config
from tfdetect.config.arguments import parse_with_opts
from tfdetect.config.capabilities import capabilities
from tfdetect.config.checks import check_model, check_output, check_training
from tfdetect.config.ignored import ignored_in_prediction, ignored_in_training
from tfdetect.data.catalog import DatasetMetadata
from tfdetect.data.registry import dataset_files, dataset_metadata, register_coco
from tfdetect.data.training.augmentation import build_augmentation
from tfdetect.data.training.records import training_metadata
from tfdetect.errors import InputError
from tfdetect.files import check_utf8, check_writable, write_text_atomically
from tfdetect.training.schedule import learning_rate
from tfdetect.training.test_data import open_test_data

_logger = logging.getLogger("tfdetect.train")

CONFIG = "config.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or evaluate.

    Returns:
        0; 1 if metrics are not TEST.EXPECTED_RESULTS, or an evaluation on the way failed.
    """
    args = _parse(arguments)
    cfg = load_config(args.config_file, args.opts, "command line")
    _check(cfg, args)
    for registered in args.register:
        register_coco(*registered)
    check_utf8(cfg.OUTPUT_DIR)
    metadata = _metadata(cfg, args)
    test_data = open_test_data(cfg, metadata)
    import_tensorflow(cfg.FLOAT32_PRECISION)
    from tfdetect.training.devices import set_up_devices
    from tfdetect.training.events import logging_to
    from tfdetect.training.run import evaluate, train

    keep_freed_memory()
    # Its remarks on how processes start and end are for somebody who uses it directly.
    logging.getLogger("tensorpack").setLevel(logging.ERROR)
    workers = set_up_devices(args.num_gpus, cfg.MODEL.DEVICE)
    replicas = workers.count * workers.replicas
    cfg = _scale_to_replicas(cfg, replicas)
    if not args.eval_only:
        check_training(cfg)
        _check_shares(cfg, replicas)
    with logging_to(Path(cfg.OUTPUT_DIR) if workers.index == 0 else None):
        for line in ignored_in_prediction(cfg) if args.eval_only else ignored_in_training(cfg):
            _logger.warning(line)
        if args.eval_only:
            return 0 if evaluate(cfg, metadata, workers, test_data, resume=args.resume) else 1
        if workers.index == 0:
            write_text_atomically(Path(cfg.OUTPUT_DIR) / CONFIG, dump_config(cfg))
        seed = cfg.SEED if cfg.SEED >= 0 else secrets.randbelow(2**31)
        try:
            expected = train(cfg, metadata, workers, test_data, seed=seed, resume=args.resume)
        except KeyboardInterrupt as interrupt:
            interrupt.args = (_what_is_kept(Path(cfg.OUTPUT_DIR)),)
            raise
    return 0 if expected else 1


def _what_is_kept(folder: Path) -> str:
    from tfdetect.training.checkpoints import saved

    found = saved(folder)
    if not found:
        return f"there is no checkpoint in {folder} yet (SOLVER.CHECKPOINT_PERIOD)"
    return f"--resume goes on from {found[-1][1]}"


def _metadata(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """What is said of the model in its directory, or is going to be.

    Raises:
        InputError: it goes on with a training of other classes, or the data sets cannot be used.
    """
    previous = sorted(Path(cfg.OUTPUT_DIR).glob(f"model_*/{METADATA}")) if args.resume else []
    earlier = read_metadata(previous[0].parent) if previous else None
    if args.eval_only:
        if not cfg.DATASETS.TEST:
            raise InputError("DATASETS.TEST: names no data set, add one to evaluate on")
        if earlier is not None:
            return earlier
        if cfg.MODEL.WEIGHTS and Path(cfg.MODEL.WEIGHTS).is_dir():
            return read_metadata(Path(cfg.MODEL.WEIGHTS))
    metadata = _names(cfg, args.eval_only).for_model()
    if earlier is not None and earlier["class_names"] != metadata["class_names"]:
        raise InputError(
            f"DATASETS.TRAIN: has the classes {', '.join(metadata['class_names'][:5])}, the"
            f" training in {cfg.OUTPUT_DIR} has {', '.join(earlier['class_names'][:5])} in this"
            " order; --resume needs the same, or train on from it with MODEL.WEIGHTS and another"
            " OUTPUT_DIR"
        )
    return metadata


def _names(cfg: CfgNode, eval_only: bool) -> DatasetMetadata:
    """Of the data trained on, or of the data evaluated on; a name for each class of the model."""
    if eval_only:
        names = dataset_metadata(dataset_files(cfg.DATASETS.TEST[0], "DATASETS.TEST"))
    else:
        names = training_metadata(cfg)
    able = capabilities(cfg)
    if able.proposes:
        return replace(names, thing_classes=["object"], category_ids=None)
    known = names.thing_classes
    beyond = range(len(known), able.num_classes)
    return replace(names, thing_classes=[*known, *(f"class {index}" for index in beyond)])


def _check(cfg: CfgNode, args: argparse.Namespace) -> None:
    """What the configuration alone tells, before TensorFlow is loaded."""
    check_model(cfg)
    check_output(cfg)
    check_writable(cfg.OUTPUT_DIR)
    if not args.eval_only:
        check_training(cfg)
        learning_rate(cfg, 0)
        build_augmentation(cfg)
    elif capabilities(cfg).takes_proposals:
        raise InputError(
            "MODEL.PROPOSAL_GENERATOR.NAME: training gives PrecomputedProposals nothing; convert "
            "the model, and use tfdetect evaluate with --proposals"
        )
    weights = cfg.MODEL.WEIGHTS
    if weights and "://" not in weights and not args.resume and not Path(weights).exists():
        raise InputError(f"MODEL.WEIGHTS: there is no {weights}; correct the path")


def _check_shares(cfg: CfgNode, replicas: int) -> None:
    images, parts = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS
    if images % (replicas * parts):
        raise InputError(
            f"SOLVER.IMS_PER_BATCH: {images} images do not divide among {replicas} devices with "
            f"SOLVER.ACCUMULATION_STEPS {parts} each; give a multiple of {replicas * parts}"
        )


def _scale_to_replicas(cfg: CfgNode, replicas: int) -> CfgNode:
    """Adapt a schedule that SOLVER.REFERENCE_WORLD_SIZE says is for another number of replicas.

    Images of a batch and learning rate grow with the replicas; iterations become fewer. Detectron2:
    `DefaultTrainer.auto_scale_workers`.
    """
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference in (0, replicas):
        return cfg
    if reference < 0 or cfg.SOLVER.IMS_PER_BATCH % reference:
        raise InputError(
            f"SOLVER.REFERENCE_WORLD_SIZE: SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} does not"
            f" divide among {reference}; correct one of them"
        )
    cfg = cfg.clone()
    cfg.defrost()
    scale = replicas / reference
    solver = cfg.SOLVER
    solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
    solver.BASE_LR *= scale
    for section, key in (
        (solver, "MAX_ITER"),
        (solver, "WARMUP_ITERS"),
        (solver, "CHECKPOINT_PERIOD"),
        (cfg.TEST, "EVAL_PERIOD"),
    ):
        section[key] = round(section[key] / scale)
    solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
    solver.REFERENCE_WORLD_SIZE = replicas
    cfg.freeze()
    return cfg


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tfdetect train",
        description="Train a detector, step for step as Detectron2 does.",
        epilog="Several machines: set TF_CONFIG as for tf.distribute's MultiWorkerMirroredStrategy,"
        " with one OUTPUT_DIR that all of them see.",
    )
    parser.add_argument(
        "--config-file",
        required=True,
        metavar="YAML",
        help="the model and its training: a file, or a model of the zoo such as "
        "COCO-Detection/faster_rcnn_R_50_FPN_1x",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR"
    )
    parser.add_argument(
        "--eval-only",
        action="store_true",
        help="only evaluate MODEL.WEIGHTS (with --resume: the last checkpoint) on DATASETS.TEST",
    )
    parser.add_argument(
        "--num-gpus",
        type=int,
        metavar="N",
        help="GPUs of this machine (default: one, or the CPU if there is none)",
    )
    parser.add_argument(
        "--register",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "ANNOTATIONS", "IMAGES_DIR"),
        help="make a COCO data set known under NAME, for DATASETS.TRAIN and DATASETS.TEST",
    )
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="configuration keys to change",
    )
    return parse_with_opts(parser, arguments)
