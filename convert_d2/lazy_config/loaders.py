"""Data sets, loaders and evaluators of a LazyConfig, into DATASETS, DATALOADER and INPUT."""

from __future__ import annotations

from typing import Any

from convert_d2.lazy_config.arguments import (
    Arguments,
    Settings,
    aliases,
    converts,
    is_number,
    optional,
    optional_part,
    show,
    target_name,
)
from convert_d2.lazy_config.augmentation import set_test_sizes, set_training_augmentation

_TRAIN_LOADER, _TEST_LOADER, _MAPPER = "a training loader", "a test loader", "a dataset mapper"
_DATASET, _SAMPLER, _FACTORS = "a data set", "a sampler", "repeat factors"
_DATA = "detectron2.data"
# What evaluation here finds out from the annotations.
_EVALUATORS = {
    alias
    for name in (
        "coco_evaluation.COCOEvaluator",
        "lvis_evaluation.LVISEvaluator",
        "sem_seg_evaluation.SemSegEvaluator",
        "panoptic_evaluation.COCOPanopticEvaluator",
        "pascal_voc_evaluation.PascalVOCDetectionEvaluator",
        "rotated_coco_evaluation.RotatedCOCOEvaluator",
    )
    for alias in aliases(f"detectron2.evaluation.{name}")
}


def set_data(settings: Settings, value: dict[Any, Any]) -> None:
    """The loaders and the evaluators."""
    for name, role in (("train", _TRAIN_LOADER), ("test", _TEST_LOADER)):
        path = f"dataloader.{name}"
        if name in value:
            optional(settings, path, value[name], role)
        else:
            settings.note(path, "is missing; INPUT and DATASETS have their defaults")
    evaluators = value.get("evaluator", [])
    path = "dataloader.evaluator"
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        _set_evaluator(settings, path, evaluator)
    for name in value:
        if name not in ("train", "test", "evaluator"):
            settings.note(f"dataloader.{show(name)}", "is not used")


def _set_evaluator(settings: Settings, path: str, value: Any) -> None:
    if not isinstance(value, dict) or target_name(value) not in _EVALUATORS:
        settings.note(path, f"{show(value)} has no counterpart; evaluation follows the annotations")
        return
    sigmas = value.get("kpt_oks_sigmas")
    if isinstance(sigmas, list) and sigmas and all(map(is_number, sigmas)):
        settings.set("TEST.KEYPOINT_OKS_SIGMAS", sigmas, f"{path}.kpt_oks_sigmas")
    known = {
        "_target_",
        "dataset_name",
        "kpt_oks_sigmas",
        "distributed",
        "output_dir",
        "num_classes",
    }
    known |= {"use_fast_impl", "max_dets_per_image", "tasks", "ignore_label", "sem_seg_loading_fn"}
    for name in value:
        if name not in known:
            settings.note(f"{path}.{show(name)}", "has no counterpart in evaluation")


@converts(f"{_DATA}.build.build_detection_train_loader", _TRAIN_LOADER)
def _train_loader(args: Arguments) -> None:
    optional_part(args, "dataset", _DATASET, training=True)
    optional_part(args, "mapper", _MAPPER, training=True)
    args.set("SOLVER.IMS_PER_BATCH", "total_batch_size", args.integer("total_batch_size"))
    args.set(
        "DATALOADER.ASPECT_RATIO_GROUPING",
        "aspect_ratio_grouping",
        args.flag("aspect_ratio_grouping", True),
    )
    args.set("DATALOADER.NUM_WORKERS", "num_workers", args.integer("num_workers", 0))
    if args.given("sampler") is None:
        args.take("sampler", None)
    else:
        optional_part(args, "sampler", _SAMPLER)
    for name in args.rest():
        args.note(name, "has no counterpart in training")


@converts(f"{_DATA}.build.build_detection_test_loader", _TEST_LOADER)
def _test_loader(args: Arguments) -> None:
    optional_part(args, "dataset", _DATASET, training=False)
    optional_part(args, "mapper", _MAPPER, training=False)
    for name in ("num_workers", "batch_size"):
        args.take(name, None)
    for name in args.rest():
        args.note(name, "has no counterpart in evaluation")


