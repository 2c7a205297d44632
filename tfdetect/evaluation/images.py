"""The image files of a data set."""

from __future__ import annotations

from pathlib import Path

from tfdetect.data.image_files import image_path, missing_files
from tfdetect.evaluation.dataset import EvaluationDataset


def missing_images(dataset: EvaluationDataset, folder: Path) -> list[int]:
    """The indices of the images that have no file in `folder`, without reading any of them."""
    paths = [image_path(folder, name) for name in dataset.file_names]
    missing = set(missing_files(paths))
    return [index for index, path in enumerate(paths) if path in missing]
