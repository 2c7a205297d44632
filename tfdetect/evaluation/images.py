"""The image files of a data set."""

from __future__ import annotations

import os
from pathlib import Path

from tfdetect.evaluation.dataset import EvaluationDataset


def missing_images(dataset: EvaluationDataset, folder: Path) -> list[int]:
    """The indices of the images that have no file in `folder`, without reading any of them."""
    return [
        index for index, name in enumerate(dataset.file_names) if not os.path.isfile(folder / name)
    ]
