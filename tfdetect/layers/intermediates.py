"""Tensors within a model, by name: for tests and for looking into a model, never needed by it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

import tensorflow as tf

_collected: ContextVar[dict[str, tf.Tensor] | None] = ContextVar("intermediates", default=None)


@contextlib.contextmanager
def collect_intermediates() -> Iterator[dict[str, tf.Tensor]]:
    """The intermediates of the models that are called within it, which are added to the dictionary.

    >>> with collect_intermediates() as found:
    ...     predictions = model(images, image_sizes)
    >>> found["p2"], found["proposals"]

    In a `tf.function` open it inside the function, and return what is needed: the tensors are of
    the graph that is being made.
    """
    found: dict[str, tf.Tensor] = {}
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def add_intermediates(tensors: Mapping[str, tf.Tensor]) -> None:
    """Give tensors to anyone who collects them; nothing happens where nobody does."""
    found = _collected.get()
    if found is not None:
        found.update(tensors)
