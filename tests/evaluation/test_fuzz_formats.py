"""Whatever an LVIS or panoptic file holds, it is measured, or a line says what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings

import numpy as np

from tests.evaluation.test_open_dataset import ALL, _nothing
from tests.support import random_lvis, random_panoptic
from tests.support.coco_mutations import mutate
from tfdetect.errors import InputError
from tfdetect.evaluation.registry import open_dataset

MUTATIONS = 100


def check(measure, seed):
    message, metrics = "", {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            metrics = measure()
    except InputError as error:
        message = str(error)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
    assert "\n" not in message
    values = [value for task in metrics.values() for value in task.values()]
    assert all(math.isnan(value) or 0 <= value <= 100 for value in values)


def test_lvis(tmp_path):
    root, results = random_lvis.make(0)
    path = tmp_path / "lvis.json"

    def measure():
        dataset = open_dataset(path, ALL, [])
        known = {int(index) for index in dataset.image_ids}
        if not dataset.has_ground_truth:
            return {}
        return dataset.evaluate([r for r in results if r["image_id"] in known])

    for seed in range(MUTATIONS):
        path.write_bytes(mutate(root, seed))
        check(measure, seed)


def test_panoptic(tmp_path):
    predictions = random_panoptic.make(tmp_path, 0)
    path = tmp_path / "panoptic.json"
    root = json.loads(path.read_text())

    def measure():
        dataset = open_dataset(path, ALL, [])
        results = []
        for index, prediction in enumerate(predictions[: len(dataset.file_names)]):
            sem_seg = np.zeros_like(prediction.ids)
            nothing = _nothing(*sem_seg.shape)
            found = dataclasses.replace(nothing, sem_seg=sem_seg, panoptic=prediction)
            try:
                dataset.check_size(index, *sem_seg.shape)
            except InputError:
                continue
            results += dataset.to_results(index, found)
        return dataset.evaluate(results)

    for seed in range(MUTATIONS):
        path.write_bytes(mutate(root, seed))
        check(measure, seed)
