"""Time per training step, images per second and the share spent on data, of two models.

Mask R-CNN R50-FPN at full size, and the tiny joint model of demo/train.yaml, on shapes that are
drawn for it into a temporary folder. The weights are seeded random ones, so that nothing is
downloaded, and the learning rate is next to nothing, so that every step has as much to do as the
first. Each model runs in a process of its own, after the other; Detectron2, where it is installed,
does the same steps after that.

    python benchmarks/train.py [--models full tiny] [--steps 5] [--batch 1] [--short-edge 800]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

CONFIGS = {
    "full": ROOT / "configs" / "COCO-InstanceSegmentation" / "mask_rcnn_R_50_FPN_1x.yaml",
    "tiny": ROOT / "demo" / "train.yaml",
}
DATASET = "shapes_benchmark"
IMAGES = 64
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--steps", type=int, default=5, help="timed steps (default 5)")
    parser.add_argument("--batch", type=int, default=1, help="images of `full` (default 1)")
    parser.add_argument("--short-edge", type=int, default=800, help="of `full` (default 800)")
    parser.add_argument("--child", nargs=3, metavar=("LIBRARY", "MODEL", "DATA"))
    args = parser.parse_args()
    if args.child:
        library, name, data = args.child
        opts = _options(name, args.batch, args.short_edge)
        print(json.dumps(LIBRARIES[library](CONFIGS[name], opts, Path(data), args.steps)))
        return
    libraries = list(LIBRARIES)
    if importlib.util.find_spec("detectron2") is None:
        libraries.remove("detectron2")
    print(f"{os.cpu_count()} CPUs ({platform.processor() or platform.machine()}), float32;")
    print(f"medians of {args.steps} steps after {WARM_UP}")
    print(
        f"{'model':<6}{'images':>7} {'library':<12}{'s/step':>8}{'images/s':>10}{'data':>7}", end=""
    )
    print(f"{'first s':>9}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as data:
        _draw(Path(data))
        for name in args.models:
            for library in libraries:
                _report(name, library, _measure([library, name, data], sys.argv[1:]))
    if "detectron2" not in libraries:
        print("Detectron2: skipped, it is not installed")


def _options(name: str, batch: int, short_edge: int) -> list[Any]:
    """KEY VALUE ..., of Detectron2's schema."""
    opts = ["DATASETS.TRAIN", (DATASET,), "SOLVER.BASE_LR", 1e-9, "MODEL.WEIGHTS", ""]
    opts += ["DATALOADER.NUM_WORKERS", 2]
    if name == "full":
        longest = round(short_edge * 1333 / 800)
        opts += ["SOLVER.IMS_PER_BATCH", batch]
        opts += ["INPUT.MIN_SIZE_TRAIN", (short_edge,), "INPUT.MAX_SIZE_TRAIN", longest]
    return opts


def _draw(folder: Path) -> None:
    from tfdetect.data.shapes import write_shapes

    write_shapes(folder, IMAGES, 1)


def _measure(child: list[str], arguments: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, *arguments, "--child", *child], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit("the benchmark's process has failed; its error is above")
    return json.loads(done.stdout.splitlines()[-1])


def _report(name: str, library: str, report: dict[str, Any]) -> None:
    seconds = statistics.median(report["seconds"])
    share = sum(report["data_seconds"]) / sum(report["seconds"])
    print(
        f"{name:<6}{report['images']:>7} {library:<12}{seconds:>8.2f}"
        f"{report['images'] / seconds:>10.2f}{share:>7.1%}{report['first']:>9.1f}"
        f"{report['peak_mb']:>9.0f}   {report['version']}",
        flush=True,
    )


def _tfdetect(config: Path, opts: list[Any], data: Path, steps: int) -> dict[str, Any]:
    """What train.py's loop does, without its files."""
    from tfdetect.quiet import import_tensorflow

    import_tensorflow()
    import tensorflow as tf
    from seeded_weights import seeded_model

    from tfdetect.config import load_config
    from tfdetect.data.registry import register_coco
    from tfdetect.data.training.input import training_dataset
    from tfdetect.engine.trainer import Trainer
    from tfdetect.modeling.trainable import trainable_variables

    cfg = load_config(config, opts)
    register_coco(DATASET, data / "annotations.json", data / "images")
    if not tf.config.list_logical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    model = seeded_model(cfg)
    parameters = [named.variable for named in trainable_variables(model, cfg)]
    dataset = training_dataset(cfg, seed=1)
    trainer = Trainer(cfg, model, parameters, dataset.element_spec, seed=1)
    iterations = iter(range(WARM_UP + steps))

    def step(batch: Any) -> float:
        return sum(trainer(batch, next(iterations)).values())

    version = f"TensorFlow {tf.__version__}"
    return _time(iter(dataset), step, steps, cfg.SOLVER.IMS_PER_BATCH, version)


def _detectron2(config: Path, opts: list[Any], data: Path, steps: int) -> dict[str, Any]:
    import torch
    from detectron2 import __version__
    from detectron2.config import get_cfg
    from detectron2.data import build_detection_train_loader
    from detectron2.data.datasets import register_coco_instances
    from detectron2.modeling import build_model
    from detectron2.solver import build_optimizer
    from detectron2.utils.events import EventStorage
    from seeded_weights import state_dict

    cfg = get_cfg()
    cfg.merge_from_file(str(config))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.merge_from_list([*opts, "MODEL.DEVICE", device])
    register_coco_instances(DATASET, {}, str(data / "annotations.json"), str(data / "images"))
    model = build_model(cfg).train()
    arrays = state_dict({name: value.shape for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    optimizer = build_optimizer(cfg, model)

    def step(batch: Any) -> float:
        total = sum(model(batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return float(total)

    version = f"Detectron2 {__version__}, PyTorch {torch.__version__}"
    with EventStorage():
        batches = iter(build_detection_train_loader(cfg))
        return _time(batches, step, steps, cfg.SOLVER.IMS_PER_BATCH, version)


LIBRARIES = {"tfdetect": _tfdetect, "detectron2": _detectron2}


def _time(
    batches: Iterator[Any], step: Callable[[Any], float], steps: int, images: int, version: str
) -> dict[str, Any]:
    seconds, data_seconds = [], []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        batch = next(batches)
        data_seconds.append(time.perf_counter() - began)
        if not math.isfinite(step(batch)):
            sys.exit("a loss is not finite")
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "first": seconds[0],
        "seconds": seconds[WARM_UP:],
        "data_seconds": data_seconds[WARM_UP:],
        "images": images,
        "peak_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
        "version": version,
    }


if __name__ == "__main__":
    main()
