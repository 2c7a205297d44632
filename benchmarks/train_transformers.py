"""Peak memory of the process in training steps of ViTDet, compared with Detectron2's.

ViTDet-B Mask R-CNN on one image of random pixels with two objects, 512 square, AdamW with layer
decay, in float32; once as it is, once with activation checkpointing. Both libraries have the same
seeded random weights, and a learning rate of next to nothing. Detectron2's configuration is that of
its projects/: TFDETECT_DETECTRON2 names a checkout.

    python benchmarks/train_transformers.py [ROW ...] [--reference PYTHON]
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import lazy_models
import numpy as np
from harness import ROOT, Row, Side, main

CONFIG = "ViTDet/COCO/mask_rcnn_vitdet_b_100ep"
SIDE = 512
BOXES = [[51.0, 51.0, 256.0, 307.0], [154.0, 102.0, 461.0, 410.0]]
CLASSES = [1, 2]
RATE = 1e-9


def _image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, [SIDE, SIDE, 3], np.uint8)


def _polygons() -> list[list[float]]:
    return [[x1, y1, x2, y1, x2, y2, x1, y2] for x1, y1, x2, y2 in BOXES]


def _checked(loss: float) -> None:
    if not math.isfinite(loss):
        sys.exit("a loss is not finite")


def _ours(checkpointing: bool) -> Side:
    """What train.py's loop does with a batch, without its data."""
    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    keep_freed_memory()
    import tensorflow as tf
    from seeded_models import versions
    from seeded_weights import seeded_model

    from tfdetect.config import load_config
    from tfdetect.masks.polygon_rows import encode_polygons
    from tfdetect.training.trainable import trainable_variables
    from tfdetect.training.trainer import Trainer

    options = {
        "MODEL.BACKBONE.SQUARE_PAD": SIDE,
        "MODEL.VIT.USE_ACT_CHECKPOINT": checkpointing,
        "INPUT.MAX_SIZE_TEST": SIDE,
        "SOLVER.AMP.ENABLED": False,
        "SOLVER.BASE_LR": RATE,
        "SOLVER.IMS_PER_BATCH": 1,
    }
    words = [word for pair in options.items() for word in pair]
    cfg = load_config(ROOT / "configs" / f"{CONFIG}.yaml", words)
    tf.config.experimental.enable_op_determinism()
    model = seeded_model(cfg)
    batch = {
        "image": _image(),
        "image_size": np.array([SIDE, SIDE], np.int32),
        "gt_boxes": np.array(BOXES, np.float32),
        "gt_classes": np.array(CLASSES, np.int32),
        "gt_valid": np.ones([len(BOXES)], bool),
        "gt_polygons": encode_polygons([[np.array(polygon)] for polygon in _polygons()]),
    }
    batch = {name: tf.constant(array)[None] for name, array in batch.items()}
    spec = {
        name: tf.TensorSpec([1, *[None] * (v.shape.rank - 1)], v.dtype) for name, v in batch.items()
    }
    for name in ("image", "image_size", "gt_boxes", "gt_polygons"):
        spec[name] = tf.TensorSpec(
            [*spec[name].shape[:-1], batch[name].shape[-1]], batch[name].dtype
        )
    parameters = [named.variable for named in trainable_variables(model, cfg)]
    trainer = Trainer(cfg, model, parameters, spec, seed=0)
    iterations = iter(range(10**6))
    return Side(versions(), lambda: _checked(sum(trainer(batch, next(iterations)).values())))


def _detectron2(checkpointing: bool) -> Side:
    import torch

    def change(cfg: Any) -> None:
        cfg.model.backbone.square_pad = SIDE
        cfg.model.backbone.net.use_act_checkpoint = checkpointing
        cfg.optimizer.lr = RATE

    cfg, model = lazy_models.build(CONFIG, change)
    from detectron2.config import instantiate
    from detectron2.structures import Boxes, Instances, PolygonMasks
    from detectron2.utils.events import EventStorage
    from seeded_models import detectron2_versions

    model.train()
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    objects = Instances((SIDE, SIDE))
    objects.gt_boxes = Boxes(torch.tensor(BOXES))
    objects.gt_classes = torch.tensor(CLASSES)
    objects.gt_masks = PolygonMasks([[polygon] for polygon in _polygons()])
    pixels = torch.from_numpy(_image().transpose(2, 0, 1).copy())
    batch = [{"image": pixels, "instances": objects, "height": SIDE, "width": SIDE}]

    def run() -> None:
        with EventStorage():
            total = sum(model(batch).values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            _checked(float(total.detach()))

    return Side(detectron2_versions(), run)


def _row(name: str, title: str, checkpointing: bool) -> Row:
    # Memory only grows, so that the last of several steps says it.
    return Row(
        name,
        f"peak memory of the process, three training steps of ViTDet-B, 512 square{title}",
        1.0,
        functools.partial(_ours, checkpointing),
        "Detectron2",
        functools.partial(_detectron2, checkpointing),
        needs=("torch", "detectron2", "timm"),
        measure="peak_mb",
        unit="MB",
        runs=1,
        warm_up=2,
    )


ROWS = [
    _row("train_vitdet_b_memory", "", False),
    _row("train_vitdet_b_memory_checkpointing", ", activation checkpointing", True),
]

if __name__ == "__main__":
    main(ROWS)
