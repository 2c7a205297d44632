"""The training parts of a LazyConfig: schedules, augmentations, and what is noted."""

from __future__ import annotations

# ruff: noqa: E501 - messages and pieces of YAML, a line each
from bisect import bisect_right

import pytest

from tests.convert_d2.lazy_config.test_models import of_text
from tests.support.lazy_configs import changed
from tfdetect.config import dump_config, load_config
from tfdetect.data.training.augmentation import build_augmentation
from tfdetect.errors import InputError
from tfdetect.training.schedule import learning_rate

NAME = "mask_rcnn_R_50_FPN_1x_with_overrides"
SCHEDULE = "    milestones: [60000, 80000, 90000]\n"


@pytest.mark.parametrize(
    ("milestones", "num_updates", "max_iter", "scale"),
    [
        ([60, 80, 90], None, 90, 60 / 90),
        ([6, 8, 9], None, 90, 60 / 90),
        ([6, 8], 9, 100, None),
        ([7, 11], 13, 997, None),
        ([210, 250, 270], None, 90, None),
    ],
)
def test_multi_step(milestones, num_updates, max_iter, scale, tmp_path):
    """The learning rate of every iteration, by fvcore's own formula."""
    new = f"    milestones: {milestones}\n"
    new += f"    num_updates: {num_updates}\n" if num_updates else ""
    text = changed(NAME, (SCHEDULE, new), ("max_iter: 90000", f"max_iter: {max_iter}"))
    text = text.replace("warmup_length: 0.011111111111111112", "warmup_length: 0.0")
    cfg, notes = of_text(tmp_path, text)
    assert notes == []
    updates, ends = (num_updates, milestones) if num_updates else (milestones[-1], milestones[:-1])
    for iteration in range(1, max_iter):
        done = int((iteration / max_iter + 1e-6) * updates)
        expected = 0.02 * 0.1 ** bisect_right(ends, done)
        assert learning_rate(cfg, iteration) == pytest.approx(expected, rel=1e-12), iteration


SCHEDULER = (
    "_target_: fvcore.common.param_scheduler.MultiStepParamScheduler\n"
    + SCHEDULE
    + "    values: [1.0, 0.1, 0.01]\n"
)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (
            "_target_: fvcore.common.param_scheduler.CosineParamScheduler\n    start_value: 1.0\n    end_value: 0.1\n",
            {"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 0.002},
        ),
        (
            "_target_: fvcore.common.param_scheduler.ConstantParamScheduler\n    value: 1\n",
            {"LR_SCHEDULER_NAME": "WarmupMultiStepLR", "STEPS": ()},
        ),
        (
            "_target_: fvcore.common.param_scheduler.StepWithFixedGammaParamScheduler\n    base_value: 1.0\n"
            "    gamma: 0.5\n    num_decays: 4\n    num_updates: 90000\n",
            {"LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR", "GAMMA": 0.5, "NUM_DECAYS": 4},
        ),
        (
            "_target_: fvcore.common.param_scheduler.MultiStepParamScheduler\n    num_updates: 90000\n    values: [1, 0.5, 0.25]\n",
            {"STEPS": (30000, 60000), "GAMMA": 0.5},
        ),
    ],
)
def test_other_schedules(scheduler, expected, tmp_path):
    cfg, notes = of_text(tmp_path, changed(NAME, (SCHEDULER, scheduler)))
    assert notes == []
    assert {
        key: pytest.approx(value) if isinstance(value, float) else value
        for key, value in expected.items()
    } == {key: cfg.SOLVER[key] for key in expected}


