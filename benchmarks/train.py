"""Time of a training step, including data loading, and its memory, compared with Detectron2's.

Mask R-CNN R50-FPN on one image with its short edge at 800, three models whose convolutions
TensorFlow cannot differentiate on a CPU (grouped: ResNeXt and RegNet; dilated: DC5) on one with its
short edge at 480, and the tiny joint model of demo/train.yaml on eight small ones; the images are
shapes, drawn for it into output/. Both
libraries have the same seeded random weights, and a learning rate of next to nothing, so that every
step has as much to do as the first. Detectron2's step is that of its `SimpleTrainer`.

    python benchmarks/train.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import ROOT, Result, Row, Side, main

DATA = ROOT / "output" / "performance" / "shapes"
DATASET = "shapes_benchmark"
IMAGES = 64
# In which the processes that load the data make up for what a step has taken.
REFILL_SECONDS = 0.5
CONFIGS = {
    "train_mask_rcnn": "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "train_x101": "configs/COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml",
    "train_dc5": "configs/COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml",
    "train_regnet": "configs/Base-RCNN-FPN.yaml",
    "train_tiny": "demo/train.yaml",
}


def draw() -> None:
    """Write the images, and annotations.json of all and of the one with most objects."""
    from tfdetect.data.shapes import write_shapes

    write_shapes(DATA, IMAGES, 1)
    content = json.loads((DATA / "annotations.json").read_text())
    (DATA / "train_tiny.json").write_text(json.dumps(content))
    of_images = [annotation["image_id"] for annotation in content["annotations"]]
    chosen = statistics.mode(of_images)
    content["images"] = [image for image in content["images"] if image["id"] == chosen]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == chosen]
    # The step is the same for both libraries and every time, but for the flip.
    for name in CONFIGS:
        if name != "train_tiny":
            (DATA / f"{name}.json").write_text(json.dumps(content))


# RegNetX-4GF. Detectron2 builds RegNets in Python configurations alone, so its side registers a
# function for the YAML's.
REGNET = {"STEM_WIDTH": 32, "DEPTH": 23, "W_A": 38.65, "W_0": 96, "W_M": 2.43, "GROUP_WIDTH": 40}
REGNET_OUT = ("s1", "s2", "s3", "s4")


def _register_regnet() -> None:
    from detectron2.modeling import BACKBONE_REGISTRY
    from detectron2.modeling.backbone import FPN, RegNet
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    from detectron2.modeling.backbone.regnet import ResBottleneckBlock, SimpleStem

    def build_regnet_fpn_backbone(cfg: Any, input_shape: Any) -> Any:
        numbers = {key.lower(): value for key, value in REGNET.items()}
        bottom_up = RegNet(
            stem_class=SimpleStem,
            block_class=ResBottleneckBlock,
            norm="FrozenBN",
            out_features=REGNET_OUT,
            **numbers,
        )
        bottom_up.freeze(cfg.MODEL.BACKBONE.FREEZE_AT)
        return FPN(bottom_up, list(REGNET_OUT), 256, top_block=LastLevelMaxPool())

    BACKBONE_REGISTRY.register(build_regnet_fpn_backbone)


def _options(name: str) -> list[Any]:
    """KEY VALUE ..., of Detectron2's schema."""
    opts = ["DATASETS.TRAIN", (DATASET,), "SOLVER.BASE_LR", 1e-9, "MODEL.WEIGHTS", ""]
    opts += ["DATALOADER.NUM_WORKERS", 2]
    if name != "train_tiny":
        size = 800 if name == "train_mask_rcnn" else 480
        opts += ["SOLVER.IMS_PER_BATCH", 1, "INPUT.MIN_SIZE_TRAIN", (size,)]
    if name == "train_regnet":
        opts += ["MODEL.BACKBONE.NAME", "build_regnet_fpn_backbone"]
        opts += ["MODEL.FPN.IN_FEATURES", REGNET_OUT]
    return opts


