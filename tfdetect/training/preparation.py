"""What a training needs to know before TensorFlow is loaded, and what is wrong with it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from yacs.config import CfgNode

from tfdetect.checkpoint.description import METADATA, read_metadata
from tfdetect.checkpoint.quantization import require_float32
from tfdetect.checkpoint.remote.addresses import check_address, is_address, local_file
from tfdetect.config.capabilities import capabilities
from tfdetect.config.checks import check_model
from tfdetect.config.training_checks import check_output, check_training, weights_file
from tfdetect.config.tta import check_tta
from tfdetect.data.catalog import DatasetMetadata
from tfdetect.data.registry import dataset_files, dataset_metadata
from tfdetect.data.training.augmentation import build_augmentation
from tfdetect.data.training.records import training_metadata, training_records
from tfdetect.errors import InputError
from tfdetect.files import check_utf8, check_writable
from tfdetect.modeling.registries import check_box_losses, check_names
from tfdetect.training.hooks.base import HOOKS, Hook
from tfdetect.training.schedule import learning_rate
from tfdetect.training.test_data import EvaluationData, open_test_data


@dataclass(frozen=True)
class Preparation:
    """What `prepare` gives.

    Attributes:
        metadata: of the model directories.
        test_data: of DATASETS.TEST.
        hooks: of TRAIN.HOOKS.
    """

    metadata: dict[str, Any]
    test_data: list[EvaluationData]
    hooks: list[Hook]


def prepare(cfg: CfgNode, *, resume: bool, eval_only: bool = False) -> Preparation:
    """Check a configuration, open its data and download its weights, without loading TensorFlow.

    Args:
        cfg: the configuration.
        resume: whether a training in OUTPUT_DIR is to go on.
        eval_only: whether the model is only evaluated.

    Raises:
        InputError: something cannot be used.
    """
    _check(cfg, resume, eval_only)
    check_utf8(cfg.OUTPUT_DIR)
    hooks: list[Hook] = []
    if not eval_only:
        for name in cfg.TRAIN.WRITERS:
            import_writer(name)
        hooks = [_make_hook(name, cfg) for name in cfg.TRAIN.HOOKS]
    metadata = _metadata(cfg, resume, eval_only)
    test_data = open_test_data(cfg, metadata)
    if not eval_only:
        # Kept for later. What is skipped is for the log, which there is not yet.
        if cfg.DATALOADER.ON_ERROR == "stop":
            training_records(cfg)
        for section in ("BEST", "EARLY_STOP"):
            check_metric(f"TRAIN.{section}.METRIC", cfg.TRAIN[section].METRIC, test_data)
    # The last: a download takes minutes, after which nothing else is to be wrong.
    if is_address(cfg.MODEL.WEIGHTS) and not (resume and _earlier_models(cfg)):
        local_file(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
    return Preparation(metadata, test_data, hooks)


def import_writer(name: str) -> ModuleType:
    """The package of one of TRAIN.WRITERS.

    Raises:
        InputError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # such as a version that another package does not go with
        raise InputError(
            f"TRAIN.WRITERS: {name} cannot be imported ({type(error).__name__}: {error}); "
            f"pip install {name}, or take it off the list"
        ) from error


def check_metric(key: str, metric: str | None, test_data: Sequence[EvaluationData]) -> None:
    """Raise InputError unless evaluations give a metric; none is always right.

    Those of single classes ("bbox/AP-cat") are known after an evaluation alone.
    """
    if not metric:
        return
    known = []
    for data in test_data:
        prefix = f"{data.name}/" if len(test_data) > 1 else ""
        # Of no image the metrics are NaN, but they have their names.
        for task, values in data.dataset.evaluate([], []).items():
            known += [f"{prefix}{task}/{name}" for name in values if "-" not in name]
    if metric.partition("-")[0] not in known:
        raise InputError(f"{key}: {metric!r} is not measured; give one of {', '.join(known)}")


def _make_hook(name: str, cfg: CfgNode) -> Hook:
    if name not in HOOKS:
        known = ", ".join(HOOKS) or "none"
        raise InputError(
            f"TRAIN.HOOKS: no hook {name!r} is registered ({known}); --import the file that"
            " registers it"
        )
    try:
        hook = HOOKS.make("TRAIN.HOOKS", name, cfg)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"TRAIN.HOOKS: {name} cannot be made ({type(error).__name__}: {error}); correct it"
        ) from error
    check_hooks([hook], f"TRAIN.HOOKS: {name}")
    return hook


def check_hooks(hooks: Sequence[Any], key: str) -> None:
    """Raise InputError if one is no `Hook`."""
    for hook in hooks:
        if not isinstance(hook, Hook):
            raise InputError(f"{key}: is {type(hook).__name__}, no tfdetect.training.Hook")


