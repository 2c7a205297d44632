"""A training on as much as COCO: 118,000 images, 860,000 instances with polygons.

Annotations are made up; the images are links to a few files. From the command to the first step
done, the largest process, and how many images a second one core prepares, beside Detectron2's
`DatasetMapper` on the same files with the same augmentation.

    python benchmarks/coco_size.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import seeded_models
from harness import ROOT, Row, Side, main, python

IMAGES, INSTANCES, FILES, CLASSES = 118_000, 860_000, 40, 80
SIZE = (480, 640)
"""Height and width of each image."""
POINTS = 25
"""Of a polygon, as many as COCO's have on average."""
PREPARED = 200
"""Images of a run of the data pipeline."""
CONFIG = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"


def write_coco(folder: Path, images: int = IMAGES, instances: int = INSTANCES) -> None:
    """annotations.json, and images/ with links to FILES images; the same every time."""
    import cv2
    import numpy as np

    random = np.random.default_rng(0)
    height, width = SIZE
    (folder / "images").mkdir(parents=True)
    for number in range(FILES):
        coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.jpg"), picture)
    names = [f"{number:012d}.jpg" for number in range(images)]
    for number, name in enumerate(names):
        (folder / "images" / name).symlink_to(folder / f"{number % FILES}.jpg")
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    with (folder / "annotations.json").open("w") as file:
        sides = {"height": height, "width": width}
        entries = [{"id": n, "file_name": name, **sides} for n, name in enumerate(names)]
        classes = [{"id": n + 1, "name": f"class {n}"} for n in range(CLASSES)]
        head = json.dumps({"images": entries, "categories": classes})
        file.write(head[:-1] + ', "annotations": [')
        for first in range(0, instances, 10_000):
            count = min(10_000, instances - first)
            radius = np.exp(random.uniform(1.5, 5, (count, 1, 1)))
            wobble = random.uniform(0.6, 1.2, (count, POINTS, 1))
            center = random.uniform([40, 40], [width - 40, height - 40], (count, 1, 2))
            outlines = (center + radius * wobble * circle).clip(0, [width, height]).round(2)
            low, high = outlines.min(1), outlines.max(1)
            boxes = np.concatenate([low, high - low], 1).round(2)
            areas = (boxes[:, 2] * boxes[:, 3]).round(2)
            of_image = random.integers(0, images, count).tolist()
            of_class = random.integers(1, CLASSES + 1, count).tolist()
            for index in range(count):
                entry = {
                    "id": first + index + 1,
                    "image_id": of_image[index],
                    "category_id": of_class[index],
                    "iscrowd": 0,
                    "bbox": boxes[index].tolist(),
                    "area": float(areas[index]),
                    "segmentation": [outlines[index].ravel().tolist()],
                }
                file.write((", " if first + index else "") + json.dumps(entry))
        file.write("]}")


def _ours() -> Side:
    """The command, up to its first step: a small model, whose memory and tracing are little."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    write_coco(root)
    words = ["--config-file", ROOT / "demo" / "train.yaml", "--register", "coco_size"]
    words += [root / "annotations.json", root / "images", "DATASETS.TRAIN", "('coco_size',)"]
    words += ["DATASETS.TEST", "()", "MODEL.ROI_HEADS.NUM_CLASSES", CLASSES, "MODEL.DEVICE", "cpu"]
    words += ["MODEL.KEYPOINT_ON", "False", "SOLVER.LOG_PERIOD", "1", "DATALOADER.NUM_WORKERS", "2"]
    command = [python("ours"), str(ROOT / "train.py"), *map(str, words)]
    runs = itertools.count()

    def run() -> dict[str, float]:
        assert folder is not None  # it is there as long as this function is
        output = root / f"run{next(runs)}"
        start, largest = time.perf_counter(), 0.0
        process = subprocess.Popen(
            [*command, "OUTPUT_DIR", str(output)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while not _has_line(output / "metrics.json"):
                assert process.poll() is None, "the training has ended"
                largest = max([largest, *_peaks_mb(process.pid)])
                time.sleep(0.2)
            seconds = time.perf_counter() - start
            time.sleep(2)
            largest = max([largest, *_peaks_mb(process.pid)])
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return {"seconds": seconds, "peak_mb": largest}

    return Side(seeded_models.versions(), run)


def _has_line(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _peaks_mb(session: int) -> Iterator[float]:
    """The most memory that each process of a session has had."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, IndexError):
            if os.getsid(int(status.parent.name)) == session:
                peak = status.read_text().split("VmHWM:")[1].split()[0]
                yield int(peak) / 1024


