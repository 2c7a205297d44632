"""Batches are planned as Detectron2 groups them, and padding is told apart."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from tfdetect.data.training.batching import aspect_ratio_groups, collate, plan_batches
from tfdetect.data.training.mapper import Example
from tfdetect.data.training.sampler import TrainingSampler
from tfdetect.masks.polygon_rows import decode_polygons


def test_groups_are_detectron2s():
    """Square goes with high."""
    assert aspect_ratio_groups([(2, 3), (3, 2), (2, 2)]) == [0, 1, 1]


def test_batches_are_of_one_group_and_use_every_image_once():
    groups = [0] * 13 + [1] * 7
    batches = list(itertools.islice(plan_batches(TrainingSampler(20, 5), groups, 4), 50))
    for batch in batches:
        assert len({groups[sample.record] for sample in batch}) == 1
        assert [sample.position for sample in batch] == sorted(sample.position for sample in batch)
    stream = list(itertools.islice(TrainingSampler(20, 5), 220))
    samples = [sample for batch in batches for sample in batch]
    assert all(stream[sample.position] == sample.record for sample in samples)
    positions = sorted(sample.position for sample in samples)
    assert len(set(positions)) == 200
    # What is missing still waits in a group: less than a batch in each.
    assert positions[-1] - 199 <= 2 * 3


def test_without_groups_the_stream_is_cut():
    batches = list(itertools.islice(plan_batches(TrainingSampler(10, 5), [0] * 10, 4), 5))
    assert [sample.position for batch in batches for sample in batch] == list(range(20))


def example(height, width, count, fill=1):
    return Example(
        image=np.full((height, width, 3), fill, np.uint8),
        boxes=np.full((count, 4), fill, np.float32),
        classes=np.full(count, fill, np.int32),
        polygons=[[np.arange(6.0), np.arange(8.0)] for _ in range(count)],
        bitmasks=np.ones((count, height, width), dtype=bool),
        keypoints=np.full((count, 17, 3), fill, np.float32),
    )


def test_padding():
    batch = collate([example(4, 6, 2), example(5, 3, 0), example(1, 1, 1, 7)], [9, 8, 7], (0, 0), 0)
    shapes = {key: value.shape for key, value in batch.items()}
    assert shapes == {
        "record": (3,),
        "image": (3, 5, 6, 3),
        "image_size": (3, 2),
        "gt_boxes": (3, 2, 4),
        "gt_classes": (3, 2),
        "gt_valid": (3, 2),
        "gt_polygons": (3, 14, 4),
        "gt_bitmasks": (3, 2, 5, 6),
        "gt_keypoints": (3, 2, 17, 3),
    }
    assert batch["record"].tolist() == [9, 8, 7]
    assert batch["image_size"].tolist() == [[4, 6], [5, 3], [1, 1]]
    assert batch["gt_valid"].tolist() == [[True, True], [False, False], [True, False]]
    assert batch["gt_boxes"][2].tolist() == [[7] * 4, [0] * 4]
    assert batch["image"][2].sum() == 21
    assert batch["gt_bitmasks"].sum(axis=(1, 2, 3)).tolist() == [48, 0, 1]
    assert [len(decode_polygons(rows)) for rows in batch["gt_polygons"]] == [2, 0, 1]


def test_padding_to_more_than_the_examples_need():
    batch = collate([example(4, 6, 2)], [0], (8, 9), 5)
    assert batch["image"].shape == (1, 8, 9, 3)
    assert batch["gt_boxes"].shape == (1, 5, 4)
    # Gathering from it must be possible even if no image has an object.
    empty = collate([example(4, 6, 0)], [0], (0, 0), 0)
    assert empty["gt_boxes"].shape == (1, 1, 4)
    assert empty["gt_polygons"].tolist() == [[[-1, 0, 0, 0]]]


def test_proposals_are_padded_and_counted():
    examples = [
        dataclasses.replace(example(4, 6, 1), proposals=np.full((count, 4), 3, np.float32))
        for count in (2, 0)
    ]
    batch = collate(examples, [0, 1], (0, 0), 0, num_proposals=5)
    assert batch["num_proposals"].tolist() == [2, 0]
    assert batch["proposal_boxes"].shape == (2, 5, 4)
    assert batch["proposal_boxes"].sum(axis=(1, 2)).tolist() == [24, 0]
    assert collate(examples[1:], [0], (0, 0), 0)["proposal_boxes"].shape == (1, 1, 4)
