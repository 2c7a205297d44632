"""What the tests of batch runs share: a predictor that needs no network, and reading results."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfdetect.checkpoint.description import read_description
from tfdetect.config.capabilities import capabilities
from tfdetect.detections import Detections


class QuickPredictor:
    """Finds one object of class 1 in each image, whose score says how wide the image is.

    Attributes:
        widths: of the images that it was given.
        failing: what is raised for an image of a width.
    """

    def __init__(self, model_dir):
        self.cfg, metadata = read_description(model_dir)
        self.capabilities = capabilities(self.cfg)
        self.class_names = metadata["class_names"]
        self.stuff_class_names: list[str] = []
        self.keypoint_names = metadata["keypoint_names"]
        self.widths: list[int] = []
        self.failing: dict[int, BaseException] = {}

    def predict_batch(self, images):
        for image in images:
            if image.shape[1] in self.failing:
                raise self.failing[image.shape[1]]
        self.widths += [image.shape[1] for image in images]
        return [_one_object(*image.shape[:2]) for image in images]


def _one_object(height: int, width: int) -> Detections:
    masks = np.zeros([1, height, width], bool)
    masks[0, :, : width // 2] = True
    return Detections(
        height,
        width,
        np.array([[0, 0, width / 2, height]], np.float32),
        np.array([width / 1000], np.float32),
        np.array([1]),
        masks,
        np.full([1, 17, 3], 0.5, np.float32),
    )


def read_rows(folder: Path) -> list[dict]:
    """Every row of a run, in the order of the images; none of them is missing or there twice."""
    import pyarrow.parquet as pq

    paths = sorted(Path(folder).glob("part-*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    assert [row["image_index"] for row in rows] == list(range(len(rows)))
    return rows
