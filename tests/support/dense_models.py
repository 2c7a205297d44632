"""The dense models of the zoo, narrow and with seeded weights."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks import seeded_weights
from tests.support.intermediates import by_name, call_with_intermediates
from tests.support.paths import ROOT
from tfdetect.config import load_config
from tfdetect.modeling.preprocess import Preprocessor

CONFIGS = {
    "retinanet": "COCO-Detection/retinanet_R_50_FPN_1x",
    "fcos": "COCO-Detection/fcos_R_50_FPN_1x",
    "semantic": "Misc/semantic_R_50_FPN_1x",
    "panoptic": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
}
NARROW = {
    # Not deep, which is not the point: tracing takes most of the time.
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 7,
    "MODEL.ROI_HEADS.NUM_CLASSES": 5,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.RETINANET.NUM_CLASSES": 5,
    "MODEL.FCOS.NUM_CLASSES": 5,
    "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.3,
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": 20,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 50,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 30,
    "TEST.DETECTIONS_PER_IMAGE": 20,
    "INPUT.MIN_SIZE_TEST": 96,
    "INPUT.MAX_SIZE_TEST": 160,
}


def make(name, **changes):
    """The configuration and the model; `changes` are keys with __ for the dots."""
    options = NARROW | {key.replace("__", "."): value for key, value in changes.items()}
    cfg = load_config(
        ROOT / "configs" / f"{CONFIGS[name]}.yaml",
        [str(item) for pair in options.items() for item in pair],
    )
    return cfg, seeded_weights.seeded_model(cfg)


def two_images():
    """A batch of two images of different sizes, and these sizes."""
    rng = np.random.default_rng(0)
    sizes = np.array([[60, 80], [90, 50]], np.int32)
    images = np.zeros([2, *sizes.max(0), 3], np.uint8)
    for slot, (height, width) in zip(images, sizes, strict=True):
        slot[:height, :width] = rng.integers(0, 256, [height, width, 3])
    return images, sizes


def network(cfg, model, dtype=tf.float32):
    """A function of images and sizes: what the model gives, and its intermediates."""
    preprocess = Preprocessor.from_config(cfg, model.size_divisibility)

    @tf.function(autograph=False)
    def call(images, sizes):
        batch, resized = preprocess(images, sizes)
        predictions, found = call_with_intermediates(model, tf.cast(batch, dtype), resized)
        return by_name(predictions), found

    return lambda images, sizes: call(tf.constant(images), tf.constant(sizes))