AUGMENTATIONS = """      - _target_: detectron2.data.transforms.ResizeShortestEdge
        max_size: 1333
        sample_style: choice
        short_edge_length: [640, 672, 704, 736, 768, 800]
      - {_target_: detectron2.data.transforms.RandomFlip, horizontal: true}
"""
FLIP = "      - {_target_: detectron2.data.transforms.RandomFlip, horizontal: true}\n"
RESIZE = "      - {_target_: detectron2.data.transforms.ResizeShortestEdge, short_edge_length: [400, 600], sample_style: range, max_size: 800}\n"
CROP = "      - {_target_: detectron2.data.transforms.RandomCrop, crop_type: absolute, crop_size: [300, 300]}\n"
SCALE = "      - {_target_: detectron2.data.transforms.ResizeScale, min_scale: 0.5, max_scale: 1.5, target_height: 512, target_width: 512}\n"
FIXED = "      - {_target_: detectron2.data.transforms.FixedSizeCrop, crop_size: [512, 512]}\n"


@pytest.mark.parametrize(
    ("text", "classes", "listed"),
    [
        (RESIZE + FLIP, ["ResizeShortestEdge", "RandomFlip"], False),
        (RESIZE, ["ResizeShortestEdge"], False),
        (CROP + RESIZE + FLIP, ["RandomCrop", "ResizeShortestEdge", "RandomFlip"], False),
        (FLIP + CROP + RESIZE, ["RandomFlip", "RandomCrop", "ResizeShortestEdge"], True),
        (SCALE + FIXED + FLIP, ["ResizeScale", "FixedSizeCrop", "RandomFlip"], False),
        (FLIP + SCALE + FIXED, ["RandomFlip", "ResizeScale", "FixedSizeCrop"], True),
        (SCALE.replace("512}", "640}") + FIXED, ["ResizeScale", "FixedSizeCrop"], True),
        (FIXED.replace("512]", "512], pad: false"), ["FixedSizeCrop"], True),
        (RESIZE + FLIP + FLIP, ["ResizeShortestEdge", "RandomFlip", "RandomFlip"], True),
        (
            RESIZE + FLIP.replace("horizontal: true", "prob: 0.3"),
            ["ResizeShortestEdge", "RandomFlip"],
            True,
        ),
    ],
)
def test_augmentations(text, classes, listed, tmp_path):
    """In the file's order, with its numbers; by Detectron2's keys where these can say it."""
    cfg, notes = of_text(tmp_path, changed(NAME, (AUGMENTATIONS, text)))
    assert notes == []
    assert bool(cfg.INPUT.AUGMENTATIONS) == listed
    path = tmp_path / "written.yaml"
    path.write_text(dump_config(cfg))
    built = build_augmentation(load_config(path))
    assert [type(augmentor).__name__ for augmentor in built] == classes
    for augmentor in built:
        name = type(augmentor).__name__
        if name == "ResizeShortestEdge":
            assert augmentor.short_edge_length == (400, 600)
            assert (augmentor.max_size, augmentor.sample_style) == (800, "range")
        if name == "ResizeScale":
            assert augmentor.scale == (0.5, 1.5)
            assert (augmentor.target_height, augmentor.target_width) == (
                512,
                640 if "640" in text else 512,
            )
        if name == "RandomFlip":
            assert augmentor.prob == (0.3 if "0.3" in text else 0.5)
        if name == "FixedSizeCrop":
            assert augmentor.pad == ("pad: false" not in text)


def test_augmentations_of_mvitv2(tmp_path):
    """Several as one, and boxes that are not recomputed after a crop: the mapper's default."""
    words = "{_target_: detectron2.data.transforms."
    text = f"""\
      - {words}RandomApply, prob: 0.5, tfm_or_aug: {words}AugmentationList, augs: [
          {words}ResizeShortestEdge, short_edge_length: [400, 500], sample_style: choice}},
          {words}RandomCrop, crop_type: absolute_range, crop_size: [384, 600]}}]}}}}
      - {words}RandomFlip, horizontal: true}}
"""
    cfg, notes = of_text(tmp_path, changed(NAME, (AUGMENTATIONS, text)))
    assert notes == []
    apply, _ = build_augmentation(cfg)
    assert [type(a).__name__ for a in apply.augmentor.augmentors] == [
        "ResizeShortestEdge",
        "RandomCrop",
    ]
    assert not cfg.INPUT.RECOMPUTE_BOXES
    text = changed(NAME, (AUGMENTATIONS, text))
    text = text.replace("is_train: true", "is_train: true\n      recompute_boxes: true")
    again, _ = of_text(tmp_path, text)
    assert again.INPUT.RECOMPUTE_BOXES


