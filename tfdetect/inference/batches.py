"""The loop that predicts images, one batch after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tfdetect.detections import Detections
from tfdetect.errors import InputError

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor

Key = TypeVar("Key")


def predict_in_batches(
    predictor: Predictor,
    images: Iterable[tuple[Key, np.ndarray]],
    *,
    batch_size: int = 1,
    proposals: Callable[[Key], np.ndarray] | None = None,
) -> Iterator[tuple[Key, np.ndarray, Detections]]:
    """Yield (key, image, detections) of each of the images.

    Args:
        predictor: the model.
        images: pairs of what identifies an image, and the image, uint8 [H, W, 3] BGR. They are
            taken as they are needed (`read_each`).
        batch_size: images that go through the network together.
        proposals: gives those of a key, for a model that needs them.
    """
    rest = iter(images)
    while batch := list(itertools.islice(rest, batch_size)):
        given = None if proposals is None else [proposals(key) for key, _ in batch]
        found = predictor.predict_batch([image for _, image in batch], given)
        for (key, image), detections in zip(batch, found, strict=True):
            yield key, image, detections
        # Large images are not in memory while the next ones are read.
        del batch, image, found, detections


def predict_each(
    predictor: Predictor, images: Sequence[np.ndarray]
) -> list[Detections | Exception]:
    """The detections or the error of each image of a batch.

    A batch that fails is predicted image by image.

    Args:
        predictor: the model.
        images: of each uint8 [H, W, 3] BGR.

    Returns:
        In the order of the images; errors are InputError, MemoryError and TensorFlow's OpError.
    """
    import tensorflow as tf

    try:
        return list(predictor.predict_batch(images))
    except (InputError, MemoryError, tf.errors.OpError) as error:
        if len(images) == 1:
            return [error]
        return [result for image in images for result in predict_each(predictor, [image])]


def read_each(
    keys: Iterable[Key], read: Callable[[Key], np.ndarray], skip: Callable[[Key, InputError], None]
) -> Iterator[tuple[Key, np.ndarray]]:
    """Yield (key, image) of every image that can be read.

    Args:
        keys: of the images.
        read: gives the image of a key, uint8 [H, W, 3] BGR, or raises InputError.
        skip: gets the key and the error of an image that cannot be read; it may raise it.
    """
    for key in keys:
        try:
            image = read(key)
        except InputError as error:
            skip(key, error)
        else:
            yield key, image
