"""Profile scopes: named parts of a prediction. Their names appear in the operations of the
graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

PROFILE_SCOPES = (
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
    "dense_head",
    "sem_seg_head",
    "postprocess",
    "paste_masks",
)
"""Names of profile scopes; a scope within another ("fpn" in "backbone") is a part of it."""


@contextlib.contextmanager
def profile_scope(name: str) -> Iterator[None]:
    """Operations added to a graph within this context are attributed to `name` in profiles.

    It decorates functions as well. The names of variables do not depend on it.

    Args:
        name: of `PROFILE_SCOPES`.

    Raises:
        ValueError: there is no such scope.
    """
    if name not in PROFILE_SCOPES:
        raise ValueError(f"{name!r} is not one of {PROFILE_SCOPES}")
    with tf.name_scope(name):
        yield
