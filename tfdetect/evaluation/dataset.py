"""One interface to data sets in all formats: which images to predict on, and the metrics."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.detections import Detections
from tfdetect.errors import InputError

Metrics = dict[str, dict[str, float]]
"""By task, each metric in percent; NaN where it cannot be computed."""


class EvaluationDataset(ABC):
    """A data set to evaluate a model on, in one of the formats of Detectron2's model zoo.

    Everything that evaluation needs from the annotations is checked on construction.

    Attributes:
        form: the format's name.
        measures: the tasks that the format has ground truth for, by Detectron2's names.
        takes_rotated: whether it measures rotated boxes where the model's are.
        path: the annotations, for messages.
        tasks: those of `measures` that the model does and the annotations have ground truth for.
        file_names: of the images, below the folder of images; `index` below counts these.
        image_ids: of the images, as text.
        image_sizes: (height, width) of the images, in pixels.
        image_folder: where the images are, if the format says so, else None.
        has_ground_truth: False for a test set without annotations, which is only predicted.
        notes: lines for the user on how the model and the annotations fit together.
        broken_images: how many of the annotations' images were dropped because they are unusable.
        broken_annotations: how many annotations were.
    """

    form: ClassVar[str]
    measures: ClassVar[tuple[str, ...]]
    takes_rotated: ClassVar[bool] = False

    def __init__(
        self,
        path: Path,
        tasks: Collection[str],
        images: Sequence[Any],
        image_folder: Path | None = None,
    ):
        self.path = path
        self.tasks = [task for task in self.measures if task in tasks]
        self.file_names = tuple(image.file_name for image in images)
        self.image_ids = tuple(str(image.id) for image in images)
        self.image_sizes = tuple((image.height, image.width) for image in images)
        self.image_folder = image_folder
        self.has_ground_truth = True
        self.notes: list[str] = []
        self.broken_images = 0
        self.broken_annotations = 0
        if not images:
            raise InputError(f"{path}: lists no images")
        if not self.tasks:
            raise InputError(
                f"{path}: {self.form} annotations cover {', '.join(self.measures)}, but the model"
                f" predicts {', '.join(tasks)}: give annotations for these"
            )

    def check_size(self, index: int, height: int, width: int) -> None:
        """Raise an `InputError` if image `index` is not as large as the annotations say."""
        if (height, width) != self.image_sizes[index]:
            expected_height, expected_width = self.image_sizes[index]
            raise InputError(
                f"{self.file_names[index]}: has {width} x {height} pixels, in {self.path} it has"
                f" {expected_width} x {expected_height}: give the images that belong to it"
            )

    @abstractmethod
    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        """The model's results for image `index`, as records in the data set's format.

        Raises:
            InputError: the model has classes that the data set does not have.
        """

    @abstractmethod
    def count_annotations(self, measured: Sequence[int]) -> tuple[int, int]:
        """How many annotations are evaluated, and how many are ignored.

        Args:
            measured: the indices of the images that are measured.
        """

    @abstractmethod
    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        """The metrics of the tasks, from the records of all images.

        Args:
            results: of `to_results`.
            measured: the indices of the images to measure on, None for all; an image without a
                record counts as one without detections.

        Raises:
            InputError: the ground truth cannot be used.
        """

    @abstractmethod
    def format_table(self, metrics: Metrics) -> str:
        """What `evaluate` returned, in plain text."""

    @abstractmethod
    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        """Write the records in the files that the format's own tools read.

        Returns:
            The files to pass to these tools.

        Raises:
            InputError: the folder cannot be written.
        """


def used_and_left(counts: Sequence[int], measured: Sequence[int]) -> tuple[int, int]:
    """Annotations of the images that are measured, and of the others; `counts` has each image's."""
    used = sum(counts[index] for index in measured)
    return used, sum(counts) - used


def part_of(dataset: Any, measured: Sequence[int] | None) -> Any:
    """A data set with only some of its images."""
    if measured is None:
        return dataset
    return dataclasses.replace(dataset, images=tuple(dataset.images[index] for index in measured))


def model_tasks(cfg: CfgNode) -> list[str]:
    """The tasks of a model with this configuration, by the names of Detectron2's evaluators."""
    able = capabilities(cfg)
    tasks = {
        "box_proposals": able.proposes,
        "bbox": able.has_boxes,
        "segm": able.has_masks,
        "keypoints": able.has_keypoints,
        "panoptic_seg": able.has_panoptic,
        "sem_seg": able.has_semantic,
    }
    return [task for task, given in tasks.items() if given]