def _ours(name: str) -> Side:
    """What train.py's loop does, without its files."""
    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    keep_freed_memory()
    import tensorflow as tf
    from seeded_models import versions
    from seeded_weights import seeded_model

    from tfdetect.config import load_config
    from tfdetect.data.registry import register_coco_dataset
    from tfdetect.data.training.input import training_dataset
    from tfdetect.training.devices import set_up_devices
    from tfdetect.training.trainable import trainable_variables
    from tfdetect.training.trainer import Trainer

    regnet = {"NORM": "FrozenBN", "OUT_FEATURES": REGNET_OUT, **REGNET}
    own = [word for key, value in regnet.items() for word in (f"MODEL.REGNETS.{key}", value)]
    cfg = load_config(
        ROOT / CONFIGS[name], _options(name) + (own if name == "train_regnet" else [])
    )
    set_up_devices(None, cfg.MODEL.DEVICE)
    register_coco_dataset(DATASET, DATA / f"{name}.json", DATA / "images")
    if not tf.config.list_logical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    model = seeded_model(cfg)
    parameters = [named.variable for named in trainable_variables(model, cfg)]
    dataset = training_dataset(cfg, seed=1)
    trainer = Trainer(cfg, model, parameters, dataset.element_spec, seed=1)
    iterations = iter(range(10**6))

    def step(batch: Any) -> float:
        return sum(trainer(batch, next(iterations)).values())

    return Side(versions(), _timed(iter(dataset), step))


def _detectron2(name: str) -> Side:
    import torch
    from detectron2.config import get_cfg
    from detectron2.data import MetadataCatalog, build_detection_train_loader
    from detectron2.data.datasets import register_coco_instances
    from detectron2.modeling import build_model
    from detectron2.solver import build_optimizer
    from detectron2.utils.events import EventStorage
    from seeded_models import detectron2_versions
    from seeded_weights import state_dict

    if name == "train_regnet":
        _register_regnet()
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / CONFIGS[name]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.merge_from_list([*_options(name), "MODEL.DEVICE", device])
    annotations = DATA / f"{name}.json"
    register_coco_instances(DATASET, {}, str(annotations), str(DATA / "images"))
    points = json.loads(annotations.read_text())["categories"][0]["keypoints"]
    flips = [(point, point.replace("left", "right")) for point in points if "left" in point]
    MetadataCatalog.get(DATASET).set(keypoint_names=points, keypoint_flip_map=flips)
    model = build_model(cfg).train()
    arrays = state_dict({name: value.shape for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    optimizer = build_optimizer(cfg, model)

    def step(batch: Any) -> float:
        with EventStorage():
            total = sum(model(batch).values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            return float(total.detach())

    return Side(detectron2_versions(), _timed(iter(build_detection_train_loader(cfg)), step))


def _timed(batches: Iterator[Any], step: Callable[[Any], float]) -> Callable[[], dict[str, float]]:
    first: list[float] = []

    def run() -> dict[str, float]:
        began = time.perf_counter()
        batch = next(batches)
        data_seconds = time.perf_counter() - began
        if not math.isfinite(step(batch)):
            sys.exit("a loss is not finite")
        seconds = time.perf_counter() - began
        first.append(seconds)
        time.sleep(REFILL_SECONDS)
        return {"seconds": seconds, "data_seconds": data_seconds, "first": first[0]}

    return run


def _row(name: str, title: str, goal: float, runs: int, warm_up: int) -> Row:
    return Row(
        name,
        title,
        goal,
        functools.partial(_ours, name),
        "Detectron2",
        functools.partial(_detectron2, name),
        needs=("torch", "detectron2"),
        unit="s",
        runs=runs,
        warm_up=warm_up,
    )


_R50 = "Mask R-CNN R50-FPN, one image"

ROWS = [
    _row("train_mask_rcnn", f"one training step, {_R50}", 0.4, 3, 1),
    # Memory only grows, so that the last of several steps says it.
    dataclasses.replace(
        _row(
            "train_mask_rcnn",
            f"peak memory of the process, three training steps of {_R50}",
            1.0,
            1,
            2,
        ),
        name="train_mask_rcnn_memory",
        measure="peak_mb",
        unit="MB",
    ),
    _row("train_x101", "one training step, Faster R-CNN X101-FPN (groups), 480 px", 0.8, 2, 1),
    _row("train_dc5", "one training step, Faster R-CNN R50-DC5 (dilation), 480 px", 0.8, 3, 1),
    _row(
        "train_regnet",
        "one training step, Faster R-CNN RegNetX-4GF-FPN (groups), 480 px",
        0.8,
        3,
        1,
    ),
    _row(
        "train_tiny", "one training step, tiny model of demo/train.yaml, eight images", 0.8, 15, 2
    ),
]


def _describe(result: Result) -> Iterator[str]:
    """What else the steps of each side tell."""
    for side, samples in result.samples.items():
        share = sum(s["data_seconds"] for s in samples) / sum(s["seconds"] for s in samples)
        yield (
            f"{result.name}, {side}: first step {samples[0]['first']:.1f} s, data {share:.1%} of "
            f"the time, peak {samples[-1]['peak_mb']:.0f} MB"
        )


if __name__ == "__main__":
    if "--child" not in sys.argv:
        draw()
    for result in main(ROWS):
        print(*_describe(result), sep="\n")
