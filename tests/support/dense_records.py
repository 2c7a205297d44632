"""Detectron2's records of RetinaNet and FCOS: twenty training steps, stages and detections."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.seeded_weights import seeded_model
from tests.support.comparison import Differences, compare
from tests.support.paths import DATA, DEMO
from tests.support.recorded_steps import Steps, load_recorded_config, take_steps
from tests.support.training_variants import arrays_of
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.inference.optimization import optimize
from tfdetect.inference.pipeline import Pipeline
from tfdetect.ops.backend import Backend

FOLDER = DATA / "dense_training"
# Detectron2 has FCOS in Python configurations only: here in keys, on top of its record's YAML.
OPTIONS = {
    "retinanet": {},
    "fcos": {
        "MODEL.META_ARCHITECTURE": "FCOS",
        "MODEL.BACKBONE.NAME": "build_fcos_resnet_fpn_backbone",
        "MODEL.FCOS.NUM_CLASSES": 4,
    },
}
IMAGES = ("000002.jpg", "000003.jpg")


@cache
def read(kind, name):
    """The record "steps" or "inference" of "retinanet" or "fcos"."""
    with gzip.open(FOLDER / f"{kind}_{name}.json.gz", "rt", encoding="utf-8") as file:
        content = json.load(file)
    if kind == "inference":
        content = [image | {"file_name": IMAGES[image["file_index"]]} for image in content]
    return content


@cache
def stages(name):
    """Arrays of the first image, and of the two as a batch for training."""
    with np.load(FOLDER / f"stages_{name}.npz") as arrays:
        return dict(arrays)


@cache
def pictures():
    """The images, BGR."""
    return [read_image(DEMO / "images" / name) for name in IMAGES]


def configuration(name, *more):
    """Of inference."""
    return load_config(FOLDER / f"{name}.yaml", [*_options(name), *more])


def training_configuration(name):
    """The same with the data of the record."""
    return load_recorded_config(FOLDER / f"{name}.yaml", read("steps", name), _options(name))


def _options(name):
    return [item for pair in OPTIONS[name].items() for item in pair]


class Run(NamedTuple):
    """Twenty steps: what was seen of them, the model then, and its arrays before."""

    steps: Steps
    model: tf.Module
    initial: dict[str, np.ndarray]


def run_steps(name) -> Run:
    """As the record has them."""
    cfg, recorded = training_configuration(name), read("steps", name)
    model = seeded_model(cfg)
    initial = arrays_of(model)
    steps = take_steps(cfg, model, recorded["image_files"], len(recorded["losses"]))
    return Run(steps, model, initial)


def make_pipeline(cfg, model) -> Pipeline:
    """As predict.py has it."""
    backend = Backend.for_device()
    return Pipeline(cfg, optimize(model, backend), backend)


def detect(pipeline, *, batched=False):
    """Records of the images as predict.py writes them, of each alone or of both as one batch."""
    sizes = np.array([picture.shape[:2] for picture in pictures()], np.int32)
    if batched:
        batch = np.zeros([len(sizes), *sizes.max(0), 3], np.uint8)
        for slot, picture in zip(batch, pictures(), strict=True):
            slot[: picture.shape[0], : picture.shape[1]] = picture
        found = pipeline.detect(batch, sizes)
        every = [{key: values[index] for key, values in found.items()} for index in range(2)]
    else:
        every = []
        for picture, size in zip(pictures(), sizes, strict=True):
            found = pipeline.detect(picture[None], size[None])
            every.append({key: values[0] for key, values in found.items()})
    records = []
    for name, (height, width), found in zip(IMAGES, sizes.tolist(), every, strict=True):
        count = int(found["num_detections"])
        record = {
            key: found[key][:count].numpy() for key in ("pred_boxes", "scores", "pred_classes")
        }
        records.append({"file_name": name, "height": height, "width": width, **record})
    return records


def compare_detections(name, found) -> Differences:
    """Records of `detect` with those of Detectron2. Some boxes are 4 x 0.2 pixels: hence the IoU.

    Of RetinaNet's first image, the 100th and the 101st detection have the same float32 score in
    Detectron2, which sorts them by `torch.sort`: its order of equal scores is arbitrary. So a
    detection counts if its score is above that of the last one that TEST.DETECTIONS_PER_IMAGE
    leaves room for, by two steps of float32.
    """
    recorded = read("inference", name)
    total = Differences()
    for ours, expected in zip(found, recorded, strict=True):
        full = len(expected["scores"]) == 100
        least = expected["scores"][-1] + 2**-23 if full else 0.0
        one = compare([ours], [expected], iou=0.9, score=1e-4, least_score=least)
        total.expected += one.expected
        total.matched += one.matched
        total.extra += one.extra
        total.score = max(total.score, one.score)
        total.box = max(total.box, one.box)
    return total
