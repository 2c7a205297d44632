"""What `tfdetect predict` goes through: image files, and the proposals that belong to them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfdetect.data.images import read_image
from tfdetect.data.proposal_files import read_proposals
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.inference.batches import predict_in_batches

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
    """Yield (index into `files`, image, detections); report unreadable files and continue.

    Raises:
        InputError: none of the files can be read.
    """
    errors: list[InputError] = []

    def skip(index: int, error: InputError) -> None:
        unread.append(files[index])
        errors.append(error)
        if len(files) > 1:
            print(f"error: {error}", file=sys.stderr)

    yield from predict_in_batches(
        predictor,
        range(len(files)),
        lambda index: read_image(files[index]),
        skip,
        batch_size=batch_size,
        proposals=proposals,
    )
    if files and len(unread) == len(files):
        raise errors[0] if len(files) == 1 else InputError(f"none of {len(files)} files is usable")
