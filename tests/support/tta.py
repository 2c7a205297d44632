"""Runs of test-time augmentation that Detectron2 recorded, and the same by predict.py."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import tfdetect.cli.predict
from benchmarks.seeded_weights import seeded_model
from tests.support.paths import DATA, DEMO
from tfdetect.checkpoint.model_dir import save_model
from tfdetect.config import load_config

TTA = DATA / "tta"
MODELS = ("mask_rcnn", "cascade_seeded")
RUNS = [
    f"flip{flip}_{start}_batch{batch}"
    for flip in (0, 1)
    for start in ("resized", "original")
    for batch in (1, 3)
]
# What a pair of detections is, in the record's README.
CLOSE = {"iou": 0.99, "score": 1e-4}


def options(run: str) -> list:
    """KEY VALUE ... of a run such as "flip1_resized_batch3", whose batches --padding makes."""
    opts = ["MODEL.KEYPOINT_ON", False, "TEST.AUG.ENABLED", True]
    opts += ["TEST.AUG.MIN_SIZES", (160, 192, 224), "TEST.AUG.MAX_SIZE", 320]
    opts += ["TEST.AUG.FLIP", run.startswith("flip1")]
    return opts + ["INPUT.MIN_SIZE_TEST", 0] * ("original" in run)


def recorded(name: str, run: str) -> list[dict]:
    """Detectron2's records of a run, an image each."""
    return json.loads(gzip.decompress((TTA / f"{name}.json.gz").read_bytes()))[run]


def save_cascade(folder: Path) -> None:
    """Write the model `cascade_seeded` to a new model directory."""
    cfg = load_config(TTA / "cascade_seeded.yaml")
    names = [f"class {index}" for index in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)]
    save_model(folder, cfg, seeded_model(cfg), {"class_names": names})


def predicted(model: Path, name: str, run: str, folder: Path) -> list[dict]:
    """The records that predict.py writes of the run's images, two at a time.

    Args:
        model: a model directory.
        name, run: of the record.
        folder: for the file.
    """
    command = ["--model", str(model), "--json", str(folder / "found.json")]
    command += ["--padding", "own" if run.endswith("batch1") else "detectron2"]
    command += ["--batch-size", "2", "--opts", *map(str, options(run)), "--input"]
    command += [str(DEMO / "images" / image["file_name"]) for image in recorded(name, run)]
    assert tfdetect.cli.predict.main(command) == 0
    return json.loads((folder / "found.json").read_text())
