"""The loop that predicts images, one batch after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfdetect.data.image_files import image_path
from tfdetect.data.images import read_image
from tfdetect.data.proposal_files import read_proposals
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor


def find_proposals(path: str | None, names: Sequence[Sequence[str]]) -> list[np.ndarray] | None:
    """The proposals of each image, which the file may have under any of the image's names."""
    if path is None:
        return None
    proposals = read_proposals(path)
    return [proposals.find(known_as) for known_as in names]


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    proposals: Sequence[np.ndarray] | None,
    batch_size: int,
    unread: list[Path],
) -> Iterator[tuple[int, np.ndarray, Detections]]:
    """Yield (index into `files`, image, detections); name what cannot be read and go on.

    Raises:
        InputError: none of the files can be read.
    """
    errors: list[InputError] = []

    def skip(index: int, error: InputError) -> None:
        unread.append(files[index])
        errors.append(error)
        if len(files) > 1:
            print(f"error: {error}", file=sys.stderr)

    yield from _predict(
        predictor,
        range(len(files)),
        lambda index: read_image(files[index]),
        proposals,
        batch_size,
        skip,
    )
    if files and len(unread) == len(files):
        raise errors[0] if len(files) == 1 else InputError(f"none of {len(files)} files is usable")


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

    for index, _, detections in _predict(predictor, indices, read, proposals, batch_size, skip):
        yield index, detections


def _predict(
    predictor: Predictor,
    indices: Sequence[int],
    read: Callable[[int], np.ndarray],
    proposals: Sequence[np.ndarray] | None,
    batch_size: int,
    skip: Callable[[int, InputError], None],
) -> Iterator[tuple[int, np.ndarray, Detections]]:
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
