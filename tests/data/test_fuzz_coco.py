"""Whatever a COCO file holds, evaluation and training either work or say one line what is wrong."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shutil
import time
import warnings

import numpy as np
import pytest
from pycocotools import mask as mask_codec

from tests.support.coco_mutations import IMAGES, mutate, small_file
from tests.support.paths import DATA, DEMO
from tfdetect.config import load_config
from tfdetect.data import registry
from tfdetect.data.training.augmentation import build_augmentation
from tfdetect.data.training.batching import aspect_ratio_groups
from tfdetect.data.training.dataflow import BatchSource, run_batches
from tfdetect.data.training.mapper import TrainingMapper
from tfdetect.data.training.records import flip_indices, training_metadata, training_records
from tfdetect.data.training.sampler import TrainingSampler
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.predict import missing_images
from tfdetect.evaluation.registry import open_for_model

MUTATIONS = 500
LONGEST = 5.0
"""Seconds for one file; each takes some hundredths."""

NAMES = {"class_names": ["person", "circle", "square", "triangle"]}
OPTIONS = ["DATASETS.TRAIN", "('fuzzed',)", "SOLVER.IMS_PER_BATCH", "2"]
OPTIONS += ["INPUT.MIN_SIZE_TRAIN", "(64,)", "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With annotations.json, which is registered as `fuzzed`, and images."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "images").mkdir()
    root = small_file()
    for image in root["images"]:
        shutil.copy(DEMO / "images" / image["file_name"], folder / "images")
    (folder / "annotations.json").write_text(json.dumps(root))
    registry.register_coco_dataset("fuzzed", folder / "annotations.json", folder / "images")
    return folder


@pytest.fixture(scope="module")
def detections():
    """What Detectron2 found in these images."""
    records = json.loads((DATA / "tiny" / "joint_rcnn.json").read_text())[:IMAGES]
    return [
        Detections(
            record["height"],
            record["width"],
            np.array(record["pred_boxes"], np.float32),
            np.array(record["scores"], np.float32),
            np.array(record["pred_classes"]),
            np.array([mask_codec.decode(rle) for rle in record["pred_masks"]], bool),
            np.array(record["pred_keypoints"], np.float32),
        )
        for record in records
    ]


def evaluate(cfg, folder, detections):
    """What predict.py --evaluate does, with detections that are there already; the metrics."""
    dataset = open_for_model(folder / "annotations.json", cfg, NAMES)
    missing = missing_images(dataset, folder / "images")
    results, measured = [], []
    for index, name in enumerate(dataset.file_names):
        image = next((i for i in range(IMAGES) if name.endswith(f"{i:06}.jpg")), None)
        if index in missing or image is None:
            continue
        found = detections[image]
        with contextlib.suppress(InputError):  # of the wrong size: named, counted and skipped
            dataset.check_size(index, found.height, found.width)
            results += dataset.to_results(index, found)
            measured.append(index)
    metrics = dataset.evaluate(results, measured) if dataset.has_ground_truth else {}
    dataset.format_table(metrics)
    json.dumps(results)
    return metrics


def first_batch(cfg):
    records = training_records(cfg)
    source = BatchSource(
        records=records,
        sampler=TrainingSampler(len(records), 0),
        groups=aspect_ratio_groups([(r.height, r.width) for r in records]),
        augmentors=build_augmentation(cfg),
        mapper=TrainingMapper("BGR", "polygon", False, flip_indices(training_metadata(cfg))),
        batch_size=2,
        seed=0,
        shard=(0, 1),
        skips=cfg.DATALOADER.ON_ERROR == "skip",
    )
    (batch,) = itertools.islice(run_batches(source, 0, 0), 1)
    return batch.arrays


def outcome(work, *arguments):
    """What `work` returns, or the line that it says; both within time."""
    started = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = work(*arguments)
    except InputError as error:
        result = str(error)
        assert "\n" not in result.strip()
        assert 10 < len(result) < 1000
    assert time.monotonic() - started < LONGEST
    return result


@pytest.fixture(scope="module")
def configs():
    """Of training that stops at what is broken, and that skips it."""
    return [
        load_config(
            DEMO / "joint_rcnn" / "config.yaml", [*OPTIONS, "DATALOADER.ON_ERROR", on_error]
        )
        for on_error in ("stop", "skip")
    ]


@pytest.mark.parametrize("part", range(10))
def test_in_process(folder, detections, configs, part, capfd):
    root = small_file()
    size = MUTATIONS // 10
    for seed in range(part * size, (part + 1) * size):
        (folder / "annotations.json").write_bytes(mutate(root, seed))
        try:
            metrics = outcome(evaluate, configs[0], folder, detections)
            if not isinstance(metrics, str):
                values = [value for task in metrics.values() for value in task.values()]
                assert all(math.isnan(value) or 0 <= value <= 100 for value in values)
            for cfg in configs:
                batch = outcome(first_batch, cfg)
                if not isinstance(batch, str):
                    assert all(np.isfinite(array).all() for array in batch.values())
        except Exception as error:
            raise AssertionError(
                f"seed {seed}: {folder / 'annotations.json'}: {error!r}"
            ) from error
    assert capfd.readouterr() == ("", "")
