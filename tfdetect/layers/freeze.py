"""Frozen layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf


@contextlib.contextmanager
def untrainable(when: bool = True) -> Iterator[None]:
    """Variables created within this context, if `when`, are not trainable: no tape watches them."""

    def create(next_creator: Callable[..., tf.Variable], **options: Any) -> tf.Variable:
        return next_creator(**{**options, "trainable": False})

    with tf.variable_creator_scope(create) if when else contextlib.nullcontext():
        yield
