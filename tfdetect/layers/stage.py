"""The parts of a prediction, whose operations bear their names in the graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

STAGES = (
    "preprocess",
    "backbone",
    "fpn",
    "rpn_head",
    "proposals",
    "box_head",
    "pooler",
    "detections",
    "mask_head",
    "keypoint_head",
    "decode_keypoints",
    "retinanet_head",
    "sem_seg_head",
    "postprocess",
    "paste_masks",
)
"""What `stage` takes; a stage within another one ("fpn" in "backbone") is a part of it."""


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """What is added to a graph within it is of the stage `name`, by which profiles are read.

    It decorates functions as well. The names of variables do not depend on it.

    Args:
        name: of `STAGES`.

    Raises:
        ValueError: there is no such stage.
    """
    if name not in STAGES:
        raise ValueError(f"{name!r} is none of {STAGES}")
    with tf.name_scope(name):
        yield