def _metadata(cfg: CfgNode, resume: bool, eval_only: bool) -> dict[str, Any]:
    """What is said of the model in its directory, or is going to be.

    Raises:
        InputError: the training to resume has other classes, or the data sets cannot be used.
    """
    previous = _earlier_models(cfg) if resume else []
    earlier = read_metadata(previous[0].parent) if previous else None
    if eval_only:
        if not cfg.DATASETS.TEST:
            raise InputError("DATASETS.TEST: names no data set, add one to evaluate on")
        if earlier is not None:
            return earlier
        if cfg.MODEL.WEIGHTS and Path(cfg.MODEL.WEIGHTS).is_dir():
            return read_metadata(Path(cfg.MODEL.WEIGHTS))
    metadata = _names(cfg, eval_only).for_model()
    for key in ("class_names", "stuff_class_names"):
        before, now = (earlier or {}).get(key) or [], metadata[key] or []
        if earlier is not None and before != now:
            raise InputError(
                f"DATASETS.TRAIN: has the classes {', '.join(now[:5])}, the"
                f" training in {cfg.OUTPUT_DIR} has {', '.join(before[:5])} in this"
                " order; --resume needs the same, or train on from it with MODEL.WEIGHTS and"
                " another OUTPUT_DIR"
            )
    return metadata


def _earlier_models(cfg: CfgNode) -> list[Path]:
    """The metadata of the checkpoints in OUTPUT_DIR."""
    return sorted(Path(cfg.OUTPUT_DIR).glob(f"model_*/{METADATA}"))


def _names(cfg: CfgNode, eval_only: bool) -> DatasetMetadata:
    """Of the data trained on, or of the data evaluated on; a name for each class of the model."""
    if eval_only:
        names = dataset_metadata(dataset_files(cfg.DATASETS.TEST[0], "DATASETS.TEST"))
    else:
        names = training_metadata(cfg)
    able = capabilities(cfg)
    if able.proposes:
        return replace(names, thing_classes=["object"], category_ids=None)
    # A model of semantic segmentation alone does not tell things apart.
    known = names.thing_classes if able.has_boxes else []
    beyond = range(len(known), able.num_classes)
    stuff = (names.stuff_classes or []) if able.has_semantic else []
    beyond_stuff = range(len(stuff), able.num_stuff_classes)
    return replace(
        names,
        thing_classes=[*known, *(f"class {index}" for index in beyond)],
        category_ids=names.category_ids if able.has_boxes else None,
        stuff_classes=[*stuff, *(f"stuff {index}" for index in beyond_stuff)] or None,
        stuff_colors=names.stuff_colors if stuff else None,
        stuff_category_ids=names.stuff_category_ids if stuff else None,
    )


def _check(cfg: CfgNode, resume: bool, eval_only: bool) -> None:
    """What the configuration alone tells, before TensorFlow is loaded."""
    check_model(cfg)
    check_names(cfg)
    check_output(cfg)
    check_writable(cfg.OUTPUT_DIR)
    if cfg.TEST.AUG.ENABLED and cfg.DATASETS.TEST:
        check_tta(cfg)
    if not eval_only:
        check_training(cfg)
        check_box_losses(cfg)
        learning_rate(cfg, 0)
        build_augmentation(cfg)
        check_proposal_files(cfg, "TRAIN")
    check_proposal_files(cfg, "TEST")
    weights = weights_file(cfg)
    if is_address(weights):
        check_address(weights, "MODEL.WEIGHTS")
    elif weights and not resume and not Path(weights).exists():
        raise InputError(f"MODEL.WEIGHTS: there is no {weights}; correct the path")
    if weights:
        require_float32(Path(weights), "MODEL.WEIGHTS")


def check_proposal_files(cfg: CfgNode, split: Literal["TRAIN", "TEST"]) -> None:
    """Raise InputError unless a model that takes proposals has a file of them for each data set."""
    if not capabilities(cfg).takes_proposals:
        return
    key = f"DATASETS.PROPOSAL_FILES_{split}"
    files, datasets = cfg.DATASETS[f"PROPOSAL_FILES_{split}"], cfg.DATASETS[split]
    if len(files) != len(datasets):
        raise InputError(
            f"{key}: names {len(files)} files for the {len(datasets)} data sets of DATASETS.{split}"
            "; give a file of each, in their order"
        )
    for path in files:
        if is_address(path):
            check_address(path, key)
        elif not Path(path).is_file():
            raise InputError(f"{key}: there is no file {path}; correct the path")


def check_shares(cfg: CfgNode, replicas: int) -> None:
    """Raise InputError if the images of a batch do not divide among the devices."""
    images, parts = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS
    if images % (replicas * parts):
        raise InputError(
            f"SOLVER.IMS_PER_BATCH: {images} images cannot be divided among {replicas} devices "
            f"with SOLVER.ACCUMULATION_STEPS {parts} each; give a multiple of {replicas * parts}"
        )


def scale_to_replicas(cfg: CfgNode, replicas: int) -> CfgNode:
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
            f" divide evenly by {reference}; correct one of them"
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
