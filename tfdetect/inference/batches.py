"""The loop that predicts images, one batch after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfdetect.detections import Detections
from tfdetect.errors import InputError

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor


def predict_in_batches(
    predictor: Predictor,
    indices: Sequence[int],
    read: Callable[[int], np.ndarray],
    skip: Callable[[int, InputError], None],
    *,
    batch_size: int = 1,
    proposals: Sequence[np.ndarray] | None = None,
) -> Iterator[tuple[int, np.ndarray, Detections]]:
    """Yield (index, image, detections) of every image that can be read.

    Args:
        predictor: the model.
        indices: of the images.
        read: gives the image of an index, uint8 [H, W, 3] BGR, or raises InputError.
        skip: gets the index and the error of an image that cannot be read; it may raise it.
        batch_size: images that go through the network together.
        proposals: by index, for a model that needs them.
    """
    batch: list[tuple[int, np.ndarray]] = []
    for number, index in enumerate(indices, start=1):
        try:
            batch.append((index, read(index)))
        except InputError as error:
            skip(index, error)
        if batch and (len(batch) == batch_size or number == len(indices)):
            given = None if proposals is None else [proposals[position] for position, _ in batch]
            found = predictor.predict_batch([image for _, image in batch], given)
            for (position, image), detections in zip(batch, found, strict=True):
                yield position, image, detections
            batch = []
