"""COCO's panoptic annotations as an `EvaluationDataset`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfdetect.data.class_names import match_classes
from tfdetect.data.panoptic import PanopticDataset, read_panoptic
from tfdetect.data.sem_seg import SemSegFile
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation import panoptic, semantic
from tfdetect.evaluation.dataset import EvaluationDataset, Metrics, part_of, used_and_left
from tfdetect.evaluation.registry import EVALUATORS, ModelInfo, Report, has_field
from tfdetect.files import write_json


@EVALUATORS.register("coco_panoptic")
def _open_panoptic(
    path: Path, content: bytes, model: ModelInfo, report: Report | None
) -> EvaluationDataset | None:
    del report  # a broken annotation is an error
    if not has_field(content, "segments_info"):
        return None
    return CocoPanoptic(read_panoptic(path), model)


class CocoPanoptic(EvaluationDataset):
    """COCO panoptic annotations (Detectron2: `COCOPanopticEvaluator`, and `SemSegEvaluator`).

    Args:
        dataset: the annotations.
        model: whose classes are matched with theirs.
    """

    form = "COCO panoptic"
    measures = ("panoptic_seg", "sem_seg")

    def __init__(self, dataset: PanopticDataset, model: ModelInfo):
        self._dataset = dataset
        super().__init__(dataset.path, model.tasks, dataset.images)
        class_names, stuff_names = model.class_names, model.stuff_names
        names = self._dataset.category_names
        things = self._dataset.thing_ids
        if "panoptic_seg" not in self.tasks:
            class_names = ()  # the model has nothing but stuff
        # Of the data set's ids, those of the model's classes in its order.
        self._in_models_order = dataclasses.replace(
            self._dataset,
            thing_ids=self._match(class_names, [names[index] for index in things], things),
            stuff_ids=self._match(stuff_names, self._dataset.stuff_names, self._dataset.stuff_ids),
        )

    def _match(
        self, model: Sequence[str], names: Sequence[str], ids: Sequence[int]
    ) -> tuple[int, ...]:
        match = match_classes(str(self.path), model, names, range(len(names)))
        found = [ids[index] for index in match.indices if index is not None]
        if len(found) < len(match.indices):
            # Every pixel has a class, so there is nothing that could be left out.
            unknown = [
                name for name, index in zip(model, match.indices, strict=True) if index is None
            ]
            raise InputError(
                f"{self.path}: has no category {unknown[0]!r}, which the model has: give"
                " annotations with the classes that the model was trained on"
            )
        self.notes += [] if match.note is None else [match.note]
        return tuple(found)

    def to_results(self, index: int, detections: Detections) -> list[dict[str, Any]]:
        image = self._dataset.images[index]
        records = []
        if detections.panoptic is not None:
            records.append(panoptic.to_result(detections.panoptic, self._in_models_order, image))
        if detections.sem_seg is not None:
            stuff_ids = self._in_models_order.stuff_ids
            records += semantic.to_results(detections.sem_seg, image.id, stuff_ids, self.path)
        return records

    def count_annotations(self, measured: Sequence[int]) -> tuple[int, int]:
        return used_and_left([len(image.segments) for image in self._dataset.images], measured)

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], measured: Sequence[int] | None = None
    ) -> Metrics:
        dataset = part_of(self._dataset, measured)
        of_segments, of_classes = _split(results)
        metrics: Metrics = {}
        if "panoptic_seg" in self.tasks:
            metrics |= panoptic.evaluate(dataset, of_segments)
        if "sem_seg" in self.tasks:
            ids = dataset.stuff_ids
            truth = {
                image.id: SemSegFile(image.label_file, segments=image, stuff_ids=ids).read
                for image in dataset.images
            }
            metrics |= semantic.evaluate(truth, of_classes, ids, dataset.stuff_names)
        return metrics

    def format_table(self, metrics: Metrics) -> str:
        formats = {"panoptic_seg": panoptic.format_table, "sem_seg": semantic.format_table}
        return "\n\n".join(formats[task]({task: values}) for task, values in metrics.items())

    def write_results(self, folder: Path, results: Sequence[Mapping[str, Any]]) -> list[Path]:
        of_segments, of_classes = _split(results)
        paths = []
        if "panoptic_seg" in self.tasks:
            paths.append(panoptic.write_results(folder, of_segments))
        if "sem_seg" in self.tasks:
            write_json(folder / "sem_seg_predictions.json", of_classes)
            paths.append(folder / "sem_seg_predictions.json")
        return paths


def _split(
    results: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Records of panoptic and of semantic segmentation."""
    of_segments = [result for result in results if "segments_info" in result]
    return of_segments, [result for result in results if "segments_info" not in result]