@converts(f"{_DATA}.build.get_detection_dataset_dicts", _DATASET)
def _dataset(args: Arguments, training: bool) -> None:
    names = args.take("names")
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise args.error("names", f"is {show(names)}; give the names of data sets")
    kind = "TRAIN" if training else "TEST"
    args.set(f"DATASETS.{kind}", "names", names)
    files = args.take("proposal_files", None)
    if files is not None:
        files = [files] if isinstance(files, str) else files
        args.set(f"DATASETS.PROPOSAL_FILES_{kind}", "proposal_files", files)
    filters = args.flag("filter_empty", True)
    least = args.integer("min_keypoints", 0)
    args.take("check_consistency", True)
    if training:
        args.set("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "filter_empty", filters)
        if args.settings.values.get("MODEL.KEYPOINT_ON", (False, ""))[0]:
            args.set("MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE", "min_keypoints", least)
        elif least:
            args.note("min_keypoints", "has no effect in training without a keypoint head")


@converts(f"{_DATA}.dataset_mapper.DatasetMapper", _MAPPER)
def _mapper(args: Arguments, training: bool) -> None:
    settings = args.settings
    image_format = args.text("image_format")
    args.take("is_train", None)
    augmentations = args.take("augmentations")
    where = args.where("augmentations")
    settings.set("INPUT.FORMAT", image_format, args.where("image_format"))
    if not training:
        set_test_sizes(settings, where, augmentations)
        args.rest()
        return
    recompute_boxes = args.flag("recompute_boxes", False)
    set_training_augmentation(settings, where, augmentations, recompute_boxes=recompute_boxes)
    args.set(
        "INPUT.MASK_FORMAT", "instance_mask_format", args.text("instance_mask_format", "polygon")
    )
    kept = args.take("precomputed_proposal_topk", None)
    if kept is not None:
        args.set("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", "precomputed_proposal_topk", kept)
    for name, key in (
        ("use_instance_mask", "MODEL.MASK_ON"),
        ("use_keypoint", "MODEL.KEYPOINT_ON"),
    ):
        used = args.flag(name, False)
        if settings.values.get(key, (False, ""))[0] and not used:
            args.note(name, f"is false, but training loads what the model's heads need ({key})")
    args.take("keypoint_hflip_indices", None)  # training finds them out from the data set
    for name in args.rest():
        args.note(name, "has no counterpart in training")


@converts(f"{_DATA}.samplers.distributed_sampler.TrainingSampler", _SAMPLER)
def _training_sampler(args: Arguments) -> None:
    args.set("DATALOADER.SAMPLER_TRAIN", "_target_", "TrainingSampler")
    args.take("size", None)
    args.take("seed", None)
    args.expect("shuffle", True, "training always shuffles", default=True)


@converts(f"{_DATA}.samplers.distributed_sampler.RandomSubsetTrainingSampler", _SAMPLER)
def _random_subset_sampler(args: Arguments) -> None:
    for name in ("size", "seed_shuffle", "seed_subset"):
        args.take(name, None)
    args.expect("shuffle", True, "training always shuffles", default=True)
    args.set("DATALOADER.RANDOM_SUBSET_RATIO", "subset_ratio", args.number("subset_ratio"))
    args.set("DATALOADER.SAMPLER_TRAIN", "_target_", "RandomSubsetTrainingSampler")


@converts(f"{_DATA}.samplers.distributed_sampler.RepeatFactorTrainingSampler", _SAMPLER)
def _repeat_sampler(args: Arguments) -> None:
    args.take("seed", None)
    args.expect("shuffle", True, "training always shuffles", default=True)
    args.part("repeat_factors", _FACTORS)
    args.set("DATALOADER.SAMPLER_TRAIN", "_target_", "RepeatFactorTrainingSampler")


@converts(
    f"{_DATA}.samplers.distributed_sampler.RepeatFactorTrainingSampler."
    "repeat_factors_from_category_frequency",
    _FACTORS,
)
def _repeat_factors(args: Arguments) -> None:
    args.take("dataset_dicts", None)
    args.set("DATALOADER.REPEAT_THRESHOLD", "repeat_thresh", args.number("repeat_thresh"))
    args.set("DATALOADER.REPEAT_SQRT", "sqrt", args.flag("sqrt", True))
