"""Training data as a `tf.data.Dataset`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.data.training.augmentation import build_augmentation, crops
from tfdetect.data.training.batching import aspect_ratio_groups
from tfdetect.data.training.dataflow import BatchSource, run_batches
from tfdetect.data.training.mapper import TrainingMapper
from tfdetect.data.training.record import BrokenData
from tfdetect.data.training.records import (
    flip_indices,
    label_range,
    training_metadata,
    training_records,
)
from tfdetect.data.training.repeat_factors import build_sampler
from tfdetect.errors import InputError
from tfdetect.ops.kernels.image_resize import native_image_resize


def training_dataset(
    cfg: CfgNode, *, seed: int, start_batch: int = 0, shard: tuple[int, int] = (0, 1)
) -> tf.data.Dataset:
    """The batches that training goes through, without end.

    Batch n depends on the configuration, the seed, n and the data only: not on where the run
    began, nor on DATALOADER.NUM_WORKERS, the number of processes that prepare batches. Processes
    start with the first batch of an iterator and end with it.

    Batches are ready before they are asked for. `prefetch` would add little but a thread of
    TensorFlow that calls Python, for which a program that ends while the iterator is alive (on an
    error, say) waits forever.

    Args:
        cfg: INPUT, DATASETS.TRAIN, DATALOADER and SOLVER.IMS_PER_BATCH, and MODEL's settings for
            masks and keypoints.
        seed: not negative.
        start_batch: the first batch; a run that has completed n continues with n.
        shard: (k, n) gives the k-th of n equal parts of every batch, padded as the whole batch:
            what worker k of n computes of it.

    Returns:
        Dictionaries. B is SOLVER.IMS_PER_BATCH / n, and static; H, W, G and P differ from batch
        to batch. Boxes, polygons and keypoints are in pixels of the augmented image.

        - record: int64 [B], index of the image in `training_records(cfg)`.
        - image: uint8 [B, H, W, 3] in the channel order of INPUT.FORMAT, in the top left corner
          of zeros; H and W are the largest of the batch, not rounded up to anything.
        - image_size: int32 [B, 2], (height, width) of each image.
        - gt_boxes: float32 [B, G, 4] XYXY; [B, G, 5] of a model of rotated boxes, (x centre, y
          centre, width, height, angle in degrees).
        - gt_classes: int32 [B, G].
        - gt_valid: bool [B, G], false for padding, which comes last; an image may have none.
        - gt_polygons: float64 [B, P, 4], rows for `tfdetect.modeling.mask_targets`; with masks in
          polygon format.
        - gt_bitmasks: bool [B, G, H, W]; with masks in bitmask format.
        - gt_keypoints: float32 [B, G, N, 3] of x, y and visibility; with keypoints.
        - gt_sem_seg: uint8 or int32 [B, H, W] (see `LabelRange.dtype`), the class of each pixel,
          MODEL.SEM_SEG_HEAD.IGNORE_VALUE for padding; with a semantic head.
        - proposal_boxes: float32 [B, P, 4] XYXY, the best first, and num_proposals: int32 [B], how
          many of them are not padding; for a model that takes proposals.

    Raises:
        InputError: the configuration or the annotations cannot be used. What goes wrong later, in
            iteration, `input_errors` turns into the same.
    """
    batch_size = cfg.SOLVER.IMS_PER_BATCH
    if batch_size < 1 or batch_size % shard[1]:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH: {batch_size} is not a multiple of {shard[1]}, the number of "
            "parts"
        )
    if cfg.DATALOADER.NUM_WORKERS < 0:
        raise InputError("DATALOADER.NUM_WORKERS: is negative, give 0 or more")
    records = training_records(cfg)
    sizes = [(record.height, record.width) for record in records]
    grouping = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    mask_format = cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else None
    keypoints = cfg.MODEL.KEYPOINT_ON
    broken = BrokenData(cfg.DATALOADER.ON_ERROR)
    augmentors = build_augmentation(cfg)
    source = BatchSource(
        records=records,
        sampler=build_sampler(cfg, records, seed),
        groups=aspect_ratio_groups(sizes) if grouping else [0] * len(records),
        augmentors=augmentors,
        mapper=TrainingMapper(
            image_format=_image_format(cfg),
            mask_format=mask_format,
            recompute_boxes=(
                mask_format is not None and cfg.INPUT.RECOMPUTE_BOXES and crops(augmentors)
            ),
            keypoint_flip_indices=flip_indices(training_metadata(cfg)) if keypoints else None,
            labels=label_range(cfg),
            proposal_topk=cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN,
            rotated=capabilities(cfg).rotated,
            # Here, and not in each of the processes that are forked from this one.
            resize=native_image_resize(),
        ),
        batch_size=batch_size,
        seed=seed,
        shard=shard,
        skips=broken.skips,
    )

    def generate() -> Iterator[dict[str, np.ndarray]]:
        with contextlib.closing(
            run_batches(source, start_batch, cfg.DATALOADER.NUM_WORKERS)
        ) as batches:
            for batch in batches:
                for message in batch.skipped:
                    broken(InputError(message))
                yield batch.arrays

    dataset = tf.data.Dataset.from_generator(
        generate, output_signature=_signature(cfg, batch_size // shard[1])
    )
    options = tf.data.Options()
    # `shard` says what is whose: a distribution strategy should not divide it again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # Nor should TensorFlow prefetch of its own accord: see above.
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Raise as an `InputError` what was one before it went through TensorFlow.

    For `with input_errors(): batch = next(iterator)`. Other errors pass unchanged.
    """
    try:
        yield
    except tf.errors.OpError as error:
        match = re.search(r"InputError: (.*)", error.message or "")
        if match is None:
            raise
        raise InputError(match[1]) from error


def _image_format(cfg: CfgNode) -> str:
    if cfg.INPUT.FORMAT not in ("BGR", "RGB"):
        raise InputError(f"INPUT.FORMAT: {cfg.INPUT.FORMAT!r} is not supported; use BGR or RGB")
    return cfg.INPUT.FORMAT


def _signature(cfg: CfgNode, size: int) -> dict[str, tf.TensorSpec]:
    signature = {
        "record": tf.TensorSpec([size], tf.int64),
        "image": tf.TensorSpec([size, None, None, 3], tf.uint8),
        "image_size": tf.TensorSpec([size, 2], tf.int32),
        "gt_boxes": tf.TensorSpec([size, None, capabilities(cfg).box_dim], tf.float32),
        "gt_classes": tf.TensorSpec([size, None], tf.int32),
        "gt_valid": tf.TensorSpec([size, None], tf.bool),
    }
    if cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon":
        signature["gt_polygons"] = tf.TensorSpec([size, None, 4], tf.float64)
    if cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "bitmask":
        signature["gt_bitmasks"] = tf.TensorSpec([size, None, None, None], tf.bool)
    if cfg.MODEL.KEYPOINT_ON:
        keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
        signature["gt_keypoints"] = tf.TensorSpec([size, None, keypoints, 3], tf.float32)
    labels = label_range(cfg)
    if labels is not None:
        signature["gt_sem_seg"] = tf.TensorSpec([size, None, None], labels.dtype)
    if capabilities(cfg).takes_proposals:
        signature["proposal_boxes"] = tf.TensorSpec([size, None, 4], tf.float32)
        signature["num_proposals"] = tf.TensorSpec([size], tf.int32)
    return signature
