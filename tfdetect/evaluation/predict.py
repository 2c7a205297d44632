"""The images of a data set: which of them are missing, and what a model finds in the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfdetect.data.image_files import image_path, missing_files
from tfdetect.data.images import read_image
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset
from tfdetect.inference.batches import predict_in_batches, read_each

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor


def missing_images(dataset: EvaluationDataset, folder: Path) -> list[int]:
    """The indices of the images that have no file in `folder`, without reading any of them."""
    paths = [image_path(folder, name) for name in dataset.file_names]
    missing = set(missing_files(paths))
    return [index for index, path in enumerate(paths) if path in missing]


def predict_dataset(
    predictor: Predictor,
    dataset: EvaluationDataset,
    folder: Path,
    indices: Sequence[int],
    skip: Callable[[int, InputError], None],
    *,
    batch_size: int = 1,
    proposals: Sequence[np.ndarray] | None = None,
) -> Iterator[tuple[int, Detections]]:
    """Yield (index into the data set's images, detections).

    Args:
        predictor: the model.
        dataset: names the images.
        folder: where they are.
        indices: of the images to predict.
        skip: gets the index and the error of an image that cannot be read, or is not as large as
            the annotations say; it may raise it.
        batch_size: images that go through the network together.
        proposals: of every image of the data set, for a model that needs them.
    """

    def read(index: int) -> np.ndarray:
        image = read_image(image_path(folder, dataset.file_names[index]))
        dataset.check_size(index, *image.shape[:2])
        return image

    for index, _, detections in predict_in_batches(
        predictor,
        read_each(indices, read, skip),
        batch_size=batch_size,
        proposals=None if proposals is None else proposals.__getitem__,
    ):
        yield index, detections
