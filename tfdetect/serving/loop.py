"""The loop that predicts files, one batch after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convert_d2.proposals import read_proposals
from tfdetect.data.images import read_image
from tfdetect.detections import Detections
from tfdetect.errors import InputError

if TYPE_CHECKING:
    from tfdetect.serving.predictor import Predictor


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
    last_error = None
    batch: list[tuple[int, np.ndarray]] = []
    for index, path in enumerate(files):
        try:
            batch.append((index, read_image(path)))
        except InputError as error:
            unread.append(path)
            last_error = error
            if len(files) > 1:
                print(f"error: {error}", file=sys.stderr)
        if batch and (len(batch) == batch_size or index == len(files) - 1):
            given = None if proposals is None else [proposals[position] for position, _ in batch]
            found = predictor.predict_batch([image for _, image in batch], given)
            for (position, image), detections in zip(batch, found, strict=True):
                yield position, image, detections
            batch = []
    if last_error is not None and len(unread) == len(files):
        raise last_error if len(files) == 1 else InputError(f"none of {len(files)} files is usable")