def test_every_augmentation(tmp_path):
    """Those that no key can say go to INPUT.AUGMENTATIONS with their arguments."""
    calls = {
        "MinIoURandomCrop": "min_ious: [0.1, 0.5], min_crop_size: 0.4, mode_trials: 7",
        "RandomApply": "tfm_or_aug: {_target_: detectron2.data.transforms.RandomContrast, intensity_min: 0.5, intensity_max: 1.5}, prob: 0.2",
        "RandomBrightness": "intensity_min: 0.5, intensity_max: 1.5",
        "RandomExtent": "scale_range: [0.5, 1.0], shift_range: [0.1, 0.2]",
        "RandomLighting": "scale: 0.1",
        "RandomResize": "shape_list: !!python/tuple [[300, 400], [400, 300]], interp: 3",
        "RandomRotation": "angle: [-10, 10], interp: 0",
        "RandomSaturation": "intensity_min: 0.5, intensity_max: 1.5",
        "Resize": "shape: [300, 400]",
        "RandomCrop_CategoryAreaConstraint": "crop_type: absolute, crop_size: [200, 200]",
    }
    text = "".join(
        f"      - {{_target_: detectron2.data.transforms.{name}, {arguments}}}\n"
        for name, arguments in calls.items()
    )
    cfg, notes = of_text(tmp_path, changed(NAME, (AUGMENTATIONS, text)))
    assert notes == []
    built = {type(augmentor).__name__: augmentor for augmentor in build_augmentation(cfg)}
    assert list(built) == list(calls)
    assert built["RandomApply"].prob == 0.2
    assert built["RandomApply"].augmentor.intensity == (0.5, 1.5)
    assert built["RandomResize"].shape_list == [(300, 400), (400, 300)]
    assert dict(cfg.INPUT.AUGMENTATIONS)["RandomResize"]["interp"] == "bicubic"


NOTED = [
    (("torch.optim.SGD", "torch.optim.Adam"), "optimizer: torch.optim.Adam is not one of"),
    (("  momentum: 0.9\n", "  momentum: 0.9\n  dampening: 0.1\n"), "optimizer.dampening: is 0.1"),
    (("weight_decay_norm: 0.0}", "weight_decay_norm: 0.0, overrides: {a: {lr: 1}}}"), "optimizer.params.overrides: a mapping has no counterpart"),
    (("weight_decay_norm: 0.0}", "weight_decay_norm: 0.0, lr_factor_func: !!python/name:os.system ''}"), "lr_factor_func: os.system has no counterpart"),
    (("  train:\n    _target_", "  other: {_target_: os.system}\n  train:\n    _target_"), "dataloader.other: is not used"),
    (("    num_workers: 4\n  train:", "    collate_fn: !!python/name:os.system ''\n  train:"), "dataloader.test.collate_fn: has no counterpart"),
    (("      num_classes: ${..num_classes}\n      test_score", "      num_classes: ${..num_classes}\n      get_fed_loss_cls_weights: !!python/name:None.%3Clambda%3E ''\n      test_score"), "get_fed_loss_cls_weights: None.<lambda> is not used"),
    (("values: [1.0, 0.1, 0.01]", "values: [1.0, 0.3, 0.01]"), "lr_multiplier.scheduler.values: is [1.0, 0.3, 0.01]"),
    (("RandomFlip, horizontal: true", "RandomFlip, mine: 0.3"), "dataloader.train.mapper.augmentations[1].mine: Detectron2's RandomFlip has no such"),
    (("RandomFlip, horizontal: true", "Resize, shape: [4, 4], interp: 9"), "dataloader.train.mapper.augmentations[1].interp: is 9"),
    (("transforms.RandomFlip, horizontal: true", "transforms.Mine"), "dataloader.train.mapper.augmentations[1]: detectron2.data.transforms.Mine is not one of"),
    (("max_size: 1333, short_edge_length: 800", "max_size: 1333, short_edge_length: [700, 800]"), "dataloader.test.mapper.augmentations: only ResizeShortestEdge to one size is supported"),
    (("detectron2.evaluation.COCOEvaluator", "mine.Evaluator"), "dataloader.evaluator: a mine.Evaluator has no counterpart"),
    (("  device: cuda\n", "  device: cuda\n  mine: 5\n"), "train.mine: 5 has no counterpart"),
    (("\ntrain:", "\nconstants: {a: 5}\ntrain:"), "constants: is not used"),
    (("\noptimizer:", "\nother:"), "optimizer: is missing; training would take the defaults"),
    (("/data/model_final.pth", "x.pth?other=True"), "train.init_checkpoint: ?other=True is left out"),
    (("      test_score_thresh: 0.2", "      loss_weight: 2.0\n      test_score_thresh: 0.2"), "box_predictor.loss_weight: loss_cls has the weight 1"),
    (("  train:\n    _target_: detectron2.data.build_detection_train_loader", "  train:\n    _target_: mine.loader"), "dataloader.train: mine.loader is not one of"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), NOTED, ids=range(len(NOTED)))
