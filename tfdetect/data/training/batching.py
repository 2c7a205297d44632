"""Batching: which images make up a batch, and how arrays of different sizes are stacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfdetect.data.training.mapper import Example
from tfdetect.data.training.sampler import Sampler
from tfdetect.masks.polygon_rows import encode_polygons


class Sample(NamedTuple):
    """One image of a batch.

    Attributes:
        position: its place in the sampler's stream, from 0; a position comes once at most.
        record: its index among the records.
    """

    position: int
    record: int


def plan_batches(
    sampler: Sampler, groups: Sequence[int], batch_size: int
) -> Iterator[tuple[Sample, ...]]:
    """Divide a sampler's stream into batches of images from the same group.

    A batch is complete when its group has images enough, whatever the others have (Detectron2:
    `AspectRatioGroupedDataset`).

    Args:
        sampler: an infinite stream of indices.
        groups: the group of each record; `aspect_ratio_groups` for instance.
        batch_size: how many images.
    """
    waiting: dict[int, list[Sample]] = {group: [] for group in set(groups)}
    for position, record in enumerate(sampler):
        bucket = waiting[groups[record]]
        bucket.append(Sample(position, record))
        if len(bucket) == batch_size:
            yield tuple(bucket)
            bucket.clear()


def aspect_ratio_groups(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """0 for a (height, width) that is wider than high, else 1: Detectron2's two groups."""
    return [0 if width > height else 1 for height, width in sizes]


def collate(
    examples: Sequence[Example],
    records: Sequence[int],
    image_size: tuple[int, int],
    num_objects: int,
    ignore_value: int = 0,
    num_proposals: int = 0,
) -> dict[str, np.ndarray]:
    """Make a batch of B examples; the keys are those of `training_dataset`.

    Args:
        examples: of one configuration.
        records: the index of each example's record.
        image_size: the least height and width to pad images to, in pixels.
        num_objects: the least number of objects to pad to.
        ignore_value: what classes of pixels are padded with.
        num_proposals: the least number of proposals to pad to, for examples that have them.
    """
    sizes = np.array([example.image.shape[:2] for example in examples], np.int32)
    height, width = np.maximum(sizes.max(axis=0), image_size)
    num_objects = max(num_objects, *(len(example.classes) for example in examples), 1)
    batch = {
        "record": np.array(records, np.int64),
        "image": _stack([example.image for example in examples], (height, width, 3)),
        "image_size": sizes,
        "gt_boxes": _stack(
            [example.boxes for example in examples], (num_objects, examples[0].boxes.shape[1])
        ),
        "gt_classes": _stack([example.classes for example in examples], (num_objects,)),
        "gt_valid": _stack(
            [np.ones(len(example.classes), dtype=bool) for example in examples], (num_objects,)
        ),
    }
    if examples[0].polygons is not None:
        rows = [encode_polygons(example.polygons or ()) for example in examples]
        padded = _stack(rows, (max(1, *(len(r) for r in rows)), 4))
        for image, found in zip(padded, rows, strict=True):
            image[len(found) :, 0] = -1
        batch["gt_polygons"] = padded
    bitmasks = [example.bitmasks for example in examples if example.bitmasks is not None]
    if bitmasks:
        batch["gt_bitmasks"] = _stack(bitmasks, (num_objects, height, width))
    keypoints = [example.keypoints for example in examples if example.keypoints is not None]
    if keypoints:
        batch["gt_keypoints"] = _stack(keypoints, (num_objects, *keypoints[0].shape[1:]))
    labels = [example.sem_seg for example in examples if example.sem_seg is not None]
    if labels:
        batch["gt_sem_seg"] = _stack(labels, (height, width), ignore_value)
    proposals = [example.proposals for example in examples if example.proposals is not None]
    if proposals:
        counts = np.array([len(boxes) for boxes in proposals], np.int32)
        batch["proposal_boxes"] = _stack(proposals, (max(num_proposals, int(np.max(counts)), 1), 4))
        batch["num_proposals"] = counts
    return batch


def _stack(arrays: Sequence[np.ndarray], shape: tuple[int, ...], filling: int = 0) -> np.ndarray:
    """The arrays, each in the leading corner of an array of `shape` that is else `filling`."""
    stacked = np.zeros((len(arrays), *shape), arrays[0].dtype)
    if filling != 0:
        stacked[:] = filling
    for target, array in zip(stacked, arrays, strict=True):
        target[tuple(slice(length) for length in array.shape)] = array
    return stacked
