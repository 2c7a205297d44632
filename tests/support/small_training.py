"""Narrow models, and batches for them of random pixels with two or three objects, and stuff."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tests.support.paths import ROOT
from tfdetect.config import load_config
from tfdetect.masks.polygon_rows import encode_polygons
from tfdetect.modeling.build import build_model
from tfdetect.modeling.structures import Targets
from tfdetect.training.initialization import initialize
from tfdetect.training.trainable import trainable_variables

CLASSES = 5
STUFF = 4
HEIGHT, WIDTH = 64, 96
NARROW = {
    "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]],
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 32,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 32,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_HEADS.NUM_CLASSES": CLASSES,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [32],
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 3,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": STUFF,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 40,
}
MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
KEYPOINT_RCNN = "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x"
NARROW_REGNET = {
    "MODEL.REGNETS.STEM_WIDTH": 8,
    "MODEL.REGNETS.W_0": 8,
    "MODEL.REGNETS.W_A": 4.0,
    "MODEL.REGNETS.GROUP_WIDTH": 8,
    "MODEL.REGNETS.DEPTH": 8,
    "MODEL.REGNETS.W_M": 1.7,
}
C4 = "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x"
C4_OPTIONS = {"MODEL.RESNETS.DEPTH": 50, "MODEL.ANCHOR_GENERATOR.SIZES": [[16, 32]]}
CASCADE = "Misc/cascade_mask_rcnn_R_50_FPN_1x"
RPN = "COCO-Detection/rpn_R_50_FPN_1x"


def configuration(name, options=()):
    values = {**NARROW, **dict(options)}
    return load_config(
        ROOT / "configs" / f"{name}.yaml", [item for pair in values.items() for item in pair]
    )


def small_model(name, options=(), seed=0):
    """A configuration, its model with initial weights, and what of it is trained."""
    cfg = configuration(name, options)
    model = build_model(cfg)
    initialize(model, cfg, seed)
    return cfg, model, trainable_variables(model, cfg)


def batch(objects=(3, 2), form="gt_polygons", seed=0, whole_pixels=False):
    """Images, sizes and targets; the i-th image has so many objects, some keypoints unlabelled."""
    random = np.random.default_rng(seed)
    count = len(objects)
    most = max(1, *objects)
    corners = random.uniform(0, [WIDTH / 2, HEIGHT / 2], (count, most, 2))
    sides = random.uniform(12, 32, (count, most, 2))
    boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    if whole_pixels:
        boxes = np.round(boxes)
    valid = np.arange(most) < np.array(objects)[:, None]
    keypoints = np.concatenate(
        [
            corners[:, :, None] + random.uniform(0, 1, (count, most, 3, 2)) * sides[:, :, None],
            random.integers(0, 3, (count, most, 3, 1)),
        ],
        -1,
    )
    keypoints[..., 0, 2] = 2
    polygons = [
        encode_polygons(
            [[np.array([x1, y1, x2, y1, x2, y2, x1, y2])] for x1, y1, x2, y2 in found[:number]]
        )
        for found, number in zip(boxes, objects, strict=True)
    ]
    rows = np.full((count, max(1, *map(len, polygons)), 4), -1.0)
    for target, found in zip(rows, polygons, strict=True):
        target[: len(found)] = found
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    x1, y1, x2, y2 = np.moveaxis(boxes[..., None, None], 2, 0)
    masks = {
        "gt_polygons": rows,
        "gt_bitmasks": (x >= x1) & (x < x2) & (y >= y1) & (y < y2) & valid[..., None, None],
    }
    targets = {
        "gt_boxes": boxes * valid[..., None],
        "gt_classes": (random.integers(0, CLASSES, valid.shape) * valid).astype(np.int32),
        "gt_valid": valid,
        "gt_keypoints": (keypoints * valid[..., None, None]).astype(np.float32),
        form: masks[form],
        # In blocks; where nothing else is, a part is ignored.
        "gt_sem_seg": _stuff(random, count),
    }
    images = random.normal(0, 50, (count, HEIGHT, WIDTH, 3)).astype(np.float32)
    sizes = np.full((count, 2), (HEIGHT, WIDTH), np.int32)
    return (
        tf.constant(images),
        tf.constant(sizes),
        Targets(**{name: tf.constant(array) for name, array in targets.items()}),
    )


def _stuff(random, count):
    labels = random.integers(0, STUFF + 1, (count, HEIGHT // 8, WIDTH // 8))
    labels = np.where(labels == STUFF, 255, labels).astype(np.uint8)
    return labels.repeat(8, 1).repeat(8, 2)


def losses_and_gradients(model, named, data, seed=(0, 0)):
    """The losses by name as floats, and the gradients of their sum by the variables' names."""
    with tf.GradientTape() as tape:
        losses = model.losses(*data, tf.constant(seed))
        total = tf.add_n(list(losses.values()))
    gradients = tape.gradient(total, [n.variable for n in named])
    found = {n.name: g for n, g in zip(named, gradients, strict=True)}
    return {name: float(loss) for name, loss in losses.items()}, found
