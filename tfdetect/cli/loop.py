"""What `tfdetect predict` goes through: image files, and the proposals that belong to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfdetect.data.images import read_image
from tfdetect.data.proposal_files import read_proposals
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.inference.batches import predict_in_batches, read_each

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
    indices: Iterable[int],
    proposals: Sequence[np.ndarray] | None,
    batch_size: int,
    skip: Callable[[int, InputError], None],
) -> Iterator[tuple[int, np.ndarray, Detections]]:
    """Yield (index, image, detections) of the images `files[index]`; see `read_each` for `skip`."""
    return predict_in_batches(
        predictor,
        read_each(indices, lambda index: read_image(files[index]), skip),
        batch_size=batch_size,
        proposals=None if proposals is None else proposals.__getitem__,
    )
