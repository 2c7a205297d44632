"""The table of the zoo's models, docs/zoo.md: what is published of each, and what is measured here.

Every architecture runs once at full size with seeded weights, in a process of its own, on an image
of 400 x 600 (resized to 800 x 1200 where the configuration says so). The differences to Detectron2
are those of docs/parity.md: run `make parity` first. What was measured is kept in output/zoo.json,
from which an interrupted run continues; delete it to measure again.

    python benchmarks/zoo.py docs/zoo.md
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from machine import processor

from tfdetect.config import load_config
from tfdetect.config.zoo import published_model
from tfdetect.files import write_text_atomically

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "output" / "zoo.json"

HEADER = """# Detectron2's model zoo

Written by `python benchmarks/zoo.py docs/zoo.md`; do not edit.

"Published" and the model id come from Detectron2's model zoo: AP on the configuration's data set;
those of PointRend, ViTDet and MViTv2 from these projects (mIoU of PointRend's semantic model).
`tfdetect convert --zoo CONFIGURATION` downloads and converts a model, and `tfdetect reproduce` evaluates it too
([weights.md](weights.md)).

"Difference" is measured here, at full size with seeded weights, against Detectron2's recorded
outputs ([parity.md](parity.md)): the largest difference in any intermediate tensor relative to its
scale (of ViT, Swin and MViT to its standard deviation), and the number of matched detections. Models without a value share their parts with models
that have one.
"Time" is for one 400 x 600 image after a warm-up, in CPU seconds (summed over all cores), which are
less sensitive to other load than wall time; it is measured once per architecture ({machine}).

| configuration | published | model id | file | parameters | difference | time (s) |
|---|---|---|---|---|---|---|
{rows}
"""


def main() -> None:
    if sys.argv[1] == "--child":
        print(json.dumps(_measure(sys.argv[2])))
        return
    differences = _read_differences(ROOT / "docs" / "parity.md")
    measured: dict[str, dict] = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    MEASURED.parent.mkdir(exist_ok=True)
    rows = []
    for config in sorted(_configurations()):
        key = _architecture(config)
        if key not in measured:
            measured[key] = _run_child(config)
            write_text_atomically(MEASURED, json.dumps(measured))
            print(f"{config}: {measured[key]}", file=sys.stderr, flush=True)
        published = published_model(config)
        ap, model_id, file = "-", "-", "-"
        if published is not None:
            ap = ", ".join(f"{name} {value:g}" for name, value in published.ap.items())
            model_id, file = published.model_id, published.file
        rows.append(
            f"| {config} | {ap} | {model_id} | {file} "
            f"| {measured[key]['parameters'] / 1e6:.1f} M | {differences.get(config, '-')} "
            f"| {measured[key]['seconds']:.1f} |"
        )
    machine = f"{measured[key]['machine']}, TensorFlow {measured[key]['tensorflow']}"
    write_text_atomically(sys.argv[1], HEADER.format(rows="\n".join(rows), machine=machine))


def _configurations() -> list[str]:
    paths = (ROOT / "configs").glob("*/**/*.yaml")
    names = [str(path.relative_to(ROOT / "configs"))[: -len(".yaml")] for path in paths]
    return [name for name in names if "/Base-" not in name]


def _architecture(config: str) -> str:
    """The same for configurations that differ only in their training."""
    cfg = load_config(ROOT / "configs" / f"{config}.yaml")
    model = json.loads(json.dumps(cfg.MODEL))
    for key in ("WEIGHTS", "DEVICE"):
        model.pop(key)
    for section, key in (
        ("BACKBONE", "FREEZE_AT"),
        ("RPN", "SMOOTH_L1_BETA"),
        ("RPN", "BBOX_REG_LOSS_TYPE"),
        ("RPN", "BBOX_REG_LOSS_WEIGHT"),
        ("RPN", "POST_NMS_TOPK_TRAIN"),
        ("ROI_BOX_HEAD", "SMOOTH_L1_BETA"),
        ("ROI_BOX_HEAD", "BBOX_REG_LOSS_TYPE"),
        ("ROI_BOX_HEAD", "BBOX_REG_LOSS_WEIGHT"),
    ):
        model[section].pop(key)
    return json.dumps([model, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST], sort_keys=True)


def _read_differences(path: Path) -> dict[str, str]:
    """From the table of full-size models: its largest stage difference and its detections."""
    rows = re.findall(r"^\| (\S+/\S+) \| (\S+) \(\S+\) \| (\d+ of \d+) \|", path.read_text(), re.M)
    return {config: f"{stages}, {matched}" for config, stages, matched in rows}


def _run_child(config: str) -> dict:
    command = [sys.executable, __file__, "--child", config]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def _measure(config: str) -> dict:
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    import numpy as np
    import tensorflow as tf
    from seeded_weights import seeded_model

    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.config.capabilities import capabilities
    from tfdetect.data.images import read_image
    from tfdetect.inference.optimization import optimize
    from tfdetect.inference.pipeline import Pipeline
    from tfdetect.ops.backend import Backend

    cfg = load_config(ROOT / "configs" / f"{config}.yaml")
    model = seeded_model(cfg)
    parameters = sum(v.shape.num_elements() for v in model.variables)
    backend = Backend.for_device()
    model = optimize(model, backend)  # as Predictor
    keep_freed_memory()
    pipeline = Pipeline(cfg, model, backend)
    image = read_image(ROOT / "tests" / "arrays" / "full" / "coffee.png")
    arguments = [tf.constant(image[None]), tf.constant([image.shape[:2]])]
    detect = pipeline.detect
    if capabilities(cfg).takes_proposals:
        corners = np.random.default_rng(0).uniform(0, 300, [1, 1000, 2])
        boxes = np.concatenate([corners, corners + 90], -1).astype(np.float32)
        arguments += [tf.constant(boxes), tf.constant([1000])]
    detect(*arguments)
    start = time.process_time()
    detect(*arguments)
    return {
        "seconds": time.process_time() - start,
        "parameters": parameters,
        "machine": processor(),
        "tensorflow": tf.__version__,
    }


if __name__ == "__main__":
    main()