def test_noted(change, expected, tmp_path):
    """What only training needs is a note, not an error: one line each, and the rest of the section is kept."""
    text = changed(NAME, change)
    if "mine.loader" in change[1]:
        text = text.replace("image_format: ${...train.mapper.image_format}", "image_format: BGR")
    cfg, notes = of_text(tmp_path, text)
    assert any(expected in note for note in notes), notes
    assert len(notes) <= 2
    assert not any("\n" in note for note in notes)
    if "optim" not in expected:
        assert cfg.SOLVER.BASE_LR == 0.02
    if "train.mapper" in expected:
        assert cfg.SOLVER.IMS_PER_BATCH == 4


@pytest.mark.parametrize("value", ["[]", "5", "{a: 1}", "!!python/name:os.system ''", "null"])
def test_values_of_another_type(value, tmp_path):
    """They are named, here or by training; prediction does not need them."""
    for argument in ("horizontal", "prob"):
        flip = FLIP.replace("horizontal: true", f"{argument}: {value}")
        cfg, notes = of_text(tmp_path, changed(NAME, (AUGMENTATIONS, RESIZE + flip)))
        if value.startswith(("{", "!")):
            assert f"augmentations[1].{argument}: is " in notes[0]
        elif value != "null":
            with pytest.raises(InputError, match=rf"RandomFlip: {argument}: "):
                build_augmentation(cfg)


def test_samplers(tmp_path):
    sampler = """
    sampler:
      _target_: detectron2.data.samplers.RepeatFactorTrainingSampler
      repeat_factors: {_target_: detectron2.data.samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency, dataset_dicts: '${dataloader.train.dataset}', repeat_thresh: 0.001}
    total_batch_size: 4"""
    cfg, notes = of_text(tmp_path, changed(NAME, ("\n    total_batch_size: 4", sampler)))
    assert notes == []
    loader = cfg.DATALOADER
    assert (loader.SAMPLER_TRAIN, loader.REPEAT_THRESHOLD) == ("RepeatFactorTrainingSampler", 0.001)
    name = "detectron2.data.samplers.RandomSubsetTrainingSampler"
    sampler = f"\n    sampler: {{_target_: {name}, subset_ratio: 0.5}}\n    total_batch_size: 4"
    cfg, notes = of_text(tmp_path, changed(NAME, ("\n    total_batch_size: 4", sampler)))
    assert notes == []
    loader = cfg.DATALOADER
    assert (name.rpartition(".")[2], 0.5) == (loader.SAMPLER_TRAIN, loader.RANDOM_SUBSET_RATIO)