def _pipeline() -> Side:
    """What one process does for a batch: reading, augmenting, polygons, in turns over images.

    With malloc as `tfdetect train` sets it for itself and the processes that it starts.
    """
    folder, root = _small()
    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    keep_freed_memory()
    from tfdetect.config import load_config
    from tfdetect.data.registry import register_coco_dataset
    from tfdetect.data.training.input import training_dataset

    register_coco_dataset("coco_pipeline", root / "annotations.json", root / "images")
    opts: list[Any] = ["DATASETS.TRAIN", "('coco_pipeline',)", "SOLVER.IMS_PER_BATCH", 1]
    opts += ["DATALOADER.NUM_WORKERS", 0, "DATALOADER.ASPECT_RATIO_GROUPING", False]
    cfg = load_config(ROOT / "configs" / f"{CONFIG}.yaml", opts)
    batches = iter(training_dataset(cfg, seed=0))

    def run() -> dict[str, float]:
        assert folder is not None
        start = time.process_time()
        for _ in range(PREPARED):
            next(batches)
        return {"seconds": (time.process_time() - start) / PREPARED}

    def limit(seconds: float) -> str:
        """What neither library can leave out: Pillow decodes."""
        from PIL import Image

        paths = sorted((root / "images").iterdir())[:50]
        start = time.process_time()
        for path in paths:
            Image.open(path).load()
        pillow = (time.process_time() - start) / len(paths)
        return f"Pillow's decoding takes {pillow * 1e3:.1f} ms of {seconds * 1e3:.1f} ms"

    return Side(seeded_models.versions(), run, limit)


def _detectron2() -> Side:
    folder, root = _small()
    import cv2
    import torch
    from detectron2 import model_zoo
    from detectron2.data import DatasetMapper
    from detectron2.data.datasets import load_coco_json

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    records = load_coco_json(str(root / "annotations.json"), str(root / "images"))
    records = [record for record in records if record["annotations"]]
    mapper = DatasetMapper(model_zoo.get_config(f"{CONFIG}.yaml"), is_train=True)
    waiting = itertools.cycle(records)

    def run() -> dict[str, float]:
        assert folder is not None
        start = time.process_time()
        for record in itertools.islice(waiting, PREPARED):
            mapper(record)
        return {"seconds": (time.process_time() - start) / PREPARED}

    return Side(seeded_models.detectron2_versions(), run)


def _small() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """400 images with as many instances each as COCO's."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name) / "coco"
    write_coco(root, 400, 400 * INSTANCES // IMAGES)
    return folder, root


def _row(name: str, title: str, goal: float, measure: str, unit: str) -> Row:
    title = f"{title}, training on {IMAGES} images with {INSTANCES} polygons, small model"
    return Row(name, title, goal, _ours, measure=measure, unit=unit, runs=1, warm_up=0)


ROWS = [
    _row("coco_start", "from the command to the first step", 60.0, "seconds", "s"),
    _row("coco_memory", "peak memory of the largest process", 2048.0, "peak_mb", "MB"),
    Row(
        "coco_pipeline",
        "processor time to prepare an image of 480 x 640 with its polygons, Mask R-CNN R50-FPN",
        0.67,
        _pipeline,
        "Detectron2",
        _detectron2,
        needs=("torch", "detectron2"),
        runs=4,
        warm_up=1,
    ),
]

if __name__ == "__main__":
    main(ROWS)
