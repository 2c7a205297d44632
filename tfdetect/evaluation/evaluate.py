"""`evaluate`: predict the images of a data set, and measure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yacs.config import CfgNode

from tfdetect.data.proposal_files import read_proposals
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.dataset import EvaluationDataset
from tfdetect.evaluation.predict import missing_images, predict_dataset
from tfdetect.evaluation.registry import open_for_model
from tfdetect.evaluation.report import METRICS, Evaluated, write_and_measure
from tfdetect.files import check_writable_file

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor


def evaluate(
    predictor: Predictor,
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    batch_size: int = 1,
    proposals: str | os.PathLike[str] | None = None,
    skip: Callable[[int, InputError], None] | None = None,
) -> Evaluated:
    """Measure a model as `tfdetect evaluate` does.

    >>> predictor = tfdetect.Predictor("models/mask_rcnn")
    >>> found = tfdetect.evaluate(predictor, "instances_val2017.json", "val2017")
    >>> found.metrics["bbox"]  # {"AP": 38.6, ...}

    Args:
        predictor: the model.
        annotations: JSON of COCO, LVIS or COCO panoptic, YOLO's data.yaml or labels, a folder of
            Pascal VOC, labelme, Cityscapes' gtFine or semantic masks, or what one of
            `EVALUATORS` opens.
        images: the folder of the images; None where the annotations say it.
        output: a folder that gets the results, as the format's own tools read them, and
            `metrics.json`; None writes nothing.
        batch_size: images that go through the network together.
        proposals: Detectron2's box_proposals.pkl, for a model with PrecomputedProposals.
        skip: gets the index and the error of an image that cannot be used, which is then left out;
            None raises the error.

    Raises:
        InputError: the annotations, images or proposals cannot be used, or `output` cannot be
            written, which is said before anything is predicted. What fails in writing or measuring
            is in the result's `errors`.
    """
    if output is not None:
        check_writable_file(Path(output) / METRICS)
    run = EvaluationRun(annotations, predictor.cfg, predictor.metadata, images, proposals=proposals)
    leave_out = _raise if skip is None else skip
    for index in run.missing:
        name = run.dataset.file_names[index]
        leave_out(index, InputError(f"images {run.folder}: lacks {name}; add it"))
    for _ in run.predict(predictor, leave_out, batch_size=batch_size):
        pass
    return run.measure(None if output is None else Path(output))


def _raise(index: int, error: InputError) -> None:
    raise error


class EvaluationRun:
    """An evaluation in its steps: opened, predicted, measured.

    Attributes:
        dataset: the annotations.
        folder: of the images.
        missing: the indices of the images that are not there.
        wanted: those of the others.
        measured: those of the images that have been predicted.

    Args:
        annotations: see `evaluate`; or a data set that is open.
        images, proposals: see `evaluate`.
        cfg: the model's configuration.
        metadata: of the model's directory.
        source: what messages call `images`.

    Raises:
        InputError: the annotations, images or proposals cannot be used.
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str] | EvaluationDataset,
        cfg: CfgNode,
        metadata: Mapping[str, Any],
        images: str | os.PathLike[str] | None = None,
        *,
        proposals: str | os.PathLike[str] | None = None,
        source: str = "images",
    ):
        folder = None if images is None else Path(images)
        if isinstance(annotations, EvaluationDataset):
            self.dataset = annotations
        else:
            self.dataset = open_for_model(Path(annotations), cfg, metadata, images=folder)
        annotations = self.dataset.path
        folder = folder or self.dataset.image_folder
        if folder is None:
            raise InputError(f"{annotations}: does not say where its images are; give {source}")
        if not folder.is_dir():
            raise InputError(f"{source} {folder}: is not a folder; give the folder of the images")
        self.folder = folder
        names = self.dataset.file_names
        self.missing = missing_images(self.dataset, folder)
        if len(self.missing) == len(names):
            raise InputError(
                f"{source} {folder}: has none of the {len(names)} images of {annotations}, such as"
                f" {names[0]}; give the folder of the images"
            )
        gone = set(self.missing)
        self.wanted = [index for index in range(len(names)) if index not in gone]
        self.measured: list[int] = []
        self._source = source
        self._results: list[dict[str, Any]] = []
        self._proposals = None
        if proposals is not None:
            given = read_proposals(os.fspath(proposals))
            self._proposals = [given.find([name]) for name in self.dataset.image_ids]

    def predict(
        self, predictor: Predictor, skip: Callable[[int, InputError], None], *, batch_size: int = 1
    ) -> Iterator[tuple[int, Detections]]:
        """Predict the images that are wanted; yield the index of each and what is found in it.

        Args:
            predictor: the model.
            skip: gets the index and the error of an image that cannot be used; it may raise it.
            batch_size: images that go through the network together.

        Raises:
            InputError: none of the images can be used.
        """
        predicted = predict_dataset(
            predictor,
            self.dataset,
            self.folder,
            self.wanted,
            skip,
            batch_size=batch_size,
            proposals=self._proposals,
        )
        for index, detections in predicted:
            self._results += self.dataset.to_results(index, detections)
            yield index, detections
            self.measured.append(index)
        if not self.measured:
            raise InputError(
                f"{self._source} {self.folder}: none of the {len(self.wanted)} images is usable"
            )

    def measure(self, output: Path | None) -> Evaluated:
        """Write the results to a folder, if one is given, and measure them."""
        return write_and_measure(self.dataset, self._results, self.measured, output)
