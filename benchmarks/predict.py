"""Time and peak memory of one prediction: Mask R-CNN R50-FPN on an image of 800 x 1200.

The weights are seeded random ones, so that nothing is downloaded; they give 1000 proposals and 100
detections with masks, as many as a trained model can. Each implementation of the operators runs in
a process of its own, and the medians are over interleaved runs of the two.

    python benchmarks/predict.py [--config COCO-Detection/faster_rcnn_R_50_FPN_3x] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x")
    parser.add_argument("--runs", type=int, default=5, help="timed predictions of each (default 5)")
    parser.add_argument("--child", choices=["native", "portable"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _serve(args.config, args.child)
        return
    print(f"{args.config}, one image of 400 x 600 resized to 800 x 1200, float32")
    print(f"{os.cpu_count()} CPUs ({platform.processor() or platform.machine()})")
    children = {name: _start(args.config, name) for name in ("native", "portable")}
    reports = {name: _ask(child) for name, child in children.items()}  # loaded, first prediction
    times: dict[str, list[float]] = {name: [] for name in children}
    for _ in range(args.runs):
        for name, child in children.items():
            reports[name] |= _ask(child)
            times[name].append(reports[name]["seconds"])
    print(f"{'operators':<10} {'median s':>9} {'first s':>9} {'loaded MB':>10} {'peak MB':>9}")
    for name, child in children.items():
        child.stdin.close()
        report = reports[name]
        print(
            f"{name:<10} {statistics.median(times[name]):>9.2f} {report['first']:>9.2f} "
            f"{report['loaded_mb']:>10.0f} {report['peak_mb']:>9.0f}   "
            f"{report['detections']} detections, TensorFlow {report['tensorflow']}"
        )


def _start(config: str, operators: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, __file__, "--config", config, "--child", operators],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TFDETECT_OPS": operators},
    )


def _ask(child: subprocess.Popen) -> dict:
    child.stdin.write("\n")
    child.stdin.flush()
    line = child.stdout.readline()
    if not line:
        sys.exit("the benchmark's process has failed; its error is above")
    return json.loads(line)


def _serve(config: str, operators: str) -> None:
    """One prediction per line of standard input; what was measured, as JSON, on standard output."""
    from tfdetect.quiet import import_tensorflow

    import_tensorflow()
    import tensorflow as tf
    from seeded_weights import seeded_model

    from tfdetect.config import load_config
    from tfdetect.data.images import read_image
    from tfdetect.ops import kernels
    from tfdetect.ops.paste_masks import paste_masks
    from tfdetect.serving.pipeline import Pipeline

    with kernels.implementation(operators):
        cfg = load_config(ROOT / "configs" / f"{config}.yaml")
        model = seeded_model(cfg)
        pipeline = Pipeline(cfg, model)
        image = read_image(ROOT / "tests" / "data" / "full" / "coffee.png")
        size = tf.constant([image.shape[:2]])
        report = {"loaded_mb": _peak_mb(), "tensorflow": tf.__version__}
        for _ in sys.stdin:
            start = time.perf_counter()
            found = pipeline.detect(image[None], size)
            count = int(found["num_detections"][0])
            if "pred_masks" in found:
                boxes, masks = found["pred_boxes"][0, :count], found["pred_masks"][0, :count]
                paste_masks(masks, boxes, size[0]).numpy()
            report["seconds"] = time.perf_counter() - start
            report.setdefault("first", report["seconds"])
            report |= {"peak_mb": _peak_mb(), "detections": count}
            print(json.dumps(report), flush=True)


def _peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
